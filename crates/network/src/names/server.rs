//! The server of names of one network: it listens on the addresses of the bridge, answers about containers, asks the
//! host's resolvers about all else, and ends when no container has an address on the network any more.
//!
//! One thread and one poll(2). It keeps nothing but what it has asked others and waits for. What it takes is bounded: by
//! asker, in number, in length and in time.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use sys::rtnetlink::Netlink;

use super::control;
use super::directory::{LookUp, Verdict, decide};
use super::message::{Answer, Code, Query};
use super::resolvers;
use super::stream::{Next, Stream};
use crate::network::Network;
use crate::{Error, Leases};

/// Where servers of names listen.
const PORT: u16 = 53;
/// Questions by UDP that others have been asked, of all and of one asker.
const MOST_ASKED: usize = 256;
const MOST_ASKED_BY_ONE: usize = 64;
/// Connections, of all and of one asker.
const MOST_STREAMS: usize = 64;
const MOST_STREAMS_OF_ONE: usize = 16;
/// How long another server may take before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the port may be another one's who is just ending.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
/// Longest message by UDP that is taken, in bytes.
const LONGEST: usize = 4096;

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    network: String,
    link: String,
    /// The bridge's number; another one of the same name is another bridge.
    index: u32,
    addresses: Vec<IpAddr>,
    leases: PathBuf,
    watch: Inotify,
    control: UnixListener,
    control_file: control::Place,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// A question that another server has been asked.
#[derive(Debug)]
struct Asked {
    query: Query,
    message: Vec<u8>,
    from: SocketAddr,
    /// Which of our sockets it came by.
    by: usize,
    /// Connected, so that only the answer of who was asked gets in, by a port that nobody can guess.
    socket: UdpSocket,
    /// Who is to be asked next.
    left: Vec<SocketAddr>,
    until: Instant,
}

impl Server {
    /// Listens for `network`, whose bridge is up; `leases` is the directory of all networks' leases. `None`: another process
    /// does already.
    ///
    /// # Errors
    /// [`Error::Io`] with EADDRINUSE: another DNS server has the port.
    pub fn open(network: &Network, leases: PathBuf, place: control::Place) -> Result<Option<Server>, Error> {
        let netlink = Netlink::open().map_err(Error::link("open a netlink socket"))?;
        let link = network.link.clone();
        let index = netlink.link(&link).map_err(Error::link(format!("find bridge {link}")))?.index;
        let addresses: Vec<IpAddr> = network.subnets.iter().filter_map(|subnet| subnet.gateway).collect();
        let until = Instant::now() + PORT_PATIENCE;
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for ip in &addresses {
            loop {
                match listen_on(*ip, &link) {
                    Ok((one, other)) => {
                        udp.push(one);
                        tcp.push(other);
                    }
                    Err(e) if e.kind() == ErrorKind::AddrInUse && place.answers() => return Ok(None),
                    Err(e) if e.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                    // The host has IPv6 switched off.
                    Err(e) if ip.is_ipv6() && e.kind() != ErrorKind::AddrInUse => {}
                    Err(e) => return Err(Error::io(format!("listen on port {PORT} of {ip}"))(e)),
                }
                break;
            }
        }
        let dir = leases.join(&network.id);
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let watch = watch.and_then(|watch| {
            let gone =
                AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF;
            watch.add_watch(&dir, gone).map(|_| watch)
        });
        let watch = watch.map_err(|e| Error::io(format!("watch {dir:?}"))(e.into()))?;
        let control = place.listen()?;
        let network = network.id.clone();
        Ok(Some(Server {
            network,
            link,
            index,
            addresses,
            leases,
            watch,
            control,
            control_file: place,
            udp,
            tcp,
        }))
    }

    /// Serves until nobody is left to be served. `look_up` finds what is kept of a container.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn serve(self, look_up: LookUp<'_>) -> io::Result<()> {
        let served = self.serve_on(look_up);
        self.control_file.remove();
        served
    }

    fn serve_on(&self, look_up: LookUp<'_>) -> io::Result<()> {
        let (mut asked, mut streams): (Vec<Asked>, Vec<Stream>) = (Vec::new(), Vec::new());
        // Who it was started for may have ended before it watched.
        while self.is_needed() {
            let ready = self.wait(&asked, &streams)?;
            let mut ready = ready.into_iter();
            let mut next = || ready.next().unwrap_or(false);
            if next() {
                // What happened does not matter, only that something did.
                let _ = self.watch.read_events();
            }
            if next() && !self.tell_that_it_lives() {
                return Ok(());
            }
            let udp: Vec<usize> = (0..self.udp.len()).filter(|_| next()).collect();
            let tcp: Vec<usize> = (0..self.tcp.len()).filter(|_| next()).collect();
            // In the order in which they were waited for, and before there are new ones.
            let (now, mut rest) = (Instant::now(), Vec::new());
            for one in asked {
                rest.extend(self.go_on(one, next(), now));
            }
            asked = rest;
            let ready: Vec<bool> = streams.iter().map(|_| next()).collect();
            let mut ready = ready.into_iter();
            streams.retain_mut(|stream| {
                let ready = ready.next().unwrap_or(false);
                self.go_on_with_stream(look_up, stream, ready, now)
            });
            for by in udp {
                self.hear(look_up, by, &mut asked);
            }
            for by in tcp {
                self.accept(by, &mut streams);
            }
        }
        Ok(())
    }

    /// Some container has an address.
    fn is_needed(&self) -> bool {
        Leases::of(&self.leases, &self.network).list().is_ok_and(|leases| !leases.is_empty())
    }

    /// Whoever starts a container asks; `false`: this bridge is not the one it has any more.
    fn tell_that_it_lives(&self) -> bool {
        while let Ok((mut caller, _)) = self.control.accept() {
            let link = Netlink::open().and_then(|netlink| netlink.link(&self.link));
            if link.is_ok_and(|link| link.index != self.index) {
                return false;
            }
            // Who does not wait for the answer needs none.
            let _ = caller.write_all(b".");
        }
        true
    }

    /// Waits until one of the descriptors is ready or a time is up: watch, control, UDP, TCP, asked, streams.
    fn wait(&self, asked: &[Asked], streams: &[Stream]) -> io::Result<Vec<bool>> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(8 + asked.len() + streams.len());
        fds.push(PollFd::new(self.watch.as_fd(), PollFlags::POLLIN));
        fds.push(PollFd::new(self.control.as_fd(), PollFlags::POLLIN));
        fds.extend(self.udp.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.tcp.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(asked.iter().map(|one| PollFd::new(one.socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(streams.iter().map(|stream| {
            let (fd, flags) = stream.waits_for();
            PollFd::new(fd, flags)
        }));
        let until = asked.iter().map(|one| one.until).chain(streams.iter().map(Stream::until)).min();
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            // Rounded up, or it would turn round until the last millisecond is over.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)
        });
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(fds.iter().map(|fd| fd.any().unwrap_or(true)).collect()),
            Err(nix::errno::Errno::EINTR) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes what has come by UDP.
    fn hear(&self, look_up: LookUp<'_>, by: usize, asked: &mut Vec<Asked>) {
        let socket = &self.udp[by];
        let mut buffer = [0; LONGEST];
        // Not more at once than leaves time for the others.
        for _ in 0..64 {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { return };
            let answer = match Query::read(&buffer[..length]) {
                Err(answer) => answer,
                Ok(query) => match decide(&self.leases, &self.network, look_up, from.ip(), &query) {
                    Verdict::Answer(answer) => Some(query.answer(&answer, true)),
                    Verdict::Forward(servers) => {
                        let own = asked.iter().filter(|one| one.from.ip() == from.ip()).count();
                        let full = asked.len() >= MOST_ASKED || own >= MOST_ASKED_BY_ONE;
                        let left = if full { Vec::new() } else { self.servers(servers) };
                        let message = buffer[..length].to_vec();
                        match ask(query, message, from, by, left) {
                            Ok(one) => {
                                asked.push(one);
                                None
                            }
                            Err(query) => Some(query.answer(&Answer::Only(Code::ServerFailure), true)),
                        }
                    }
                },
            };
            if let Some(answer) = answer {
                // A lost answer is asked for again.
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    /// Whom to ask, each twice, the one to begin with last.
    fn servers(&self, own: Vec<IpAddr>) -> Vec<SocketAddr> {
        let servers = match own.is_empty() {
            true => resolvers::of_host(),
            false => own.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect(),
        };
        let mut servers: Vec<SocketAddr> =
            servers.into_iter().filter(|server| !self.addresses.contains(&server.ip())).collect();
        servers.reverse();
        servers.repeat(2)
    }

    /// Passes an answer on, or asks the next server; `None` when it is done with.
    fn go_on(&self, one: Asked, ready: bool, now: Instant) -> Option<Asked> {
        let socket = &self.udp[one.by];
        if ready {
            let mut buffer = [0; LONGEST];
            match one.socket.recv(&mut buffer) {
                Ok(length) if one.query.is_answered_by(&buffer[..length]) => {
                    let _ = socket.send_to(&buffer[..length], one.from);
                    return None;
                }
                // Not the answer; it may still come.
                Ok(_) => return Some(one),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                // Nobody listens there.
                Err(_) => return self.ask_next(one),
            }
        }
        if one.until <= now { self.ask_next(one) } else { Some(one) }
    }

    fn ask_next(&self, one: Asked) -> Option<Asked> {
        let Asked { query, message, from, by, left, .. } = one;
        match ask(query, message, from, by, left) {
            Ok(one) => Some(one),
            Err(query) => {
                let _ = self.udp[by].send_to(&query.answer(&Answer::Only(Code::ServerFailure), true), from);
                None
            }
        }
    }

    fn accept(&self, by: usize, streams: &mut Vec<Stream>) {
        for _ in 0..16 {
            let Ok((stream, from)) = self.tcp[by].accept() else { return };
            let own = streams.iter().filter(|stream| stream.asker() == from.ip()).count();
            if streams.len() < MOST_STREAMS && own < MOST_STREAMS_OF_ONE {
                streams.extend(Stream::new(stream, from.ip()).ok());
            }
        }
    }

    /// `false` when it is done with.
    fn go_on_with_stream(&self, look_up: LookUp<'_>, stream: &mut Stream, ready: bool, now: Instant) -> bool {
        if !ready {
            return stream.until() > now;
        }
        match stream.step() {
            Next::Wait => true,
            Next::End => false,
            Next::Question(message) => match Query::read(&message) {
                Err(answer) => answer.is_some_and(|answer| stream.tell(&answer)),
                Ok(query) => match decide(&self.leases, &self.network, look_up, stream.asker(), &query) {
                    Verdict::Answer(answer) => stream.tell(&query.answer(&answer, false)),
                    Verdict::Forward(servers) => {
                        let failure = query.answer(&Answer::Only(Code::ServerFailure), false);
                        stream.forward(&message, self.servers(servers), failure)
                    }
                },
            },
        }
    }
}

/// Sends a question to the first of the servers that takes it; gives it back if none does.
fn ask(
    query: Query,
    message: Vec<u8>,
    from: SocketAddr,
    by: usize,
    mut left: Vec<SocketAddr>,
) -> Result<Asked, Query> {
    while let Some(server) = left.pop() {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let sent = UdpSocket::bind(any).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.connect(server)?;
            socket.send(&message)?;
            Ok(socket)
        });
        if let Ok(socket) = sent {
            return Ok(Asked { query, message, from, by, socket, left, until: Instant::now() + PATIENCE });
        }
    }
    Err(query)
}

/// Sockets that take only what comes from the bridge: nobody else on the host's wires is answered.
fn listen_on(ip: IpAddr, link: &str) -> io::Result<(UdpSocket, TcpListener)> {
    let family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let open = |kind| -> io::Result<_> {
        let socket = socket(family, kind, flags, None)?;
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(link))?;
        if kind == SockType::Stream {
            // Connections of one that has just ended are no reason.
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(ip, PORT)))?;
        Ok(socket)
    };
    let (udp, tcp) = (open(SockType::Datagram)?, open(SockType::Stream)?);
    listen(&tcp, Backlog::MAXCONN)?;
    Ok((udp.into(), tcp.into()))
}
