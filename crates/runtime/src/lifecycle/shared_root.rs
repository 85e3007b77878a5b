//! The root of a container without a mount namespace of its own: a mount of the host, which has to go when the creation
//! fails. After one that succeeds it is the caller's to unmount, as under runc.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci::runtime::LinuxNamespaceType;

use crate::Spec;

/// What was mounted at the root's place before.
#[derive(Debug)]
pub(crate) struct SharedRoot {
    place: PathBuf,
    before: Option<u64>,
}

impl SharedRoot {
    /// Looks at `place`; nothing for a container that has a mount namespace.
    pub(crate) fn of(spec: &Spec, place: &str) -> Option<SharedRoot> {
        let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
        if namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Mount) {
            return None;
        }
        Some(SharedRoot { place: place.into(), before: mount_id(Path::new(place)) })
    }

    /// Unmounts what has been mounted there since, with all below it.
    pub(crate) fn undo(&self) {
        if mount_id(&self.place) != self.before
            && let Ok(place) = CString::new(self.place.as_os_str().as_bytes())
        {
            // The first error is the one to tell.
            let _ = sys::mount::detach(&place);
        }
    }
}

/// The mount that a path leads to (proc_pid_fdinfo(5)).
fn mount_id(path: &Path) -> Option<u64> {
    let fd = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_told_apart() {
        assert!(mount_id(Path::new("/")).is_some());
        assert_ne!(mount_id(Path::new("/proc")), mount_id(Path::new("/")));
        assert_eq!(mount_id(Path::new("/no/such")), None);
    }
}
