//! Steps that mount: everything is made detached, set up by descriptor, and attached to a place that was opened inside
//! the root (no path is walked twice).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use sys::mount::{self as api, SetAttr, attr};

use super::fail::{At, Doing, Fail};
use super::target::{self, Opened, open_target};
use super::{Child, copy};
use crate::plan::{Bind, BindAttr, Mount, OnProc, Place, Propagation, Root, RootSource, Source};

/// The attributes a bind mount's options name, apart from access times.
const PLAIN: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW;

impl Child<'_> {
    /// Attaches the root file system and keeps it open as the place all other lookups start from.
    pub(super) fn attach_root(&mut self, root: &Root) -> Result<(), Fail> {
        let tree = match root.source {
            RootSource::Path => api::open_tree_clone(AT_FDCWD, &root.path, true).at(Doing::OpenSource)?,
            RootSource::Opened(slot) => self.take(slot)?,
            RootSource::Given => {
                self.files.rootfs.take().ok_or(Fail::new(Doing::OpenSource, Errno::EBADF))?
            }
        };
        let kind = if root.slave { api::propagation::SLAVE } else { api::propagation::PRIVATE };
        let wanted = SetAttr { propagation: kind, ..SetAttr::default() };
        api::mount_setattr(tree.as_fd(), false, wanted, None).at(Doing::SetPropagation)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let place = nix::fcntl::open(root.path.as_c_str(), flags, nix::sys::stat::Mode::empty());
        api::move_mount(tree.as_fd(), place.at(Doing::OpenTarget)?.as_fd()).at(Doing::Attach)?;
        self.root = Some(tree);
        Ok(())
    }

    pub(super) fn mount(&mut self, mount: &Mount) -> Result<(), Fail> {
        let place = open_target(self.root()?, &mount.target, true)?;
        match new_mount(self.root()?, mount, &place) {
            Err(Fail { errno, .. })
                if mount.instead.is_some() && [Errno::EPERM as i32, Errno::EBUSY as i32].contains(&errno) =>
            {
                let source = mount.instead.as_deref().ok_or(Fail::new(Doing::OpenSource, Errno::EINVAL))?;
                let tree = api::open_tree_clone(AT_FDCWD, source, true).at(Doing::OpenSource)?;
                set_bind_attr(tree.as_fd(), BindAttr { set: mount.attr, clear: 0, times: false })?;
                api::move_mount(tree.as_fd(), place.fd.as_fd()).at(Doing::Attach)?;
                propagate(tree.as_fd(), &mount.propagation)
            }
            other => other,
        }
    }

    /// A detached copy of what is to be bound.
    pub(super) fn open_source(
        &mut self,
        at: usize,
        source: &Source,
        recursive: bool,
    ) -> Result<OwnedFd, Fail> {
        match source {
            Source::Path(path) => api::open_tree_clone(AT_FDCWD, path, recursive).at(Doing::OpenSource),
            Source::Either(first, second) => match api::open_tree_clone(AT_FDCWD, first, recursive) {
                Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {
                    api::open_tree_clone(AT_FDCWD, second, recursive)
                }
                other => other,
            }
            .at(Doing::OpenSource),
            Source::Opened(slot, _) => self.take(*slot),
            Source::Inside(path) => {
                let place = target::open(self.root()?, path, OFlag::O_PATH).at(Doing::OpenSource)?;
                api::open_tree_clone(&place, c"", recursive).at(Doing::OpenSource)
            }
            Source::InsideByParent(_) => {
                self.send_fd(at, self.root()?, Doing::OpenSource)?;
                self.wait_for_fd()
            }
        }
    }

    pub(super) fn bind(&mut self, at: usize, bind: &Bind) -> Result<(), Fail> {
        let tree = self.open_source(at, &bind.source, bind.recursive)?;
        if bind.target.proc == OnProc::Only && !target::is_on_proc(&tree).at(Doing::OpenSource)? {
            return Err(Fail::new(Doing::NotProc, Errno::EPERM));
        }
        let directory = target::is_directory(&tree).at(Doing::OpenSource)?;
        let place = open_target(self.root()?, &bind.target, directory)?;
        if let Some(wanted) = bind.attr {
            set_bind_attr(tree.as_fd(), wanted)?;
        }
        api::move_mount(tree.as_fd(), place.fd.as_fd()).at(Doing::Attach)?;
        propagate(tree.as_fd(), &bind.propagation)?;
        if let Some(change) = bind.recursive_attr {
            api::mount_setattr(tree.as_fd(), true, change, None).at(Doing::SetRecursive)?;
        }
        Ok(())
    }

    /// `remount` of what is there: attributes of the mount, and options of its file system if there are any.
    pub(super) fn remount(&mut self, mount: &Mount) -> Result<(), Fail> {
        let place = self.open_mounted(&mount.target)?;
        if !mount.options.is_empty() {
            let fs = api::fspick(&place, c"").at(Doing::MakeSuperblock)?;
            set_options(fs.as_fd(), mount)?;
            api::fsconfig_reconfigure(fs.as_fd()).at(Doing::MakeSuperblock)?;
        }
        set_bind_attr(place.as_fd(), BindAttr { set: mount.attr, clear: 0, times: false })?;
        propagate(place.as_fd(), &mount.propagation)
    }

    fn open_mounted(&self, target: &Place) -> Result<OwnedFd, Fail> {
        target::open(self.root()?, &target.path, OFlag::O_PATH).at(Doing::OpenTarget)
    }

    /// Sets MOUNT_ATTR_RDONLY on the mount at a path.
    pub(super) fn make_read_only(&self, path: &CStr) -> Result<(), Fail> {
        let place = target::open(self.root()?, path, OFlag::O_PATH).at(Doing::OpenTarget)?;
        let change = SetAttr { set: attr::RDONLY, ..SetAttr::default() };
        api::mount_setattr(place.as_fd(), false, change, None).at(Doing::SetAttributes)
    }

    /// Binds a path on itself, read-only. What does not exist needs no protection.
    pub(super) fn protect(&self, path: &CStr) -> Result<(), Fail> {
        let place = match target::open(self.root()?, path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.at(Doing::OpenTarget)?,
        };
        let tree = api::open_tree_clone(&place, c"", true).at(Doing::OpenSource)?;
        let change = SetAttr { set: attr::RDONLY, ..SetAttr::default() };
        api::mount_setattr(tree.as_fd(), false, change, None).at(Doing::SetAttributes)?;
        api::move_mount(tree.as_fd(), place.as_fd()).at(Doing::Attach)
    }

    /// Hides a path: a directory under an empty read-only tmpfs (one for all of them), anything else under the null
    /// device, which is checked by its numbers.
    pub(super) fn mask(&mut self, path: &CStr) -> Result<(), Fail> {
        let place = match target::open(self.root()?, path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.at(Doing::OpenTarget)?,
        };
        if !target::is_directory(&place).at(Doing::OpenTarget)? {
            let null = self.null()?;
            let tree = api::open_tree_clone(null, c"", false).at(Doing::OpenNull)?;
            return api::move_mount(tree.as_fd(), place.as_fd()).at(Doing::Attach);
        }
        let tree = match &self.mask {
            Some(first) => api::open_tree_clone(first, c"", false).at(Doing::OpenSource)?,
            None => {
                let fs = api::fsopen(c"tmpfs").at(Doing::NoType)?;
                for (key, value) in [(c"source", c"tmpfs"), (c"nr_blocks", c"1"), (c"nr_inodes", c"1")] {
                    api::fsconfig_string(fs.as_fd(), key, value).at(Doing::SetOption)?;
                }
                if let Some(label) = &self.files.mount_label {
                    api::fsconfig_string(fs.as_fd(), c"context", label).at(Doing::SetOption)?;
                }
                api::fsconfig_flag(fs.as_fd(), c"ro").at(Doing::SetOption)?;
                api::fsconfig_create(fs.as_fd()).at(Doing::MakeSuperblock)?;
                api::fsmount(fs.as_fd(), attr::RDONLY).at(Doing::MakeMount)?
            }
        };
        api::move_mount(tree.as_fd(), place.as_fd()).at(Doing::Attach)?;
        self.mask.get_or_insert(tree);
        Ok(())
    }

    /// The container's null device.
    pub(super) fn null(&mut self) -> Result<BorrowedFd<'_>, Fail> {
        let root = self.root.as_ref().ok_or(Fail::new(Doing::OpenNull, Errno::EBADF))?.as_fd();
        if self.null.is_none() {
            let fd = target::open(root, c"/dev/null", OFlag::O_PATH).at(Doing::OpenNull)?;
            if !target::is_null(&nix::sys::stat::fstat(&fd).at(Doing::OpenNull)?) {
                return Err(Fail::new(Doing::NotNull, Errno::ENODEV));
            }
            self.null = Some(fd);
        }
        self.null.as_ref().map(AsFd::as_fd).ok_or(Fail::new(Doing::OpenNull, Errno::EBADF))
    }
}

fn new_mount(root: BorrowedFd, mount: &Mount, opened: &Opened) -> Result<(), Fail> {
    let place = opened.fd.as_fd();
    if let Some((flags, data)) = &mount.long {
        return long_mount(root, mount, place, *flags, data);
    }
    let fs = api::fsopen(&mount.fstype).at(Doing::NoType)?;
    if !mount.source.is_empty() {
        api::fsconfig_string(fs.as_fd(), c"source", &mount.source).at(Doing::SetOption)?;
    }
    if let (true, Some(mode)) = (mount.keep_mode, opened.mode) {
        api::fsconfig_string(fs.as_fd(), c"mode", octal(mode, &mut [0; 5])).at(Doing::SetOption)?;
    }
    set_options(fs.as_fd(), mount)?;
    api::fsconfig_create(fs.as_fd()).at(Doing::MakeSuperblock).map_err(|fail| fail.with_log(fs.as_fd()))?;
    let tree = api::fsmount(fs.as_fd(), mount.attr).at(Doing::MakeMount)?;
    if mount.copy_up {
        copy::copy_directory(place, tree.as_fd()).at(Doing::CopyUp)?;
    }
    api::move_mount(tree.as_fd(), place).at(Doing::Attach)?;
    propagate(tree.as_fd(), &mount.propagation)
}

/// mount(2), for options longer than the 255 bytes fsconfig(2) takes (overlay's `lowerdir`).
fn long_mount(
    root: BorrowedFd,
    mount: &Mount,
    place: BorrowedFd,
    flags: u64,
    data: &CStr,
) -> Result<(), Fail> {
    nix::unistd::fchdir(place).at(Doing::OpenTarget)?;
    api::mount(&mount.source, c".", &mount.fstype, flags, data).at(Doing::MakeMount)?;
    let top = target::open(root, &mount.target.path, OFlag::O_PATH).at(Doing::OpenTarget)?;
    propagate(top.as_fd(), &mount.propagation)
}

fn set_options(fs: BorrowedFd, mount: &Mount) -> Result<(), Fail> {
    for (key, value) in &mount.options {
        match value {
            Some(value) => api::fsconfig_string(fs, key, value),
            None => api::fsconfig_flag(fs, key),
        }
        .at(Doing::SetOption)
        .map_err(|fail| fail.with_log(fs))?;
    }
    Ok(())
}

/// Gives a bind mount exactly the attributes that were asked for, or, where the kernel holds the source's locked, adds
/// them to those. Access times stay the source's unless asked for, as mount(8) has it.
fn set_bind_attr(tree: BorrowedFd, wanted: BindAttr) -> Result<(), Fail> {
    let times = if wanted.times { attr::ATIME_MASK } else { 0 };
    let plain = if wanted.times { PLAIN | attr::NODIRATIME } else { PLAIN };
    let exact = SetAttr { set: wanted.set, clear: plain & !wanted.set | times, propagation: 0 };
    match api::mount_setattr(tree, false, exact, None) {
        Err(e) if e.raw_os_error() == Some(Errno::EPERM as i32) => {
            // Following links is nothing that the kernel holds.
            let added = SetAttr { clear: wanted.clear | attr::NOSYMFOLLOW & !wanted.set | times, ..exact };
            api::mount_setattr(tree, false, added, None).at(Doing::SetAttributes)
        }
        other => other.at(Doing::SetAttributes),
    }
}

pub(super) fn propagate(tree: BorrowedFd, changes: &[Propagation]) -> Result<(), Fail> {
    for change in changes {
        let wanted = SetAttr { propagation: change.kind, ..SetAttr::default() };
        api::mount_setattr(tree, change.recursive, wanted, None).at(Doing::SetPropagation)?;
    }
    Ok(())
}

fn octal(mode: u32, text: &mut [u8; 5]) -> &CStr {
    for (i, byte) in text[..4].iter_mut().enumerate() {
        *byte = b'0' + ((mode >> (9 - 3 * i)) & 7) as u8;
    }
    text[4] = 0;
    CStr::from_bytes_until_nul(text).unwrap_or(c"0755")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_in_octal() {
        let mut text = [0; 5];
        assert_eq!(octal(0o1777, &mut text), c"1777");
        assert_eq!(octal(0o755, &mut text), c"0755");
    }
}
