//! One clone3: from a [`Plan`] to a process that runs, or waits to be started.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::plan::{Barrier, Plan};
use crate::{Console, Error, Stdio};

/// What a launch needs beside the plan: the open files.
#[derive(Debug)]
pub struct Request<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// A detached mount for the root file system ([`crate::args::Args::rootfs_given`]).
    pub rootfs: Option<OwnedFd>,
    /// cgroup v2 directory to be born in (CLONE_INTO_CGROUP); v1 hierarchies are joined by the caller at
    /// [`Barrier::Cgroup`].
    pub cgroup: Option<BorrowedFd<'a>>,
    /// A FIFO opened O_RDWR; the process reads one byte from it before execve ([`crate::args::Args::await_start`]).
    pub exec_fifo: Option<BorrowedFd<'a>>,
    /// The process's standard streams, when it has no terminal.
    pub stdio: Stdio,
    /// Where the terminal goes, when it has one.
    pub console: Console,
}

/// The moment at which the caller is asked to act. The process waits until the answer is `Ok`; on `Err` it is killed
/// and reaped.
#[derive(Debug)]
pub struct At<'a> {
    /// What is due.
    pub barrier: Barrier,
    /// The process, as this process sees it.
    pub pid: i32,
    /// The same, safe against reuse of the number.
    pub pidfd: BorrowedFd<'a>,
    /// The listener, at [`Barrier::SeccompFd`].
    pub seccomp: Option<OwnedFd>,
}

/// A process that was launched. The caller is its parent and must wait for it.
#[derive(Debug)]
pub struct Launched {
    /// Process id as the caller sees it.
    pub pid: i32,
    /// A pidfd of the process.
    pub pidfd: OwnedFd,
    /// Master end of the terminal, with [`Console::Keep`].
    pub console: Option<OwnedFd>,
}

/// Launches the process of a plan.
///
/// Returns when the process has passed execve(2), or, with [`crate::args::Args::await_start`], when it waits for its
/// start and nothing but execve can fail any more. `at` answers the barriers of the plan, in the plan's order.
///
/// # Errors
/// The step that failed, as the plan words it, with the errno as source; an error of `at`; the process is dead and
/// reaped then. [`crate::ErrorKind::CommandNotFound`] and [`crate::ErrorKind::CommandNotExecutable`] for the command.
pub fn launch(
    request: Request<'_>,
    at: &mut dyn FnMut(At<'_>) -> Result<(), Error>,
) -> Result<Launched, Error> {
    let _ = (request, at);
    Err(Error::new("launch: not there yet"))
}
