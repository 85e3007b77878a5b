//! rtnetlink(7): network devices of a namespace and their addresses.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A socket that speaks of the network namespace in which it was made, whichever the process is in later.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
}

/// A network device.
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
}

/// An address of a network device, as the kernel words it.
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

impl Address {
    /// It does not expire, and holds outside of its link and host: one that somebody chose for this device.
    pub fn is_permanent_and_global(&self) -> bool {
        const IFA_F_PERMANENT: u8 = 0x80;
        const RT_SCOPE_UNIVERSE: u8 = 0;
        self.flags & IFA_F_PERMANENT != 0 && self.scope == RT_SCOPE_UNIVERSE
    }
}

/// Room for the largest message that the kernel makes (NLMSG_GOODSIZE is at most 32 KiB for a dump).
const BUFFER: usize = 64 << 10;
/// struct nlmsghdr.
const HEADER: usize = 16;
/// struct ifinfomsg.
const LINK_HEADER: usize = 16;
/// struct ifaddrmsg.
const ADDRESS_HEADER: usize = 8;

impl Netlink {
    /// Opens a socket in the network namespace of this process.
    ///
    /// # Errors
    /// The errno of socket(2).
    pub fn open() -> io::Result<Netlink> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: three integers.
        let socket =
            crate::owned(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) }.into())?;
        Ok(Netlink { socket })
    }

    /// The device of this name, or alternative name.
    ///
    /// # Errors
    /// ENODEV: there is none.
    pub fn link(&self, name: &str) -> io::Result<Link> {
        let mut body = link_header(0, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &terminated(name));
        let mut found = None;
        self.talk(libc::RTM_GETLINK, 0, &body, &mut |kind, payload| {
            if kind == libc::RTM_NEWLINK {
                found = read_link(payload);
            }
        })?;
        found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Switches a device on or off.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        #[allow(clippy::cast_sign_loss)] // a single low bit
        let flag = libc::IFF_UP as u32;
        let body = link_header(index, if up { flag } else { 0 }, flag);
        self.talk(libc::RTM_NEWLINK, libc::NLM_F_ACK, &body, &mut |_, _| ())
    }

    /// Moves a device to another network namespace and renames it, in one step. It must be switched off, or the kernel
    /// does that; it loses its addresses.
    ///
    /// # Errors
    /// EEXIST: the name is taken there; EINVAL: such a device is bound to its namespace.
    pub fn move_link(&self, index: u32, name: &str, namespace: BorrowedFd) -> io::Result<()> {
        let mut body = link_header(index, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &terminated(name));
        attribute(&mut body, libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        self.talk(libc::RTM_NEWLINK, libc::NLM_F_ACK, &body, &mut |_, _| ())
    }

    /// The addresses of a device, of every family.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let mut found = Vec::new();
        self.talk(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS_HEADER], &mut |kind, payload| {
            if kind == libc::RTM_NEWADDR
                && let Some((of, address)) = read_address(payload)
                && of == index
            {
                found.push(address);
            }
        })?;
        Ok(found)
    }

    /// Gives an address to a device.
    ///
    /// # Errors
    /// EEXIST: it has it.
    pub fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            attribute(&mut body, *kind, value);
        }
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.talk(libc::RTM_NEWADDR, flags, &body, &mut |_, _| ())
    }

    /// Sends one request and hands the answer's messages (kind and payload) to `each`, until the kernel says that it is
    /// done.
    fn talk(
        &self,
        kind: u16,
        flags: libc::c_int,
        body: &[u8],
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let length = u32::try_from(HEADER + body.len()).map_err(|_| invalid())?;
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).map_err(|_| invalid())?;
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        let socket = self.socket.as_raw_fd();
        // SAFETY: pointer and length are of one vector. A socket without a peer sends to the kernel.
        let sent = unsafe { libc::send(socket, request.as_ptr().cast(), request.len(), 0) };
        crate::check(sent as libc::c_long)?;
        let mut buffer = vec![0u8; BUFFER];
        loop {
            // SAFETY: the kernel writes at most `buffer.len()` bytes.
            let count = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let count = crate::check(count as libc::c_long)?;
            let mut rest = buffer.get(..usize::try_from(count).map_err(|_| invalid())?).unwrap_or_default();
            let mut many = false;
            while let Some((kind, flags, payload, after)) = message(rest) {
                rest = after;
                match libc::c_int::from(kind) {
                    // Errors are an errno below zero; an acknowledgement is zero.
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                        return if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(()) };
                    }
                    _ => each(kind, payload),
                }
                many |= libc::c_int::from(flags) & libc::NLM_F_MULTI != 0;
            }
            // A single answer to a request without NLM_F_ACK is not followed by anything.
            if !many {
                return Ok(());
            }
        }
    }
}

/// The first message: kind, flags, payload, and what comes after it.
fn message(bytes: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let header = bytes.get(4..8)?;
    let kind = u16::from_ne_bytes([header[0], header[1]]);
    let flags = u16::from_ne_bytes([header[2], header[3]]);
    let payload = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, flags, payload, after))
}

/// Attributes (struct rtattr) behind a fixed header.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head: [u8; 4] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two high bits say how the value is encoded.
        Some((u16::from_ne_bytes([head[2], head[3]]) & 0x3fff, value))
    })
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Names and addresses: a few bytes.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// struct ifinfomsg.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    for field in [index, flags, change] {
        header.extend(field.to_ne_bytes());
    }
    header
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn read_link(payload: &[u8]) -> Option<Link> {
    let word = |at: usize| -> Option<u32> {
        payload.get(at..at + 4)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    };
    let (index, flags) = (word(4)?, word(8)?.cast_signed());
    let name = attributes(payload.get(LINK_HEADER..)?).find(|(kind, _)| *kind == libc::IFLA_IFNAME)?.1;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Link {
        index,
        name: String::from_utf8_lossy(name).into_owned(),
        up: flags & libc::IFF_UP != 0,
        loopback: flags & libc::IFF_LOOPBACK != 0,
    })
}

fn read_address(payload: &[u8]) -> Option<(u32, Address)> {
    let [family, prefix, flags, scope] = *payload.first_chunk()?;
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let wanted = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];
    let attributes = attributes(payload.get(ADDRESS_HEADER..)?)
        .filter(|(kind, _)| wanted.contains(kind))
        .map(|(kind, value)| (kind, value.to_vec()))
        .collect();
    Some((index, Address { family, prefix, flags, scope, attributes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_and_others_are_not() {
        let netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap();
        assert!(lo.loopback && lo.name == "lo" && lo.index > 0, "{lo:?}");
        let error = netlink.link("no-such-device").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_local_address_is_not_global() {
        let netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap();
        for address in netlink.addresses(lo.index).unwrap() {
            if address.attributes.contains(&(libc::IFA_LOCAL, vec![127, 0, 0, 1])) {
                assert_eq!((address.prefix, i32::from(address.family)), (8, libc::AF_INET));
                assert!(!address.is_permanent_and_global());
            }
        }
    }

    #[test]
    fn short_messages_end_the_list() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"abcde");
        attribute(&mut body, 7 | 0x8000, b"x");
        assert_eq!(body.len(), 20);
        let found: Vec<_> = attributes(&body).collect();
        assert_eq!(found, [(3, &b"abcde"[..]), (7, b"x")]);
        assert_eq!(attributes(&body[..6]).count(), 0);
        assert!(message(&[20, 0, 0, 0, 1, 0, 0, 0]).is_none());
        assert_eq!(read_link(&[0; 8]), None);
        assert_eq!(read_address(&[2, 24, 0, 0]), None);
    }
}
