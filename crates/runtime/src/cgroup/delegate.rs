//! Handing a v2 cgroup to the container's user, who then may make others below it (cgroups(7), "Cgroup delegation").

use super::Cgroup;
use crate::Error;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchown, fchownat};
use std::fs;
use std::io;

/// What every kernel with cgroup v2 lets its new owner write.
const ALWAYS: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Cgroup {
    /// Makes `uid` the owner of the directory and of the files that the kernel names in /sys/kernel/cgroup/delegate.
    /// The limits stay the runtime's.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn give_to(&self, uid: u32) -> Result<(), Error> {
        let Some(dir) = self.unified() else { return Ok(()) };
        let owner = Some(Uid::from_raw(uid));
        let fail = |name: &str, e: Errno| {
            Error::new(format!("chown {:?} to {uid}", dir.path.join(name))).because(io::Error::from(e))
        };
        fchown(&dir.fd, owner, None).map_err(|e| fail("", e))?;
        let files = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| ALWAYS.to_owned());
        for file in files.lines() {
            match fchownat(&dir.fd, file, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // The files of controllers that are not on.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => return Err(fail(file, e)),
            }
        }
        Ok(())
    }
}
