//! The host's side of a bridge network.

use std::fs;
use std::io;
use std::path::Path;

use sys::rtnetlink::{End, Kind, Netlink};

use crate::network::Network;
use crate::{Error, forwarding};

/// Makes the bridge of `network` if it is not there, with the gateways as its addresses, and switches it on.
///
/// # Errors
/// The kernel's; [`Error::Invalid`] when something else has its name.
pub fn set_up(netlink: &Netlink, network: &Network) -> Result<u32, Error> {
    let name = network.link.as_str();
    let fail = |what: &str| Error::link(format!("{what} bridge {name}"));
    let link = match netlink.link(name) {
        Ok(link) => link,
        Err(e) if e.raw_os_error() == Some(nix::libc::ENODEV) => {
            // With an address of its own, or it would take that of a port, and another one when that goes.
            let end = End { name, mac: Some(mac(&network.id)), mtu: network.mtu, ..End::default() };
            match netlink.add_link(&end, Kind::Bridge) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(fail("make"))?,
            }
            netlink.link(name).map_err(fail("find"))?
        }
        Err(e) => return Err(fail("find")(e)),
    };
    if link.kind.as_deref() != Some("bridge") {
        let kind = link.kind.as_deref().unwrap_or("device");
        return Err(Error::Invalid(format!(
            "link {name} of the host is a {kind}, no bridge; rename or remove it"
        )));
    }
    if link.up {
        return Ok(link.index);
    }
    for subnet in &network.subnets {
        let Some(gateway) = subnet.gateway else { continue };
        match netlink.give(link.index, gateway, subnet.subnet.prefix_len()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // The host has IPv6 switched off.
            Err(e) if gateway.is_ipv6() && e.raw_os_error() == Some(nix::libc::EACCES) => {}
            other => other.map_err(Error::link(format!("give bridge {name} the address {gateway}")))?,
        }
    }
    // A port published on 127.0.0.1 is reached through the bridge; the rules keep everybody else from loopback.
    forwarding::write(Path::new(&format!("/proc/sys/net/ipv4/conf/{name}/route_localnet")), "1")?;
    // The host is the router here and learns nothing from containers. And nobody else can have its address there: while it
    // looked for duplicates, for a second or two, it could not ask for containers' wire addresses.
    for (file, value) in [("accept_ra", "0"), ("accept_dad", "0")] {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{file}");
        if fs::exists(&path).unwrap_or(false) {
            forwarding::write(Path::new(&path), value)?;
        }
    }
    netlink.set_up(link.index, true).map_err(fail("switch on"))?;
    Ok(link.index)
}

/// Removes a link of the host by name; it may be gone.
///
/// # Errors
/// The kernel's.
pub fn remove_link(netlink: &Netlink, name: &str) -> Result<(), Error> {
    let gone = |e: &io::Error| e.raw_os_error() == Some(nix::libc::ENODEV);
    let link = match netlink.link(name) {
        Err(e) if gone(&e) => return Ok(()),
        other => other.map_err(Error::link(format!("find link {name}")))?,
    };
    match netlink.delete_link(link.index) {
        Err(e) if gone(&e) => Ok(()),
        other => other.map_err(Error::link(format!("remove link {name}"))),
    }
}

/// A locally administered address made of an ID.
pub(crate) fn mac(id: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    for (at, byte) in id.bytes().enumerate() {
        mac[at % 6] = u8::rotate_left(mac[at % 6], 3) ^ byte;
    }
    // Not a group's, and not a manufacturer's (IEEE 802).
    mac[0] = mac[0] & 0xfc | 2;
    mac
}
