//! A directory as a tar stream: what `export` writes, and what the layers of new images are made of.
//!
//! PAX (pax(1), "ustar Interchange Format" with extended headers): long names, big ids and sizes, nanoseconds,
//! extended attributes as `SCHILY.xattr.NAME`. Entries come sorted by name, so that the same tree gives the same bytes.
//! The tree may change while it is read: nothing is opened through a link, and each file gets the length its header
//! says.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use ::tar::{Builder, EntryType, Header};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};

use sys::userns::{IdMap, inside};

use crate::error::{Error, Result};
use crate::overlay::Marks;
use crate::tree;

/// What the directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// A root file system as it is seen.
    Whole,
    /// The upper or a lower directory of an overlay: its marks become whiteouts (image-spec layer.md).
    Layer,
}

/// A path in the tree without a leading slash, its attributes: does it go into the archive, with all below it?
pub type Keep<'a> = &'a dyn Fn(&[u8], &FileStat) -> bool;

/// Most levels of directories, as when layers are unpacked.
const MAX_DEPTH: usize = 1024;
/// The largest owner and size that octal digits of a header hold.
const MAX_ID: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// Writes everything in `dir`, without `dir` itself; returns `out`.
///
/// # Errors
/// Something in it cannot be read; `out` cannot be written.
pub fn pack<W: Write>(dir: BorrowedFd<'_>, what: Tree, keep: Keep<'_>, out: W) -> Result<W> {
    let mut packer = Packer::new(what, keep, out);
    packer.directory(dir, &mut Vec::new(), 0)?;
    packer.finish()
}

/// Writes everything in `dir`, which is seen from outside of a user namespace with these ids, by the ids inside.
///
/// # Errors
/// As [`pack`].
pub fn pack_mapped<W: Write>(dir: BorrowedFd<'_>, ids: Option<&IdMap>, out: W) -> Result<W> {
    let mut packer = Packer { ids, ..Packer::new(Tree::Whole, &|_, _| true, out) };
    packer.directory(dir, &mut Vec::new(), 0)?;
    packer.finish()
}

/// Writes the entry `name` of `dir` with all below it, under the name `path`, with owners as [`pack_mapped`] has them.
///
/// # Errors
/// As [`pack`].
pub fn pack_entry<W: Write>(
    dir: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    ids: Option<&IdMap>,
    out: W,
) -> Result<W> {
    let mut packer = Packer { ids, ..Packer::new(Tree::Whole, &|_, _| true, out) };
    packer.entry(dir, name, &mut path.to_vec(), 0)?;
    packer.finish()
}

struct Packer<'a, W: Write> {
    out: Builder<W>,
    what: Tree,
    keep: Keep<'a>,
    marks: Marks,
    /// Owners are written by the ids inside of these.
    ids: Option<&'a IdMap>,
    /// Files with several names: device and inode, and the first name.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(what: Tree, keep: Keep<'a>, out: W) -> Self {
        Self { out: Builder::new(out), what, keep, marks: Marks::here(), ids: None, links: HashMap::new() }
    }

    fn finish(self) -> Result<W> {
        self.out.into_inner().map_err(|e| failed("write", b"the archive", e))
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { path: shown(path), limit: MAX_DEPTH });
        }
        let mut names = tree::list(dir).map_err(|e| failed("read directory", path, e))?;
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let length = path.len();
        for (name, _) in names {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            self.entry(dir, name.to_bytes(), path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &mut Vec<u8>, depth: usize) -> Result<()> {
        let Some(stat) = tree::stat(dir, name).map_err(|e| failed("stat", path, e))? else {
            return Ok(()); // it has gone meanwhile
        };
        if !(self.keep)(path, &stat) {
            return Ok(());
        }
        if self.what == Tree::Layer && tree::is_whiteout(&stat) {
            return self.whiteout(path, &stat);
        }
        match tree::kind(&stat) {
            SFlag::S_IFDIR => {
                let below = match tree::open_dir(dir, name) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                    result => result.map_err(|e| failed("open", path, e))?,
                };
                let stat = fstat(&below).map_err(|e| failed("stat", path, e.into()))?;
                let xattrs = self.xattrs(below.as_fd(), b"", path)?;
                let opaque = xattrs.iter().any(|(key, _)| key == self.marks.opaque().to_bytes());
                self.write(path, &stat, EntryType::Directory, b"", &xattrs, io::empty(), 0)?;
                if self.what == Tree::Layer && opaque {
                    let length = path.len();
                    path.extend_from_slice(b"/.wh..wh..opq");
                    self.write(path, &blank(&stat), EntryType::Regular, b"", &[], io::empty(), 0)?;
                    path.truncate(length);
                }
                self.directory(below.as_fd(), path, depth + 1)
            }
            SFlag::S_IFSOCK => {
                tracing::warn!(
                    "{}: sockets have no place in an archive; it is left out",
                    shown(path).display()
                );
                Ok(())
            }
            _ if stat.st_nlink > 1 && self.is_linked(path, &stat) => {
                let first = self.links.get(&(stat.st_dev, stat.st_ino)).cloned().unwrap_or_default();
                self.write(path, &stat, EntryType::Link, &first, &[], io::empty(), 0)
            }
            SFlag::S_IFREG => self.file(dir, name, path),
            SFlag::S_IFLNK => {
                let target =
                    nix::fcntl::readlinkat(dir, name).map_err(|e| failed("read link", path, e.into()))?;
                let xattrs = self.xattrs(dir, name, path)?;
                self.write(
                    path,
                    &stat,
                    EntryType::Symlink,
                    target.as_encoded_bytes(),
                    &xattrs,
                    io::empty(),
                    0,
                )
            }
            kind => {
                let kind = match kind {
                    SFlag::S_IFCHR => EntryType::Char,
                    SFlag::S_IFBLK => EntryType::Block,
                    _ => EntryType::Fifo,
                };
                let xattrs = self.xattrs(dir, name, path)?;
                self.write(path, &stat, kind, b"", &xattrs, io::empty(), 0)
            }
        }
    }

    /// Has the file come under another name before?
    fn is_linked(&mut self, path: &[u8], stat: &FileStat) -> bool {
        let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
        first.as_slice() != path
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        // Should it have become something else meanwhile, this neither follows it nor blocks.
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = match nix::fcntl::openat(dir, name, flags, Mode::empty()) {
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ELOOP) => return Ok(()),
            result => File::from(result.map_err(|e| failed("open", path, e.into()))?),
        };
        let stat = fstat(&file).map_err(|e| failed("stat", path, e.into()))?;
        if tree::kind(&stat) != SFlag::S_IFREG {
            return Ok(());
        }
        let xattrs = self.xattrs(dir, name, path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        // As long as the header says, also when it shrinks or grows.
        let content = file.chain(io::repeat(0)).take(size);
        self.write(path, &stat, EntryType::Regular, b"", &xattrs, content, size)
    }

    fn whiteout(&mut self, path: &[u8], stat: &FileStat) -> Result<()> {
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let name = [&path[..at], b".wh.", &path[at..]].concat();
        self.write(&name, &blank(stat), EntryType::Regular, b"", &[], io::empty(), 0)
    }

    /// Attributes of an entry, or of `dir` itself if `name` is empty; overlay's own only to be looked at.
    fn xattrs(&self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let found = match tree::xattrs(&tree::proc_path(dir, name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found.map_err(|e| failed("read xattrs", path, e))?,
        };
        Ok(found.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect())
    }

    #[allow(clippy::too_many_arguments)] // each is a field of the entry
    fn write(
        &mut self,
        path: &[u8],
        stat: &FileStat,
        kind: EntryType,
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
        content: impl Read,
        size: u64,
    ) -> Result<()> {
        let mut name = path.to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        let mut pax: Vec<(String, Vec<u8>)> = Vec::new();
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_size(size.min(MAX_SIZE));
        if size > MAX_SIZE {
            pax.push(("size".to_owned(), size.to_string().into_bytes()));
        }
        let (uid, gid) = owner(self.ids, (stat.st_uid, stat.st_gid));
        header.set_uid(u64::from(uid).min(MAX_ID));
        header.set_gid(u64::from(gid).min(MAX_ID));
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if u64::from(id) > MAX_ID {
                pax.push((key.to_owned(), id.to_string().into_bytes()));
            }
        }
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        if stat.st_mtime < 0 || stat.st_mtime_nsec != 0 {
            let time = match (stat.st_mtime, stat.st_mtime_nsec) {
                (seconds, 0) => seconds.to_string(),
                (seconds, nanos) if seconds < 0 => {
                    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos)
                }
                (seconds, nanos) => format!("{seconds}.{nanos:09}"),
            };
            pax.push(("mtime".to_owned(), time.into_bytes()));
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            header.set_device_major(number(major(stat.st_rdev))).map_err(|e| failed("pack", path, e))?;
            header.set_device_minor(number(minor(stat.st_rdev))).map_err(|e| failed("pack", path, e))?;
        }
        if !fits(&name, &mut header.as_old_mut().name) {
            pax.push(("path".to_owned(), name));
        }
        if !fits(link, &mut header.as_old_mut().linkname) {
            pax.push(("linkpath".to_owned(), link.to_vec()));
        }
        for (key, value) in xattrs {
            if key.starts_with(self.marks.prefix()) {
                continue;
            }
            if let Ok(key) = std::str::from_utf8(key) {
                pax.push((format!("SCHILY.xattr.{key}"), value.clone()));
            }
        }
        header.set_cksum();
        if !pax.is_empty() {
            let records = pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.out.append_pax_extensions(records).map_err(|e| failed("pack", path, e))?;
        }
        self.out.append(&header, content).map_err(|e| failed("pack", path, e))
    }
}

/// The owner as a user namespace with these ids sees it; who has no id there is nobody (user_namespaces(7)).
pub fn owner(ids: Option<&IdMap>, (uid, gid): (u32, u32)) -> (u32, u32) {
    const NOBODY: u32 = 65_534;
    let Some(ids) = ids else { return (uid, gid) };
    (inside(&ids.uid, uid).unwrap_or(NOBODY), inside(&ids.gid, gid).unwrap_or(NOBODY))
}

/// Attributes of a whiteout: they mean nothing and are lost when it is unpacked, so they are always the same.
fn blank(stat: &FileStat) -> FileStat {
    let mut blank = *stat;
    blank.st_mode = SFlag::S_IFREG.bits();
    (blank.st_uid, blank.st_gid, blank.st_mtime, blank.st_mtime_nsec) = (0, 0, 0, 0);
    blank
}

/// Puts a name into the field of a header, cut if need be; `false`: it wants a PAX record, which also says that its
/// bytes are what they are.
fn fits(name: &[u8], field: &mut [u8]) -> bool {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    name.len() <= field.len() && name.is_ascii()
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec([b"/", path].concat()))
}

fn failed(call: &'static str, path: &[u8], source: io::Error) -> Error {
    Error::Os { call, path: shown(path), source }
}
