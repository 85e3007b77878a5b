//! The diff directory: finds and makes the directories in it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use sys::path::{openat2, resolve};

use super::name::{self, MAX_DEPTH};
use super::notes::{Note, Notes};
use crate::error::{Error, Result};
use crate::overlay::Marks;
use crate::tree;

/// Links followed on the way to one directory, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// A directory of the layer.
#[derive(Clone)]
pub(super) struct Place {
    /// Opened with `O_PATH`.
    pub(super) dir: Rc<OwnedFd>,
    /// Real path below the diff directory, empty for that itself.
    pub(super) path: Vec<u8>,
    /// What lower layers have here, as far as this layer lets it through.
    pub(super) lower: Option<Rc<OwnedFd>>,
}

/// A diff directory, what is still to do in it, and perhaps the merged view of the layers below.
pub(super) struct Diff {
    root: Place,
    pub(super) notes: Notes,
    pub(super) marks: Marks,
    /// No layer is below this one.
    pub(super) lowest: bool,
    /// The directory that was looked up last, by its path in the archive. Cleared when anything is replaced.
    recent: Option<(Vec<u8>, Place)>,
}

/// What made way for a new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    Nothing,
    /// A directory, which is still there.
    Directory,
    /// Something that is gone now. It hid what lower layers have at this path, so a directory in its place is
    /// opaque.
    Removed,
}

impl Diff {
    pub(super) fn new(
        root: OwnedFd,
        lower: Option<OwnedFd>,
        notes: Notes,
        marks: Marks,
        lowest: bool,
    ) -> Self {
        let root = Place { dir: Rc::new(root), path: Vec::new(), lower: lower.map(Rc::new) };
        Self { root, notes, marks, lowest, recent: None }
    }

    pub(super) fn into_notes(self) -> Notes {
        self.notes
    }

    pub(super) fn root(&self) -> &Place {
        &self.root
    }

    /// The directory at a clean path of the archive; links on the way are followed within the layer, what is
    /// missing is made. `entry` is who wants it.
    pub(super) fn place(&mut self, path: &[u8], entry: &[u8]) -> Result<Place> {
        if let Some((known, place)) = &self.recent
            && known == path
        {
            return Ok(place.clone());
        }
        let straight = match path {
            b"" => Some(self.root.clone()),
            _ if self.root.lower.is_some() => None,
            _ => match below(self.root.dir.as_fd(), path) {
                Ok(dir) => Some(Place { dir: Rc::new(dir), path: path.to_vec(), lower: None }),
                Err(_) => None,
            },
        };
        let place = match straight {
            Some(place) => place,
            None => self.walk(path, entry)?,
        };
        self.recent = Some((path.to_vec(), place.clone()));
        Ok(place)
    }

    /// Goes there step by step.
    fn walk(&mut self, path: &[u8], entry: &[u8]) -> Result<Place> {
        let fail = |call| Error::unpack::<io::Error>(entry, call);
        let mut ahead: VecDeque<Vec<u8>> = components(path).collect();
        let mut trail = vec![self.root.clone()];
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            let here = trail.last().expect("the root is never popped").clone();
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let found = tree::stat(here.dir.as_fd(), &name).map_err(fail("stat"))?;
            let link = match &found {
                Some(stat) if tree::kind(stat) == SFlag::S_IFDIR => {
                    trail.push(self.step(&here, &name, entry)?);
                    continue;
                }
                Some(stat) if tree::kind(stat) == SFlag::S_IFLNK => {
                    nix::fcntl::readlinkat(here.dir.as_fd(), name.as_slice())
                }
                Some(stat) if tree::is_whiteout(stat) => {
                    trail.push(self.make(&here, &name, entry)?);
                    continue;
                }
                Some(_) => return Err(not_a_directory(entry, &here.path, &name)),
                None => match lower_kind(&here, &name).map_err(fail("stat"))? {
                    None | Some(SFlag::S_IFDIR) => {
                        trail.push(self.make(&here, &name, entry)?);
                        continue;
                    }
                    Some(SFlag::S_IFLNK) => {
                        let lower = here.lower.as_ref().expect("something of it was found").as_fd();
                        nix::fcntl::readlinkat(lower, name.as_slice())
                    }
                    Some(_) => return Err(not_a_directory(entry, &here.path, &name)),
                },
            };
            let link = link.map_err(|e| fail("readlink")(e.into()))?;
            links += 1;
            if links > MAX_LINKS {
                return Err(fail("follow links")(Errno::ELOOP.into()));
            }
            let link = std::os::unix::ffi::OsStringExt::into_vec(link);
            if link.starts_with(b"/") {
                trail.truncate(1);
            }
            for component in components(&link).rev() {
                ahead.push_front(component);
            }
        }
        Ok(trail.pop().expect("the root is never popped"))
    }

    /// Enters a directory of this layer.
    fn step(&self, here: &Place, name: &[u8], entry: &[u8]) -> Result<Place> {
        let fail = |call| Error::unpack::<io::Error>(entry, call);
        let dir = below(here.dir.as_fd(), name).map_err(fail("open directory"))?;
        let lower = match &here.lower {
            Some(lower) if !self.is_opaque(dir.as_fd()).map_err(fail("read overlay mark"))? => {
                match below(lower.as_fd(), name) {
                    Ok(dir) => Some(Rc::new(dir)),
                    Err(e) if missing(&e) => None,
                    Err(e) => return Err(fail("open directory of lower layer")(e)),
                }
            }
            _ => None,
        };
        Ok(Place { dir: Rc::new(dir), path: name::join(&here.path, name), lower })
    }

    /// Makes a directory that no entry named, as docker and containerd do.
    fn make(&mut self, here: &Place, name: &[u8], entry: &[u8]) -> Result<Place> {
        let path = name::join(&here.path, name);
        if path.len() > 4095 || path.iter().filter(|b| **b == b'/').count() >= MAX_DEPTH {
            return Err(Error::entry(entry, "its directory is too deep"));
        }
        let was = self.make_way(here, name, true, entry)?;
        let mode = Mode::from_bits_truncate(0o755);
        nix::sys::stat::mkdirat(here.dir.as_fd(), name, mode).map_err(Error::unpack(entry, "mkdir"))?;
        // umask(2) may have taken bits away.
        let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
        nix::sys::stat::fchmodat(here.dir.as_fd(), name, mode, follow)
            .map_err(Error::unpack(entry, "chmod"))?;
        if was == Was::Removed {
            self.set_opaque(here, name, entry)?;
        } else {
            self.notes.set(&path, Note::Implicit)?;
        }
        self.step(here, name, entry)
    }

    /// Removes what is at `name`, unless a directory meets a directory.
    pub(super) fn make_way(
        &mut self,
        here: &Place,
        name: &[u8],
        directory: bool,
        entry: &[u8],
    ) -> Result<Was> {
        let dir = here.dir.as_fd();
        let Some(stat) = tree::stat(dir, name).map_err(Error::unpack(entry, "stat"))? else {
            return Ok(Was::Nothing);
        };
        if directory && tree::kind(&stat) == SFlag::S_IFDIR {
            return Ok(Was::Directory);
        }
        tree::remove_tree(dir, name).map_err(Error::unpack(entry, "remove what was there"))?;
        self.notes.forget(&name::join(&here.path, name));
        self.recent = None;
        Ok(Was::Removed)
    }

    /// Marks a directory of this layer as one that hides all lower layers have there.
    pub(super) fn set_opaque(&self, here: &Place, name: &[u8], entry: &[u8]) -> Result<()> {
        if self.lowest {
            return Ok(());
        }
        let path = tree::proc_path(here.dir.as_fd(), name);
        sys::xattr::lset(&path, self.marks.opaque(), b"y").map_err(Error::unpack(entry, "set overlay mark"))
    }

    pub(super) fn is_opaque(&self, dir: BorrowedFd<'_>) -> io::Result<bool> {
        let value = sys::xattr::lget(&tree::proc_path(dir, b""), self.marks.opaque())?;
        Ok(value.as_deref() == Some(b"y"))
    }

    pub(super) fn set_directory_times(&self, path: &[u8], mtime: (i64, u32)) -> io::Result<()> {
        let root = self.root.dir.as_fd();
        if path.is_empty() {
            return Ok(tree::set_times(root, b".", mtime)?);
        }
        let dir = below(root, path)?;
        Ok(tree::set_times(dir.as_fd(), b".", mtime)?)
    }

    /// Something else may be at the path that was looked up last.
    pub(super) fn forget_recent(&mut self) {
        self.recent = None;
    }
}

/// What lower layers have at `name`.
pub(super) fn lower_kind(here: &Place, name: &[u8]) -> io::Result<Option<SFlag>> {
    match &here.lower {
        None => Ok(None),
        Some(lower) => {
            Ok(tree::stat(lower.as_fd(), name)?.filter(|s| !tree::is_whiteout(s)).map(|s| tree::kind(&s)))
        }
    }
}

/// Opens a directory below `dir` without following any link.
fn below(dir: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let path = std::ffi::CString::new(path)?;
    let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
    openat2(dir, &path, flags, 0, resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_MAGICLINKS)
}

/// No such directory, or something else there.
fn missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').map(<[u8]>::to_vec)
}

fn not_a_directory(entry: &[u8], parent: &[u8], name: &[u8]) -> Error {
    let path = name::join(parent, name);
    Error::entry(entry, format!("{:?} is not a directory", String::from_utf8_lossy(&path)))
}
