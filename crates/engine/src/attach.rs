//! The caller's terminal and streams on one side, the container's on the other.
//!
//! A stream that is no terminal is the container's as it is: nothing is copied. A terminal of the host is never handed
//! to a container, which could read what is typed there for others (and push input where TIOCSTI still works):
//! without `-t` it gets pipes, with `-t` a terminal of its own, and rcr copies.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::pipe2;
use runtime::Stdio;
use sys::tty;

use crate::Error;
use crate::keys::Keys;
use crate::options::StreamName;
use crate::pump::{Progress, Pump};
use crate::root::reopen;
use crate::signals::{self, Signals};

/// The caller's side of a container's streams.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    input: Option<Pump>,
    outputs: Vec<Pump>,
    /// The container's terminal.
    master: Option<OwnedFd>,
    /// The caller's own, in raw mode until this is dropped.
    raw: Option<RawMode>,
}

/// What becomes of signals that reach rcr while it serves a container's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// The process gets them.
    PassOn,
    /// Those that ask for an end make rcr leave the process alone.
    Leave,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// The process has ended, and all it wrote is copied.
    ToTheEnd,
    /// The keys that detach were typed; the process goes on.
    Detached,
    /// This signal asked rcr to end; the process goes on.
    Left(i32),
}

/// Decides about the three streams of a process without a terminal of its own; those that `attach` names count, or all.
pub(crate) fn streams(interactive: bool, attach: &[StreamName]) -> Result<(Stdio, Attached), Error> {
    let asked = |name| attach.is_empty() || attach.contains(&name);
    let fail = |e: io::Error| Error::io("connect standard streams")(e);
    let mut stdio = Stdio::default();
    let mut attached = Attached::default();
    let stdin = io::stdin();
    if !(interactive && asked(StreamName::Stdin)) {
        stdio.stdin = Some(File::open("/dev/null").map_err(fail)?.into());
    } else if stdin.is_terminal() {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| fail(e.into()))?;
        attached.input = Some(Pump::new(own(stdin.as_fd(), OFlag::O_RDONLY)?, unblocked(write)?));
        stdio.stdin = Some(read);
    }
    for (stream, place, name) in [
        (io::stdout().as_fd(), &mut stdio.stdout, StreamName::Stdout),
        (io::stderr().as_fd(), &mut stdio.stderr, StreamName::Stderr),
    ] {
        if !asked(name) {
            *place = Some(File::options().write(true).open("/dev/null").map_err(fail)?.into());
        } else if stream.is_terminal() {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| fail(e.into()))?;
            attached.outputs.push(Pump::new(unblocked(read)?, own(stream, OFlag::O_WRONLY)?));
            *place = Some(write);
        }
    }
    Ok((stdio, attached))
}

/// Size of the caller's terminal, if it has one.
pub(crate) fn terminal_size() -> Option<tty::Size> {
    [io::stdout().as_fd(), io::stdin().as_fd()].into_iter().find_map(|fd| tty::size(fd).ok())
}

/// Refuses `-it` where no terminal is: docker's rule, since nothing could be typed.
pub(crate) fn check_terminal(interactive: bool) -> Result<(), Error> {
    if interactive && !io::stdin().is_terminal() {
        let message = "-t with -i wants a terminal, and standard input is none; leave out -t";
        return Err(Error::Invalid(message.to_owned()));
    }
    Ok(())
}

impl Attached {
    /// Connects the caller's terminal with the container's (`master`).
    pub(crate) fn terminal(master: OwnedFd, interactive: bool) -> Result<Self, Error> {
        let fail = |e: io::Error| Error::io("connect terminal")(e);
        let copy = || unblocked(master.try_clone().map_err(fail)?);
        let mut attached = Self::default();
        attached.outputs.push(Pump::new(copy()?, own(io::stdout().as_fd(), OFlag::O_WRONLY)?));
        if interactive {
            attached.input = Some(Pump::new(own(io::stdin().as_fd(), OFlag::O_RDONLY)?, copy()?));
            attached.raw = RawMode::enter(io::stdin().as_fd())?;
        }
        attached.master = Some(master);
        Ok(attached)
    }

    /// The same, until these keys are typed.
    pub(crate) fn until(mut self, keys: Vec<u8>) -> Self {
        self.input = self.input.map(|pump| pump.watched(Keys::new(keys)));
        self
    }

    /// The container's terminal, which hangs up when nobody has it any more; the caller's is as it was.
    pub(crate) fn into_master(self) -> Option<OwnedFd> {
        self.master
    }

    /// Copies until the process of `pidfd` has ended and all it wrote is copied, or until something else ends it.
    pub(crate) fn serve(
        &mut self,
        pidfd: BorrowedFd<'_>,
        signals: &Signals,
        on_signal: OnSignal,
    ) -> Result<Served, Error> {
        let mut ended = false;
        while !(ended && self.outputs.is_empty()) {
            let ready = self.wait((!ended).then_some(pidfd), signals)?;
            while let Some(signal) = ready.signals.then(|| signals.next()).flatten() {
                if ended && signals::ends(signal) {
                    // Whoever should take the rest of the output does not.
                    return Ok(Served::ToTheEnd);
                }
                if on_signal == OnSignal::Leave && signals::ends(signal) {
                    return Ok(Served::Left(signal));
                }
                self.pass_on(signal, pidfd);
            }
            match self.input.as_mut().filter(|_| ready.input).map(Pump::step) {
                None | Some(Progress::Open) => {}
                Some(Progress::Detached) => return Ok(Served::Detached),
                Some(Progress::Ended | Progress::Refused) => {
                    self.input = None;
                    // A terminal ends only when it is gone (in raw mode Ctrl-D is a byte like others).
                    self.hang_up();
                }
            }
            self.step_outputs(&ready.outputs);
            if ready.process {
                ended = true;
                self.input = None;
            }
        }
        Ok(Served::ToTheEnd)
    }

    fn step_outputs(&mut self, ready: &[bool]) {
        let mut refused = false;
        let mut flags = ready.iter();
        self.outputs.retain_mut(|pump| {
            let progress = if flags.next() == Some(&true) { pump.step() } else { Progress::Open };
            refused |= progress == Progress::Refused;
            progress == Progress::Open
        });
        if refused {
            self.hang_up();
        }
    }

    /// Nobody sits at the caller's terminal any more, so the container's goes too: its processes get SIGHUP.
    fn hang_up(&mut self) {
        if self.master.take().is_some() {
            self.outputs.clear();
            self.input = None;
        }
    }

    fn pass_on(&mut self, signal: i32, pidfd: BorrowedFd<'_>) {
        match (&self.master, signal) {
            (Some(master), nix::libc::SIGWINCH) => {
                // The terminal may just have gone, and then its size does not matter.
                if let Some(size) = terminal_size() {
                    let _ = tty::set_size(master.as_fd(), size);
                }
            }
            // The process may just have ended.
            _ if signals::forwarded(signal) => drop(sys::pidfd::signal(pidfd, signal)),
            _ => {}
        }
        if signal == nix::libc::SIGHUP {
            self.hang_up();
        }
    }

    fn wait(&self, pidfd: Option<BorrowedFd<'_>>, signals: &Signals) -> Result<Ready, Error> {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(pidfd.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let pumps = self.input.iter().chain(&self.outputs);
        fds.extend(pumps.map(Pump::wants).map(|(fd, flags)| PollFd::new(fd, flags)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            result => drop(result.map_err(|e| Error::io("wait for the container")(e.into()))?),
        }
        let mut any = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let mut next = || any.next().unwrap_or(false);
        Ok(Ready {
            signals: next(),
            process: pidfd.is_some() && next(),
            input: self.input.is_some() && next(),
            outputs: self.outputs.iter().map(|_| next()).collect(),
        })
    }
}

/// What poll(2) found.
struct Ready {
    signals: bool,
    process: bool,
    input: bool,
    outputs: Vec<bool>,
}

/// The same file with a description of its own, so that non-blocking mode does not reach others who share it (the
/// shell). A regular file keeps its description, whose offset counts and which never blocks; so does what cannot be
/// opened again (a socket, a terminal of another user).
fn own(fd: BorrowedFd<'_>, access: OFlag) -> Result<File, Error> {
    let fail = |e: io::Error| Error::io("duplicate a standard stream")(e);
    let kind = SFlag::from_bits_truncate(fstat(fd).map_err(|e| fail(e.into()))?.st_mode) & SFlag::S_IFMT;
    if matches!(kind, SFlag::S_IFCHR | SFlag::S_IFIFO)
        && let Ok(file) = reopen(fd, access | OFlag::O_NONBLOCK)
    {
        return Ok(file);
    }
    fd.try_clone_to_owned().map(File::from).map_err(fail)
}

fn unblocked(fd: OwnedFd) -> Result<File, Error> {
    let set = fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    set.map_err(|e| Error::io("set a stream non-blocking")(e.into()))?;
    Ok(File::from(fd))
}

/// A terminal that passes on every key as it is typed, until dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    tty: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// `None`: it is no terminal.
    pub(crate) fn enter(tty: BorrowedFd<'_>) -> Result<Option<Self>, Error> {
        let Ok(before) = tcgetattr(tty) else { return Ok(None) };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let tty = tty.try_clone_to_owned().map_err(Error::io("duplicate the terminal"))?;
        tcsetattr(&tty, SetArg::TCSANOW, &raw).map_err(|e| Error::io("set terminal raw")(e.into()))?;
        Ok(Some(Self { tty, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // TCSADRAIN would wait for ever on a terminal that is stopped.
        let _ = tcsetattr(&self.tty, SetArg::TCSANOW, &self.before);
    }
}
