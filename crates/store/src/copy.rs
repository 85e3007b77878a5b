//! Copies of files and file trees, with everything that a layer can say about a file.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag};
use nix::unistd::{Gid, Uid, Whence};

use crate::error::{Error, Result};
use crate::tree;

/// Two descriptors stay open per level, and 1,024 are allowed by default. Layers are less deep.
const MAX_DEPTH: usize = 400;

/// Copies what is in directory `from` (for instance a mount of [`crate::overlay`]) into the empty directory `to`,
/// with owners, modes, times, xattrs, hardlinks, devices and holes; `to` itself gets the attributes of `from`.
/// Answers how many bytes of content it copied.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<u64> {
    let mut copy = Copy { links: HashMap::new(), root: to, path: Vec::new(), bytes: 0 };
    copy.directory(from, to)?;
    let mtime = copy.attributes(from, b"", to, b"")?;
    tree::set_times(to, b".", mtime).map_err(copy.fail("set times"))?;
    Ok(copy.bytes)
}

struct Copy<'a> {
    /// Files with several names: device and inode, and where the first of them was copied to.
    links: HashMap<(u64, u64), CString>,
    root: BorrowedFd<'a>,
    /// Where it is.
    path: Vec<CString>,
    bytes: u64,
}

impl Copy<'_> {
    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        if self.path.len() > MAX_DEPTH {
            return Err(Error::TooDeep { path: self.here(), limit: MAX_DEPTH });
        }
        for (name, _) in tree::list(from).map_err(self.fail("read directory"))? {
            self.path.push(name.clone());
            self.entry(from, name.to_bytes(), to)?;
            self.path.pop();
        }
        Ok(())
    }

    fn entry(&mut self, from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>) -> Result<()> {
        let Some(stat) = tree::stat(from, name).map_err(self.fail("stat"))? else {
            return Ok(());
        };
        if tree::kind(&stat) == SFlag::S_IFDIR {
            let from_child = tree::open_dir(from, name).map_err(self.fail("open"))?;
            nix::sys::stat::mkdirat(to, name, Mode::from_bits_truncate(0o700)).map_err(self.fail("mkdir"))?;
            let to_child = tree::open_dir(to, name).map_err(self.fail("open"))?;
            self.directory(from_child.as_fd(), to_child.as_fd())?;
            let mtime = self.attributes(from, name, to, name)?;
            return tree::set_times(to, name, mtime).map_err(self.fail("set times"));
        }
        if stat.st_nlink > 1 {
            let path = CString::new(self.path.iter().map(|c| c.to_bytes()).collect::<Vec<_>>().join(&b'/'))
                .expect("made of C strings");
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.clone());
            if *first != path {
                return nix::unistd::linkat(self.root, first.as_c_str(), to, name, AtFlags::empty())
                    .map_err(self.fail("link"));
            }
        }
        self.bytes += copy_node(from, name, to, name).map_err(self.fail("copy"))?;
        Ok(())
    }

    fn attributes(
        &self,
        from: BorrowedFd<'_>,
        name: &[u8],
        to: BorrowedFd<'_>,
        to_name: &[u8],
    ) -> Result<(i64, u32)> {
        copy_attributes(from, name, to, to_name).map_err(self.fail("copy attributes"))
    }

    fn here(&self) -> PathBuf {
        let path = self.path.iter().map(|c| c.to_bytes()).collect::<Vec<_>>().join(&b'/');
        PathBuf::from(OsString::from_vec([&b"/"[..], &path].concat()))
    }

    fn fail<E: Into<io::Error>>(&self, call: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        let path = self.here();
        move |source| Error::Os { call, path, source: source.into() }
    }
}

/// Copies a file that is no directory; answers the bytes of content.
pub(crate) fn copy_node(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    to_name: &[u8],
) -> io::Result<u64> {
    let stat = tree::stat(from, name)?.ok_or(Errno::ENOENT)?;
    let mode = Mode::from_bits_truncate(0o600);
    let mut bytes = 0;
    match tree::kind(&stat) {
        SFlag::S_IFREG => {
            let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let source = File::from(nix::fcntl::openat(from, name, read, Mode::empty())?);
            let write =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let target = File::from(nix::fcntl::openat(to, to_name, write, mode)?);
            bytes = copy_content(&source, &target, u64::try_from(stat.st_size).unwrap_or(0))?;
        }
        SFlag::S_IFLNK => {
            let link = nix::fcntl::readlinkat(from, name)?;
            nix::unistd::symlinkat(link.as_os_str(), to, to_name)?;
        }
        // A socket is of no use without its server; mknod(2) makes one nevertheless, as cp -a does.
        kind => nix::sys::stat::mknodat(to, to_name, kind, mode, stat.st_rdev)?,
    }
    let mtime = copy_attributes(from, name, to, to_name)?;
    tree::set_times(to, to_name, mtime)?;
    Ok(bytes)
}

/// Copies the stretches that hold data.
fn copy_content(from: &File, to: &File, size: u64) -> io::Result<u64> {
    let mut bytes = 0;
    let mut at = 0;
    while let Some((start, end)) = stretch(from, at, size)? {
        let (mut source, mut target) = (from, to);
        io::Seek::seek(&mut source, io::SeekFrom::Start(start))?;
        io::Seek::seek(&mut target, io::SeekFrom::Start(start))?;
        // copy_file_range(2) where both file systems can.
        let done = io::copy(&mut io::Read::take(source, end - start), &mut target)?;
        bytes += done;
        if done < end - start {
            break; // it shrank meanwhile
        }
        at = end;
    }
    to.set_len(size)?;
    Ok(bytes)
}

/// The next stretch of data from `at` on.
fn stretch(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let offset = |n: u64| i64::try_from(n).map_err(|_| io::Error::from(Errno::EOVERFLOW));
    if at >= size {
        return Ok(None);
    }
    let seek = |at, whence| nix::unistd::lseek(file.as_fd(), offset(at)?, whence).map_err(io::Error::from);
    let start = match seek(at, Whence::SeekData) {
        Ok(start) => start.cast_unsigned(),
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        // A file system without holes.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(Some((at, size))),
        Err(e) => return Err(e),
    };
    let end = seek(start, Whence::SeekHole)?.cast_unsigned();
    Ok(Some((start, end.min(size).max(start))))
}

/// Gives an entry the owner, mode and xattrs of another; answers the modification time, which the caller sets when
/// it is done with the entry. An empty name stands for the directory itself.
pub(crate) fn copy_attributes(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    to_name: &[u8],
) -> io::Result<(i64, u32)> {
    let stat = tree::stat(from, dot(name))?.ok_or(Errno::ENOENT)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    nix::unistd::fchownat(to, dot(to_name), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if tree::kind(&stat) != SFlag::S_IFLNK {
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        nix::sys::stat::fchmodat(to, dot(to_name), mode, FchmodatFlags::FollowSymlink)?;
    }
    let to_path = tree::proc_path(to, to_name);
    for (xattr, value) in tree::xattrs(&tree::proc_path(from, name))? {
        if is_overlay_mark(xattr.to_bytes()) {
            continue;
        }
        match sys::xattr::lset(&to_path, &xattr, &value) {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => return Err(e),
            _ => {}
        }
    }
    Ok(mtime(&stat))
}

/// These steer overlay where the copy becomes part of one; escaped ones are content.
fn is_overlay_mark(xattr: &[u8]) -> bool {
    let rest = xattr.strip_prefix(b"trusted.overlay.").or_else(|| xattr.strip_prefix(b"user.overlay."));
    rest.is_some_and(|rest| !rest.starts_with(b"overlay."))
}

fn dot(name: &[u8]) -> &[u8] {
    if name.is_empty() { b"." } else { name }
}

fn mtime(stat: &FileStat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}
