//! Places inside the root file system: opened, and made, without ever leaving it.
//!
//! Every lookup is one openat2(2) from the root's descriptor with RESOLVE_IN_ROOT, so that links of an image, and links
//! that another container swaps in at this moment, end inside (CVE-2021-30465, CVE-2024-45310).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use sys::path::{openat2, resolve};

use super::fail::{At, Doing, Fail};
use crate::plan::{OnProc, Place};

const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;

/// Longest path, with its NUL.
const PATH_MAX: usize = 4096;

/// Opens what is at `path`. `flags` as open(2) has them.
pub(super) fn open(root: BorrowedFd, path: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat2(root, path, flags.bits(), 0, IN_ROOT).map_err(errno)
}

fn errno(e: std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(Errno::EIO as i32))
}

/// The type of a file, of `SFlag`'s S_IF values.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

pub(super) fn is_directory(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(kind(&nix::sys::stat::fstat(fd)?) == SFlag::S_IFDIR)
}

pub(super) fn is_on_proc(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(fstatfs(fd)?.filesystem_type() == PROC_SUPER_MAGIC)
}

/// A mount point that was opened.
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    /// The permission bits of what was there before; `None` if it had to be made.
    pub(super) mode: Option<u32>,
}

/// Opens a mount point, making it (as a directory or an empty file) if nothing is there.
pub(super) fn open_target(root: BorrowedFd, target: &Place, directory: bool) -> Result<Opened, Fail> {
    let mut flags = OFlag::O_PATH;
    if target.no_link {
        flags |= OFlag::O_NOFOLLOW;
    }
    let (fd, made) = match open(root, &target.path, flags) {
        Err(Errno::ENOENT) => (make(root, &target.path, directory).at(Doing::MakeTarget)?, true),
        other => (other.at(Doing::OpenTarget)?, false),
    };
    let there = nix::sys::stat::fstat(&fd).at(Doing::OpenTarget)?;
    let is_directory = kind(&there) == SFlag::S_IFDIR;
    if target.no_link && !is_directory {
        return Err(Fail::new(Doing::NotOrdinary, Errno::ENOTDIR));
    }
    if directory != is_directory {
        return Err(Fail::new(Doing::Mismatch, Errno::ENOTDIR));
    }
    if target.proc == OnProc::Refuse && is_on_proc(&fd).at(Doing::OpenTarget)? {
        return Err(Fail::new(Doing::InsideProc, Errno::EPERM));
    }
    let top = nix::sys::stat::fstat(root).at(Doing::OpenTarget)?;
    if (there.st_dev, there.st_ino) == (top.st_dev, top.st_ino) {
        return Err(Fail::new(Doing::OverRoot, Errno::EPERM));
    }
    Ok(Opened { fd, mode: (!made).then_some(there.st_mode & 0o7777) })
}

/// Makes every missing component of `path`, the last one as a directory or an empty file, and opens the last.
pub(super) fn make(root: BorrowedFd, path: &CStr, directory: bool) -> Result<OwnedFd, Errno> {
    let bytes = path.to_bytes();
    let mut buf = [0u8; PATH_MAX];
    if bytes.len() >= buf.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    buf[..bytes.len()].copy_from_slice(bytes);
    let mut above: Option<OwnedFd> = None;
    let mut start = usize::from(bytes.first() == Some(&b'/'));
    loop {
        let end = bytes[start..].iter().position(|b| *b == b'/').map_or(bytes.len(), |at| start + at);
        let last = end == bytes.len();
        buf[end] = 0;
        let prefix = CStr::from_bytes_with_nul(&buf[..=end]).map_err(|_| Errno::EINVAL)?;
        let name = CStr::from_bytes_with_nul(&buf[start..=end]).map_err(|_| Errno::EINVAL)?;
        let file = last && !directory;
        let flags = if file { OFlag::O_PATH } else { OFlag::O_PATH | OFlag::O_DIRECTORY };
        let fd = match open(root, prefix, flags) {
            Err(Errno::ENOENT) => {
                let dir = above.as_ref().map_or(root, AsFd::as_fd);
                make_one(dir, name, file)?;
                // A dangling link: the name exists, but does not lead to anything.
                open(root, prefix, flags)?
            }
            other => other?,
        };
        if last {
            return Ok(fd);
        }
        buf[end] = b'/';
        above = Some(fd);
        start = end + 1;
    }
}

fn make_one(dir: BorrowedFd, name: &CStr, file: bool) -> Result<(), Errno> {
    let made = if file {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        nix::fcntl::openat(dir, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
    } else {
        nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(0o755))
    };
    match made {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Opens (and makes) the directory that `path` is in, and gives the last component.
///
/// A first component `dev` that is a link is refused: nodes and links below would land where the image says, and an
/// image has no reason for it (CVE-2026-41579).
pub(super) fn open_parent<'a>(root: BorrowedFd, path: &'a CStr) -> Result<(OwnedFd, &'a CStr), Fail> {
    let bytes = path.to_bytes_with_nul();
    let slash = bytes.iter().rposition(|b| *b == b'/').ok_or(Fail::new(Doing::OpenParent, Errno::EINVAL))?;
    let name = CStr::from_bytes_with_nul(&bytes[slash + 1..]);
    let name = name.map_err(|_| Fail::new(Doing::OpenParent, Errno::EINVAL))?;
    let mut buf = [0u8; PATH_MAX];
    if slash >= buf.len() {
        return Err(Fail::new(Doing::OpenParent, Errno::ENAMETOOLONG));
    }
    let above = if slash == 0 { b"/" } else { &bytes[..slash] };
    buf[..above.len()].copy_from_slice(above);
    let above = CStr::from_bytes_with_nul(&buf[..=above.len()]);
    let above = above.map_err(|_| Fail::new(Doing::OpenParent, Errno::EINVAL))?;
    let mut flags = OFlag::O_PATH;
    if above == c"/dev" {
        flags |= OFlag::O_NOFOLLOW;
    }
    let fd = match open(root, above, flags) {
        Err(Errno::ENOENT) => make(root, above, true).at(Doing::OpenParent)?,
        other => other.at(Doing::OpenParent)?,
    };
    if !is_directory(&fd).at(Doing::OpenParent)? {
        return Err(Fail::new(Doing::OpenParent, Errno::ENOTDIR));
    }
    Ok((fd, name))
}

/// Whether a file is the null device, 1:3, and nothing that an image put in its place (CVE-2025-31133).
pub(super) fn is_null(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == nix::sys::stat::makedev(1, 3)
}
