//! The options of the unified hierarchy's file system, which are one for the whole host.
//!
//! Whoever mounts cgroup2 anywhere sets them: a mount without options takes `nsdelegate` and `memory_recursiveprot` away
//! from all (criu does: github.com/checkpoint-restore/criu/issues/3029).

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use sys::mount;

use super::Hierarchies;
use crate::Error;

/// The options at one moment.
#[derive(Debug)]
pub(crate) struct MountOptions {
    mountpoint: PathBuf,
    words: Vec<String>,
}

impl MountOptions {
    /// Reads them; `None` where cgroup2 is not mounted, or the mount cannot be told.
    pub(crate) fn read(hierarchies: &Hierarchies) -> Option<MountOptions> {
        let mountpoint = hierarchies.unified()?.mountpoint.clone();
        let words = parse(&fs::read_to_string("/proc/self/mountinfo").ok()?, &mountpoint)?;
        Some(MountOptions { mountpoint, words })
    }

    /// Sets them again, if others hold now.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn keep(&self) -> Result<(), Error> {
        let fail = |e: std::io::Error| {
            let (at, words) = (&self.mountpoint, self.words.join(","));
            Error::new(format!("set the options of {at:?} to {words} again")).because(e)
        };
        let now = fs::read_to_string("/proc/self/mountinfo").map_err(fail)?;
        if parse(&now, &self.mountpoint).is_none_or(|words| words == self.words) {
            return Ok(());
        }
        let string = |bytes: &[u8]| CString::new(bytes).map_err(std::io::Error::from);
        let path = string(self.mountpoint.as_os_str().as_bytes()).map_err(fail)?;
        let fs = mount::fspick(AT_FDCWD, &path).map_err(fail)?;
        for word in &self.words {
            mount::fsconfig_flag(fs.as_fd(), &string(word.as_bytes()).map_err(fail)?).map_err(fail)?;
        }
        mount::fsconfig_reconfigure(fs.as_fd()).map_err(fail)
    }
}

/// The options of the cgroup2 file system that is mounted last at `mountpoint`, without what every file system has.
fn parse(mountinfo: &str, mountpoint: &Path) -> Option<Vec<String>> {
    let line = mountinfo.lines().rev().find_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        (mount.split(' ').nth(4).map(Path::new) == Some(mountpoint)).then_some(fs)
    })?;
    let mut fields = line.split(' ');
    (fields.next() == Some("cgroup2")).then_some(())?;
    let words = fields.nth(1)?.split(',').filter(|word| !matches!(*word, "rw" | "ro"));
    Some(words.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_file_systems_not_the_mounts() {
        let text = "24 1 0:21 / /sys rw - sysfs sysfs rw\n\
            30 24 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw\n\
            31 30 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let words = parse(text, Path::new("/sys/fs/cgroup")).unwrap();
        assert_eq!(words, ["nsdelegate", "memory_recursiveprot"]);
        assert_eq!(parse(text, Path::new("/sys")), None);
        assert_eq!(parse(text, Path::new("/elsewhere")), None);
        assert_eq!(parse("1 0 0:1 / /c rw - cgroup2 none rw\n", Path::new("/c")), Some(Vec::new()));
    }
}
