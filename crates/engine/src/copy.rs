//! `cp`: files between the host and a container, whether it runs or not.
//!
//! The container's side is hostile, and a running container changes it meanwhile (CVE-2018-15664, CVE-2019-14271,
//! CVE-2019-14267). So every path of it is resolved within its root, entries are reached from the directory they were
//! listed in and never through a link, and attributes are set on what is open.

mod extract;
mod made;

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::time::TimeSpec;
use sys::path::{openat2, resolve};
use sys::userns::{IdMap, Range, outside};

use extract::extract;
use made::{Attributes, make_dir, make_file, make_link, make_node};

use crate::content::{find, merged, names};
use crate::isolation::root_of;
use crate::leftover::enter;
use crate::list::life;
use crate::lock::Lock;
use crate::record::Record;
use crate::root::reopen;
use crate::userns::Userns;
use crate::{Engine, Error, make, name};

/// How `cp` copies.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// `-a`: owners stay as they are. Else files belong to root in a container, on the host to the caller, and lose
    /// their set-user-ID bits.
    pub archive: bool,
    /// `-L`: what a link at the source points to is copied.
    pub follow: bool,
}

/// Most levels of directories.
const MAX_DEPTH: usize = 1024;
/// Most links followed in the last place of a path, the kernel's limit.
const MAX_LINKS: usize = 40;

/// Copies from a container to a path of the host.
///
/// # Errors
/// There is no such container or path; the place cannot take it.
pub fn copy_out(
    engine: &Engine,
    container: &str,
    from: &str,
    to: &Path,
    options: CopyOptions,
) -> Result<(), Error> {
    enter(engine)?;
    let inside = Inside::open(engine, container, from, false)?;
    let copied = copy(&inside.side, inside.path.as_bytes(), &Side::host()?, &absolute(to)?, options);
    inside.close(copied)
}

/// Copies from a path of the host to a container.
///
/// # Errors
/// As [`copy_out`]; the container's root or volume is read-only.
pub fn copy_in(
    engine: &Engine,
    from: &Path,
    container: &str,
    to: &str,
    options: CopyOptions,
) -> Result<(), Error> {
    enter(engine)?;
    let from = absolute(from)?;
    let inside = Inside::open(engine, container, to, true)?;
    let copied =
        inside.side.as_root(|| copy(&Side::host()?, &from, &inside.side, inside.path.as_bytes(), options));
    inside.close(copied)
}

/// Writes a path of a container as a tar.
///
/// # Errors
/// There is no such container or path; `out` cannot be written.
pub fn copy_out_tar(
    engine: &Engine,
    container: &str,
    from: &str,
    options: CopyOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    enter(engine)?;
    let inside = Inside::open(engine, container, from, false)?;
    let write = || {
        let path = inside.path.as_bytes();
        let contents = base(path).is_none();
        let (parent, name) = inside.side.locate(path, options.follow || contents)?;
        if contents || name.is_empty() {
            let dir = reopen(parent.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
                .map_err(inside.side.fail("open", path))?;
            store::pack_mapped(dir.as_fd(), inside.side.ids.as_ref(), out)?;
        } else {
            let kept = base(path).unwrap_or(b"file");
            store::pack_entry(parent.as_fd(), name.as_bytes(), kept, inside.side.ids.as_ref(), out)?;
        }
        Ok(())
    };
    let written = write();
    inside.close(written)
}

/// Extracts a tar into a directory of a container.
///
/// # Errors
/// There is no such container or directory; it is no tar; an entry that would leave the directory.
pub fn copy_in_tar(
    engine: &Engine,
    container: &str,
    to: &str,
    options: CopyOptions,
    input: &mut dyn Read,
) -> Result<(), Error> {
    enter(engine)?;
    let inside = Inside::open(engine, container, to, true)?;
    let extracted = inside.side.as_root(|| extract(&inside.side, inside.path.as_bytes(), options, input));
    inside.close(extracted)
}

/// A container's side, and the path within it.
struct Inside {
    side: Side,
    path: String,
    /// Nobody starts a container that does not run while its files change.
    lock: Option<Lock>,
}

impl Inside {
    fn open(engine: &Engine, container: &str, path: &str, write: bool) -> Result<Self, Error> {
        let id = name::resolve(engine, container)?;
        let (record, image) = find(engine, &id)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (mut lock, mut point, mut ids) = (None, None, None);
        let root = match life(engine, &id)?.pid {
            Some(pid) => {
                if record.options.isolation.userns != Userns::Host {
                    let map = sys::userns::read(pid).map_err(|e| Error::io(e.what)(e.source))?;
                    // All of the host's: it has joined one that has none of its own.
                    ids = Some(map).filter(|map| outside(&map.uid, u32::MAX - 1) != Some(u32::MAX - 1));
                }
                root_of(pid)?
            }
            None => {
                point = volume_at(&record, &path);
                match &point {
                    Some((source, ..)) => open_dir(source)?,
                    None if write && record.options.read_only => {
                        return Err(Error::Invalid(format!(
                            "container {container} has a read-only root file system; copy to one of its volumes"
                        )));
                    }
                    None if write => {
                        let running = || Error::Running(container.to_owned());
                        lock = Some(Lock::try_take(engine, &id)?.ok_or_else(running)?);
                        make::stack(&engine.container(&id), &image)?
                    }
                    None => merged(engine, &record, &image)?,
                }
            }
        };
        let path = match point {
            Some((_, _, false)) if write => {
                return Err(Error::Invalid(format!("{path} of container {container} is mounted read-only")));
            }
            Some((_, rest, _)) => rest,
            None => path,
        };
        let how = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
        let first = |ranges: &[Range]| outside(ranges, 0).unwrap_or(0);
        let owner = ids.as_ref().map_or((0, 0), |ids| (first(&ids.uid), first(&ids.gid)));
        Ok(Self {
            side: Side { root, how, owner, ids, name: format!("container {}", record.name) },
            path,
            lock,
        })
    }

    fn close(self, result: Result<(), Error>) -> Result<(), Error> {
        drop(self.side);
        if let Some(lock) = self.lock {
            lock.finish()?;
        }
        result
    }
}

/// In a container that does not run nothing is mounted: what lies in a volume is looked for there. Its source, the
/// path in it, and whether it can be written.
fn volume_at(record: &Record, path: &str) -> Option<(std::path::PathBuf, String, bool)> {
    let clean = crate::mount::clean(path);
    let tail = if path.ends_with("/.") {
        "/."
    } else if path.ends_with('/') {
        "/"
    } else {
        ""
    };
    let below = |target: &str| {
        clean == target || clean.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'))
    };
    let points =
        record.points.iter().filter(|point| !point.source.as_os_str().is_empty() && below(&point.target));
    let point = points.max_by_key(|point| point.target.len())?;
    if !point.source.is_dir() {
        return None;
    }
    let rest = &clean[point.target.len()..];
    let rest = if rest.is_empty() { "/".to_owned() } else { format!("{rest}{tail}") };
    Some((point.source.clone(), rest, point.writable()))
}

fn open_dir(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::io(format!("open {path:?}"))(e.into()))
}

/// The path as it was typed, from the root: a `/.` at its end means something.
fn absolute(path: &Path) -> Result<Vec<u8>, Error> {
    if path.is_absolute() {
        return Ok(path.as_os_str().as_bytes().to_vec());
    }
    let cwd = std::env::current_dir().map_err(Error::io("find the working directory"))?;
    Ok([cwd.as_os_str().as_bytes(), b"/", path.as_os_str().as_bytes()].concat())
}

/// A root that paths are resolved in.
struct Side {
    root: OwnedFd,
    /// `RESOLVE_*`.
    how: u64,
    /// Whom files belong to that are copied here.
    owner: (u32, u32),
    /// The ids of a running container's user namespace: what it calls 0 is another number here.
    ids: Option<IdMap>,
    /// For messages.
    name: String,
}

impl Side {
    fn host() -> Result<Self, Error> {
        let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Ok(Self { root: open_dir(Path::new("/"))?, how: 0, owner, ids: None, name: "the host".to_owned() })
    }

    /// Does what makes files here. Whoever does it in a user namespace has to have ids there.
    fn as_root<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.ids.is_none() {
            return work();
        }
        let fail = || Error::io("make files as the container's root");
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        sys::process::make_files_as(self.owner.0, self.owner.1).map_err(fail())?;
        let done = work();
        sys::process::make_files_as(own.0, own.1).map_err(fail())?;
        done
    }

    /// The owner that is meant by these ids of the other side.
    fn placed(&self, (uid, gid): (u32, u32)) -> Result<(u32, u32), Error> {
        let Some(ids) = &self.ids else { return Ok((uid, gid)) };
        match (outside(&ids.uid, uid), outside(&ids.gid, gid)) {
            (Some(uid), Some(gid)) => Ok((uid, gid)),
            _ => Err(Error::Invalid(format!(
                "{} has no user {uid} or no group {gid} in its user namespace; leave out -a to give files to its root",
                self.name
            ))),
        }
    }

    fn fail(&self, call: &str, path: &[u8]) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(format!("{call} {:?} of {}", String::from_utf8_lossy(path), self.name))
    }

    /// `None`: there is nothing.
    fn open(&self, path: &[u8], flags: OFlag) -> Result<Option<OwnedFd>, Error> {
        let text = CString::new(path).map_err(|_| Error::Invalid("a path has a NUL".to_owned()))?;
        match openat2(&self.root, &text, flags.bits(), 0, self.how) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR)) => Ok(None),
            Err(e) => Err(self.fail("open", path)(e)),
        }
    }

    /// The directory that something is in, and its name there; with `follow` that of what a link stands for. The root
    /// itself, `.` and `..` are a directory and no name.
    fn locate(&self, path: &[u8], follow: bool) -> Result<(OwnedFd, OsString), Error> {
        let missing =
            || Error::Invalid(format!("no such path in {}: {}", self.name, String::from_utf8_lossy(path)));
        let mut path = path.to_vec();
        for _ in 0..MAX_LINKS {
            let (parent, name) = split(&path);
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            if matches!(name, b"" | b"." | b"..") {
                return Ok((self.open(&path, flags)?.ok_or_else(missing)?, OsString::new()));
            }
            let dir = self.open(parent, flags)?.ok_or_else(missing)?;
            let name = OsString::from_vec(name.to_vec());
            let stat = match fstatat(&dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => return Err(missing()),
                result => result.map_err(|e| self.fail("stat", &path)(e.into()))?,
            };
            if !follow || kind(&stat) != SFlag::S_IFLNK {
                return Ok((dir, name));
            }
            let target =
                readlinkat(&dir, name.as_os_str()).map_err(|e| self.fail("read link", &path)(e.into()))?;
            path = joined(parent, target.as_bytes());
        }
        Err(self.fail("follow", &path)(io::Error::from(Errno::ELOOP)))
    }
}

/// Parent and last component; slashes at the end do not count.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let at = path[..end].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    (if at == 0 { b"/" } else { &path[..at] }, &path[at..end])
}

fn joined(parent: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") { target.to_vec() } else { [parent, b"/", target].concat() }
}

/// The name that a copy of `path` gets in a directory; `None`: its contents are meant (`/`, `.`, `DIR/.`).
fn base(path: &[u8]) -> Option<&[u8]> {
    let (_, name) = split(path);
    Some(name).filter(|name| !matches!(name, &b"" | &b"." | &b".."))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Docker's rules for what goes where.
fn copy(from: &Side, path: &[u8], to: &Side, place: &[u8], options: CopyOptions) -> Result<(), Error> {
    let follow = options.follow || path.ends_with(b"/") || base(path).is_none();
    let (parent, name) = from.locate(path, follow)?;
    let dir_flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let source = match name.is_empty() {
        true => parent,
        false => openat(
            &parent,
            name.as_os_str(),
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| from.fail("open", path)(e.into()))?,
    };
    let is_dir = kind(&stat_of(&source, from, path)?) == SFlag::S_IFDIR;
    if !is_dir && path.ends_with(b"/") {
        return Err(Error::Invalid(format!(
            "not a directory in {}: {}",
            from.name,
            String::from_utf8_lossy(path)
        )));
    }
    let copier = Copier { from, to, options };
    if let Some(dir) = to.open(place, dir_flags)? {
        return match base(path) {
            Some(name) => copier.entry(source, path, dir.as_fd(), &OsString::from_vec(name.to_vec()), 0),
            None if is_dir => copier.contents(source.as_fd(), path, dir.as_fd(), 0),
            None => Err(Error::Invalid(format!("not a directory: {}", String::from_utf8_lossy(path)))),
        };
    }
    if !is_dir && place.ends_with(b"/") {
        return Err(Error::Invalid(format!(
            "no such directory in {}: {}",
            to.name,
            String::from_utf8_lossy(place)
        )));
    }
    // A link to a file is written through, within the root.
    let (dir, name) = match to.locate(place, true) {
        Ok(found) if is_dir => {
            drop(found);
            return Err(Error::Invalid(format!(
                "cannot copy a directory over the file {} of {}",
                String::from_utf8_lossy(place),
                to.name
            )));
        }
        Ok(found) => found,
        Err(_) => {
            let (parent, name) = split(place);
            let missing = || {
                Error::Invalid(format!(
                    "no such directory in {}: {}",
                    to.name,
                    String::from_utf8_lossy(parent)
                ))
            };
            (to.open(parent, dir_flags)?.ok_or_else(missing)?, OsString::from_vec(name.to_vec()))
        }
    };
    copier.entry(source, path, dir.as_fd(), &name, 0)
}

fn stat_of(fd: &OwnedFd, side: &Side, path: &[u8]) -> Result<FileStat, Error> {
    fstat(fd).map_err(|e| side.fail("stat", path)(e.into()))
}

struct Copier<'a> {
    from: &'a Side,
    to: &'a Side,
    options: CopyOptions,
}

impl Copier<'_> {
    /// Copies what `source` is open on (O_PATH) to `name` in `dir`.
    fn entry(
        &self,
        source: OwnedFd,
        path: &[u8],
        dir: BorrowedFd<'_>,
        name: &OsString,
        depth: usize,
    ) -> Result<(), Error> {
        let stat = stat_of(&source, self.from, path)?;
        let read = |call: &'static str| self.from.fail(call, path);
        let write = |e: Errno| self.to.fail("make", path)(e.into());
        let attributes = self.attributes(&stat)?;
        match kind(&stat) {
            SFlag::S_IFDIR => {
                let made = make_dir(dir, name).map_err(write)?;
                self.contents(source.as_fd(), path, made.as_fd(), depth)?;
                let open =
                    reopen(source.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(read("open"))?;
                let xattrs = sys::xattr::all(&open).unwrap_or_default();
                attributes.set(made.as_fd(), &xattrs).map_err(self.to.fail("set attributes of", path))
            }
            SFlag::S_IFREG => {
                let file = reopen(source.as_fd(), OFlag::O_RDONLY).map_err(read("open"))?;
                let xattrs = sys::xattr::all(&file).unwrap_or_default();
                let mut made = make_file(dir, name).map_err(write)?;
                io::copy(&mut file.take(u64::MAX), &mut made).map_err(self.to.fail("write", path))?;
                attributes.set(made.as_fd(), &xattrs).map_err(self.to.fail("set attributes of", path))
            }
            SFlag::S_IFLNK => {
                let target = readlinkat(&source, "").map_err(|e| read("read link")(e.into()))?;
                make_link(dir, name, &target, &attributes).map_err(write)
            }
            SFlag::S_IFSOCK => {
                tracing::warn!("{}: sockets are not copied", String::from_utf8_lossy(path));
                Ok(())
            }
            kind => make_node(dir, name, kind, stat.st_rdev, &attributes).map_err(write),
        }
    }

    fn contents(
        &self,
        source: BorrowedFd<'_>,
        path: &[u8],
        to: BorrowedFd<'_>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Invalid(format!(
                "{}: deeper than {MAX_DEPTH} directories",
                String::from_utf8_lossy(path)
            )));
        }
        let fail = |e: Errno| self.from.fail("read directory", path)(e.into());
        let open =
            reopen(source, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(self.from.fail("open", path))?;
        for name in names(open.as_fd()).map_err(fail)? {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let entry = match openat(&open, name.as_c_str(), flags, Mode::empty()) {
                Err(Errno::ENOENT) => continue, // it has gone meanwhile
                result => result.map_err(fail)?,
            };
            let below = [path, b"/", name.to_bytes()].concat();
            self.entry(entry, &below, to, &OsString::from_vec(name.into_bytes()), depth + 1)?;
        }
        Ok(())
    }

    fn attributes(&self, stat: &FileStat) -> Result<Attributes, Error> {
        let mtime = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
        let owner = store::owner(self.from.ids.as_ref(), (stat.st_uid, stat.st_gid));
        Attributes::new(self.options, self.to, owner, stat.st_mode, mtime)
    }
}
