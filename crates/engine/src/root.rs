//! The container's root file system as the engine looks into it before the container exists.
//!
//! All of it is the image's, hence hostile: no path leaves the root, nothing but regular files is opened for
//! reading, and no file is read without a limit (CVE-2024-9676, CVE-2026-47262).

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use sys::path::{openat2, resolve};

use crate::Error;

/// Longest passwd or group file that is read, in bytes; containerd's limit.
const LONGEST: u64 = 10 << 20;

/// A directory that stands for `/`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root<'a>(pub(crate) BorrowedFd<'a>);

impl Root<'_> {
    /// The whole of a small regular file; empty if there is none.
    ///
    /// # Errors
    /// It is no regular file, or too long.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        // O_PATH first: opening a FIFO blocks, opening a device may do anything.
        let Some(found) = self.open(path, OFlag::O_PATH)? else { return Ok(Vec::new()) };
        let what = || format!("read {path} of the image");
        let stat = fstat(&found).map_err(|e| Error::io(what())(e.into()))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(Error::Invalid(format!("{}: it is not a regular file", what())));
        }
        let file = reopen(found.as_fd(), OFlag::O_RDONLY).map_err(Error::io(what()))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0).min(LONGEST);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(Error::io(what()))?;
        if bytes.len() as u64 > LONGEST {
            return Err(Error::Invalid(format!("{}: it is longer than {LONGEST} bytes", what())));
        }
        Ok(bytes)
    }

    /// A directory, open for reading; `None` if there is nothing of that name.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn directory(&self, path: &str) -> Result<Option<OwnedFd>, Error> {
        self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    fn open(&self, path: &str, flags: OFlag) -> Result<Option<OwnedFd>, Error> {
        let what = format!("open {path} of the image");
        let Ok(name) = CString::new(path) else {
            return Err(Error::Invalid(format!("{what}: it has a NUL")));
        };
        let how = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
        match openat2(self.0, &name, flags.bits(), Mode::empty().bits(), how) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(what)(e)),
        }
    }
}

/// Opens once more what `fd` is open on, with flags and an offset of its own.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> std::io::Result<File> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    Ok(nix::fcntl::open(path.as_str(), flags, Mode::empty()).map(File::from)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    use super::*;

    /// IM-04: whatever an image puts in the place of /etc/passwd, nothing blocks, nothing outside is read.
    #[test]
    fn hostile_files_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, root) = (dir.path().join("outside"), dir.path().join("root"));
        std::fs::create_dir_all(root.join("etc/directory")).unwrap();
        std::fs::write(&outside, "secret").unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        nix::unistd::mkfifo(&root.join("etc/fifo"), Mode::S_IRWXU).unwrap();
        let etc = root.join("etc");
        symlink(&outside, etc.join("absolute")).unwrap();
        symlink("../../outside", etc.join("relative")).unwrap();
        symlink("../../../fifo", etc.join("to-fifo")).unwrap();
        symlink("/proc/self/fd/0", etc.join("magic")).unwrap();
        symlink("loop", etc.join("loop")).unwrap();
        symlink("/etc/good", etc.join("good-link")).unwrap();
        std::fs::write(etc.join("good"), "root:x:0:0::/:/\n").unwrap();
        File::create(etc.join("sparse")).unwrap().set_len(20 << 30).unwrap();
        let fd = nix::fcntl::open(&root, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let root = Root(fd.as_fd());
        let start = Instant::now();
        assert_eq!(root.read("/etc/good").unwrap(), b"root:x:0:0::/:/\n");
        assert_eq!(root.read("/etc/good-link").unwrap(), b"root:x:0:0::/:/\n");
        for missing in ["absolute", "relative", "to-fifo", "magic", "none", "none/deeper"] {
            assert_eq!(root.read(&format!("/etc/{missing}")).unwrap(), b"", "{missing}");
        }
        for (bad, why) in [("fifo", "not a regular"), ("directory", "not a regular"), ("sparse", "longer")] {
            let said = root.read(&format!("/etc/{bad}")).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains(bad), "{said}");
        }
        assert!(root.read("/etc/loop").is_err() && root.read("/a\0b").is_err());
        assert!(root.directory("/etc/directory").unwrap().is_some());
        assert!(root.directory("/nowhere").unwrap().is_none());
        assert!(root.directory("/etc/good").is_err());
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
