//! What `cp` makes, entry by entry: in the directory that it is given, never through a link.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::{CopyOptions, Side, kind as kind_of};
use crate::Error;

/// Of something that is made.
pub(super) struct Attributes {
    owner: (u32, u32),
    mode: u32,
    mtime: TimeSpec,
}

impl Attributes {
    /// The source's with `-a`; else the owner is the other side's, and set-ID bits go.
    pub(super) fn new(
        options: CopyOptions,
        to: &Side,
        owner: (u32, u32),
        mode: u32,
        mtime: TimeSpec,
    ) -> Result<Attributes, Error> {
        Ok(match options.archive {
            true => Attributes { owner: to.placed(owner)?, mode: mode & 0o7777, mtime },
            false => Attributes { owner: to.owner, mode: mode & 0o1777, mtime },
        })
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.owner.0)), Some(Gid::from_raw(self.owner.1)))
    }

    fn mode(&self) -> Mode {
        Mode::from_bits_truncate(self.mode)
    }

    /// On an open file or directory; chown(2) first, because it takes bits and capabilities away.
    pub(super) fn set(&self, fd: BorrowedFd<'_>, xattrs: &[(CString, Vec<u8>)]) -> io::Result<()> {
        let (uid, gid) = self.owner();
        nix::unistd::fchown(fd, uid, gid)?;
        fchmod(fd, self.mode())?;
        for (key, value) in xattrs.iter().filter(|(key, _)| portable(key)) {
            match sys::xattr::fset(fd, key, value) {
                Err(e) if !matches!(e.raw_os_error(), Some(nix::libc::EOPNOTSUPP | nix::libc::EPERM)) => {
                    return Err(e);
                }
                _ => {}
            }
        }
        Ok(futimens(fd, &self.mtime, &self.mtime)?)
    }
}

/// Overlay's marks and labels of the host's security modules mean nothing elsewhere.
fn portable(key: &CStr) -> bool {
    let key = key.to_bytes();
    !key.starts_with(b"trusted.")
        && !key.starts_with(b"security.selinux")
        && !key.starts_with(b"user.overlay.")
}

/// A directory that is there stays what it is.
pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &OsString) -> nix::Result<OwnedFd> {
    match mkdirat(dir, name.as_os_str(), Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name.as_os_str(), flags, Mode::empty())
}

pub(super) fn make_file(dir: BorrowedFd<'_>, name: &OsString) -> nix::Result<File> {
    clear(dir, name)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

pub(super) fn make_link(
    dir: BorrowedFd<'_>,
    name: &OsString,
    target: &OsString,
    of: &Attributes,
) -> nix::Result<()> {
    clear(dir, name)?;
    symlinkat(target.as_os_str(), dir, name.as_os_str())?;
    let (uid, gid) = of.owner();
    fchownat(dir, name.as_os_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    utimensat(dir, name.as_os_str(), &of.mtime, &of.mtime, UtimensatFlags::NoFollowSymlink)
}

pub(super) fn make_node(
    dir: BorrowedFd<'_>,
    name: &OsString,
    kind: SFlag,
    device: u64,
    of: &Attributes,
) -> nix::Result<()> {
    clear(dir, name)?;
    mknodat(dir, name.as_os_str(), kind, Mode::empty(), device)?;
    let (uid, gid) = of.owner();
    fchownat(dir, name.as_os_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    // chmod(2) would follow a link that has come there meanwhile; the descriptor is of this or of nothing.
    let made =
        openat(dir, name.as_os_str(), OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    if kind_of(&fstat(&made)?) == kind {
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        fchmodat(nix::fcntl::AT_FDCWD, path.as_str(), of.mode(), FchmodatFlags::FollowSymlink)?;
    }
    utimensat(dir, name.as_os_str(), &of.mtime, &of.mtime, UtimensatFlags::NoFollowSymlink)
}

/// What is in the way goes, unless it is a directory.
pub(super) fn clear(dir: BorrowedFd<'_>, name: &OsString) -> nix::Result<()> {
    match unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}
