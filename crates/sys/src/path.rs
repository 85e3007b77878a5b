//! Path resolution that cannot leave a root: openat2(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `RESOLVE_*` flags of openat2(2).
pub mod resolve {
    /// Every component, `..` and absolute links included, stays below the directory that was given.
    pub const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT;
    /// Fail with EXDEV instead of leaving the directory.
    pub const BENEATH: u64 = libc::RESOLVE_BENEATH;
    /// Fail with ELOOP on links such as /proc/PID/fd/N.
    pub const NO_MAGICLINKS: u64 = libc::RESOLVE_NO_MAGICLINKS;
    /// Fail with ELOOP on any symbolic link.
    pub const NO_SYMLINKS: u64 = libc::RESOLVE_NO_SYMLINKS;
    /// Fail with EXDEV on a mount point.
    pub const NO_XDEV: u64 = libc::RESOLVE_NO_XDEV;
}

/// openat2(2): opens `path` below `dir`.
///
/// `flags` are `O_*` (`O_CLOEXEC` is added), `mode` the permission bits for `O_CREAT`, `resolve` the flags of
/// [`resolve`]. A lookup that a concurrent rename made unsure is tried again, at most 64 times (EAGAIN).
pub fn openat2(dir: impl AsFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain integers, for which all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    #[allow(clippy::cast_sign_loss)] // open flags are a bit set
    let bits = (flags | libc::O_CLOEXEC) as u32;
    how.flags = u64::from(bits);
    how.mode = u64::from(mode);
    how.resolve = resolve;
    let dir = dir.as_fd();
    let mut tries = 0;
    loop {
        // SAFETY: `path` is NUL-terminated, `how` lives through the call and its true size is passed.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        match crate::owned(ret) {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && tries < 64 => tries += 1,
            result => return result,
        }
    }
}
