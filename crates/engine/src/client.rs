//! The other side of a monitor's socket: the caller's streams on a container that runs in the background.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use runtime::lifecycle;

use crate::attach::{RawMode, terminal_size};
use crate::keys::Keys;
use crate::signals::{Signals, forwarded};
use crate::{Engine, Error, monitor};

/// What `attach` is asked for.
#[derive(Debug, Clone)]
pub struct AttachOptions {
    /// What is typed reaches the container.
    pub stdin: bool,
    /// Its standard output is shown, or what it writes to its terminal.
    pub stdout: bool,
    /// Its standard error is shown.
    pub stderr: bool,
    /// Signals are passed on.
    pub sig_proxy: bool,
    /// The keys that let go of a terminal, as bytes.
    pub detach_keys: Vec<u8>,
}

/// How an `attach` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attended {
    /// With the container, whose exit code this is.
    Ended(u8),
    /// The user typed the detach keys; the container goes on.
    Detached,
    /// The monitor let go: this side was too slow, or the monitor was killed.
    Dropped,
}

/// Longest message of a monitor, and longest input in one.
const PART: usize = 16 << 10;

/// A connection that hears of the end only.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// `None`: there is no monitor.
    pub(crate) fn new(engine: &Engine, id: &str) -> Option<Self> {
        let socket = monitor::reach(engine, id)?;
        send(socket.as_raw_fd(), &[3], MsgFlags::MSG_NOSIGNAL).ok()?;
        Some(Self(socket))
    }

    /// Waits for the end; `None`: the monitor was killed.
    pub(crate) fn end(self) -> Option<u8> {
        let mut buffer = vec![0; PART + 1];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Ok(2) if buffer[0] == 3 => return Some(buffer[1]),
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// Connects the caller's streams with those of container `id` until one of them ends it. The caller must be
/// single-threaded.
pub(crate) fn serve(
    engine: &Engine,
    id: &str,
    socket: &OwnedFd,
    tty: bool,
    options: &AttachOptions,
) -> Result<Attended, Error> {
    let signals = Signals::block()?;
    let stdin = io::stdin();
    let on_terminal = tty && stdin.is_terminal();
    let _raw = if options.stdin && on_terminal { RawMode::enter(stdin.as_fd())? } else { None };
    let tell = |message: &[u8]| send(socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL);
    let resize = || {
        if let Some(size) = terminal_size().filter(|_| tty) {
            let ([a, b], [c, d]) = (size.rows.to_be_bytes(), size.columns.to_be_bytes());
            let _ = tell(&[1, a, b, c, d]);
        }
    };
    resize();
    let mut keys = Keys::new(if on_terminal { options.detach_keys.clone() } else { Vec::new() });
    let mut input = options.stdin;
    let mut buffer = vec![0; PART + 1];
    loop {
        let mut fds = vec![
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(input.then(|| PollFd::new(stdin.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => drop(result.map_err(|e| Error::io("wait for the container")(e.into()))?),
        }
        let any: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        while let Some(signal) = any[0].then(|| signals.next()).flatten() {
            match signal {
                libc::SIGWINCH => resize(),
                libc::SIGHUP if on_terminal => return Ok(Attended::Detached),
                signal if options.sig_proxy && forwarded(signal) => {
                    // It may just have ended.
                    let _ = lifecycle::kill(&engine.states(), id, signal, false);
                }
                libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => {
                    return Err(Error::Interrupted(signal));
                }
                _ => {}
            }
        }
        if any[1] {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return Ok(Attended::Dropped),
                Ok(2) if buffer[0] == 3 => return Ok(Attended::Ended(buffer[1])),
                Ok(length) if wanted(options, buffer[0]) => show(&buffer[..length])?,
                Ok(_) => {}
            }
        }
        if input && any[2] {
            // Not by `Stdin`, which reads ahead and would keep what poll(2) is to see.
            let length = match nix::unistd::read(&stdin, &mut buffer[1..]) {
                Ok(0) | Err(_) => {
                    input = false;
                    let _ = tell(&[2]);
                    continue;
                }
                Ok(length) => length,
            };
            let Some(typed) = keys.pass(&buffer[1..=length]) else { return Ok(Attended::Detached) };
            for part in typed.chunks(PART) {
                // The end of a container that takes nothing any more is told by the socket itself.
                let _ = tell(&[&[0], part].concat());
            }
        }
    }
}

/// Whether output of this kind is shown.
fn wanted(options: &AttachOptions, kind: u8) -> bool {
    if kind == 2 { options.stderr } else { options.stdout }
}

fn show(message: &[u8]) -> Result<(), Error> {
    let written = match message[0] {
        2 => io::stderr().write_all(&message[1..]),
        _ => io::stdout().write_all(&message[1..]).and_then(|()| io::stdout().flush()),
    };
    written.map_err(Error::io("write the container's output"))
}
