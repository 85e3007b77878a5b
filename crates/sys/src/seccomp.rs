//! seccomp(2): filters.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// One instruction of classic BPF (linux/filter.h).
pub type Instruction = libc::sock_filter;

/// `SECCOMP_FILTER_FLAG_*`.
#[allow(clippy::cast_possible_truncation)] // single low bits
pub mod flag {
    /// All threads get the filter.
    pub const TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
    /// Log all actions but ALLOW.
    pub const LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
    /// Leave speculative store bypass as it is.
    pub const SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
    /// Give a descriptor for notifications.
    pub const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    /// Only fatal signals interrupt a notification in work (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;
}

/// Loads `program` for the calling thread with `flags` of [`flag`]. With [`flag::NEW_LISTENER`] the answer is the
/// listener. Allocates nothing: for the child between clone and exec.
pub fn load(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // The kernel does not write to the program; the type lacks `const`.
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `fprog` and the instructions it points to live through the call, which only reads them.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            &raw const fprog,
        )
    };
    let ret = crate::check(ret)?;
    if flags & flag::NEW_LISTENER == 0 {
        // A positive answer to TSYNC is the id of a thread that could not be synchronised.
        return if ret == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    let fd = RawFd::try_from(ret).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: the call just opened `fd`, and nobody else owns it yet.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether the kernel has these flags. It looks at them before it finds that there is no program (EFAULT).
pub fn knows_flag(flags: u32) -> bool {
    // SAFETY: the program is a null pointer, which the kernel refuses to read.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    crate::check(ret).is_err_and(|e| e.raw_os_error() == Some(libc::EFAULT))
}
