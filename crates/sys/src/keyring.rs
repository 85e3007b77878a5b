//! Session keyrings: keyctl(2).

use std::ffi::CStr;
use std::io;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;
const KEYCTL_DESCRIBE: libc::c_int = 6;

/// A key's serial number.
#[derive(Debug, Clone, Copy)]
pub struct Key(libc::c_long);

/// Joins the session keyring `name`, making it if it does not exist. Allocates nothing.
pub fn join_session(name: &CStr) -> io::Result<Key> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let key = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    crate::check(key).map(Key)
}

/// Adds `grant` (`KEY_*` bits of keyutils.h) to the permissions of `key`. Allocates nothing.
pub fn grant(key: Key, grant: u32) -> io::Result<()> {
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most `text.len()` bytes and tells the true length.
    let len = crate::check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, key.0, text.as_mut_ptr(), text.len())
    })?;
    let text = &text[..usize::try_from(len).unwrap_or(0).min(text.len())];
    // "type;uid;gid;perm;description", perm in hexadecimal.
    let field = text.split(|b| *b == b';').nth(3).ok_or(io::ErrorKind::InvalidData)?;
    let mut permissions = 0u32;
    for digit in field {
        let digit = char::from(*digit).to_digit(16).ok_or(io::ErrorKind::InvalidData)?;
        permissions = permissions << 4 | digit;
    }
    // SAFETY: three integers.
    crate::check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key.0, permissions | grant) })
        .map(drop)
}
