//! Steps that change what `/` is, and the working directory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::Mode;
use sys::mount::{self as api, SetAttr, propagation};

use super::Child;
use super::fail::{At, Doing, Fail};
use super::target;
use crate::plan::Propagation;

impl Child<'_> {
    /// The root file system's descriptor.
    pub(super) fn root(&self) -> Result<BorrowedFd<'_>, Fail> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Fail::new(Doing::OpenTarget, Errno::EBADF))
    }

    /// Changes the propagation of `/` as it is now.
    pub(super) fn propagate_slash(&self, change: Propagation) -> Result<(), Fail> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let slash = nix::fcntl::open(c"/", flags, Mode::empty()).at(Doing::OpenTarget)?;
        super::mount::propagate(slash.as_fd(), &[change])
    }

    /// pivot_root(2) refuses a new root whose parent mount is shared, and a bind on a shared mount would appear on the
    /// host.
    pub(super) fn propagate_parent(&self, change: Propagation, candidates: &[CString]) -> Result<(), Fail> {
        let wanted = SetAttr { propagation: change.kind, ..SetAttr::default() };
        let mut last = Err(Fail::new(Doing::SetPropagation, Errno::ENOENT));
        for path in candidates {
            let place = nix::fcntl::open(path.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
            let place = place.at(Doing::OpenTarget)?;
            // EINVAL: not a mount point.
            match api::mount_setattr(place.as_fd(), change.recursive, wanted, None) {
                Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) => {
                    last = Err(e).at(Doing::SetPropagation);
                }
                other => return other.at(Doing::SetPropagation),
            }
        }
        last
    }

    /// pivot_root(".", "."): the old root ends up on top of the new one, no directory is needed for it, and it is let
    /// go of without leaving the working directory (pivot_root(2), NOTES).
    pub(super) fn pivot(&self, shared: bool) -> Result<(), Fail> {
        nix::unistd::fchdir(self.root()?).at(Doing::PivotRoot)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let old = nix::fcntl::open(c"/", flags, Mode::empty()).at(Doing::PivotRoot)?;
        api::pivot_root(c".", c".").at(Doing::PivotRoot)?;
        nix::unistd::fchdir(&old).at(Doing::LetGo)?;
        if shared {
            // Otherwise the unmount would reach the host. Not private: a mount that the host makes a peer of at this
            // moment would stay busy there.
            let slave = Propagation { kind: propagation::SLAVE, recursive: true };
            super::mount::propagate(old.as_fd(), &[slave])?;
        }
        api::detach(c".").at(Doing::LetGo)?;
        nix::unistd::chdir(c"/").at(Doing::LetGo)
    }

    /// Moves the root over `/` and enters it by chroot(2). The host's procfs and sysfs stay mounted below, and a full
    /// mount of them in the namespace lets a container mount new ones unmasked: they are unmounted first, as runc does.
    pub(super) fn move_root(&self, cover: &[CString]) -> Result<(), Fail> {
        for path in cover {
            match api::detach(path) {
                Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                Err(e)
                    if [Some(Errno::EINVAL as i32), Some(Errno::EPERM as i32)]
                        .contains(&e.raw_os_error()) =>
                {
                    match api::mount(c"tmpfs", path, c"tmpfs", 0, c"") {
                        Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                        other => other.at(Doing::LetGo)?,
                    }
                }
                other => other.at(Doing::LetGo)?,
            }
        }
        nix::unistd::fchdir(self.root()?).at(Doing::PivotRoot)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let slash = nix::fcntl::open(c"/", flags, Mode::empty()).at(Doing::PivotRoot)?;
        api::move_mount(self.root()?, slash.as_fd()).at(Doing::Attach)?;
        self.chroot()
    }

    pub(super) fn chroot(&self) -> Result<(), Fail> {
        nix::unistd::fchdir(self.root()?).at(Doing::Call)?;
        nix::unistd::chroot(c".").at(Doing::Call)?;
        nix::unistd::chdir(c"/").at(Doing::Call)
    }

    /// The working directory is made like a mount point, inside the root.
    pub(super) fn make_directory(&self, path: &CStr) -> Result<(), Fail> {
        match target::open(self.root()?, path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => target::make(self.root()?, path, true).map(drop).at(Doing::Call),
            other => other.map(drop).at(Doing::Call),
        }
    }

    /// First try, with the rights of the runtime: the user may not be able to search a directory that was meant for
    /// him. Lack of permission is not final: the user's own rights may do (a directory on NFS for instance).
    pub(super) fn change_directory(&mut self, path: &CStr) -> Result<(), Fail> {
        match nix::unistd::chdir(path) {
            Err(Errno::EACCES | Errno::EPERM) => self.directory_pending = true,
            other => other.at(Doing::Call)?,
        }
        Ok(())
    }

    pub(super) fn change_directory_as_user(&mut self, path: &CStr) -> Result<(), Fail> {
        if self.directory_pending {
            nix::unistd::chdir(path).at(Doing::Call)?;
        }
        Ok(())
    }

    pub(super) fn find(&mut self, candidates: &[CString]) -> Result<(), Fail> {
        let mut worst = Errno::ENOENT;
        for (index, path) in candidates.iter().enumerate() {
            let found = nix::sys::stat::fstatat(AT_FDCWD, path.as_c_str(), AtFlags::empty());
            let errno = match found {
                Ok(stat) if target::kind(&stat) == nix::sys::stat::SFlag::S_IFDIR => Errno::EISDIR,
                Ok(_) => match sys::process::may_execute(path) {
                    Ok(()) => {
                        self.program = index;
                        return Ok(());
                    }
                    Err(e) => Errno::from_raw(e.raw_os_error().unwrap_or(0)),
                },
                Err(e) => e,
            };
            if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
                worst = errno;
            }
        }
        Err(Fail::new(Doing::Call, worst))
    }
}
