//! clone3(2) and the namespaces of a process: setns(2), unshare(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Namespaces, `CLONE_NEW*`. Each is also what setns(2) takes to check a descriptor's kind.
pub mod namespace {
    /// Mounts.
    pub const MOUNT: u64 = 0x0002_0000;
    /// cgroup root directory.
    pub const CGROUP: u64 = 0x0200_0000;
    /// Host and domain name.
    pub const UTS: u64 = 0x0400_0000;
    /// System V IPC and POSIX message queues.
    pub const IPC: u64 = 0x0800_0000;
    /// User and group ids, capabilities.
    pub const USER: u64 = 0x1000_0000;
    /// Process ids.
    pub const PID: u64 = 0x2000_0000;
    /// Network.
    pub const NET: u64 = 0x4000_0000;
    /// Boot and monotonic clocks.
    pub const TIME: u64 = 0x0000_0080;
}

/// A new child process.
#[derive(Debug)]
pub struct Cloned {
    /// Its id, as the caller sees it.
    pub pid: i32,
    /// A pidfd of it.
    pub pidfd: OwnedFd,
}

/// How to clone.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// New namespaces ([`namespace`]).
    pub namespaces: u64,
    /// cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Be a sibling of the caller instead of its child (CLONE_PARENT).
    pub sibling: bool,
}

/// Aborts instead of unwinding out of the child into code that belongs to the parent.
struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// clone3(2): runs `child` in a new process with a copy of this one's memory, and exits with the status it returns.
///
/// All signal handlers are reset to the default in the child; ignored signals stay ignored and the mask stays.
/// The child is a single thread. If this process has several, another one may have held a lock (the allocator's for
/// instance) at the moment of the clone, for ever locked in the child: `child` must neither allocate nor lock.
pub fn clone3(options: &Options, child: impl FnOnce() -> i32) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which all zeros is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    #[allow(clippy::cast_sign_loss)] // CLONE_* are bit sets
    let mut flags = options.namespaces | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    args.pidfd = &raw mut pidfd as u64;
    if options.sibling {
        // The parent gets the signal that this process's parent gets; naming one as well is EINVAL.
        #[allow(clippy::cast_sign_loss)]
        {
            flags |= libc::CLONE_PARENT as u64;
        }
    } else {
        #[allow(clippy::cast_sign_loss)]
        {
            args.exit_signal = libc::SIGCHLD as u64;
        }
    }
    if let Some(cgroup) = options.cgroup {
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("a borrowed descriptor is not negative");
    }
    args.flags = flags;
    // SAFETY: without CLONE_VM this is a fork: the child gets a copy of all memory and goes on on its own copy of
    // this stack. `args` and `pidfd` outlive the call and the true size is passed.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if crate::check(pid)? == 0 {
        let guard = NoUnwind;
        let status = child();
        std::mem::forget(guard);
        // SAFETY: _exit ends the process without running anything of the parent's (atexit, destructors).
        unsafe { libc::_exit(status) }
    }
    let pid = i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    Ok(Cloned { pid, pidfd: crate::owned(pidfd.into())? })
}

/// Beyond `c_int` in libc; linux/sched.h.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// setns(2): enters the namespace that `fd` is open on, or those of `kinds` of the process that a pidfd is open on.
pub fn setns(fd: BorrowedFd, kinds: u64) -> io::Result<()> {
    let kinds = libc::c_int::try_from(kinds).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: two integers.
    crate::check(unsafe { libc::setns(fd.as_raw_fd(), kinds) }.into()).map(drop)
}

/// unshare(2): makes new namespaces of `kinds`. [`namespace::PID`] and [`namespace::TIME`] take effect for children.
pub fn unshare(kinds: u64) -> io::Result<()> {
    let kinds = libc::c_int::try_from(kinds).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: one integer; namespaces don't affect memory safety.
    crate::check(unsafe { libc::unshare(kinds) }.into()).map(drop)
}

/// What kind of namespace `fd` is open on (NS_GET_NSTYPE of ioctl_ns(2)); ENOTTY: on none.
pub fn namespace_kind(fd: BorrowedFd) -> io::Result<u64> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: takes no argument and answers with an integer.
    let kind = crate::check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) }.into())?;
    u64::try_from(kind).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
