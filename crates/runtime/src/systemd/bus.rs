//! A connection to a message bus: D-Bus over a Unix socket, one call at a time, every wait bounded.
//!
//! No thread and no executor; the few calls that systemd is asked are a round trip each.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::message::{self, FIXED, Message, Target, kind};
use super::value::Value;
use crate::Error;

/// How long an answer may take; D-Bus's usual 25 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// Longest line of the handshake, in bytes.
const LONGEST_LINE: usize = 1024;

/// The bus itself.
const BUS: Target<'static> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// An open connection.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    serial: u32,
    /// Bytes that were received and are not a whole message yet.
    inbox: Vec<u8>,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
    /// What the bus calls this connection; empty if there is no bus in between.
    name: String,
    /// Who answered last. The bus lets anybody send signals, with his own name on them.
    peer: String,
}

/// An error that the other side answered with; the source of an [`Error`].
#[derive(Debug)]
struct Refusal {
    /// `org.freedesktop.systemd1.UnitExists`
    name: String,
    /// For people.
    message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = self.name.rsplit('.').next().unwrap_or_default();
        if self.message.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{} ({short})", self.message)
        }
    }
}

impl std::error::Error for Refusal {}

/// The name of the refusal, if an error is one.
pub(super) fn refusal(error: &Error) -> Option<&str> {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<Refusal>());
    source.map(|refusal| refusal.name.as_str())
}

impl Bus {
    /// Connects to the first of `addresses` (`unix:path=/run/dbus/system_bus_socket;unix:abstract=…`) that answers, and
    /// registers there.
    pub(super) fn open(addresses: &str) -> Result<Bus, Error> {
        let mut bus = dial(addresses)?;
        let answer = bus
            .call(BUS, "Hello", &[])
            .map_err(|e| Error::new(format!("register at {addresses:?}")).because(e))?;
        bus.name = answer.first().and_then(Value::text).unwrap_or_default().to_owned();
        Ok(bus)
    }

    /// Connects to a program that speaks D-Bus without a bus.
    pub(super) fn open_direct(address: &str) -> Result<Bus, Error> {
        dial(address)
    }

    /// Has signals sent here that `rule` describes. A peer without a bus sends all of its signals anyway.
    pub(super) fn watch(&mut self, rule: &str) -> Result<(), Error> {
        match self.name.is_empty() {
            true => Ok(()),
            false => self.call(BUS, "AddMatch", &[rule.into()]).map(drop),
        }
    }

    /// The number by which the bus knows this process's user.
    pub(super) fn own_uid(&mut self) -> Result<u32, Error> {
        let answer = self.call(BUS, "GetConnectionUnixUser", &[self.name.as_str().into()])?;
        match answer.first() {
            Some(Value::Uint32(uid)) => Ok(*uid),
            _ => Err(Error::new("GetConnectionUnixUser was answered with something else")),
        }
    }

    /// Calls a method and waits for what it returns.
    ///
    /// # Errors
    /// The refusal ([`refusal`]), no answer in time, the end of the connection.
    pub(super) fn call(
        &mut self,
        target: Target<'_>,
        member: &str,
        body: &[Value],
    ) -> Result<Vec<Value>, Error> {
        let fail = |e: Error| Error::new(format!("{member} on D-Bus")).because(e);
        let deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        self.send(&message::call(self.serial, target, member, body), deadline).map_err(fail)?;
        loop {
            let message = self.receive(deadline).map_err(fail)?;
            match message.kind {
                kind::RETURN if message.reply_serial == self.serial => {
                    self.peer = message.sender;
                    return Ok(message.body);
                }
                kind::ERROR if message.reply_serial == self.serial => {
                    let text = message.body.first().and_then(Value::text).unwrap_or_default().to_owned();
                    return Err(Error::new(member).because(Refusal { name: message.name, message: text }));
                }
                kind::SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal of the one who answered last, of which `wanted` makes something; those included that came
    /// since [`Bus::watch`].
    ///
    /// # Errors
    /// It did not come until `deadline`; the end of the connection.
    pub(super) fn signal<T>(
        &mut self,
        deadline: Instant,
        mut wanted: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, Error> {
        let peer = self.peer.clone();
        let mut look = |message: &Message| {
            let its = message.kind == kind::SIGNAL && message.sender == peer;
            its.then(|| wanted(message)).flatten()
        };
        for early in std::mem::take(&mut self.signals) {
            if let Some(found) = look(&early) {
                return Ok(found);
            }
        }
        loop {
            if let Some(found) = look(&self.receive(deadline)?) {
                return Ok(found);
            }
        }
    }

    /// SASL with mechanism EXTERNAL (D-Bus specification, "Authentication Protocol"): the other side knows the user from
    /// the socket. It is not told a number, because in a user namespace this process has another one than outside.
    fn authenticate(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        self.send(b"\0AUTH EXTERNAL\r\n", deadline)?;
        let mut line = self.line(deadline)?;
        if line == "DATA" || line.starts_with("DATA ") {
            self.send(b"DATA\r\n", deadline)?;
            line = self.line(deadline)?;
        }
        if !line.starts_with("OK") {
            return Err(Error::new(format!("the bus refuses this user: {line:?}")));
        }
        self.send(b"BEGIN\r\n", deadline)
    }

    fn line(&mut self, deadline: Instant) -> Result<String, Error> {
        loop {
            if let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
                self.inbox.drain(..end + 2);
                return Ok(line);
            }
            if self.inbox.len() > LONGEST_LINE {
                return Err(Error::new("the handshake's answer has no end"));
            }
            self.fill(LONGEST_LINE, deadline)?;
        }
    }

    fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT, deadline)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::new("send").because(e)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Error> {
        let nonsense = || Error::new("the answer is no D-Bus message");
        let length = loop {
            match self.inbox.first_chunk::<FIXED>() {
                Some(start) => break message::length(start).ok_or_else(nonsense)?,
                None => self.fill(4096, deadline)?,
            }
        };
        while self.inbox.len() < length {
            self.fill(length - self.inbox.len(), deadline)?;
        }
        let message = message::parse(&self.inbox[..length]).ok_or_else(nonsense)?;
        self.inbox.drain(..length);
        Ok(message)
    }

    /// Waits for bytes and takes those that are there, at most `most`.
    fn fill(&mut self, most: usize, deadline: Instant) -> Result<(), Error> {
        let before = self.inbox.len();
        loop {
            self.inbox.resize(before + most, 0);
            let result = self.socket.read(&mut self.inbox[before..]);
            self.inbox.truncate(before + result.as_ref().map_or(0, |got| *got));
            match result {
                Ok(0) => return Err(Error::new("the other side closed the connection")),
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::POLLIN, deadline)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::new("receive").because(e)),
            }
        }
    }

    fn wait(&self, what: PollFlags, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = u16::try_from(left.as_millis()).unwrap_or(u16::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), what)], PollTimeout::from(left)) {
            Ok(0) if Instant::now() >= deadline => Err(Error::new("no answer in time")),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(Error::new("poll").because(e)),
        }
    }
}

fn dial(addresses: &str) -> Result<Bus, Error> {
    let fail = || Error::new(format!("connect to {addresses:?}"));
    let mut failed = None;
    for address in addresses.split(';').filter(|a| !a.is_empty()) {
        let connected = parse_address(address)
            .and_then(|address| open_socket(&address).map_err(|e| Error::new("connect").because(e)));
        match connected {
            Ok(socket) => {
                let socket = UnixStream::from(socket);
                let (inbox, signals) = (Vec::new(), Vec::new());
                let mut bus =
                    Bus { socket, serial: 0, inbox, signals, name: String::new(), peer: String::new() };
                return bus.authenticate().map(|()| bus).map_err(|e| fail().because(e));
            }
            Err(e) => failed = Some(e),
        }
    }
    Err(fail().because(failed.unwrap_or_else(|| Error::new("there is no address"))))
}

/// A Unix socket's address (D-Bus specification, "Server Addresses").
fn parse_address(address: &str) -> Result<UnixAddr, Error> {
    let fail = |why: &str| Error::new(format!("address {address:?} {why}"));
    let pairs = address.strip_prefix("unix:").ok_or_else(|| fail("is not of a Unix socket"))?;
    for (key, value) in pairs.split(',').filter_map(|pair| pair.split_once('=')) {
        let value = unescape(value).ok_or_else(|| fail("is malformed"))?;
        let parsed = match key {
            "path" => UnixAddr::new(value.as_slice()),
            "abstract" => UnixAddr::new_abstract(&value),
            _ => continue,
        };
        return parsed.map_err(|e| fail("does not fit").because(e));
    }
    Err(fail("names no path"))
}

/// Undoes `%20` and its like.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = rest.get(..2).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    Some(out)
}

/// A value as it stands in an address.
pub(super) fn escape(value: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_/.\\*".contains(b);
    value.iter().map(|b| if plain(b) { char::from(*b).to_string() } else { format!("%{b:02x}") }).collect()
}

fn open_socket(address: &UnixAddr) -> Result<OwnedFd, Errno> {
    let deadline = Instant::now() + PATIENCE;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let mut pause = Duration::from_millis(5);
    loop {
        match connect(socket.as_raw_fd(), address) {
            // So many others wait to be let in.
            Err(Errno::EAGAIN) if Instant::now() < deadline => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            Err(Errno::EINTR) => {}
            result => return result.map(|()| socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_unix_sockets() {
        let path = |address| parse_address(address).unwrap().path().map(|p| p.to_str().unwrap().to_owned());
        assert_eq!(path("unix:path=/run/bus,guid=1"), Some("/run/bus".to_owned()));
        assert_eq!(path("unix:guid=1,path=/a%20b"), Some("/a b".to_owned()));
        let hidden = parse_address("unix:abstract=/tmp/dbus-x").unwrap();
        assert_eq!(hidden.as_abstract(), Some(b"/tmp/dbus-x".as_slice()));
        for bad in ["tcp:host=localhost", "unix:", "unix:path=%zz", "unix:path=%2", "unix:tmpdir=/tmp"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
        assert!(parse_address(&format!("unix:path=/{}", "x".repeat(200))).is_err());
        assert_eq!(escape("/a b/ü,=".as_bytes()), "/a%20b/%c3%bc%2c%3d");
        assert_eq!(unescape(&escape(b"/a b;,")).unwrap(), b"/a b;,");
    }
}
