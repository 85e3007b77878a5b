//! The parent's side of a launch: answers the barriers in the plan's order, and words the child's failures.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use sys::clone::Cloned;

use crate::child::fail::{Doing, LOG_MAX, Message};
use crate::launch::At;
use crate::net_device::Moved;
use crate::plan::{Barrier, Open, Plan, Source, Step, Tree};
use crate::{Error, ErrorKind, idmap, late};

/// One launch, seen from the parent.
pub(crate) struct Conversation<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) sync: OwnedFd,
    pub(crate) process: Cloned,
    /// Where the terminal is sent to; without it, it is kept.
    pub(crate) console: Option<OwnedFd>,
    pub(crate) kept: Option<OwnedFd>,
    /// The one that is kept leaves line ends alone ([`crate::Console::Relay`]).
    pub(crate) relay: bool,
    /// Network devices that go home when the launch fails.
    pub(crate) moved: Option<Moved>,
    /// What the process said before its id was known ([`receive_announced`]).
    pub(crate) early: Option<Heard>,
}

impl Conversation<'_> {
    /// Holds the conversation until the process is on its own. On error the process may still live.
    pub(crate) fn hold(&mut self, at: &mut dyn FnMut(At<'_>) -> Result<(), Error>) -> Result<(), Error> {
        self.go_ahead(at)?;
        let mut ready = false;
        loop {
            let heard = match self.early.take() {
                None => receive(self.sync.as_fd())?,
                early => early,
            };
            let Some(Heard { message, log, fd }) = heard else { return self.ended(ready) };
            let index = usize::from(message.step);
            let step = step(self.plan, index)
                .ok_or_else(|| Error::new("the child named a step that is not there"))?;
            if message.doing != Doing::Reached {
                let failure = failure(self.plan, index, step, message, &log);
                // Other runtimes' words, by which their callers know what went wrong inside.
                return Err(match step {
                    Step::Find(_) | Step::Exec => failure,
                    _ => Error::new("error during container init").because(failure),
                });
            }
            match step {
                Step::Barrier(Barrier::NetDevices) => {
                    let devices = &self.plan.net_devices;
                    self.moved = Some(Moved::into_namespace_of(self.process.pid, devices)?);
                    self.answer()?;
                }
                Step::Barrier(barrier) => {
                    if *barrier == Barrier::Ready {
                        ready = true;
                        self.set_limits()?;
                    }
                    self.ask(at, *barrier, None)?;
                    self.answer()?;
                }
                Step::Seccomp => {
                    let listener = sys::pidfd::getfd(self.process.pidfd.as_fd(), message.value)
                        .map_err(|e| Error::new("take the seccomp listener from the process").because(e))?;
                    self.ask(at, Barrier::SeccompFd, Some(listener))?;
                    self.answer()?;
                }
                Step::Terminal(_) => self.pass_on(fd)?,
                Step::Bind(bind) => self.open_inside(&bind.source, fd)?,
                Step::AwaitStart => return Ok(()),
                _ => return Err(Error::new(format!("the child waits at step {index}, which is no barrier"))),
            }
        }
    }

    /// What need not wait for the child to get there: it is done while the child sets up its mounts, and the answers
    /// lie ready when it comes to the barrier.
    fn go_ahead(&mut self, at: &mut dyn FnMut(At<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let pid = self.process.pid;
        if let Some(maps) = &self.plan.id_maps {
            idmap::apply(pid, maps)?;
            self.answer()?;
        }
        // Answers lie ready in the order in which the child asks.
        let waits = self.plan.steps.contains(&Step::Barrier(Barrier::Cgroup));
        if !waits {
            self.send_trees()?;
        }
        if let Some(score) = self.plan.oom_score_adj {
            let path = format!("/proc/{pid}/oom_score_adj");
            std::fs::write(&path, score.to_string()).map_err(|e| {
                Error::new(format!("write {score} to {path} (process.oomScoreAdj)")).because(e)
            })?;
        }
        self.ask(at, Barrier::Cgroup, None)?;
        if waits {
            self.answer()?;
            self.send_trees()?;
        }
        Ok(())
    }

    /// What [`Step::TakeTrees`] takes.
    fn send_trees(&self) -> Result<(), Error> {
        let opens = self.plan.opens.iter();
        let trees: Vec<&Tree> =
            opens.filter_map(|open| if let Open::Late(tree) = open { Some(tree) } else { None }).collect();
        if trees.is_empty() {
            return Ok(());
        }
        late::send(&trees, None, &self.process, self.sync.as_fd())
    }

    fn ask(
        &self,
        at: &mut dyn FnMut(At<'_>) -> Result<(), Error>,
        barrier: Barrier,
        seccomp: Option<OwnedFd>,
    ) -> Result<(), Error> {
        at(At { barrier, pid: self.process.pid, pidfd: self.process.pidfd.as_fd(), seccomp })
    }

    fn answer(&self) -> Result<(), Error> {
        match sys::message::send(self.sync.as_fd(), &[1], None) {
            // The child is gone; what it said, or how it died, is in the socket or its status.
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EPIPE | nix::libc::ECONNRESET)) => Ok(()),
            other => other.map_err(|e| Error::new("answer the child").because(e)),
        }
    }

    /// Opens a bind mount's source in the child's root, which comes with the question.
    fn open_inside(&self, source: &Source, root: Option<OwnedFd>) -> Result<(), Error> {
        let (Source::InsideByParent(tree), Some(root)) = (source, root) else {
            return Err(Error::new(format!(
                "the child asks for {source}, which is not the parent's to open"
            )));
        };
        late::send(&[tree], Some(root.as_fd()), &self.process, self.sync.as_fd())
    }

    fn set_limits(&self) -> Result<(), Error> {
        for limit in &self.plan.limits {
            sys::process::set_limit(self.process.pid, limit.resource, limit.soft, limit.hard).map_err(
                |e| {
                    let (name, soft, hard) = (limit.name, limit.soft, limit.hard);
                    Error::new(format!("set limit {name} to {soft} (soft), {hard} (hard)")).because(e)
                },
            )?;
        }
        Ok(())
    }

    fn pass_on(&mut self, master: Option<OwnedFd>) -> Result<(), Error> {
        let master = master.ok_or_else(|| Error::new("the child sent no terminal"))?;
        match self.console.take() {
            // The name is what runc sends; receivers show it at most.
            Some(socket) => sys::message::send(socket.as_fd(), b"/dev/pts/ptmx", Some(master.as_fd()))
                .map_err(|e| Error::new("send the terminal to the console socket").because(e)),
            None => {
                if self.relay {
                    leave_line_ends(&master)
                        .map_err(|e| Error::new("configure the process's terminal").because(e))?;
                }
                self.kept = Some(master);
                Ok(())
            }
        }
    }

    /// The socket was closed: by execve, or by the process's death before it.
    fn ended(&self, ready: bool) -> Result<(), Error> {
        let has_barrier = self.plan.steps.contains(&Step::Barrier(Barrier::Ready));
        if ready || !has_barrier {
            return Ok(());
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let how = match waitid(Id::PIDFd(self.process.pidfd.as_fd()), flags) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}"),
            Ok(WaitStatus::Exited(_, status)) => format!("exit status {status}"),
            _ => "it is gone".to_owned(),
        };
        Err(Error::new(format!("the process died while it was set up: {how}")))
    }
}

/// Ends a process that must not go on, and reaps it.
pub(crate) fn kill(process: &Cloned) {
    // Both fail only for a process that is gone already.
    let _ = sys::pidfd::signal(process.pidfd.as_fd(), nix::libc::SIGKILL);
    let _ = waitid(Id::PIDFd(process.pidfd.as_fd()), WaitPidFlag::WEXITED);
}

/// The id of the process that an intermediate one cloned, and what that process has said meanwhile: it may come to its
/// first barrier, or to grief, before the intermediate one tells its id. It waits then, so it is one message at most.
pub(crate) fn receive_announced(plan: &Plan, sync: BorrowedFd) -> Result<(i32, Option<Heard>), Error> {
    let mut early = None;
    loop {
        let Some(heard) = receive(sync)? else { return Err(Error::new("the intermediate process died")) };
        let message = heard.message;
        let index = usize::from(message.step);
        match (message.doing, step(plan, index)) {
            (Doing::Reached, None) => return Ok((message.value, early)),
            (Doing::CloneFailed, _) => {
                return Err(Error::new("clone3 in the user namespace").because(Reason(message.value)));
            }
            (_, Some(step)) if index < plan.trampoline.len() => {
                return Err(failure(plan, index, step, message, &heard.log));
            }
            (_, Some(_)) if early.is_none() => early = Some(heard),
            _ => return Err(Error::new("the intermediate process named a step that is not there")),
        }
    }
}

/// One message of the child, and what came with it.
pub(crate) struct Heard {
    message: Message,
    /// What the kernel said about a file system.
    log: String,
    fd: Option<OwnedFd>,
}

fn receive(sync: BorrowedFd) -> Result<Option<Heard>, Error> {
    let mut bytes = [0u8; 8 + LOG_MAX];
    let reset = |e: &std::io::Error| e.raw_os_error() == Some(Errno::ECONNRESET as i32);
    let (len, fd) = match sys::message::receive(sync, &mut bytes) {
        // Messages of ours were not read before the end: so it is when a child dies early. What it said is behind that.
        Err(e) if reset(&e) => sys::message::receive(sync, &mut bytes),
        other => other,
    }
    .map_err(|e| Error::new("hear from the child").because(e))?;
    if len == 0 {
        return Ok(None);
    }
    let message = Message::from_bytes(&bytes[..len]).ok_or_else(|| Error::new("the child said nonsense"))?;
    let log = String::from_utf8_lossy(bytes[..len].get(8..).unwrap_or_default());
    // "e overlay: No changes allowed": the first letter is the level (fs/fs_context.c).
    let log = log.trim_matches(['\0', '\n', ' ']);
    let log = log.split_once(' ').filter(|(level, _)| level.len() == 1).map_or(log, |(_, text)| text);
    Ok(Some(Heard { message, log: log.to_owned(), fd }))
}

/// A step by its number: those of the intermediate process come first.
fn step(plan: &Plan, index: usize) -> Option<&Step> {
    plan.trampoline.iter().chain(&plan.steps).nth(index)
}

/// An errno as people and other programs' tests read it.
#[derive(Debug)]
struct Reason(i32);

impl Reason {
    fn text(errno: Errno) -> String {
        let text = errno.desc();
        let mut chars = text.chars();
        match chars.next() {
            // "I/O error" and its like stay.
            Some(first) if chars.as_str().starts_with(char::is_lowercase) => {
                format!("{}{}", first.to_lowercase(), chars.as_str())
            }
            _ => text.to_owned(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = Errno::from_raw(self.0);
        write!(f, "{} ({errno:?})", Reason::text(errno))
    }
}

impl std::error::Error for Reason {}

/// execve(2) failed, when all else was done: as the kernel's refusal reads in Go, and what it means, which its errno does
/// not say.
#[derive(Debug)]
pub(crate) struct ExecveFailed {
    command: String,
    errno: Errno,
}

impl ExecveFailed {
    /// Finds it among the causes of an error.
    pub(crate) fn of(error: &Error) -> Option<&ExecveFailed> {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            if let Some(failed) = error.downcast_ref() {
                return Some(failed);
            }
            cause = error.source();
        }
        None
    }

    /// What the process itself would say, had it waited for its start.
    pub(crate) fn message(&self) -> String {
        format!("exec {}: {}", self.command, Reason::text(self.errno))
    }
}

impl fmt::Display for ExecveFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Reason::text(self.errno))?;
        f.write_str(match self.errno {
            Errno::ENOENT => " (its interpreter or loader is missing in the container)",
            Errno::ENOEXEC => " (no program for this architecture, nor a script with a #! line)",
            _ => "",
        })
    }
}

impl std::error::Error for ExecveFailed {}

/// `SCHED_DEADLINE` of linux/sched.h. Its processes must be allowed every CPU (sched(7)).
const DEADLINE: u32 = 6;

/// Words the failure of a step.
fn failure(plan: &Plan, index: usize, step: &Step, message: Message, log: &str) -> Error {
    let errno = Errno::from_raw(message.value);
    let command = plan.args.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
    match step {
        // The wording of Go's os/exec, by which docker and others find their exit codes 126 and 127.
        Step::Find(_) => {
            // A directory in $PATH with the command's name is not what was looked for.
            let missing = errno == Errno::ENOENT || (errno == Errno::EISDIR && !command.contains('/'));
            let error = match errno {
                Errno::ENOENT if command.contains('/') => {
                    Error::new(format!("exec: {command:?}: stat {command}: no such file or directory"))
                }
                _ if missing => Error::new(format!("exec: {command:?}: executable file not found in $PATH")),
                Errno::EACCES => Error::new(format!("exec: {command:?}: permission denied")),
                // The last words are execve's, by which clients find their exit code.
                Errno::EISDIR => Error::new(format!("exec: {command:?}: is a directory: permission denied")),
                _ => Error::new(format!("exec: {command:?}")).because(Reason(message.value)),
            };
            error.kind(if missing { ErrorKind::CommandNotFound } else { ErrorKind::CommandNotExecutable })
        }
        Step::Exec => {
            let kind = if errno == Errno::ENOENT {
                ErrorKind::CommandNotFound
            } else {
                ErrorKind::CommandNotExecutable
            };
            Error::new(format!("exec {command}")).kind(kind).because(ExecveFailed { command, errno })
        }
        Step::Scheduling(wanted) if errno == Errno::EPERM && wanted.policy == DEADLINE => {
            let why = "without CAP_SYS_NICE, or process scheduler can't be used together with AllowedCPUs \
                       (linux.resources.cpu.cpus)";
            Error::new(format!("step {index}: {step}: {why}")).because(Reason(message.value))
        }
        step => {
            let doing = message.doing.text();
            let doing = if doing.is_empty() { String::new() } else { format!(": {doing}") };
            let log = if log.is_empty() { String::new() } else { format!(": {log}") };
            let mounts = matches!(step, Step::Mount(_) | Step::Bind(_) | Step::Remount(_));
            let what = if mounts { "error mounting: " } else { "" };
            Error::new(format!("{what}step {index}: {step}{doing}{log}")).because(Reason(message.value))
        }
    }
}

/// Switches off `\n` → `\r\n`.
pub(crate) fn leave_line_ends(terminal: &OwnedFd) -> Result<(), Errno> {
    let mut modes = tcgetattr(terminal)?;
    modes.output_flags &= !OutputFlags::ONLCR;
    tcsetattr(terminal, SetArg::TCSANOW, &modes)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    #[test]
    fn the_last_words_of_a_dead_child_are_heard() {
        let (ours, theirs) = sys::message::pair().unwrap();
        let message = Message { step: 3, doing: Doing::WriteOffsets, value: 34 };
        sys::message::send(theirs.as_fd(), &message.to_bytes(), None).unwrap();
        // It died without reading this, which the kernel tells first.
        sys::message::send(ours.as_fd(), &[1], None).unwrap();
        drop(theirs);
        assert_eq!(receive(ours.as_fd()).unwrap().unwrap().message, message);
        assert!(receive(ours.as_fd()).unwrap().is_none());
    }

    #[test]
    fn errnos_read_as_in_other_runtimes() {
        assert_eq!(Reason(28).to_string(), "no space left on device (ENOSPC)");
        assert_eq!(Reason(13).to_string(), "permission denied (EACCES)");
        assert_eq!(Reason(5).to_string(), "I/O error (EIO)");
    }

    #[test]
    fn a_program_that_cannot_be_run_reads_as_in_go() {
        let failed = |command: &str, errno: i32| {
            let args = vec![CString::new(command).unwrap()];
            let plan = Plan { steps: vec![Step::Find(Vec::new())], args, ..Plan::default() };
            let message = Message { step: 0, doing: Doing::Call, value: errno };
            let error = failure(&plan, 0, &plan.steps[0], message, "");
            (format!("{error:#}"), error.what())
        };
        let missing = ErrorKind::CommandNotFound;
        assert_eq!(failed("x", 2), ("exec: \"x\": executable file not found in $PATH".into(), missing));
        assert_eq!(failed("", 21), ("exec: \"\": executable file not found in $PATH".into(), missing));
        assert_eq!(failed("/x", 2), ("exec: \"/x\": stat /x: no such file or directory".into(), missing));
        let refused = ErrorKind::CommandNotExecutable;
        assert_eq!(failed("/x", 13), ("exec: \"/x\": permission denied".into(), refused));
        assert_eq!(failed("/x", 21), ("exec: \"/x\": is a directory: permission denied".into(), refused));
    }

    #[test]
    fn failures_name_the_step_and_keep_the_errno() {
        let plan = Plan { steps: vec![Step::Session, Step::Umask(0o22)], ..Plan::default() };
        let message = Message { step: 1, doing: Doing::SetOption, value: 22 };
        let error = failure(&plan, 1, &plan.steps[1], message, "tmpfs: Unknown parameter 'x'");
        let wanted =
            "step 1: umask 0022: set an option: tmpfs: Unknown parameter 'x': invalid argument (EINVAL)";
        assert_eq!(format!("{error:#}"), wanted);
    }
}
