//! `tmpcopyup`: what a directory of the image holds, copied into the tmpfs that will cover it. No allocation, so one
//! level of the tree is one stack frame, and the depth is capped.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use sys::path::{openat2, resolve};

use super::target::kind;

/// Deeper trees are refused (ELOOP): each level holds two descriptors and a buffer on the stack.
const DEPTH_MAX: u32 = 64;

/// Copies everything below `from` (which may be open with O_PATH) into the empty directory `to`, and its owner, mode and
/// times. Hard links become copies.
pub(super) fn copy_directory(from: BorrowedFd, to: BorrowedFd) -> Result<(), Errno> {
    copy_level(from, to, DEPTH_MAX)
}

fn copy_level(from: BorrowedFd, to: BorrowedFd, depth: u32) -> Result<(), Errno> {
    let depth = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let from = open_beneath(from, c".", flags)?;
    let to = open_beneath(to, c".", flags)?;
    let mut entries = [0u8; 2048];
    loop {
        let len = sys::dir::read(from.as_fd(), &mut entries).map_err(raw)?;
        if len == 0 {
            break;
        }
        for name in sys::dir::names(&entries[..len]) {
            if name != c"." && name != c".." {
                copy_entry(from.as_fd(), to.as_fd(), name, depth)?;
            }
        }
    }
    let stat = nix::sys::stat::fstat(&from)?;
    fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(&to, permissions(&stat))?;
    let (accessed, modified) = times(&stat);
    futimens(&to, &accessed, &modified)
}

fn copy_entry(from: BorrowedFd, to: BorrowedFd, name: &CStr, depth: u32) -> Result<(), Errno> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    match kind(&stat) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let (below, copy) = (open_beneath(from, name, flags)?, open_beneath(to, name, flags)?);
            return copy_level(below.as_fd(), copy.as_fd(), depth);
        }
        SFlag::S_IFREG => return copy_file(from, to, name, &stat),
        SFlag::S_IFLNK => {
            let mut text = [0u8; 4097];
            let len = sys::dir::read_link(from, name, &mut text[..4096]).map_err(raw)?;
            let text = CStr::from_bytes_with_nul(&text[..=len]).map_err(|_| Errno::EINVAL)?;
            nix::unistd::symlinkat(text, to, name)?;
        }
        special => mknodat(to, name, special, permissions(&stat), stat.st_rdev)?,
    }
    fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let (accessed, modified) = times(&stat);
    utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
}

fn copy_file(from: BorrowedFd, to: BorrowedFd, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
    let source = open_beneath(from, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let copy = nix::fcntl::openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut buf = [0u8; 16384];
    loop {
        let len = nix::unistd::read(&source, &mut buf)?;
        if len == 0 {
            break;
        }
        let mut rest = &buf[..len];
        while !rest.is_empty() {
            let written = nix::unistd::write(&copy, rest)?;
            rest = &rest[written..];
        }
    }
    fchown(&copy, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After chown, which clears set-user-ID.
    fchmod(&copy, permissions(stat))?;
    let (accessed, modified) = times(stat);
    futimens(&copy, &accessed, &modified)
}

fn open_beneath(dir: BorrowedFd, name: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat2(dir, name, flags.bits(), 0, resolve::BENEATH | resolve::NO_SYMLINKS).map_err(raw)
}

fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

fn raw(e: std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(Errno::EIO as i32))
}
