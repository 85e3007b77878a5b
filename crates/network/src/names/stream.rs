//! One connection by TCP: questions with their length before them, an answer to each, asked of another server if need be.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest question, in bytes.
const LONGEST_QUESTION: usize = 4096;

/// A connection and how far it is.
#[derive(Debug)]
pub(super) struct Stream {
    client: TcpStream,
    asker: IpAddr,
    stage: Stage,
    /// What is read or written now, its length in front.
    bytes: Vec<u8>,
    /// How much of it is written.
    written: usize,
    until: Instant,
}

#[derive(Debug)]
enum Stage {
    /// Reads a question.
    Hearing,
    /// Asks another server: the connection, who comes after it, and what to say when nobody answers.
    Asking(TcpStream, Vec<SocketAddr>, Vec<u8>),
    /// Reads the other server's answer; what to say when it does not come.
    Waiting(TcpStream, Vec<u8>),
    /// Writes an answer.
    Telling,
}

/// What comes after a step.
#[derive(Debug)]
pub(super) enum Next {
    Wait,
    Question(Vec<u8>),
    End,
}

impl Stream {
    pub(super) fn new(client: TcpStream, asker: IpAddr) -> io::Result<Stream> {
        client.set_nonblocking(true)?;
        let until = Instant::now() + PATIENCE;
        Ok(Stream { client, asker, stage: Stage::Hearing, bytes: Vec::new(), written: 0, until })
    }

    pub(super) fn asker(&self) -> IpAddr {
        self.asker
    }

    /// When it is given up.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn waits_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.stage {
            Stage::Hearing => (self.client.as_fd(), PollFlags::POLLIN),
            Stage::Asking(server, ..) => (server.as_fd(), PollFlags::POLLOUT),
            Stage::Waiting(server, _) => (server.as_fd(), PollFlags::POLLIN),
            Stage::Telling => (self.client.as_fd(), PollFlags::POLLOUT),
        }
    }

    /// Goes on now that what it waits for is ready.
    pub(super) fn step(&mut self) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Hearing) {
            Stage::Hearing => match read(&mut self.client, &mut self.bytes, LONGEST_QUESTION) {
                Ok(true) => Next::Question(self.bytes[2..].to_vec()),
                Ok(false) => Next::Wait,
                Err(_) => Next::End,
            },
            Stage::Asking(mut server, left, failure) => {
                match write(&mut server, &self.bytes, &mut self.written) {
                    Ok(true) => {
                        self.bytes.clear();
                        self.go_to(Stage::Waiting(server, failure))
                    }
                    Ok(false) => self.go_to(Stage::Asking(server, left, failure)),
                    Err(_) => {
                        let question = std::mem::take(&mut self.bytes);
                        self.ask(question, left, failure);
                        Next::Wait
                    }
                }
            }
            Stage::Waiting(mut server, failure) => {
                match read(&mut server, &mut self.bytes, usize::from(u16::MAX)) {
                    Ok(true) => {
                        self.written = 0;
                        self.go_to(Stage::Telling)
                    }
                    Ok(false) => self.go_to(Stage::Waiting(server, failure)),
                    Err(_) => {
                        self.tell(&failure);
                        Next::Wait
                    }
                }
            }
            Stage::Telling => match write(&mut self.client, &self.bytes, &mut self.written) {
                Ok(true) => {
                    self.bytes.clear();
                    self.until = Instant::now() + PATIENCE;
                    Next::Wait
                }
                Ok(false) => self.go_to(Stage::Telling),
                Err(_) => Next::End,
            },
        }
    }

    fn go_to(&mut self, stage: Stage) -> Next {
        self.stage = stage;
        Next::Wait
    }

    /// Answers; always `true`: it goes on.
    pub(super) fn tell(&mut self, answer: &[u8]) -> bool {
        (self.bytes, self.written) = (with_length(answer), 0);
        self.stage = Stage::Telling;
        true
    }

    /// Asks the last of `servers`, and those before it if that fails; always `true`: it goes on.
    pub(super) fn forward(&mut self, question: &[u8], servers: Vec<SocketAddr>, failure: Vec<u8>) -> bool {
        self.until = Instant::now() + PATIENCE;
        self.ask(with_length(question), servers, failure);
        true
    }

    fn ask(&mut self, question: Vec<u8>, mut servers: Vec<SocketAddr>, failure: Vec<u8>) {
        while let Some(server) = servers.pop() {
            if let Ok(stream) = begin(server) {
                (self.bytes, self.written) = (question, 0);
                self.stage = Stage::Asking(stream, servers, failure);
                return;
            }
        }
        self.tell(&failure);
    }
}

fn with_length(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(0);
    [&length.to_be_bytes()[..], &message[..usize::from(length)]].concat()
}

/// Begins to connect.
fn begin(server: SocketAddr) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(e) => Err(e.into()),
    }
}

/// Reads on; `true` when a message is there as a whole. No byte of the next one is read.
fn read(from: &mut TcpStream, bytes: &mut Vec<u8>, longest: usize) -> io::Result<bool> {
    loop {
        let wanted = match bytes.first_chunk() {
            None => 2,
            Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
        };
        if wanted > longest + 2 {
            return Err(ErrorKind::InvalidData.into());
        }
        if bytes.len() == wanted && wanted > 2 {
            return Ok(true);
        }
        let mut piece = [0; 1024];
        let room = (wanted - bytes.len()).min(piece.len());
        match from.read(&mut piece[..room]) {
            // The end, or a message of no bytes.
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend(&piece[..count]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Writes on; `true` when all is written.
fn write(to: &mut TcpStream, bytes: &[u8], written: &mut usize) -> io::Result<bool> {
    while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
