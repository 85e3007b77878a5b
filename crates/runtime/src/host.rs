//! What a plan depends on beside spec and arguments: read once from /proc, /sys and this process.

use std::path::{Path, PathBuf};

use crate::cgroup::Hierarchies;
use crate::resctrl::Resctrl;
use crate::{Error, Spec};

/// Facts about this host and this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// This process is in a user namespace that is not the initial one: no device nodes can be made.
    pub in_user_namespace: bool,
    /// Capabilities this process can give: its bounding set.
    pub capabilities: u64,
    /// Capabilities the kernel knows.
    pub known_capabilities: u64,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// The kernel has /proc/kcore.
    pub kcore: bool,
    /// Mount points of whole procfs and sysfs; only read for `--no-pivot`.
    pub pseudo_mounts: Vec<PathBuf>,
    /// The resctrl file system; only looked for when `linux.intelRdt` is given.
    pub resctrl: Option<Resctrl>,
    /// The cgroup hierarchies.
    pub cgroups: Hierarchies,
}

impl Host {
    /// Reads the facts of this host.
    ///
    /// # Errors
    /// /proc is not there or not readable; no cgroup hierarchy is mounted.
    pub fn detect() -> Result<Host, Error> {
        let (mut bounding, mut known) = (0, 0);
        for number in 0..64u8 {
            let Ok(has) = sys::process::has_bounding(number) else { break };
            known |= 1 << number;
            bounding |= u64::from(has) << number;
        }
        Ok(Host {
            euid: nix::unistd::geteuid().as_raw(),
            egid: nix::unistd::getegid().as_raw(),
            in_user_namespace: in_user_namespace(),
            capabilities: bounding,
            known_capabilities: known,
            apparmor: starts_with("/sys/module/apparmor/parameters/enabled", b"Y"),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            kcore: Path::new("/proc/kcore").exists(),
            pseudo_mounts: Vec::new(),
            resctrl: None,
            cgroups: Hierarchies::detect()?,
        })
    }

    /// Reads what only some need: where procfs and sysfs are mounted, for `--no-pivot`; resctrl, for `linux.intelRdt`.
    ///
    /// # Errors
    /// /proc/self/mountinfo cannot be read.
    pub fn detect_for(&mut self, spec: &Spec, no_pivot: bool) -> Result<(), Error> {
        if no_pivot {
            self.detect_pseudo_mounts()?;
        }
        if spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some()) {
            self.resctrl = Resctrl::detect()?;
        }
        Ok(())
    }

    fn detect_pseudo_mounts(&mut self) -> Result<(), Error> {
        let path = "/proc/self/mountinfo";
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::new(format!("read {path:?}")).because(e))?;
        self.pseudo_mounts = pseudo_mounts(&text);
        Ok(())
    }
}

/// The initial user namespace maps all ids to themselves, in one line.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_whitespace().collect();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}

fn starts_with(path: &str, prefix: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|text| text.starts_with(prefix))
}

/// Mount points of procfs and sysfs that show the whole file system, from the text of mountinfo.
fn pseudo_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let whole = |line: &str| {
        let (mount, fs) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let pseudo = fs.starts_with("proc ") || fs.starts_with("sysfs ");
        // Octal escapes stand for white space and backslashes, which no such mount point has had.
        (pseudo && root == "/").then(|| PathBuf::from(point))
    };
    mountinfo.lines().filter_map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whole_pseudo_file_systems() {
        let text = "22 1 0:21 / /proc rw,nosuid - proc proc rw\n\
                    23 22 0:21 /sys /proc/sys ro - proc proc rw\n\
                    24 1 0:22 / /sys rw shared:2 - sysfs sysfs rw\n\
                    25 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        assert_eq!(pseudo_mounts(text), [PathBuf::from("/proc"), PathBuf::from("/sys")]);
    }
}
