//! Finishes a layer once its lower layers are there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::UnlinkatFlags;

use super::entry::make_whiteout;
use super::name;
use super::notes::{Note, Notes};
use super::place::{Diff, Place, Was, lower_kind};
use crate::copy::{copy_attributes, copy_node};
use crate::error::{Error, Result};
use crate::overlay::{Marks, Overlay, overlay};
use crate::tree;

/// Where a directory waits that has to move. Entries of this name are never unpacked.
const MOVING: &[u8] = b".wh..wh.rcr";

/// Does what the notes say about a layer in `root`, above the diff directories `lower`, lowest first.
pub(crate) fn settle(root: OwnedFd, mut notes: Notes, lower: &[&Path], marks: Marks) -> Result<()> {
    let top = match lower.last() {
        Some(path) => Some(open(path)?),
        None => None,
    };
    if let Some(top) = top.as_ref().filter(|_| !notes.explicit_root) {
        // Overlay shows the attributes of the topmost layer's root.
        let mtime = copy_attributes(top.as_fd(), b"", root.as_fd(), b"")
            .map_err(Error::unpack(b"/", "copy attributes of the root"))?;
        notes.set(b"", Note::Directory(mtime))?;
    }
    let view = match top {
        Some(_) if notes.is_self_contained() => None,
        Some(_) if lower.len() > 1 => Some(overlay(&Overlay { lower, upper: None, source: "rcr-unpack" })?),
        top => top,
    };
    let (seen, hidden) = if notes.opaque_root { (None, view) } else { (view, None) };
    let opaque_root = notes.opaque_root;
    let mut diff = Diff::new(root, seen, notes, marks, lower.is_empty());
    adopt(&mut diff)?;
    links(&mut diff)?;
    adopt(&mut diff)?;
    whiteouts(&mut diff)?;
    prune(&diff)?;
    if let Some(view) = hidden.filter(|_| opaque_root) {
        hide_all(&diff, view.as_fd())?;
    }
    times(&diff)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::os("open layer", path)(e.into()))
}

/// Directories that no entry named: as they are in the lower layers, or through a link there.
fn adopt(diff: &mut Diff) -> Result<()> {
    loop {
        let batch = diff.notes.paths(|note| *note == Note::Implicit);
        if batch.is_empty() {
            return Ok(());
        }
        for path in batch {
            if diff.notes.get(&path) != Some(&Note::Implicit) {
                continue; // it moved along with one above it
            }
            let (parent, base) = name::split(&path);
            let place = diff.place(parent, &path)?;
            match lower_kind(&place, base).map_err(Error::unpack(&path, "stat in lower layers"))? {
                None => diff.notes.set(&path, Note::Fresh)?,
                Some(SFlag::S_IFDIR) => {
                    let lower = place.lower.as_ref().expect("something of it was found").as_fd();
                    let mtime = copy_attributes(lower, base, place.dir.as_fd(), base)
                        .map_err(Error::unpack(&path, "copy attributes from lower layers"))?;
                    diff.notes.set(&path, Note::Directory(mtime))?;
                }
                Some(SFlag::S_IFLNK) => relocate(diff, &place, &path)?,
                Some(_) => {
                    return Err(Error::entry(&path, "it is not a directory in the layers below"));
                }
            }
        }
    }
}

/// The path is a link in the lower layers: what this layer has below it belongs where the link leads.
fn relocate(diff: &mut Diff, parent: &Place, path: &[u8]) -> Result<()> {
    let (_, base) = name::split(path);
    let root = diff.root().dir.clone();
    nix::fcntl::renameat(parent.dir.as_fd(), base, root.as_fd(), MOVING)
        .map_err(Error::unpack(path, "rename"))?;
    diff.forget_recent();
    let target = diff.place(path, path)?;
    let from = tree::open_dir(root.as_fd(), MOVING).map_err(Error::unpack(path, "open"))?;
    let opaque = diff.is_opaque(from.as_fd()).map_err(Error::unpack(path, "read overlay mark"))?;
    if opaque && !target.path.is_empty() {
        diff.set_opaque(&target, b"", path)?;
    }
    merge(diff, from.as_fd(), &target, path)?;
    nix::unistd::unlinkat(root.as_fd(), MOVING, UnlinkatFlags::RemoveDir)
        .map_err(Error::unpack(path, "rmdir"))?;
    diff.notes.rename(path, &target.path);
    diff.forget_recent();
    Ok(())
}

/// Moves everything in `from` into `to`. Directories merge; else what moves replaces what is there.
fn merge(diff: &mut Diff, from: BorrowedFd<'_>, to: &Place, entry: &[u8]) -> Result<()> {
    let fail = |call| Error::unpack::<std::io::Error>(entry, call);
    for (name, _) in tree::list(from).map_err(fail("read directory"))? {
        let name = name.to_bytes();
        let Some(moving) = tree::stat(from, name).map_err(fail("stat"))? else {
            continue;
        };
        let there = tree::stat(to.dir.as_fd(), name).map_err(fail("stat"))?;
        let directory = tree::kind(&moving) == SFlag::S_IFDIR;
        match there {
            Some(there) if directory && tree::kind(&there) == SFlag::S_IFDIR => {
                let from_child = tree::open_dir(from, name).map_err(fail("open"))?;
                let child = diff.place(&name::join(&to.path, name), entry)?;
                merge(diff, from_child.as_fd(), &child, entry)?;
                nix::unistd::unlinkat(from, name, UnlinkatFlags::RemoveDir)
                    .map_err(Error::unpack(entry, "rmdir"))?;
                continue;
            }
            // A whiteout is about lower layers only.
            Some(_) if tree::is_whiteout(&moving) => {
                tree::remove_tree(from, name).map_err(fail("unlink"))?;
                continue;
            }
            _ => {}
        }
        let was = diff.make_way(to, name, directory, entry)?;
        nix::fcntl::renameat(from, name, to.dir.as_fd(), name).map_err(Error::unpack(entry, "rename"))?;
        if directory && was == Was::Removed {
            diff.set_opaque(to, name, entry)?;
        }
    }
    Ok(())
}

/// Hardlinks to files that only lower layers have: the file is copied up, as overlay does on link(2).
fn links(diff: &mut Diff) -> Result<()> {
    let mut links: Vec<(usize, Vec<u8>, Vec<u8>)> = diff
        .notes
        .iter()
        .filter_map(|(path, note)| match note {
            Note::Link { order, target } => Some((*order, path.to_vec(), target.clone())),
            _ => None,
        })
        .collect();
    links.sort();
    for (_, path, target) in links {
        let fail = |call| Error::unpack::<std::io::Error>(&path, call);
        let missing = || {
            let target = String::from_utf8_lossy(&target);
            Error::entry(&path, format!("the target of this hardlink, {target:?}, is not in the image"))
        };
        diff.notes.remove(&path);
        let (parent, link_base) = name::split(&path);
        let place = diff.place(parent, &path)?;
        if tree::stat(place.dir.as_fd(), link_base).map_err(fail("stat"))?.is_some() {
            continue; // a later entry took the place
        }
        let (parent, base) = name::split(&target);
        let source = diff.place(parent, &path)?;
        let dir = source.dir.as_fd();
        match tree::stat(dir, base).map_err(fail("stat"))? {
            Some(stat) if tree::is_whiteout(&stat) => return Err(missing()),
            Some(stat) if tree::kind(&stat) == SFlag::S_IFDIR => {
                return Err(Error::entry(&path, "a hardlink to a directory"));
            }
            Some(_) => {}
            None => match lower_kind(&source, base).map_err(fail("stat in lower layers"))? {
                None => return Err(missing()),
                Some(SFlag::S_IFDIR) => return Err(Error::entry(&path, "a hardlink to a directory")),
                Some(_) => {
                    let lower = source.lower.as_ref().expect("something of it was found").as_fd();
                    copy_node(lower, base, dir, base).map_err(fail("copy from lower layers"))?;
                }
            },
        }
        nix::unistd::linkat(dir, base, place.dir.as_fd(), link_base, AtFlags::empty())
            .map_err(Error::unpack(&path, "link"))?;
    }
    Ok(())
}

/// Whiteouts that hide nothing go: in a directory that only this layer has, overlay would list them.
fn whiteouts(diff: &mut Diff) -> Result<()> {
    for path in diff.notes.paths(|note| *note == Note::Whiteout) {
        let (parent, base) = name::split(&path);
        let place = diff.place(parent, &path)?;
        if lower_kind(&place, base).map_err(Error::unpack(&path, "stat in lower layers"))?.is_none() {
            nix::unistd::unlinkat(place.dir.as_fd(), base, UnlinkatFlags::NoRemoveDir)
                .map_err(Error::unpack(&path, "unlink"))?;
        }
    }
    Ok(())
}

/// Directories that were made only for whiteouts of nothing.
fn prune(diff: &Diff) -> Result<()> {
    let root = diff.root().dir.as_fd();
    for path in diff.notes.paths(|note| *note == Note::Fresh).iter().rev() {
        match nix::unistd::unlinkat(root, path.as_slice(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOTEMPTY) => {}
            Err(e) => return Err(Error::unpack(path, "rmdir")(e)),
        }
    }
    Ok(())
}

/// An opaque root: overlay does not look at the mark there, so each name of the lower root is hidden.
fn hide_all(diff: &Diff, view: BorrowedFd<'_>) -> Result<()> {
    let fail = |call| Error::unpack::<std::io::Error>(b"/", call);
    let root = diff.root();
    for (name, _) in tree::list(view).map_err(fail("read root of lower layers"))? {
        let name = name.to_bytes();
        match tree::stat(root.dir.as_fd(), name).map_err(fail("stat"))? {
            None => make_whiteout(root.dir.as_fd(), name).map_err(Error::unpack(name, "make whiteout"))?,
            Some(stat) if tree::kind(&stat) == SFlag::S_IFDIR => diff.set_opaque(root, name, name)?,
            Some(_) => {}
        }
    }
    Ok(())
}

fn times(diff: &Diff) -> Result<()> {
    for (path, note) in diff.notes.iter() {
        if let Note::Directory(mtime) = note {
            diff.set_directory_times(path, *mtime).map_err(Error::unpack(path, "set times of directory"))?;
        }
    }
    Ok(())
}
