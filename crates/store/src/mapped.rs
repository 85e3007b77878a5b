//! Overlay mounts for containers with a user namespace: the layers stay as they are on disk, with the ids that the
//! container sees, and overlay gets each of them as an id-mapped mount (mount_setattr(2)), the writable one included.
//! So what the container writes is kept by its own ids too, and the same layers serve containers with other maps.
//!
//! Overlay takes such layers since Linux 5.19; it makes files of its own (whiteouts, its work directory) by the ids of
//! who mounts it, so that has to be somebody who has ids in the map.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use sys::mount::{SetAttr, attr, mount_setattr, move_mount};

use crate::error::{Error, Result};
use crate::overlay::{
    Overlay, by_mount, by_number, by_options, copy, failure, has_lowerdir_plus, in_own_namespace, open,
};

/// Whom the files of layers belong to.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    /// The user namespace whose maps say it.
    pub users: BorrowedFd<'a>,
    /// User and group of the host that are root there.
    pub root: (u32, u32),
}

/// Stacks directories as [`crate::overlay`] does, with owners shown through the maps of a user namespace. Upper and work
/// directory are in the same directory.
///
/// # Errors
/// As [`crate::overlay`]; the file system of a layer can't be id-mapped.
pub fn mapped_overlay(what: &Overlay<'_>, owners: Owners<'_>) -> Result<OwnedFd> {
    mapped(what, owners, has_lowerdir_plus())
}

/// [`mapped_overlay`] as kernels before 6.7 need it; public for tests on newer ones.
#[doc(hidden)]
pub fn mapped_overlay_on_old_kernels(what: &Overlay<'_>, owners: Owners<'_>) -> Result<OwnedFd> {
    mapped(what, owners, false)
}

fn mapped(what: &Overlay<'_>, owners: Owners<'_>, lowerdir_plus: bool) -> Result<OwnedFd> {
    if let ([only], None) = (what.lower, what.upper) {
        // Overlay wants two directories.
        let read_only = id_map(what, only, owners)?;
        let change = SetAttr { set: attr::RDONLY, ..SetAttr::default() };
        let set = mount_setattr(read_only.as_fd(), false, change, None);
        return set.map(|()| read_only).map_err(|e| failure(what, "bind", String::new(), e));
    }
    // Kernels before 6.15 take no detached mount for a layer, so each is attached, where nobody sees it.
    in_own_namespace(what, || {
        sys::process::make_files_as(owners.root.0, owners.root.1)
            .map_err(|e| failure(what, "setfsuid", String::new(), e))?;
        let lower: Vec<OwnedFd> =
            what.lower.iter().rev().map(|path| attach(what, path, owners)).collect::<Result<_>>()?;
        // Overlay wants both in one mount.
        let upper = what.upper.map(|(upper, work)| {
            let parent = attach(what, upper.parent().unwrap_or(upper), owners)?;
            Ok::<_, Error>((below(&parent, upper)?, below(&parent, work)?))
        });
        let upper = upper.transpose()?;
        if !lowerdir_plus {
            return by_mount(what, &lower, upper.as_ref());
        }
        let names: Vec<CString> = lower.iter().map(by_number).collect();
        by_options(
            what,
            &names,
            upper.as_ref().map(|(upper, work)| (by_number(upper), by_number(work))).as_ref(),
        )
    })
}

/// A copy of the mount at a directory, with owners by the maps.
fn id_map(what: &Overlay<'_>, path: &Path, owners: Owners<'_>) -> Result<OwnedFd> {
    let fail = |hint| {
        move |source: io::Error| Error::Overlay {
            layers: what.lower.len(),
            step: format!("id-map {path:?}"),
            log: String::new(),
            hint,
            source,
        }
    };
    let mounted = copy(path).map_err(fail(None))?;
    let change = SetAttr { set: attr::IDMAP, ..SetAttr::default() };
    let hint = "the store's file system can't be id-mapped; ext4, xfs, btrfs and, since Linux 6.3, tmpfs can: use --root on \
                one of these, or leave out the user namespace";
    mount_setattr(mounted.as_fd(), false, change, Some(owners.users)).map_err(fail(Some(hint)))?;
    Ok(mounted)
}

/// The same, over the directory itself.
fn attach(what: &Overlay<'_>, path: &Path, owners: Owners<'_>) -> Result<OwnedFd> {
    let place = open(path)?;
    let mounted = id_map(what, path, owners)?;
    move_mount(mounted.as_fd(), place.as_fd()).map_err(|e| failure(what, "move_mount", String::new(), e))?;
    Ok(mounted)
}

fn below(parent: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, path.file_name().unwrap_or(OsStr::new(".")), flags, Mode::empty())
        .map_err(|e| Error::os("open", path)(e.into()))
}
