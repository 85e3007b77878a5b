//! Process file descriptors: processes without the danger that their number is reused. pidfd_open(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// pidfd_open(2): the process `pid`. ESRCH when there is none.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of ours.
    crate::owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2): `signal` as kill(2) sends it; 0 only asks whether the process is there.
pub fn signal(pidfd: BorrowedFd, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for the same values as kill(2) gives.
    crate::check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) })
        .map(drop)
}

/// pidfd_getfd(2): a copy of the descriptor `number` of the process (needs the right to ptrace it).
pub fn getfd(pidfd: BorrowedFd, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers and touches no memory of ours; the returned descriptor is ours alone.
    crate::owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// PIDFD_GET_INFO (since Linux 6.15 with PIDFD_INFO_EXIT): how a process ended that has been reaped, by whomever. `None`:
/// it has not. ENOTTY or EINVAL on older kernels.
pub fn end(pidfd: BorrowedFd) -> io::Result<Option<crate::wait::Ended>> {
    /// `struct pidfd_info` as of its first version.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)`
    const GET_INFO: u64 = 3 << 30 | (size_of::<Info>() as u64) << 16 | 0xff << 8 | 11;
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: the kernel writes at most as many bytes as the number of the call says, which is the size of `info`.
    crate::check(unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) }.into())?;
    let (signal, code) = (info.exit_code & 0x7f, info.exit_code >> 8 & 0xff);
    let ended =
        if signal == 0 { crate::wait::Ended::Exited(code) } else { crate::wait::Ended::Killed(signal) };
    Ok((info.mask & EXIT != 0).then_some(ended))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    #[test]
    #[allow(clippy::cast_possible_wrap)]
    fn finds_the_own_process_and_no_impossible_one() {
        let own = super::open(std::process::id() as i32).unwrap();
        super::signal(own.as_fd(), 0).unwrap();
        assert_eq!(super::open(i32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
