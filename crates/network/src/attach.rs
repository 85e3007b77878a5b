//! A container's side of a network: a link in its namespace with addresses and routes.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use serde::{Deserialize, Serialize};
use sys::rtnetlink::{End, Kind, Netlink, Route};

use crate::Error;
use crate::bridge::mac;
use crate::network::{Driver, Network};

/// What one container has of one network; kept in its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// ID of the network.
    pub network_id: String,
    /// Name of the link in the container, for instance `eth0`.
    pub link: String,
    /// Name of the host's end of the cable, where there is one.
    #[serde(default)]
    pub host_link: String,
    /// Address on the wire.
    pub mac: [u8; 6],
    /// Addresses, each with the length of its network's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where everything else is reached.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Who knows the containers of this network by name; nobody on the default network, and where the host has no address.
    #[serde(default)]
    pub names: Option<IpAddr>,
    /// Who asks the host's resolvers for it where they listen on loopback, out of its reach, and it has no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<IpAddr>,
    /// Further names on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
}

impl Attachment {
    /// The `number`th link of a container with these addresses. Names and hardware address follow from the container's ID.
    pub fn new(
        network: &Network,
        container: &str,
        number: usize,
        addresses: Vec<(IpAddr, u8)>,
    ) -> Attachment {
        let internal = network.internal;
        let gateways = network.subnets.iter().filter_map(|subnet| subnet.gateway);
        // A link's name has 15 bytes: 10 digits of the ID are enough, since a clash is an error and no more.
        let short: String = container.chars().take(10).collect();
        Attachment {
            network: network.name.clone(),
            network_id: network.id.clone(),
            link: format!("eth{number}"),
            host_link: match network.driver {
                Driver::Bridge => {
                    format!("rcr{short}{}", char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)))
                }
                Driver::Macvlan | Driver::Ipvlan => String::new(),
            },
            mac: wire_address(&addresses).unwrap_or_else(|| mac(&format!("{container}{number}"))),
            addresses,
            gateways: if internal { Vec::new() } else { gateways.collect() },
            names: network.name_server(),
            resolver: None,
            aliases: Vec::new(),
        }
    }
}

/// Follows from the IPv4 address, so that whoever has talked to its last owner does not send packets to the wrong place
/// until it forgets.
fn wire_address(addresses: &[(IpAddr, u8)]) -> Option<[u8; 6]> {
    addresses.iter().find_map(|(ip, _)| match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            Some([0x02, 0x72, a, b, c, d])
        }
        IpAddr::V6(_) => None,
    })
}

/// What a container wants of one of its networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Everything else is reached through this network.
    pub default_route: bool,
    /// It publishes ports, and shall reach them itself by the host's address. Where bridges hand packets to the rules
    /// (br_netfilter), that needs a port that sends back what came from it.
    pub hairpin: bool,
}

/// Joins the network namespace `there` to a network: makes the link and gives it addresses and routes. For a bridge
/// network the bridge is up already.
///
/// # Errors
/// The kernel's. What was made of the link is removed.
pub fn connect(
    netlink: &Netlink,
    network: &Network,
    attachment: &Attachment,
    there: BorrowedFd<'_>,
    wishes: Wishes,
) -> Result<(), Error> {
    let parent = netlink
        .link(&network.link)
        .map_err(Error::link(format!("find link {} of network {}", network.link, network.name)))?;
    let inner = End {
        name: &attachment.link,
        mac: Some(attachment.mac),
        mtu: network.mtu,
        namespace: Some(there.as_raw_fd()),
        ..End::default()
    };
    let made = match network.driver {
        Driver::Bridge => {
            let outer = End {
                name: &attachment.host_link,
                mtu: network.mtu,
                master: Some(parent.index),
                up: true,
                ..End::default()
            };
            netlink.add_link(&outer, Kind::Veth { peer: inner })
        }
        Driver::Macvlan => netlink.add_link(&inner, Kind::Macvlan(parent.index)),
        // Its address on the wire is its parent's.
        Driver::Ipvlan => netlink.add_link(&End { mac: None, ..inner }, Kind::Ipvlan(parent.index)),
    };
    made.map_err(Error::link(format!(
        "make link {} of the container on network {}",
        attachment.link, network.name
    )))?;
    let inside = Netlink::open_in(there).map_err(Error::link("enter the container's network namespace"))?;
    let configured = configure(&inside, attachment, wishes.default_route)
        .and_then(|()| settle(netlink, &inside, attachment, wishes.hairpin));
    if configured.is_err()
        && let Ok(link) = inside.link(&attachment.link)
    {
        // The other end goes with it; the first error is what is told.
        let _ = inside.delete_link(link.index);
    }
    configured
}

fn configure(inside: &Netlink, attachment: &Attachment, default_route: bool) -> Result<(), Error> {
    let Attachment { link: name, addresses, .. } = attachment;
    let fail = |what: String| Error::link(format!("{what} in the container"));
    let link = inside.link(name).map_err(fail(format!("find link {name}")))?;
    for (ip, prefix) in addresses {
        match inside.give(link.index, *ip, *prefix) {
            // IPv6 is switched off there.
            Err(e) if ip.is_ipv6() && e.raw_os_error() == Some(nix::libc::EACCES) => {}
            other => other.map_err(fail(format!("give link {name} the address {ip}/{prefix}")))?,
        }
    }
    inside.set_up(link.index, true).map_err(fail(format!("switch on link {name}")))?;
    if default_route { route_out(inside, link.index, attachment) } else { Ok(()) }
}

fn route_out(inside: &Netlink, link: u32, attachment: &Attachment) -> Result<(), Error> {
    for gateway in &attachment.gateways {
        // An address of the gateway's family is what makes it reachable.
        if !attachment.addresses.iter().any(|(ip, _)| ip.is_ipv4() == gateway.is_ipv4()) {
            continue;
        }
        let route = Route { to: None, gateway: Some(*gateway), link: Some(link) };
        match inside.add_route(route) {
            // The container has one already.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) if gateway.is_ipv6() && e.raw_os_error() == Some(nix::libc::EACCES) => {}
            other => {
                let what = format!("add the default route through {gateway} in the container");
                other.map_err(Error::link(what))?;
            }
        }
    }
    Ok(())
}

/// The kernel notices a moment later that a cable has been plugged in, and until then both ends and the bridge drop what is
/// sent; the first packet would be sent again after a second. Whoever asks for a link's state has it noticed (since Linux
/// 6.2).
fn settle(netlink: &Netlink, inside: &Netlink, attachment: &Attachment, hairpin: bool) -> Result<(), Error> {
    let Attachment { link, host_link, .. } = attachment;
    let fail = |what: &str, name: &str| Error::link(format!("{what} link {name}"));
    inside.link(link).map_err(fail("read the state of", link))?;
    if !host_link.is_empty() {
        let port = netlink.link(host_link).map_err(fail("read the state of", host_link))?;
        if hairpin {
            netlink.set_hairpin(port.index).map_err(fail("allow hairpins at", host_link))?;
        }
    }
    Ok(())
}

/// Takes a container off a network: removes the link, as far as it is there. `there` is the container's network namespace,
/// if it still has one.
///
/// # Errors
/// The kernel's.
pub fn disconnect(
    netlink: &Netlink,
    attachment: &Attachment,
    there: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    if !attachment.host_link.is_empty() {
        // The other end goes with it.
        return crate::remove_link(netlink, &attachment.host_link);
    }
    let Some(there) = there else { return Ok(()) };
    let inside = Netlink::open_in(there).map_err(Error::link("enter the container's network namespace"))?;
    match inside.link(&attachment.link) {
        Err(e) if e.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
        Err(e) => Err(Error::link(format!("find link {}", attachment.link))(e)),
        Ok(link) => {
            inside.delete_link(link.index).map_err(Error::link(format!("remove link {}", attachment.link)))
        }
    }
}

/// Leads everything else out through this network, if nothing does.
///
/// # Errors
/// The kernel's.
pub fn lead_out(attachment: &Attachment, there: BorrowedFd<'_>) -> Result<(), Error> {
    let inside = Netlink::open_in(there).map_err(Error::link("enter the container's network namespace"))?;
    let link =
        inside.link(&attachment.link).map_err(Error::link(format!("find link {}", attachment.link)))?;
    route_out(&inside, link.index, attachment)
}

/// Makes the container's cable a port of the network's bridge, as it was before somebody removed the bridge.
///
/// # Errors
/// The kernel's. A container that is just ending has no cable any more, which is none.
pub fn plug_in_again(netlink: &Netlink, network: &Network, attachment: &Attachment) -> Result<(), Error> {
    if attachment.host_link.is_empty() {
        return Ok(());
    }
    let (Ok(bridge), Ok(port)) = (netlink.link(&network.link), netlink.link(&attachment.host_link)) else {
        return Ok(());
    };
    if port.master == Some(bridge.index) {
        return Ok(());
    }
    let what = format!("plug {} into bridge {}", attachment.host_link, network.link);
    netlink.set_master(port.index, bridge.index).map_err(Error::link(what))
}
