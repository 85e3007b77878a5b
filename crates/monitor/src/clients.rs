//! Who is attached: each a socket of type SOCK_SEQPACKET, whose messages begin with a byte that says what they are.
//!
//! A client that does not read is waited for as a terminal is, but no longer than [`PATIENCE`]; then it is dropped.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv, send};
use sys::process::inherited;

use crate::log::PART;

/// What clients say.
pub(crate) enum Said {
    /// Bytes for the container's standard input.
    Input(Vec<u8>),
    /// There will be no more of them.
    EndOfInput,
    /// The client's terminal has this size: rows, columns.
    Size(u16, u16),
}

/// How long a client that takes nothing holds up the container's output.
const PATIENCE: Duration = Duration::from_secs(5);
/// More at once have no use.
const MOST: usize = 64;

struct Client {
    socket: OwnedFd,
    /// It wants to know the end only.
    quiet: bool,
    gave_input: bool,
    /// A message that it did not take, and since when.
    waiting: Option<(Vec<u8>, Instant)>,
}

/// All of them.
pub(crate) struct Clients {
    listener: Option<OwnedFd>,
    all: Vec<Client>,
}

impl Clients {
    pub(crate) fn new(listener: Option<OwnedFd>) -> Self {
        let mut clients = Self { listener, all: Vec::new() };
        // Who was waiting before the container began misses nothing.
        while clients.accept() {}
        clients
    }

    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// The sockets, and whether each has a message that it did not take.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.all.iter().map(|client| (client.socket.as_fd(), client.waiting.is_some()))
    }

    /// How long the container's output is to be held up at most; `None`: it need not be.
    pub(crate) fn held_up(&self) -> Option<Duration> {
        let since =
            self.all.iter().filter_map(|client| client.waiting.as_ref()).map(|(_, since)| *since).min()?;
        Some(PATIENCE.saturating_sub(since.elapsed()))
    }

    /// Takes one more in; `false`: nobody is there.
    pub(crate) fn accept(&mut self) -> bool {
        let Some(listener) = &self.listener else { return false };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let Ok(socket) = accept4(listener.as_raw_fd(), flags).map_err(Into::into).and_then(inherited) else {
            return false;
        };
        if self.all.len() < MOST {
            self.all.push(Client { socket, quiet: false, gave_input: false, waiting: None });
        }
        true
    }

    /// Sends output to all. `kind` is 1 for standard output, 2 for standard error.
    pub(crate) fn send(&mut self, kind: u8, bytes: &[u8]) {
        if self.all.iter().all(|client| client.quiet) {
            return;
        }
        let message = [&[kind], bytes].concat();
        self.all.retain_mut(|client| client.quiet || client.send(&message));
    }

    /// Tries again to send what was not taken; drops who takes nothing for too long.
    pub(crate) fn retry(&mut self) {
        self.all.retain_mut(|client| match client.waiting.take() {
            None => true,
            Some((message, since)) => {
                let there = client.send(&message);
                if let Some((_, again)) = &mut client.waiting {
                    *again = since;
                }
                there && client.waiting.as_ref().is_none_or(|(_, since)| since.elapsed() < PATIENCE)
            }
        });
    }

    /// Reads one message of client number `index`. The second part: it has gone, and had given input.
    pub(crate) fn receive(&mut self, index: usize) -> (Option<Said>, bool) {
        let mut buffer = vec![0; PART + 1];
        let client = &mut self.all[index];
        match recv(client.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EAGAIN | Errno::EINTR) => (None, false),
            Ok(0) | Err(_) => (None, self.all.remove(index).gave_input),
            Ok(length) => {
                buffer.truncate(length);
                let said = match (buffer[0], &buffer[1..]) {
                    (0, bytes) => {
                        client.gave_input = true;
                        Some(Said::Input(bytes.to_vec()))
                    }
                    (1, &[r, ows, c, ols]) => {
                        Some(Said::Size(u16::from_be_bytes([r, ows]), u16::from_be_bytes([c, ols])))
                    }
                    (2, []) => Some(Said::EndOfInput),
                    (3, []) => {
                        client.quiet = true;
                        None
                    }
                    _ => None,
                };
                (said, false)
            }
        }
    }

    /// Tells all how the container ended, and that is all they hear.
    pub(crate) fn tell_end(mut self, code: Option<u8>) {
        while self.accept() {}
        for client in &mut self.all {
            if let Some(code) = code {
                client.send(&[3, code]);
            }
        }
    }
}

impl Client {
    /// `false`: it is gone.
    fn send(&mut self, message: &[u8]) -> bool {
        match send(self.socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => {
                self.waiting = Some((message.to_vec(), Instant::now()));
                true
            }
            result => result.is_ok(),
        }
    }
}
