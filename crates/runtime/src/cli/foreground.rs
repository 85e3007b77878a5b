//! A process in the foreground: its signals, its terminal, its end.
//!
//! One loop over poll(2): signals come through a signalfd, so nothing here runs in a handler or a thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{SIGCHLD, SIGPIPE, SIGURG, SIGWINCH};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use oci::runtime::{BoxBuilder, Process};
use sys::wait::Ended;

use super::create::notify_host;
use super::terminal::Terminal;
use crate::Error;
use crate::lifecycle::Created;

/// Signals are caught from here on, so that none is lost between the start of the process and [`Foreground::attend`].
#[derive(Debug)]
pub(crate) struct Foreground {
    signals: SignalFd,
    terminal: Option<Terminal>,
}

/// Gets ready before the process exists.
pub(crate) fn prepare(terminal: bool, subreaper: bool) -> Result<Foreground, Error> {
    let terminal = if terminal { Some(Terminal::find()?) } else { None };
    if subreaper {
        set_child_subreaper(true).map_err(|e| Error::new("become subreaper").because(e))?;
    }
    let all = SigSet::all();
    let fail = |e| Error::new("catch signals").because(e);
    all.thread_block().map_err(fail)?;
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(fail)?;
    Ok(Foreground { signals, terminal })
}

impl Foreground {
    /// Lets the process find its terminal in the size of the user's from the beginning.
    pub(crate) fn size(&self, process: &mut Process) {
        if let Some(size) = self.terminal.as_ref().and_then(Terminal::size) {
            let builder = BoxBuilder::default().height(size.rows).width(size.columns);
            process.set_console_size(builder.build().ok());
        }
    }

    /// Hands signals and terminal on until the process ends, and returns its exit code (128+N for signal N).
    pub(crate) fn attend(mut self, created: Created) -> Result<u8, Error> {
        let mut relay = match (&mut self.terminal, created.console) {
            (Some(terminal), Some(master)) => {
                terminal.resize(master.as_fd());
                terminal.make_raw()?;
                Some(Relay::new(master)?)
            }
            _ => None,
        };
        let mut notify = created.notify.zip(notify_host());
        loop {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if let Some(relay) = &relay {
                fds.extend(relay.interests());
            }
            if let Some((notify, _)) = &notify {
                fds.push(PollFd::new(notify.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::new("poll").because(e)),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            // The service manager's main process is this one, which ends when the container does.
            if let Some((socket, host)) = &notify
                && socket.take(host, Pid::this().as_raw())?
            {
                notify = None;
            }
            // Signals come first: a new size holds for what is typed after it.
            if ready[0]
                && let Some(code) = self.take_signals(&created.pidfd, created.pid, relay.as_ref())?
            {
                if let Some(relay) = &mut relay {
                    relay.drain();
                }
                return Ok(code);
            }
            if let Some(relay) = &mut relay {
                relay.copy(&ready[1..]);
            }
        }
    }

    /// Acts on what has been signalled; the exit code if the process is among the dead.
    fn take_signals(
        &mut self,
        pidfd: &OwnedFd,
        pid: i32,
        relay: Option<&Relay>,
    ) -> Result<Option<u8>, Error> {
        while let Some(signal) =
            self.signals.read_signal().map_err(|e| Error::new("read signals").because(e))?
        {
            let Ok(number) = i32::try_from(signal.ssi_signo) else { continue };
            match number {
                SIGCHLD => {
                    if let Some(code) = reap(pid) {
                        return Ok(Some(code));
                    }
                }
                SIGWINCH => {
                    if let (Some(terminal), Some(relay)) = (&self.terminal, relay) {
                        terminal.resize(relay.master.as_fd());
                    }
                }
                // SIGPIPE is this program's own, from a closed output.
                SIGPIPE | SIGURG => {}
                // The process may have ended this moment; SIGCHLD says so.
                _ => drop(sys::pidfd::signal(pidfd.as_fd(), number)),
            }
        }
        Ok(None)
    }
}

/// Collects every child that ended, orphans of the container too; the exit code of `pid` if it is one of them.
fn reap(pid: i32) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((ended, how))) = sys::wait::reap_any() {
        if ended == pid {
            let number = match how {
                Ended::Exited(number) => number,
                Ended::Killed(signal) => 128 + signal,
            };
            code = Some(u8::try_from(number).unwrap_or(u8::MAX));
        }
    }
    code
}

/// The bytes between the user's terminal and the container's.
#[derive(Debug)]
struct Relay {
    master: File,
    /// Typed, but not yet taken by the container's terminal. While there are any, no more are read.
    typed: Vec<u8>,
    input_open: bool,
    output_open: bool,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay, Error> {
        // A container that does not read must not keep its output from being read.
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
            .map_err(|e| Error::new("configure the container's terminal").because(e))?;
        Ok(Relay { master: master.into(), typed: Vec::new(), input_open: true, output_open: true })
    }

    /// What to wait for: always the container's terminal first, then standard input if it is wanted.
    fn interests(&self) -> Vec<PollFd<'_>> {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, self.output_open);
        events.set(PollFlags::POLLOUT, !self.typed.is_empty());
        let mut fds = Vec::new();
        if self.output_open {
            fds.push(PollFd::new(self.master.as_fd(), events));
        }
        if self.input_open && self.typed.is_empty() {
            fds.push(PollFd::new(stdin(), PollFlags::POLLIN));
        }
        fds
    }

    /// Copies what is `ready`, in the order of [`Relay::interests`].
    fn copy(&mut self, ready: &[bool]) {
        let mut ready = ready.iter().copied();
        let wanted_input = self.input_open && self.typed.is_empty();
        if self.output_open && ready.next().unwrap_or(false) {
            self.write_typed();
            self.read_output();
        }
        if wanted_input && ready.next().unwrap_or(false) {
            let mut buffer = [0; 4096];
            match nix::unistd::read(stdin(), &mut buffer) {
                Ok(0) => self.input_open = false,
                Ok(count) => {
                    self.typed.extend_from_slice(&buffer[..count]);
                    self.write_typed();
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // EIO: this program is in the background of its terminal.
                Err(_) => self.input_open = false,
            }
        }
    }

    fn write_typed(&mut self) {
        while !self.typed.is_empty() {
            match (&self.master).write(&self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// Reads once; false when there is nothing more for now, or for ever.
    fn read_output(&mut self) -> bool {
        let mut buffer = [0; 32 << 10];
        match (&self.master).read(&mut buffer) {
            Ok(count) if count > 0 => {
                // The user may have closed the output; the container goes on.
                let _ = io::stdout().lock().write_all(&buffer[..count]).and_then(|()| io::stdout().flush());
                true
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => true,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            // EIO: the last process with the container's terminal has closed it. exec may have others: keep polling
            // would spin, so this is the end.
            _ => {
                self.output_open = false;
                false
            }
        }
    }

    /// Copies the output that the process left behind.
    fn drain(&mut self) {
        while self.output_open && self.read_output() {}
    }
}

fn stdin() -> BorrowedFd<'static> {
    static STDIN: std::sync::OnceLock<io::Stdin> = std::sync::OnceLock::new();
    STDIN.get_or_init(io::stdin).as_fd()
}
