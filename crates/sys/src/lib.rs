//! Safe functions over the Linux calls that `nix` lacks. The only crate of rcr that may say `unsafe`.
//!
//! Each function is one system call (or the few that make one operation), named after it, takes borrowed
//! file descriptors and returns owned ones. Failure is the errno as [`std::io::Error`]; the caller, who knows
//! what it was for, adds the rest. Nothing here decides policy.

#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod dir;
pub mod init;
pub mod keyring;
pub mod message;
pub mod mount;
pub mod netlink;
pub mod path;
pub mod pidfd;
pub mod process;
pub mod pty;
pub mod rtnetlink;
pub mod seccomp;
pub mod tty;
pub mod userns;
pub mod wait;
pub mod xattr;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Turns the result of a raw system call into its value or its errno.
fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Owns the descriptor that a system call just returned.
fn owned(ret: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(ret)?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: the call that returned `fd` just opened it, and nobody else owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
