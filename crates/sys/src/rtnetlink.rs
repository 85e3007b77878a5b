//! rtnetlink(7): the links, addresses and routes of a network namespace.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::clone::{namespace, setns};
use crate::netlink::{Body, Socket, attribute, attributes, text};

/// struct ifinfomsg, ifaddrmsg and rtmsg, in bytes.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

/// VETH_INFO_PEER, IFLA_MACVLAN_MODE and IFLA_IPVLAN_MODE of linux/veth.h and linux/if_link.h.
const PEER: u16 = 1;
const MODE: u16 = 1;

/// The links, addresses and routes of one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
}

/// A link: what ip(8) and others call a network interface or device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name, even if it was found by an alternative one.
    pub name: String,
    /// It is switched on.
    pub up: bool,
    /// It is a loopback device.
    pub loopback: bool,
    /// Its address on the wire.
    pub mac: Option<[u8; 6]>,
    /// Longest packet, in bytes.
    pub mtu: u32,
    /// Number of the bridge that it is a port of.
    pub master: Option<u32>,
    /// `bridge`, `veth`, …; none for hardware and loopback.
    pub kind: Option<String>,
}

/// An address of a link, as the kernel words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Length of the network's prefix, in bits.
    pub prefix: u8,
    /// `IFA_F_*` of linux/if_addr.h.
    pub flags: u8,
    /// `RT_SCOPE_*` of linux/rtnetlink.h.
    pub scope: u8,
    /// `IFA_LOCAL`, `IFA_ADDRESS` and `IFA_BROADCAST`, those of them that it has.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network that it leads to and the length of its prefix; `None` is everywhere.
    pub to: Option<(IpAddr, u8)>,
    /// Through whom, if not directly.
    pub gateway: Option<IpAddr>,
    /// Over which link.
    pub link: Option<u32>,
}

/// What a new link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A bridge.
    Bridge,
    /// One end of a cable.
    Veth {
        /// The other end.
        peer: End<'a>,
    },
    /// One more address on the wire of the link with this number; in bridge mode, as docker has it.
    Macvlan(u32),
    /// One more IP address at the wire address of the link with this number; in mode L2.
    Ipvlan(u32),
}

/// One end of a new link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct End<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Its address on the wire; the kernel makes one up.
    pub mac: Option<[u8; 6]>,
    /// Longest packet, in bytes.
    pub mtu: Option<u32>,
    /// Number of the bridge that it becomes a port of.
    pub master: Option<u32>,
    /// The network namespace where it is, if not that of the socket: a number of an open file.
    pub namespace: Option<i32>,
    /// It is switched on at once. Not for the other end of a cable: ENOTCONN, since it is made first.
    pub up: bool,
}

impl Address {
    /// It does not expire, and holds outside of its link and host: one that somebody chose for this link.
    pub fn is_permanent_and_global(&self) -> bool {
        const IFA_F_PERMANENT: u8 = 0x80;
        const RT_SCOPE_UNIVERSE: u8 = 0;
        self.flags & IFA_F_PERMANENT != 0 && self.scope == RT_SCOPE_UNIVERSE
    }

    /// The address itself.
    pub fn ip(&self) -> Option<IpAddr> {
        let find = |wanted| self.attributes.iter().find(|(kind, _)| *kind == wanted);
        read_ip(&find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?.1)
    }
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The errno of socket(2).
    pub fn open() -> io::Result<Netlink> {
        Ok(Netlink { socket: Socket::open(libc::NETLINK_ROUTE)? })
    }

    /// Opens a socket in another network namespace: this thread goes there and back.
    ///
    /// # Errors
    /// The errno of setns(2) or socket(2); when the way back fails the thread has stayed there.
    pub fn open_in(there: BorrowedFd) -> io::Result<Netlink> {
        let here = std::fs::File::open("/proc/thread-self/ns/net")?;
        setns(there, namespace::NET)?;
        let netlink = Netlink::open();
        setns(here.as_fd(), namespace::NET)?;
        netlink
    }

    /// The link of this name, or alternative name.
    ///
    /// # Errors
    /// ENODEV: there is none.
    pub fn link(&self, name: &str) -> io::Result<Link> {
        let mut body = Body::new(&link_header(0, 0, 0));
        body.put_text(libc::IFLA_IFNAME, name);
        let mut found = None;
        self.socket.ask(libc::RTM_GETLINK, 0, body, &mut |kind, payload| {
            if kind == libc::RTM_NEWLINK {
                found = read_link(payload);
            }
        })?;
        found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// All links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&self) -> io::Result<Vec<Link>> {
        self.list(libc::RTM_GETLINK, libc::RTM_NEWLINK, LINK_HEADER, read_link)
    }

    /// Makes a link.
    ///
    /// # Errors
    /// EEXIST: the name is taken; EOPNOTSUPP: the kernel has no such links.
    pub fn add_link(&self, end: &End<'_>, kind: Kind<'_>) -> io::Result<()> {
        let mut body = end_body(end);
        let mut info = Body::default();
        let mut data = Body::default();
        info.put(
            libc::IFLA_INFO_KIND,
            match kind {
                Kind::Bridge => b"bridge",
                Kind::Veth { .. } => b"veth",
                Kind::Macvlan(_) => b"macvlan",
                Kind::Ipvlan(_) => b"ipvlan",
            },
        );
        match kind {
            Kind::Bridge => {}
            Kind::Veth { peer } => {
                // Its value is a message like the one that it is in, header and all.
                data.put_nested(PEER, &end_body(&peer));
            }
            Kind::Macvlan(parent) => {
                const BRIDGE: u32 = 4;
                body.put(libc::IFLA_LINK, &parent.to_ne_bytes());
                data.put(MODE, &BRIDGE.to_ne_bytes());
            }
            Kind::Ipvlan(parent) => {
                const L2: u16 = 0;
                body.put(libc::IFLA_LINK, &parent.to_ne_bytes());
                data.put(MODE, &L2.to_ne_bytes());
            }
        }
        info.put_nested(libc::IFLA_INFO_DATA, &data);
        body.put_nested(libc::IFLA_LINKINFO, &info);
        self.socket.change(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, body)
    }

    /// Removes a link; the other end of a cable goes with it.
    ///
    /// # Errors
    /// ENODEV: there is none.
    pub fn delete_link(&self, index: u32) -> io::Result<()> {
        self.socket.change(libc::RTM_DELLINK, 0, Body::new(&link_header(index, 0, 0)))
    }

    /// Switches a link on or off.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        #[allow(clippy::cast_sign_loss)] // a single low bit
        let flag = libc::IFF_UP as u32;
        let body = Body::new(&link_header(index, if up { flag } else { 0 }, flag));
        self.socket.change(libc::RTM_NEWLINK, 0, body)
    }

    /// Lets a bridge send a packet back to the port that it came from.
    ///
    /// # Errors
    /// EOPNOTSUPP: the link is no port of a bridge.
    pub fn set_hairpin(&self, index: u32) -> io::Result<()> {
        // AF_BRIDGE of linux/socket.h, IFLA_BRPORT_MODE of linux/if_link.h.
        const BRIDGE: u8 = 7;
        const HAIRPIN: u16 = 4;
        let mut header = link_header(index, 0, 0);
        header[0] = BRIDGE;
        let mut port = Body::default();
        port.put(HAIRPIN, &[1]);
        let mut body = Body::new(&header);
        body.put_nested(libc::IFLA_PROTINFO, &port);
        self.socket.change(libc::RTM_SETLINK, 0, body)
    }

    /// Moves a link to another network namespace and renames it, in one step. It must be switched off, or the kernel
    /// does that; it loses its addresses.
    ///
    /// # Errors
    /// EEXIST: the name is taken there; EINVAL: such a link is bound to its namespace.
    pub fn move_link(&self, index: u32, name: &str, namespace: BorrowedFd) -> io::Result<()> {
        let mut body = Body::new(&link_header(index, 0, 0));
        body.put_text(libc::IFLA_IFNAME, name);
        body.put(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        self.socket.change(libc::RTM_NEWLINK, 0, body)
    }

    /// Makes a link a port of the bridge with this number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_master(&self, index: u32, bridge: u32) -> io::Result<()> {
        let mut body = Body::new(&link_header(index, 0, 0));
        body.put(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        self.socket.change(libc::RTM_NEWLINK, 0, body)
    }

    /// The addresses of a link, of every family.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let all = self.list(libc::RTM_GETADDR, libc::RTM_NEWADDR, ADDRESS_HEADER, read_address)?;
        Ok(all.into_iter().filter(|(of, _)| *of == index).map(|(_, address)| address).collect())
    }

    /// Gives a link an address that [`Netlink::addresses`] read.
    ///
    /// # Errors
    /// EEXIST: it has it.
    pub fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let mut header = vec![address.family, address.prefix, 0, address.scope];
        header.extend(index.to_ne_bytes());
        let mut body = Body::new(&header);
        for (kind, value) in &address.attributes {
            body.put(*kind, value);
        }
        self.socket.change(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, body)
    }

    /// Gives a link a new address. An IPv6 one is taken for unique, so that it can be used at once.
    ///
    /// # Errors
    /// EEXIST: it has it; EACCES: IPv6 is switched off there.
    pub fn give(&self, index: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        const IFA_F_NODAD: u8 = 2;
        let flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut header = vec![family(ip), prefix, flags, 0];
        header.extend(index.to_ne_bytes());
        let mut body = Body::new(&header);
        let bytes = ip_bytes(ip);
        body.put(libc::IFA_LOCAL, &bytes).put(libc::IFA_ADDRESS, &bytes);
        if let (IpAddr::V4(ip), 1..=30) = (ip, prefix) {
            let broadcast = ip.to_bits() | u32::MAX >> prefix;
            body.put(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
        }
        self.socket.change(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, body)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// EEXIST: there is such a one; ENETUNREACH: the gateway cannot be reached.
    pub fn add_route(&self, route: Route) -> io::Result<()> {
        let ip = route.to.map(|(ip, _)| ip).or(route.gateway);
        let ip = ip.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let prefix = route.to.map_or(0, |(_, prefix)| prefix);
        let scope = if route.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let header = [
            family(ip),
            prefix,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            scope,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let mut body = Body::new(&header);
        if let Some((to, _)) = route.to {
            body.put(libc::RTA_DST, &ip_bytes(to));
        }
        if let Some(gateway) = route.gateway {
            body.put(libc::RTA_GATEWAY, &ip_bytes(gateway));
        }
        if let Some(link) = route.link {
            body.put(libc::RTA_OIF, &link.to_ne_bytes());
        }
        self.socket.change(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, body)
    }

    /// The routes of the main table, of both families.
    ///
    /// # Errors
    /// The kernel's.
    pub fn routes(&self) -> io::Result<Vec<Route>> {
        self.list(libc::RTM_GETROUTE, libc::RTM_NEWROUTE, ROUTE_HEADER, read_route)
    }

    /// Reads a list, again if it changed meanwhile.
    fn list<T>(
        &self,
        request: u16,
        answer: u16,
        header: usize,
        read: fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..10 {
            let mut found = Vec::new();
            let body = Body::new(&vec![0; header]);
            let asked = self.socket.ask(request, libc::NLM_F_DUMP, body, &mut |kind, payload| {
                if kind == answer {
                    found.extend(read(payload));
                }
            });
            match asked {
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                other => return other.map(|()| found),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }
}

fn end_body(end: &End<'_>) -> Body {
    #[allow(clippy::cast_sign_loss)] // a single low bit
    let up = if end.up { libc::IFF_UP as u32 } else { 0 };
    let mut body = Body::new(&link_header(0, up, up));
    body.put_text(libc::IFLA_IFNAME, end.name);
    if let Some(mac) = end.mac {
        body.put(libc::IFLA_ADDRESS, &mac);
    }
    for (kind, value) in [(libc::IFLA_MTU, end.mtu), (libc::IFLA_MASTER, end.master)] {
        if let Some(value) = value {
            body.put(kind, &value.to_ne_bytes());
        }
    }
    if let Some(namespace) = end.namespace {
        body.put(libc::IFLA_NET_NS_FD, &namespace.to_ne_bytes());
    }
    body
}

/// struct ifinfomsg.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    for field in [index, flags, change] {
        header.extend(field.to_ne_bytes());
    }
    header
}

fn family(ip: IpAddr) -> u8 {
    // AF_INET and AF_INET6 of linux/socket.h.
    if ip.is_ipv4() { 2 } else { 10 }
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn read_link(payload: &[u8]) -> Option<Link> {
    let (index, flags) = (read_u32(payload.get(4..)?)?, read_u32(payload.get(8..)?)?.cast_signed());
    let rest = payload.get(LINK_HEADER..)?;
    let number = |kind| attribute(rest, kind).and_then(read_u32);
    Some(Link {
        index,
        name: text(attribute(rest, libc::IFLA_IFNAME)?),
        up: flags & libc::IFF_UP != 0,
        loopback: flags & libc::IFF_LOOPBACK != 0,
        mac: attribute(rest, libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        mtu: number(libc::IFLA_MTU).unwrap_or(0),
        master: number(libc::IFLA_MASTER),
        kind: attribute(rest, libc::IFLA_LINKINFO)
            .and_then(|info| attribute(info, libc::IFLA_INFO_KIND))
            .map(text),
    })
}

fn read_address(payload: &[u8]) -> Option<(u32, Address)> {
    let [family, prefix, flags, scope] = *payload.first_chunk()?;
    let index = read_u32(payload.get(4..)?)?;
    let wanted = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];
    let attributes = attributes(payload.get(ADDRESS_HEADER..)?)
        .filter(|(kind, _)| wanted.contains(kind))
        .map(|(kind, value)| (kind, value.to_vec()))
        .collect();
    Some((index, Address { family, prefix, flags, scope, attributes }))
}

fn read_route(payload: &[u8]) -> Option<Route> {
    let header: [u8; ROUTE_HEADER] = *payload.first_chunk()?;
    let rest = payload.get(ROUTE_HEADER..)?;
    if header[4] != libc::RT_TABLE_MAIN {
        return None;
    }
    let to = attribute(rest, libc::RTA_DST).and_then(read_ip).map(|ip| (ip, header[1]));
    Some(Route {
        to,
        gateway: attribute(rest, libc::RTA_GATEWAY).and_then(read_ip),
        link: attribute(rest, libc::RTA_OIF).and_then(read_u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_link_is_found_and_others_are_not() {
        let netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap();
        assert!(lo.loopback && lo.name == "lo" && lo.index > 0 && lo.kind.is_none(), "{lo:?}");
        assert!(netlink.links().unwrap().contains(&lo));
        let error = netlink.link("no-such-device").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_local_address_is_not_global() {
        let netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap();
        for address in netlink.addresses(lo.index).unwrap() {
            if address.ip() == Some([127, 0, 0, 1].into()) {
                assert_eq!((address.prefix, i32::from(address.family)), (8, libc::AF_INET));
                assert!(!address.is_permanent_and_global());
            }
        }
        netlink.routes().unwrap();
    }

    #[test]
    fn short_messages_say_nothing() {
        assert_eq!(read_link(&[0; 8]), None);
        assert_eq!(read_address(&[2, 24, 0, 0]), None);
        assert_eq!(read_route(&[2; 11]), None);
        assert_eq!(read_ip(&[1, 2, 3]), None);
    }
}
