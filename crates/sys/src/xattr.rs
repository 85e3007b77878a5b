//! Extended attributes, xattr(7).
//!
//! The `l` calls take a path whose last component is not followed; for an entry of an open directory that path
//! is `/proc/self/fd/N/name`, because the calls that take a directory descriptor came only with Linux 6.13.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// fsetxattr(2): creates or replaces an attribute of an open file or directory.
pub fn fset(fd: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated, `value` is valid for its length, both outlive the call.
    let ret = unsafe {
        libc::fsetxattr(fd.as_fd().as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    crate::check(ret.into()).map(drop)
}

/// lsetxattr(2): creates or replaces an attribute of whatever is at `path`, a symbolic link included.
pub fn lset(path: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated, `value` is valid for its length, all outlive the call.
    let ret = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    crate::check(ret.into()).map(drop)
}

/// lremovexattr(2): removes an attribute of whatever is at `path`.
pub fn lremove(path: &CStr, name: &CStr) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated and outlive the call.
    let ret = unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) };
    crate::check(ret.into()).map(drop)
}

/// lgetxattr(2): the value of an attribute, `None` if there is none of that name (ENODATA).
pub fn lget(path: &CStr, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let read = |buf: &mut [u8]| {
        // SAFETY: both strings are NUL-terminated, `buf` is writable for its length, all outlive the call.
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) }
    };
    match grown(read) {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(e) => Err(e),
    }
}

/// llistxattr(2): the names of all attributes that the caller may see.
pub fn llist(path: &CStr) -> io::Result<Vec<CString>> {
    let read = |buf: &mut [u8]| {
        // SAFETY: `path` is NUL-terminated, `buf` is writable for its length, both outlive the call.
        unsafe { libc::llistxattr(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) }
    };
    let names = grown(read)?;
    Ok(names.split(|b| *b == 0).filter(|n| !n.is_empty()).filter_map(|n| CString::new(n).ok()).collect())
}

/// flistxattr(2) and fgetxattr(2): all attributes of an open file or directory that the caller may see.
pub fn all(fd: impl AsFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let fd = fd.as_fd().as_raw_fd();
    let names = grown(|buf: &mut [u8]| {
        // SAFETY: `buf` is writable for its length and outlives the call.
        unsafe { libc::flistxattr(fd, buf.as_mut_ptr().cast(), buf.len()) }
    })?;
    let names = names.split(|b| *b == 0).filter(|n| !n.is_empty()).filter_map(|n| CString::new(n).ok());
    let value = |name: &CStr| {
        grown(|buf: &mut [u8]| {
            // SAFETY: `name` is NUL-terminated, `buf` is writable for its length, both outlive the call.
            unsafe { libc::fgetxattr(fd, name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) }
        })
    };
    names.map(|name| value(&name).map(|value| (name, value))).collect()
}

/// Calls `read` with a buffer that is large enough. The kernel's limit for values and lists is 64 KiB.
fn grown(read: impl Fn(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; 256];
    loop {
        match usize::try_from(read(&mut buf)) {
            Ok(n) => {
                buf.truncate(n);
                return Ok(buf);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::ERANGE) || buf.len() > 65536 {
                    return Err(error);
                }
                buf.resize(if buf.len() < 65536 { 65536 } else { 65537 }, 0);
            }
        }
    }
}
