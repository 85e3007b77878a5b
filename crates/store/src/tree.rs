//! Operations on entries of open directories: removal of whole trees, attributes.
//!
//! Nothing here follows a symbolic link in the last component, and every name is a single component.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::UnlinkatFlags;

/// Directories deeper than this below the one being removed are moved up to it first, so that no tree, however
/// deep, exhausts descriptors or the stack.
const DEPTH: usize = 64;

/// Removes whatever is at `name` in `dir`, with all that is in it. Nothing there is fine.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(e) => return Err(e.into()),
    }
    let top = open_dir(dir, name)?;
    let mut moved = 0;
    loop {
        let before = moved;
        clear(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    Ok(nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir)?)
}

/// Empties `dir`, except for what it moved to `top`.
fn clear(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> io::Result<()> {
    for (name, kind) in list(dir)? {
        let name = name.as_c_str();
        if kind != Some(Type::Directory) {
            match nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(Errno::EISDIR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if depth < DEPTH {
            let child = open_dir(dir, name.to_bytes())?;
            clear(top, child.as_fd(), depth + 1, moved)?;
            nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir)?;
            continue;
        }
        loop {
            *moved += 1;
            let up = format!(".moved-{moved}");
            match nix::fcntl::renameat2(dir, name, top, up.as_str(), RenameFlags::RENAME_NOREPLACE) {
                Ok(()) => break,
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// Opens the directory `name` for reading.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(dir, name, flags, Mode::empty())?)
}

/// Names and, where the file system tells, types of what is in a directory.
pub(crate) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<(CString, Option<Type>)>> {
    // A descriptor of its own: reading moves its position.
    let mut dir = Dir::from_fd(open_dir(dir, b".")?)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// fstatat(2) without following a link; `None` if nothing is there.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<FileStat>> {
    match nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The file type bits.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Is it what overlay takes for "nothing here"?
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// A path that names an entry of an open directory, for calls that know no directory descriptors. An empty name
/// or `.` stands for the directory itself.
pub(crate) fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    CString::new(path).expect("file names have no NUL")
}

/// All xattrs of an entry, in the order of their names.
pub(crate) fn xattrs(path: &CStr) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = match sys::xattr::llist(path) {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    names.sort();
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        if let Some(value) = sys::xattr::lget(path, &name)? {
            all.push((name, value));
        }
    }
    Ok(all)
}

/// Sets modification time (and access time to the same) of an entry.
pub(crate) fn set_times(dir: BorrowedFd<'_>, name: &[u8], mtime: (i64, u32)) -> nix::Result<()> {
    let time = TimeSpec::new(mtime.0, mtime.1.into());
    nix::sys::stat::utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

/// How much there is in a tree.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Names, the top not counted.
    pub(crate) files: u64,
    /// Bytes of content, that of hardlinks once.
    pub(crate) bytes: u64,
}

/// Counts a tree, as deep as layers are.
pub(crate) fn tally(top: impl AsFd) -> io::Result<Tally> {
    fn count(dir: BorrowedFd<'_>, tally: &mut Tally, links: &mut HashSet<u64>) -> io::Result<()> {
        for (name, _) in list(dir)? {
            let Some(stat) = stat(dir, name.to_bytes())? else {
                continue;
            };
            tally.files += 1;
            match kind(&stat) {
                SFlag::S_IFDIR => count(open_dir(dir, name.to_bytes())?.as_fd(), tally, links)?,
                SFlag::S_IFREG if stat.st_nlink == 1 || links.insert(stat.st_ino) => {
                    tally.bytes += u64::try_from(stat.st_size).unwrap_or(0);
                }
                _ => {}
            }
        }
        Ok(())
    }
    let mut tally = Tally::default();
    count(top.as_fd(), &mut tally, &mut HashSet::new())?;
    Ok(tally)
}
