//! Places inside the root file system: opened, and made, without ever leaving it.
//!
//! Every lookup is one openat2(2) from the root's descriptor with RESOLVE_IN_ROOT, so that links of an image, and links
//! that another container swaps in at this moment, end inside (CVE-2021-30465, CVE-2024-45310).

use std::ffi::CStr;
use std::ops::Range;
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

/// So many links the kernel follows in one path (path_resolution(7)).
const LINKS_MAX: u32 = 40;

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
    let fd = fd.as_fd();
    match nix::sys::stat::fstat(fd) {
        Ok(stat) => Ok(kind(&stat) == SFlag::S_IFDIR),
        // FUSE shows nothing to anybody but who mounted it, not even to root in a user namespace. That a walk cannot begin at a
        // file is found before anybody is asked for permission.
        Err(Errno::EACCES) => {
            match nix::fcntl::openat(fd, c".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
                Ok(_) | Err(Errno::EACCES) => Ok(true),
                Err(Errno::ENOTDIR) => Ok(false),
                Err(e) => Err(e),
            }
        }
        Err(e) => Err(e),
    }
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

/// Makes every missing component of `path`, the last one as a directory or an empty file, and opens the last. A link
/// that leads to nothing is followed, and what it names is made, inside the root like everything else.
pub(super) fn make(root: BorrowedFd, path: &CStr, directory: bool) -> Result<OwnedFd, Errno> {
    let mut path = StackPath::new(path.to_bytes())?;
    for _ in 0..LINKS_MAX {
        match make_to_link(root, &mut path, directory)? {
            Made::All(fd) => return Ok(fd),
            Made::Until(dir, name) => path = path.expand(dir.as_ref().map_or(root, AsFd::as_fd), name)?,
        }
    }
    Err(Errno::ELOOP)
}

/// How far [`make_to_link`] came.
enum Made {
    /// To the end.
    All(OwnedFd),
    /// To a dangling link: the directory it is in, the root if there is none, and where its name begins and ends.
    Until(Option<OwnedFd>, Range<usize>),
}

fn make_to_link(root: BorrowedFd, path: &mut StackPath, directory: bool) -> Result<Made, Errno> {
    let mut above: Option<OwnedFd> = None;
    let mut start = usize::from(path.bytes().first() == Some(&b'/'));
    loop {
        let name = start..path.component_end(start);
        let last = name.end == path.len;
        let file = last && !directory;
        let flags = if file { OFlag::O_PATH } else { OFlag::O_PATH | OFlag::O_DIRECTORY };
        let fd = match path.cut(0..name.end, |prefix| open(root, prefix, flags)) {
            Err(Errno::ENOENT) => {
                let dir = above.as_ref().map_or(root, AsFd::as_fd);
                path.cut(name.clone(), |name| make_one(dir, name, file))?;
                match path.cut(0..name.end, |prefix| open(root, prefix, flags)) {
                    Err(Errno::ENOENT) => return Ok(Made::Until(above, name)),
                    other => other?,
                }
            }
            other => other?,
        };
        if last {
            return Ok(Made::All(fd));
        }
        above = Some(fd);
        start = name.end + 1;
    }
}

/// A path on the stack.
struct StackPath {
    buf: [u8; PATH_MAX],
    /// Without a NUL.
    len: usize,
}

impl StackPath {
    fn new(path: &[u8]) -> Result<StackPath, Errno> {
        let mut new = StackPath { buf: [0; PATH_MAX], len: 0 };
        new.push(path)?;
        Ok(new)
    }

    fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    fn push(&mut self, part: &[u8]) -> Result<(), Errno> {
        let end = self.len + part.len();
        if end >= self.buf.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        self.buf[self.len..end].copy_from_slice(part);
        self.len = end;
        Ok(())
    }

    fn component_end(&self, start: usize) -> usize {
        self.bytes()[start..].iter().position(|b| *b == b'/').map_or(self.len, |at| start + at)
    }

    /// Calls `with` with a part of the path.
    fn cut<T>(
        &mut self,
        part: Range<usize>,
        with: impl FnOnce(&CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let byte = std::mem::replace(&mut self.buf[part.end], 0);
        let result = CStr::from_bytes_with_nul(&self.buf[part.start..=part.end])
            .map_err(|_| Errno::EINVAL)
            .and_then(with);
        self.buf[part.end] = byte;
        result
    }

    /// The path with the link at `name`, which is in `dir`, replaced by what it says.
    fn expand(&mut self, dir: BorrowedFd, name: Range<usize>) -> Result<StackPath, Errno> {
        let mut text = [0u8; PATH_MAX];
        let len = self.cut(name.clone(), |name| sys::dir::read_link(dir, name, &mut text).map_err(errno));
        let text = match len {
            Ok(len) => &text[..len],
            // No link: somebody else is at work in this directory.
            Err(Errno::EINVAL) => return Err(Errno::ENOENT),
            Err(e) => return Err(e),
        };
        // `..` in it is for the kernel, which knows where the directory before it really is.
        let before = if text.starts_with(b"/") { 0 } else { name.start };
        let mut new = StackPath::new(&self.bytes()[..before])?;
        new.push(text)?;
        new.push(&self.bytes()[name.end..])?;
        Ok(new)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    /// Makes `path` in `dir` and gives where that is.
    fn make_in(dir: &Path, path: &CStr, directory: bool) -> Result<String, Errno> {
        let root = fs::File::open(dir).unwrap();
        let fd = make(root.as_fd(), path, directory)?;
        let place = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        assert_eq!(is_directory(&fd).unwrap(), directory);
        Ok(place.strip_prefix(dir.canonicalize().unwrap()).unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn what_a_dangling_link_names_is_made_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        for (text, link) in [
            ("/tmp/foo/bar", "jump"),
            ("/jump/baz/hosts", "etc/hosts"),
            ("../../../../out", "etc/up"),
            ("sub//dir/", "etc/relative"),
            ("real/deep", "through"),
            ("../beside", "real/deep/link"),
            ("two", "one"),
            ("one", "two"),
        ] {
            symlink(text, root.join(link)).unwrap();
        }
        assert_eq!(make_in(&root, c"/etc/hosts", false).unwrap(), "tmp/foo/bar/baz/hosts");
        assert_eq!(make_in(&root, c"/etc/up/x", true).unwrap(), "out/x");
        assert_eq!(make_in(&root, c"/etc/relative/y", false).unwrap(), "etc/sub/dir/y");
        assert_eq!(make_in(&root, c"/through/link", false).unwrap(), "real/beside");
        assert_eq!(make_in(&root, c"/plain/and/new", true).unwrap(), "plain/and/new");
        assert_eq!(make_in(&root, c"/one", true).unwrap_err(), Errno::ELOOP);
        assert_eq!(make_in(&root, c"/etc/hosts/below", true).unwrap_err(), Errno::ENOTDIR);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made beside the root");
    }

    #[test]
    fn a_path_that_grows_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        // Each turn of this link makes the path longer.
        symlink(format!("/{}grow/x", "./".repeat(500)), dir.path().join("grow")).unwrap();
        let error = make_in(dir.path(), c"/grow", true).unwrap_err();
        assert!(matches!(error, Errno::ENAMETOOLONG | Errno::ELOOP), "{error}");
    }
}
