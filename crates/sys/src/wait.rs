//! How a child ended. waitid(2) through a pidfd; unlike nix's it knows real-time signals.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code (0 to 255).
    Exited(i32),
    /// By the signal of this number.
    Killed(i32),
}

/// What a signal means, in lower case: `killed`, `bad system call`. strsignal(3).
pub fn signal_text(signal: i32) -> String {
    // SAFETY: strsignal returns a string that stays valid until its next call in this thread.
    let text = unsafe { std::ffi::CStr::from_ptr(libc::strsignal(signal)) };
    text.to_string_lossy().to_lowercase()
}

/// Waits until the child of `pidfd` has ended, and reaps it.
pub fn wait(pidfd: BorrowedFd) -> io::Result<Ended> {
    #[allow(clippy::cast_sign_loss)] // descriptors are not negative
    let number = pidfd.as_raw_fd() as libc::id_t;
    loop {
        match waitid(libc::P_PIDFD, number, libc::WEXITED) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|(_, ended)| ended),
        }
    }
}

/// How the child of `pidfd` has ended, without reaping it; `None`: it has not.
pub fn peek(pidfd: BorrowedFd) -> io::Result<Option<Ended>> {
    #[allow(clippy::cast_sign_loss)] // descriptors are not negative
    let number = pidfd.as_raw_fd() as libc::id_t;
    match waitid(libc::P_PIDFD, number, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)? {
        (0, _) => Ok(None),
        (_, ended) => Ok(Some(ended)),
    }
}

/// Reaps one child that has ended, whichever it is: its process id and its end; `None` when none has.
pub fn reap_any() -> io::Result<Option<(i32, Ended)>> {
    match waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG) {
        Ok((0, _)) => Ok(None),
        Ok(child) => Ok(Some(child)),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The process id is 0 when nothing has ended (WNOHANG).
fn waitid(kind: libc::idtype_t, number: libc::id_t, flags: i32) -> io::Result<(i32, Ended)> {
    // SAFETY: siginfo_t is plain data, for which all zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one siginfo to the address, which is that of a live siginfo.
    crate::check(i64::from(unsafe { libc::waitid(kind, number, &raw mut info, flags) }))?;
    // SAFETY: waitid has filled in the fields of SIGCHLD, or left all of them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let exited = info.si_code == libc::CLD_EXITED;
    Ok((pid, if exited { Ended::Exited(status) } else { Ended::Killed(status) }))
}

#[cfg(test)]
#[allow(clippy::cast_possible_wrap, clippy::zombie_processes)] // reaped by what is tested
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    #[allow(clippy::zombie_processes)] // what is tested here reaps it
    fn ended(script: &str) -> Ended {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pidfd = crate::pidfd::open(child.id() as i32).unwrap();
        wait(pidfd.as_fd()).unwrap()
    }

    #[test]
    fn signals_have_words() {
        assert_eq!(signal_text(9), "killed");
        assert_eq!(signal_text(31), "bad system call");
        assert!(!signal_text(1000).is_empty());
    }

    #[test]
    fn codes_and_signals() {
        assert_eq!(ended("exit 7"), Ended::Exited(7));
        assert_eq!(ended("kill -9 $$"), Ended::Killed(9));
        assert_eq!(ended("kill -40 $$"), Ended::Killed(40));
    }
}
