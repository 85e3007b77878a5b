//! The mount API of Linux 5.2 and later: fsopen, fsconfig, fsmount, fspick, open_tree, move_mount,
//! mount_setattr.
//!
//! Mounts are made detached, as a file descriptor, and attached by whoever owns the place. A detached mount
//! whose descriptor is closed is gone, so a failure half-way leaves nothing behind.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A mount's attributes, `MOUNT_ATTR_*` of mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// Set-user-ID and file capabilities have no effect.
    pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// Device nodes can't be opened.
    pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// The two bits that hold the access time mode.
    pub const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
    /// Never update access times.
    pub const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// Always update access times.
    pub const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// Don't update access times of directories.
    pub const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    /// Map owners by the user namespace of `userns_fd`.
    pub const IDMAP: u64 = libc::MOUNT_ATTR_IDMAP;
    /// Don't follow symbolic links.
    pub const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
}

/// Propagation types for [`mount_setattr`] (`MS_*`).
pub mod propagation {
    /// Events travel both ways.
    pub const SHARED: u64 = libc::MS_SHARED;
    /// Events travel neither way.
    pub const PRIVATE: u64 = libc::MS_PRIVATE;
    /// Events arrive but don't leave.
    pub const SLAVE: u64 = libc::MS_SLAVE;
    /// Private, and can't be bind mounted.
    pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
}

/// fsopen(2): a new, unconfigured file system of type `fstype`.
pub fn fsopen(fstype: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `fstype` is NUL-terminated and outlives the call.
    crate::owned(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), libc::FSOPEN_CLOEXEC) })
}

/// fspick(2): the superblock mounted at `path` below `dir`, to be reconfigured.
pub fn fspick(dir: impl AsFd, path: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH | libc::FSPICK_SYMLINK_NOFOLLOW;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    crate::owned(unsafe { libc::syscall(libc::SYS_fspick, dir.as_fd().as_raw_fd(), path.as_ptr(), flags) })
}

/// fsconfig(2) `FSCONFIG_SET_STRING`: sets option `key` to `value`.
pub fn fsconfig_string(fs: BorrowedFd, key: &CStr, value: &CStr) -> io::Result<()> {
    fsconfig(fs, libc::FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr().cast(), 0)
}

/// fsconfig(2) `FSCONFIG_SET_FLAG`: switches option `key` on.
pub fn fsconfig_flag(fs: BorrowedFd, key: &CStr) -> io::Result<()> {
    fsconfig(fs, libc::FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null(), 0)
}

/// fsconfig(2) `FSCONFIG_SET_FD`: sets option `key` to an open file (overlay's `lowerdir+` since 6.13).
pub fn fsconfig_fd(fs: BorrowedFd, key: &CStr, fd: BorrowedFd) -> io::Result<()> {
    fsconfig(fs, libc::FSCONFIG_SET_FD, key.as_ptr(), std::ptr::null(), fd.as_raw_fd())
}

/// fsconfig(2) `FSCONFIG_CMD_CREATE`: makes the superblock from the options set so far.
pub fn fsconfig_create(fs: BorrowedFd) -> io::Result<()> {
    fsconfig(fs, libc::FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null(), 0)
}

/// fsconfig(2) `FSCONFIG_CMD_RECONFIGURE`: applies the options to the superblock of [`fspick`].
pub fn fsconfig_reconfigure(fs: BorrowedFd) -> io::Result<()> {
    fsconfig(fs, libc::FSCONFIG_CMD_RECONFIGURE, std::ptr::null(), std::ptr::null(), 0)
}

fn fsconfig(
    fs: BorrowedFd,
    command: libc::c_uint,
    key: *const libc::c_char,
    value: *const libc::c_void,
    aux: libc::c_int,
) -> io::Result<()> {
    // SAFETY: key and value are NULL or NUL-terminated strings that outlive the call, as each command wants.
    let ret = unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, aux) };
    crate::check(ret).map(drop)
}

/// What the kernel logged about this file system context (`read` of an fsopen descriptor): for instance
/// overlay's reason for an EINVAL. Empty if it has nothing to say.
pub fn fs_log(fs: BorrowedFd) -> String {
    let mut text = String::new();
    let mut buf = [0u8; 1024];
    while let Ok(n) = nix::unistd::read(fs, &mut buf) {
        if n == 0 {
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(String::from_utf8_lossy(&buf[..n]).trim());
    }
    text
}

/// fsmount(2): a detached mount of the superblock, with `attr` of [`attr`].
pub fn fsmount(fs: BorrowedFd, attr: u64) -> io::Result<OwnedFd> {
    // SAFETY: three integers; the kernel reads no memory of ours.
    crate::owned(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attr) })
}

/// open_tree(2) with `OPEN_TREE_CLONE`: a detached copy of the mount at `path` below `dir` (a bind mount), with
/// everything mounted below it if `recursive`. An empty `path` means `dir` itself.
pub fn open_tree_clone(dir: impl AsFd, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    #[allow(clippy::cast_sign_loss)] // AT_* are bit sets
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        #[allow(clippy::cast_sign_loss)]
        {
            flags |= libc::AT_RECURSIVE as libc::c_uint;
        }
    }
    // SAFETY: `path` is NUL-terminated and outlives the call.
    crate::owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags) })
}

/// move_mount(2): attaches the mount of `from` on the place that `to` is open on. Both are used as they are,
/// no path is walked.
pub fn move_mount(from: BorrowedFd, to: BorrowedFd) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are the empty NUL-terminated string.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            to.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    crate::check(ret).map(drop)
}

/// mount(2), for what the calls above can't do: options longer than 255 bytes. `flags` are `MS_*`.
pub fn mount(source: &CStr, target: &CStr, fstype: &CStr, flags: u64, data: &CStr) -> io::Result<()> {
    // SAFETY: all four strings are NUL-terminated and outlive the call.
    let ret = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr().cast())
    };
    crate::check(ret.into()).map(drop)
}

/// umount2(2) with MNT_DETACH: nobody finds the mount and those below any more; each goes when its last user does.
pub fn detach(target: &CStr) -> io::Result<()> {
    // SAFETY: `target` is NUL-terminated and outlives the call.
    crate::check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

/// pivot_root(2).
pub fn pivot_root(new: &CStr, old: &CStr) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated and outlive the call.
    crate::check(unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) }).map(drop)
}

/// What [`mount_setattr`] changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Attributes to set ([`attr`]).
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// New propagation type ([`propagation`]), 0 = as it is.
    pub propagation: u64,
}

/// mount_setattr(2) on the mount that `mount` is open on; on all below it too if `recursive`. `userns` is the
/// user namespace for [`attr::IDMAP`].
pub fn mount_setattr(
    mount: BorrowedFd,
    recursive: bool,
    change: SetAttr,
    userns: Option<BorrowedFd>,
) -> io::Result<()> {
    // SAFETY: mount_attr is plain integers, for which all zeros is a valid value.
    let mut raw: libc::mount_attr = unsafe { std::mem::zeroed() };
    raw.attr_set = change.set;
    raw.attr_clr = change.clear;
    raw.propagation = change.propagation;
    if let Some(fd) = userns {
        raw.userns_fd = u64::try_from(fd.as_raw_fd()).expect("a borrowed descriptor is not negative");
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty NUL-terminated string, `raw` lives through the call, its true size is passed.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    crate::check(ret).map(drop)
}
