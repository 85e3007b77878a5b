//! One clone3: from a [`Plan`] to a process that runs, or waits to be started.
//!
//! Owns the clone and what surrounds it. What the process then does is [`crate::child`]'s business, the conversation
//! with it [`crate::drive`]'s.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sys::clone::{Cloned, Options, clone3, namespace, setns};

use crate::child::{self, Files};
use crate::drive::{self, Conversation};
use crate::plan::{Barrier, Plan, Step};
use crate::prepare::prepare;
use crate::{Console, Error, Stdio};

/// What a launch needs beside the plan: the open files.
#[derive(Debug)]
pub struct Request<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// A detached mount for the root file system ([`crate::args::Args::rootfs_given`]).
    pub rootfs: Option<OwnedFd>,
    /// cgroup v2 directory to be born in (CLONE_INTO_CGROUP).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// `tasks` files of cgroup v1 hierarchies, which the process joins first of all ([`crate::cgroup::Cgroup::v1_tasks`]).
    pub v1_tasks: Vec<OwnedFd>,
    /// A FIFO opened O_RDWR; the process reads one byte from it before execve ([`crate::args::Args::await_start`]).
    pub exec_fifo: Option<BorrowedFd<'a>>,
    /// Descriptors that the program gets under the numbers they have here ([`Step::Keep`]).
    pub kept: Vec<OwnedFd>,
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
    /// Master end of the terminal, with [`Console::Keep`] or [`Console::Relay`].
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
    mut request: Request<'_>,
    at: &mut dyn FnMut(At<'_>) -> Result<(), Error>,
) -> Result<Launched, Error> {
    let plan = request.plan;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let console = connect(plan, &request.console)?;
    let mut files = prepare(plan, &mut request)?;
    let cgroup = request.cgroup;
    let (ours, theirs) = sys::message::pair().map_err(|e| Error::new("make a socket pair").because(e))?;
    let mut ours = Some(ours);
    let cloned = {
        let _around = Around::enter(plan, &mut files)?;
        let failed = |e| clone_failed(cgroup, e);
        if plan.trampoline.is_empty() {
            let options = Options { namespaces: plan.clone_flags, cgroup, sibling: false };
            clone3(&options, || {
                drop(ours.take());
                child::run(&plan.steps, 0, &mut files, theirs.as_fd())
            })
            .map_err(failed)?
        } else {
            let options = Options { namespaces: 0, cgroup, sibling: false };
            clone3(&options, || {
                drop(ours.take());
                child::bounce(plan, &mut files, theirs.as_fd())
            })
            .map_err(failed)?
        }
    };
    // The child has its own copies; an end of file must mean its death.
    drop(theirs);
    drop(files);
    let sync = ours.ok_or_else(|| Error::new("the socket pair is gone"))?;
    let (process, early) =
        if plan.trampoline.is_empty() { (cloned, None) } else { arrive(plan, cloned, sync.as_fd())? };
    let relay = request.console == Console::Relay;
    let mut conversation =
        Conversation { plan, sync, process, console, kept: None, relay, moved: None, early };
    match conversation.hold(at) {
        Ok(()) => Ok(Launched {
            pid: conversation.process.pid,
            pidfd: conversation.process.pidfd,
            console: conversation.kept,
        }),
        Err(e) => {
            if let Some(moved) = &mut conversation.moved {
                moved.undo();
            }
            drive::kill(&conversation.process);
            Err(e)
        }
    }
}

/// Errors of clone3 that only come of the cgroup that the process was to be made in: it has domain controllers for those
/// below it, is gone, is not a domain of processes, or may not be written to.
const OF_THE_CGROUP: [Errno; 4] = [Errno::EBUSY, Errno::ENODEV, Errno::EOPNOTSUPP, Errno::EACCES];

fn clone_failed(cgroup: Option<BorrowedFd>, e: std::io::Error) -> Error {
    let of_cgroup =
        |e: &std::io::Error| OF_THE_CGROUP.iter().any(|&errno| e.raw_os_error() == Some(errno as i32));
    match cgroup.filter(|_| of_cgroup(&e)) {
        Some(cgroup) => {
            let path =
                std::fs::read_link(format!("/proc/self/fd/{}", cgroup.as_raw_fd())).unwrap_or_default();
            Error::new(format!("error adding pid of a new process to cgroups: {path:?}")).because(e)
        }
        None => Error::new("clone3").because(e),
    }
}

/// The console socket, connected before anything is made: a wrong path is found at once.
fn connect(plan: &Plan, console: &Console) -> Result<Option<OwnedFd>, Error> {
    let wanted = plan.steps.iter().any(|step| matches!(step, Step::Terminal(_)));
    match console {
        Console::Socket(path) if wanted => UnixStream::connect(path)
            .map(|stream| Some(stream.into()))
            .map_err(|e| Error::new(format!("connect to console socket {path:?}")).because(e)),
        _ => Ok(None),
    }
}

/// The intermediate process joined a user namespace and cloned the process that is wanted, as its sibling: our child.
fn arrive(plan: &Plan, first: Cloned, sync: BorrowedFd) -> Result<(Cloned, Option<drive::Heard>), Error> {
    let answer = drive::receive_announced(plan, sync);
    if answer.is_err() {
        drive::kill(&first);
    } else {
        // It has nothing left to do but exit.
        let _ = waitpid(Pid::from_raw(first.pid), None);
    }
    let (pid, early) = answer?;
    let pidfd = sys::pidfd::open(pid).map_err(|e| Error::new(format!("open process {pid}")).because(e))?;
    Ok((Cloned { pid, pidfd }, early))
}

/// What has to be so in this process at the moment of the clone, and is put back after it.
struct Around {
    cpus: Option<[u64; 128]>,
    pid_namespace: Option<File>,
}

impl Around {
    fn enter(plan: &Plan, files: &mut Files) -> Result<Around, Error> {
        let mut around = Around { cpus: None, pid_namespace: None };
        if let Some(cpus) = &plan.start_on {
            let mut before = [0; 128];
            let fail =
                |e| Error::new("set the cpu affinity for the clone (execCPUAffinity.initial)").because(e);
            sys::process::affinity(&mut before).map_err(fail)?;
            around.cpus = Some(before);
            sys::process::set_affinity(cpus).map_err(fail)?;
        }
        if let Some(slot) = plan.pid_namespace {
            let own = "/proc/self/ns/pid";
            let before = File::open(own).map_err(|e| Error::new(format!("open {own}")).because(e))?;
            around.pid_namespace = Some(before);
            let fail = || Error::new(format!("join pid namespace of {}", plan.opens[slot]));
            let fd = files.slots[slot].take().ok_or_else(fail)?;
            setns(fd.as_fd(), namespace::PID).map_err(|e| fail().because(e))?;
        }
        Ok(around)
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        // Back to where this process came from, which takes no right that it had not a moment ago.
        if let Some(own) = &self.pid_namespace {
            let _ = setns(own.as_fd(), namespace::PID);
        }
        if let Some(cpus) = &self.cpus {
            let _ = sys::process::set_affinity(cpus);
        }
    }
}
