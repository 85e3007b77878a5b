//! The files of a container: its whole root for `export`, and what it changed for `diff` and `commit`.
//!
//! Nothing of it is mounted on the host, and a container that runs goes on running: its writable directory is looked at
//! as one more read-only layer.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use store::{Image, Overlay, Store, Tree};
use sys::path::{openat2, resolve};

use crate::leftover::enter;
use crate::record::Record;
use crate::{Engine, Error, name};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It was in the image and is something else now; for a directory, something in it is.
    Changed,
    /// It was in the image.
    Deleted,
}

/// Finds a container's record and its image.
pub(crate) fn find(engine: &Engine, container: &str) -> Result<(Record, Image), Error> {
    let id = name::resolve(engine, container)?;
    let none = || Error::NoSuchContainer(container.to_owned());
    let record = Record::read(&engine.container(&id))?.ok_or_else(none)?;
    let image = Store::open(&engine.root)?.image(&record.image_id)?;
    Ok((record, image))
}

/// Writes the container's root file system, without what is mounted in it, as a tar.
///
/// # Errors
/// There is no such container; its files cannot be read; `out` cannot be written.
pub fn export(engine: &Engine, container: &str, out: &mut dyn Write) -> Result<(), Error> {
    enter(engine)?;
    let (record, image) = find(engine, container)?;
    let root = merged(engine, &record, &image)?;
    let dir = directory(root.as_fd())?;
    store::pack(dir.as_fd(), Tree::Whole, &|_, _| true, out)?;
    Ok(())
}

/// What the container changed in its image's files, sorted by path.
///
/// # Errors
/// There is no such container; its files cannot be read.
pub fn diff(engine: &Engine, container: &str) -> Result<Vec<(Change, String)>, Error> {
    enter(engine)?;
    let (record, image) = find(engine, container)?;
    let upper = upper(engine, &record)?;
    let below = below(&image)?;
    let mut walk = Walk { below: below.as_fd(), scaffold: scaffold(&record), found: Vec::new() };
    walk.directory(upper.as_fd(), &mut String::new(), false)?;
    walk.found.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(walk.found)
}

/// The container's root as it is seen, read-only.
pub(crate) fn merged(engine: &Engine, record: &Record, image: &Image) -> Result<OwnedFd, Error> {
    let upper = engine.container(&record.id).join("upper");
    let mut lower: Vec<&Path> = image.layers.iter().map(PathBuf::as_path).collect();
    lower.push(&upper);
    Ok(store::overlay(&Overlay { lower: &lower, upper: None, source: "rcr" })?)
}

/// The root of the image.
fn below(image: &Image) -> Result<OwnedFd, Error> {
    let lower: Vec<&Path> = image.layers.iter().map(PathBuf::as_path).collect();
    Ok(store::overlay(&Overlay { lower: &lower, upper: None, source: "rcr" })?)
}

/// The container's own layer.
pub(crate) fn upper(engine: &Engine, record: &Record) -> Result<OwnedFd, Error> {
    let path = engine.container(&record.id).join("upper");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(&path, flags, Mode::empty()).map_err(|e| Error::io(format!("open {path:?}"))(e.into()))
}

/// A descriptor of the same directory that can be listed.
pub(crate) fn directory(dir: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(dir, ".", flags, Mode::empty()).map_err(|e| Error::io("open the container's root")(e.into()))
}

/// Places that the runtime makes for what it mounts, with all directories above them, without a leading slash.
pub(crate) fn scaffold(record: &Record) -> BTreeSet<String> {
    let fixed =
        ["proc", "dev", "dev/console", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", ".rcr-init"];
    let targets = record.points.iter().map(|point| point.target.trim_start_matches('/').to_owned());
    let mut all = BTreeSet::new();
    for place in fixed.map(str::to_owned).into_iter().chain(targets) {
        for (at, _) in place.match_indices('/') {
            all.insert(place[..at].to_owned());
        }
        all.insert(place);
    }
    all
}

/// Is it nothing but such a place: an empty file, or a directory?
pub(crate) fn is_scaffold(places: &BTreeSet<String>, path: &[u8], stat: &FileStat) -> bool {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let bare = kind == SFlag::S_IFDIR || kind == SFlag::S_IFREG && stat.st_size == 0;
    bare && std::str::from_utf8(path).is_ok_and(|path| places.contains(path))
}

/// Whether there is something at `path` in a root, never through a link.
pub(crate) fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<FileStat>, Error> {
    let what = || format!("look at /{}", String::from_utf8_lossy(path));
    let name = CString::new(path).map_err(|_| Error::Invalid(format!("{}: it has a NUL", what())))?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let how = resolve::IN_ROOT | resolve::NO_SYMLINKS;
    match openat2(root, &name, flags.bits(), 0, how) {
        Ok(fd) => nix::sys::stat::fstat(&fd).map(Some).map_err(|e| Error::io(what())(e.into())),
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::ELOOP)
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(Error::io(what())(e)),
    }
}

struct Walk<'a> {
    /// The image's root.
    below: BorrowedFd<'a>,
    scaffold: BTreeSet<String>,
    found: Vec<(Change, String)>,
}

impl Walk<'_> {
    /// Looks through a directory of the upper layer. `hides`: what the image has in it is gone.
    fn directory(&mut self, dir: BorrowedFd<'_>, path: &mut String, hides: bool) -> Result<(), Error> {
        let fail = |path: &str, e: nix::errno::Errno| Error::io(format!("read directory /{path}"))(e.into());
        let names = names(dir).map_err(|e| fail(path, e))?;
        if hides {
            self.hidden(path, &names)?;
        }
        for name in names {
            let length = path.len();
            if length > 0 {
                path.push('/');
            }
            path.push_str(&name.to_string_lossy());
            let stat =
                fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| fail(path, e))?;
            self.entry(dir, &name, &stat, path)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CString,
        stat: &FileStat,
        path: &mut String,
    ) -> Result<(), Error> {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let old = look(self.below, path.as_bytes())?;
        if kind == SFlag::S_IFCHR && stat.st_rdev == 0 {
            if old.is_some() {
                self.found.push((Change::Deleted, format!("/{path}")));
            }
            return Ok(());
        }
        let scaffold = is_scaffold(&self.scaffold, path.as_bytes(), stat);
        if kind != SFlag::S_IFDIR {
            if !scaffold || old.is_some_and(|old| old.st_size > 0) {
                let change = if old.is_some() { Change::Changed } else { Change::Added };
                self.found.push((change, format!("/{path}")));
            }
            return Ok(());
        }
        let before = self.found.len();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let below = openat(dir, name.as_c_str(), flags, Mode::empty())
            .map_err(|e| Error::io(format!("open /{path}"))(e.into()))?;
        let was_dir = old.is_some_and(|old| old.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits());
        self.directory(below.as_fd(), path, was_dir && store::is_opaque(below.as_fd()))?;
        let change = match old {
            None if scaffold && self.found.len() == before => return Ok(()),
            None => Change::Added,
            Some(old) => {
                let same = (old.st_mode, old.st_uid, old.st_gid) == (stat.st_mode, stat.st_uid, stat.st_gid);
                if was_dir && same && self.found.len() == before {
                    return Ok(());
                }
                Change::Changed
            }
        };
        self.found.push((change, format!("/{path}")));
        Ok(())
    }

    /// What the image has in a directory that was made anew.
    fn hidden(&mut self, path: &str, here: &[CString]) -> Result<(), Error> {
        let name = CString::new(path).unwrap_or_default();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let how = resolve::IN_ROOT | resolve::NO_SYMLINKS;
        let Ok(old) = openat2(self.below, &name, flags.bits(), 0, how) else { return Ok(()) };
        let fail = |e: nix::errno::Errno| Error::io(format!("read directory /{path} of the image"))(e.into());
        for name in names(old.as_fd()).map_err(fail)? {
            if !here.contains(&name) {
                self.found.push((Change::Deleted, format!("/{path}/{}", name.to_string_lossy())));
            }
        }
        Ok(())
    }
}

/// Names in a directory, sorted.
pub(crate) fn names(dir: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
