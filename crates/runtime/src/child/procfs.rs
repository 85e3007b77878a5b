//! Writes to procfs: sysctls and LSM labels.
//!
//! They go through an instance of procfs of our own, or the host's from before the root was entered, never through the
//! container's /proc, where a mount could have put another file in the place of the one meant (CVE-2025-52881).

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::mount as api;
use sys::path::{openat2, resolve};

use super::fail::{At, Doing, Fail};
use super::{Child, target};

impl Child<'_> {
    pub(super) fn open_proc(&mut self, own: bool) -> Result<(), Fail> {
        let proc = if own {
            let fs = api::fsopen(c"proc").at(Doing::OpenProc)?;
            api::fsconfig_create(fs.as_fd()).at(Doing::OpenProc)?;
            let attr = api::attr::NOSUID | api::attr::NODEV | api::attr::NOEXEC;
            api::fsmount(fs.as_fd(), attr).at(Doing::OpenProc)?
        } else {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            nix::fcntl::open(c"/proc", flags, Mode::empty()).at(Doing::OpenProc)?
        };
        if !target::is_on_proc(&proc).at(Doing::OpenProc)? {
            return Err(Fail::new(Doing::NotProcfs, Errno::ENODEV));
        }
        self.proc = Some(proc);
        Ok(())
    }

    fn open_in_proc(&self, dir: &CStr, path: &CStr) -> Result<OwnedFd, Fail> {
        let proc = self.proc.as_ref().ok_or(Fail::new(Doing::OpenProc, Errno::EBADF))?;
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
        // `self` is a link of procfs itself.
        let dir = openat2(proc, dir, flags, 0, resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS);
        let strict = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_SYMLINKS;
        openat2(dir.at(Doing::OpenProc)?, path, OFlag::O_WRONLY.bits(), 0, strict).at(Doing::Call)
    }

    pub(super) fn write_sysctl(&self, path: &CStr, value: &CStr) -> Result<(), Fail> {
        let file = self.open_in_proc(c"sys", path)?;
        nix::unistd::write(&file, value.to_bytes()).map(drop).at(Doing::Call)
    }

    /// Writes `prefix` and `value` at once to a file of /proc/self.
    pub(super) fn write_attribute(&self, path: &CStr, prefix: &[u8], value: &CStr) -> Result<(), Fail> {
        let mut text = [0u8; 4096];
        let value = value.to_bytes();
        let len = prefix.len() + value.len();
        if len > text.len() {
            return Err(Fail::new(Doing::Call, Errno::ENAMETOOLONG));
        }
        text[..prefix.len()].copy_from_slice(prefix);
        text[prefix.len()..len].copy_from_slice(value);
        let file = self.open_in_proc(c"self", path)?;
        nix::unistd::write(&file, &text[..len]).map(drop).at(Doing::Call)
    }

    /// `attr/apparmor` where LSMs are stacked (since Linux 5.8), else `attr`.
    pub(super) fn write_apparmor(&self, profile: &CStr) -> Result<(), Fail> {
        match self.write_attribute(c"attr/apparmor/exec", b"exec ", profile) {
            Err(fail) if fail.errno == Errno::ENOENT as i32 => {
                self.write_attribute(c"attr/exec", b"exec ", profile)
            }
            other => other,
        }
    }
}
