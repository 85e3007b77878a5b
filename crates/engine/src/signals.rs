//! The signals that reach rcr while a container runs: read as data instead of ending rcr, so that they can be passed on
//! and nothing is left behind.

use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Error;

/// All signals blocked and readable. Dropped, the mask is what it was before.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

/// Signals about the process itself, and those by which a terminal stops a job in the background.
const NOT_OURS: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

impl Signals {
    /// Blocks them. The calling thread must be the only one.
    pub(crate) fn block() -> Result<Self, Error> {
        let mut set = SigSet::all();
        for signal in NOT_OURS {
            set.remove(signal);
        }
        Self::block_set(set)
    }

    /// Blocks only those that ask for an end, and the one that tells of a new size of the terminal.
    pub(crate) fn block_ends_and_size() -> Result<Self, Error> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH];
        Self::block_set(signals.into_iter().collect())
    }

    fn block_set(set: SigSet) -> Result<Self, Error> {
        let fail = |e: nix::Error| Error::io("block signals")(e.into());
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).map_err(fail)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(fail)?;
        Ok(Self { fd, before })
    }

    /// The next signal that has arrived, by number; `None`: none has.
    pub(crate) fn next(&self) -> Option<i32> {
        let info = self.fd.read_signal().ok().flatten()?;
        i32::try_from(info.ssi_signo).ok()
    }

    /// The first signal so far that asks rcr to end.
    pub(crate) fn end_wanted(&self) -> Option<i32> {
        std::iter::from_fn(|| self.next()).find(|signal| ends(*signal))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What came for the container must not hit rcr itself now that it is done.
        while self.next().is_some() {}
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Does this signal ask for an end?
pub(crate) fn ends(signal: i32) -> bool {
    matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT)
}

/// Is it passed on to the container? Not what is about rcr's own children and pipes, as with docker.
pub(crate) fn forwarded(signal: i32) -> bool {
    !matches!(signal, libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG)
}
