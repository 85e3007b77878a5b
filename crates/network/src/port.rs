//! Published ports (`-p`): what is asked for, and the host's side of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, getsockname,
    setsockopt, socket, sockopt,
};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What a port belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a container that the host passes on to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Published {
    /// Address of the host; every one if there is none.
    pub host_ip: Option<IpAddr>,
    /// Port of the host.
    pub host_port: u16,
    /// Port of the container.
    pub container_port: u16,
    /// What both belong to.
    pub protocol: Protocol,
}

/// What `-p` asks for: ranges, and a host port that may be left to rcr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// Address of the host; every one if there is none.
    pub host_ip: Option<IpAddr>,
    /// First and last port of the host that may be taken; `None` leaves the choice to the kernel.
    pub host_ports: Option<(u16, u16)>,
    /// First and last port of the container.
    pub container_ports: (u16, u16),
    /// What they belong to.
    pub protocol: Protocol,
}

/// A port that a container listens on, or a range of them: `80`, `53/udp`, `8000-8010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// First and last one.
    pub ports: (u16, u16),
    /// What they belong to.
    pub protocol: Protocol,
}

impl FromStr for Exposed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Exposed, Error> {
        let (ports, protocol) = match text.split_once('/') {
            Some((ports, protocol)) => (ports, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let text: String = text.chars().take(100).collect();
        let wants = || Error::Invalid(format!("invalid port {text:?}: wants PORT[-LAST][/PROTOCOL]"));
        Ok(Exposed { ports: range(ports).ok_or_else(wants)?, protocol })
    }
}

impl PortRequest {
    /// What `-P` adds to the `asked`: a port of the host for each one exposed, unless it has some already.
    pub fn for_exposed(exposed: &[Exposed], asked: &[PortRequest]) -> Vec<PortRequest> {
        let mut ports: Vec<(u16, Protocol)> = exposed
            .iter()
            .flat_map(|Exposed { ports: (first, last), protocol }| {
                (*first..=*last).map(|port| (port, *protocol))
            })
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports.retain(|(port, protocol)| {
            let has = |request: &PortRequest| {
                let (first, last) = request.container_ports;
                request.protocol == *protocol && (first..=last).contains(port)
            };
            !asked.iter().any(has)
        });
        let request = |(port, protocol)| PortRequest {
            host_ip: None,
            host_ports: None,
            container_ports: (port, port),
            protocol,
        };
        ports.into_iter().map(request).collect()
    }
}

impl Protocol {
    /// IPPROTO_TCP and so on.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Protocol, Error> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(Error::Invalid(format!("invalid protocol {text:?}: wants tcp, udp or sctp"))),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// `[IP:][HOST]:CONTAINER[/PROTOCOL]`, with ranges `FIRST-LAST`, an IPv6 address in brackets.
impl FromStr for PortRequest {
    type Err = Error;

    fn from_str(text: &str) -> Result<PortRequest, Error> {
        let invalid = |why: &str| {
            let text: String = text.chars().take(100).collect();
            Error::Invalid(format!("invalid port {text:?}: {why}"))
        };
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, protocol)) => (rest, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let (host, container) = rest.rsplit_once(':').unwrap_or(("", rest));
        let container_ports =
            range(container).ok_or_else(|| invalid("wants [IP:][HOST]:CONTAINER, for instance 8080:80"))?;
        let (ip, host) = match host.rsplit_once(':') {
            Some((ip, port)) => (ip, port),
            None => ("", host),
        };
        let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        let host_ip = match ip {
            "" => None,
            ip => {
                Some(ip.parse::<IpAddr>().map_err(|_| invalid("what is before the ports is no IP address"))?)
            }
        };
        let host_ports = match host {
            "" => None,
            ports => {
                Some(range(ports).ok_or_else(|| invalid("the host's port is no number from 1 to 65535"))?)
            }
        };
        let length = |(first, last): (u16, u16)| last - first;
        if let Some(ports) = host_ports {
            // Several ports of the host for one of the container mean: one of them.
            let one = length(container_ports) == 0;
            if length(ports) != length(container_ports) && !one {
                return Err(invalid("the ranges are not of the same length"));
            }
        }
        Ok(PortRequest { host_ip, host_ports, container_ports, protocol })
    }
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u16>().ok())
            .flatten()
            .filter(|n| *n > 0)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// As `docker ps` shows it: `0.0.0.0:8080->80/tcp`.
impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Published { host_ip, host_port, container_port, protocol } = self;
        let host = SocketAddr::new(host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), *host_port);
        write!(f, "{host}->{container_port}/{protocol}")
    }
}

/// A port of the host, held so that nobody else listens there while packets to it go to a container.
#[derive(Debug)]
pub struct Held {
    /// What it is for.
    pub port: Published,
    /// The sockets; closing them gives it back.
    pub sockets: Vec<OwnedFd>,
}

/// Takes the ports of the host that `requests` ask for.
///
/// # Errors
/// [`Error::Io`] with EADDRINUSE as source: one is taken; all are given back then.
pub fn hold(requests: &[PortRequest]) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    for request in requests {
        let PortRequest { host_ip, host_ports, container_ports: (first, last), protocol } = *request;
        for (index, container_port) in (first..=last).enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let choices = match host_ports {
                None => 0..=0,
                Some((first_host, last_host)) if first == last => first_host..=last_host,
                Some((first_host, _)) => first_host + index..=first_host + index,
            };
            let mut refused = None;
            let found = choices.clone().find_map(|port| match hold_one(host_ip, port, protocol) {
                Ok((host_port, sockets)) => {
                    let port = Published { host_ip, host_port, container_port, protocol };
                    Some(Held { port, sockets })
                }
                Err(e) => {
                    refused.get_or_insert(e);
                    None
                }
            });
            match (found, refused) {
                (Some(port), _) => held.push(port),
                (None, refused) => {
                    let ip = host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                    let port = SocketAddr::new(ip, *choices.start());
                    let source = refused.unwrap_or(Errno::EADDRINUSE).into();
                    return Err(Error::Io { what: format!("publish {port}/{protocol}"), source });
                }
            }
        }
    }
    Ok(held)
}

/// Binds one port, on IPv4 and IPv6 if every address is meant; 0 lets the kernel choose.
fn hold_one(ip: Option<IpAddr>, port: u16, protocol: Protocol) -> Result<(u16, Vec<OwnedFd>), Errno> {
    let Some(ip) = ip else {
        let (port, four) = bind_one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), protocol)?;
        return match bind_one(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), protocol) {
            Ok((_, six)) => Ok((port, vec![four, six])),
            // A host without IPv6.
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => Ok((port, vec![four])),
            Err(e) => Err(e),
        };
    };
    bind_one(SocketAddr::new(ip, port), protocol).map(|(port, socket)| (port, vec![socket]))
}

fn bind_one(address: SocketAddr, protocol: Protocol) -> Result<(u16, OwnedFd), Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        // SCTP has a space of ports of its own that not every kernel has; there UDP's stands for it.
        Protocol::Udp | Protocol::Sctp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    let got: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let port = got
        .as_sockaddr_in()
        .map(SockaddrIn::port)
        .or_else(|| got.as_sockaddr_in6().map(SockaddrIn6::port))
        .ok_or(Errno::EINVAL)?;
    Ok((port, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PortRequest {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_form_of_dockers() {
        type Row<'a> = (&'a str, Option<&'a str>, Option<(u16, u16)>, (u16, u16), Protocol);
        let table: &[Row<'_>] = &[
            ("80", None, None, (80, 80), Protocol::Tcp),
            ("8080:80", None, Some((8080, 8080)), (80, 80), Protocol::Tcp),
            ("8080:80/udp", None, Some((8080, 8080)), (80, 80), Protocol::Udp),
            ("127.0.0.1:8080:80/TCP", Some("127.0.0.1"), Some((8080, 8080)), (80, 80), Protocol::Tcp),
            ("127.0.0.1::80", Some("127.0.0.1"), None, (80, 80), Protocol::Tcp),
            ("[::1]:8080:80", Some("::1"), Some((8080, 8080)), (80, 80), Protocol::Tcp),
            (":80", None, None, (80, 80), Protocol::Tcp),
            ("7000-7002:8000-8002/sctp", None, Some((7000, 7002)), (8000, 8002), Protocol::Sctp),
            ("7000-7009:80", None, Some((7000, 7009)), (80, 80), Protocol::Tcp),
            ("8000-8002", None, None, (8000, 8002), Protocol::Tcp),
        ];
        for (text, ip, host, container, protocol) in table {
            let wanted = PortRequest {
                host_ip: ip.map(|ip| ip.parse().unwrap()),
                host_ports: *host,
                container_ports: *container,
                protocol: *protocol,
            };
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn exposed_ports_are_published_once() {
        let exposed: Vec<Exposed> =
            ["80", "53/udp", "8000-8002", "80/tcp"].map(|text| text.parse().unwrap()).to_vec();
        let asked = [parse("8080:80"), parse("8001")];
        let added: Vec<(u16, Protocol)> = PortRequest::for_exposed(&exposed, &asked)
            .into_iter()
            .map(|request| (request.container_ports.0, request.protocol))
            .collect();
        assert_eq!(added, [(53, Protocol::Udp), (8000, Protocol::Tcp), (8002, Protocol::Tcp)]);
        assert!("80/icmp".parse::<Exposed>().is_err() && "x".parse::<Exposed>().is_err());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (text, word) in [
            ("", "8080:80"),
            ("x", "8080:80"),
            ("0", "8080:80"),
            ("65536", "8080:80"),
            ("90-80", "8080:80"),
            ("80:", "8080:80"),
            ("a:80", "1 to 65535"),
            ("host:1:80", "no IP address"),
            ("1.2.3:1:80", "no IP address"),
            ("80/icmp", "tcp, udp or sctp"),
            ("1-3:1-2", "same length"),
            ("+80", "8080:80"),
        ] {
            let said = text.parse::<PortRequest>().unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
    }

    #[test]
    fn held_ports_are_nobody_elses_until_they_are_given_back() {
        let held = hold(&[parse("127.0.0.1::80"), parse("127.0.0.1::53/udp")]).unwrap();
        let port = held[0].port.host_port;
        assert!(port != 0 && held.len() == 2);
        assert_eq!(held[0].port.to_string(), format!("127.0.0.1:{port}->80/tcp"));
        let again = parse(&format!("127.0.0.1:{port}:80"));
        let error = hold(std::slice::from_ref(&again)).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. }
            if source.raw_os_error() == Some(Errno::EADDRINUSE as i32)),
            "{error:?}"
        );
        drop(held);
        assert_eq!(hold(&[again]).unwrap()[0].port.host_port, port);
    }

    #[test]
    fn one_of_a_range_and_a_range_for_a_range() {
        let blocker = hold(&[parse("127.0.0.1::80")]).unwrap();
        let port = blocker[0].port.host_port;
        if port < 65_000 {
            let held = hold(&[parse(&format!("127.0.0.1:{port}-{}:80", port + 50))]).unwrap();
            assert!(held[0].port.host_port > port);
        }
    }
}
