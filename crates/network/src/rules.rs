//! rcr's own table of nftables: source NAT for what leaves a bridge, destination NAT for published ports, and who may
//! forward to whom. Nobody else's table is touched.
//!
//! ```text
//! table inet rcr
//!   map port4 / port6            protocol . port → address . port          published on every address
//!   map address4 / address6      address . protocol . port → address . port   on one
//!   chain guard        prerouting, raw: the host's loopback is not reached from a bridge (CVE-2020-8558)
//!   chain prerouting, output     to a local address → ports
//!   chain ports                  looks up the maps
//!   chain postrouting            masquerade: out of a subnet, hairpin, from loopback
//!   chain forward                internal networks; unpublished ports
//! ```
//! A published port is an element, so that one more container costs the same whether ten run or a thousand.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::nft::{Batch, Chain, Element, Expression as E, Family, Field, Hook, Map, Nftables, Op, Verdict};
use crate::nft::{NftError, REGISTER};
use crate::port::Published;

const FAMILY: Family = Family::Inet;

const GUARD: Chain = Chain { name: "guard", base: Some(("filter", Hook::Prerouting, -300)) };
const PREROUTING: Chain = Chain { name: "prerouting", base: Some(("nat", Hook::Prerouting, -100)) };
const OUTPUT: Chain = Chain { name: "output", base: Some(("nat", Hook::Output, -100)) };
const PORTS: Chain = Chain { name: "ports", base: None };
const POSTROUTING: Chain = Chain { name: "postrouting", base: Some(("nat", Hook::Postrouting, 100)) };
const FORWARD: Chain = Chain { name: "forward", base: Some(("filter", Hook::Forward, 0)) };
const CHAINS: [Chain; 6] = [GUARD, PREROUTING, OUTPUT, PORTS, POSTROUTING, FORWARD];

const PORT4: Map =
    Map { name: "port4", key: &[Field::Protocol, Field::Port], data: &[Field::Ip4Destination, Field::Port] };
const PORT6: Map =
    Map { name: "port6", key: &[Field::Protocol, Field::Port], data: &[Field::Ip6Destination, Field::Port] };
const ADDRESS4: Map = Map {
    name: "address4",
    key: &[Field::Ip4Destination, Field::Protocol, Field::Port],
    data: &[Field::Ip4Destination, Field::Port],
};
const ADDRESS6: Map = Map {
    name: "address6",
    key: &[Field::Ip6Destination, Field::Protocol, Field::Port],
    data: &[Field::Ip6Destination, Field::Port],
};
const MAPS: [Map; 4] = [PORT4, PORT6, ADDRESS4, ADDRESS6];

/// RTN_LOCAL of linux/rtnetlink.h.
const LOCAL: u32 = 2;
/// NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
const ESTABLISHED_OR_RELATED: u32 = 0b110;
/// IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const DESTINATION_NAT: u32 = 1 << 5;

/// A bridge network, as far as the rules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridged {
    /// Name of the bridge.
    pub link: String,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// Nothing beyond is reached from it.
    pub internal: bool,
}

/// The table of one store.
#[derive(Debug)]
pub struct Table {
    nft: Nftables,
    name: String,
}

impl Table {
    /// The table of this name in this thread's network namespace; nothing is touched.
    ///
    /// # Errors
    /// The kernel has no nftables.
    pub fn open(name: &str) -> Result<Table, NftError> {
        Ok(Table { nft: Nftables::open()?, name: name.to_owned() })
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn exists(&self) -> Result<bool, NftError> {
        Ok(self.nft.chains(FAMILY)?.iter().any(|chain| chain.table == self.name))
    }

    /// Makes it what it should be for these networks, in one step. Published ports stay.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&self, networks: &[Bridged]) -> Result<(), NftError> {
        let mut batch = Batch::default();
        let table = self.name.as_str();
        batch.add_table(FAMILY, table);
        for map in &MAPS {
            batch.add_map(FAMILY, table, map);
        }
        for chain in &CHAINS {
            batch.add_chain(FAMILY, table, chain);
        }
        for chain in &CHAINS {
            batch.flush_chain(FAMILY, table, chain.name);
        }
        for (chain, rule) in rules(networks) {
            batch.add_rule(FAMILY, (table, chain), false, &rule, "");
        }
        self.nft.commit(&batch)
    }

    /// Removes it with all that is in it; it may be gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self) -> Result<(), NftError> {
        let mut batch = Batch::default();
        // Adding it first makes removal of nothing a success, and is undone by it.
        batch.add_table(FAMILY, &self.name);
        batch.delete_table(FAMILY, &self.name);
        self.nft.commit(&batch)
    }

    /// Passes ports of the host on to a container with these addresses.
    ///
    /// # Errors
    /// EEXIST: one is passed on to another already; ENOENT: the table is gone.
    pub fn publish(&self, ports: &[Published], addresses: &[IpAddr], comment: &str) -> Result<(), NftError> {
        let mut batch = Batch::default();
        for (map, elements) in elements(ports, addresses, comment) {
            batch.add_elements(FAMILY, &self.name, map, &elements);
        }
        self.nft.commit(&batch)
    }

    /// Takes back what [`Table::publish`] did under a comment for which `gone` says yes; tells how many ports.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unpublish(&self, gone: &dyn Fn(&str) -> bool) -> Result<usize, NftError> {
        let mut count = 0;
        for map in &MAPS {
            let mut found = self.nft.elements(FAMILY, &self.name, map.name)?;
            found.retain(|element| gone(&element.comment));
            if found.is_empty() {
                continue;
            }
            count += found.len();
            // One that another process deletes at the same time must not keep the others.
            for element in found {
                let mut batch = Batch::default();
                batch.delete_elements(FAMILY, &self.name, map.name, &[element]);
                match self.nft.commit(&batch) {
                    Err(e) if e.raw_os_error() == Some(nix::libc::ENOENT) => {}
                    other => other?,
                }
            }
        }
        Ok(count)
    }

    /// Under which comments ports are published.
    ///
    /// # Errors
    /// The kernel's.
    pub fn published(&self) -> Result<Vec<String>, NftError> {
        let mut all = Vec::new();
        for map in &MAPS {
            all.extend(self.nft.elements(FAMILY, &self.name, map.name)?.into_iter().map(|e| e.comment));
        }
        Ok(all)
    }
}

/// The rules of every chain, in order.
fn rules(networks: &[Bridged]) -> Vec<(&'static str, Vec<E>)> {
    let mut all = Vec::new();
    for chain in [PREROUTING.name, OUTPUT.name] {
        let mut rule = E::field(Field::DestinationType, Op::Equal, &LOCAL.to_ne_bytes()).to_vec();
        rule.push(E::Verdict(Verdict::Jump(PORTS.name)));
        all.push((chain, rule));
    }
    for (family, one, every, address, room) in [
        (Family::Ip, ADDRESS4, PORT4, Field::Ip4Destination, 1),
        (Family::Ip6, ADDRESS6, PORT6, Field::Ip6Destination, 4),
    ] {
        for (map, keyed_by_address) in [(one, true), (every, false)] {
            let mut rule = E::protocol(family).to_vec();
            let mut register = REGISTER;
            if keyed_by_address {
                rule.push(E::Load(address, register));
                register += room;
            }
            rule.extend([
                E::Load(Field::Protocol, register),
                E::Load(Field::Port, register + 1),
                E::LookUp(map.name, REGISTER, REGISTER),
                E::DestinationNat(family, REGISTER, REGISTER + room),
            ]);
            all.push((PORTS.name, rule));
        }
    }
    let loopback: IpNet = IpNet::new_assert([127, 0, 0, 0].into(), 8);
    for Bridged { link, subnets, internal } in networks {
        let from = || E::link(Field::InputName, Op::Equal, link).to_vec();
        let not_from = || E::link(Field::InputName, Op::NotEqual, link).to_vec();
        let to = || E::link(Field::OutputName, Op::Equal, link).to_vec();
        let not_to = || E::link(Field::OutputName, Op::NotEqual, link).to_vec();
        let mut add = |chain: Chain, parts: Vec<Vec<E>>, end: E| {
            let mut rule = parts.concat();
            rule.extend([E::Counter, end]);
            all.push((chain.name, rule));
        };
        let (accept, drop) = (E::Verdict(Verdict::Accept), E::Verdict(Verdict::Drop));
        add(GUARD, vec![from(), E::within(loopback, false)], drop.clone());
        for subnet in subnets {
            if !internal {
                add(POSTROUTING, vec![E::within(*subnet, true), not_to()], E::Masquerade);
            }
            // Back to the network that it came from, by way of a published port: the answer must come back this way too.
            let status = E::any_bit(Field::ConnectionStatus, DESTINATION_NAT).to_vec();
            add(POSTROUTING, vec![E::within(*subnet, true), to(), status], E::Masquerade);
        }
        add(POSTROUTING, vec![to(), E::within(loopback, true)], E::Masquerade);
        if *internal {
            add(FORWARD, vec![from(), not_to()], drop.clone());
            add(FORWARD, vec![not_from(), to()], drop);
        } else {
            add(FORWARD, vec![to(), from()], accept.clone());
            for (field, bits) in
                [(Field::ConnectionState, ESTABLISHED_OR_RELATED), (Field::ConnectionStatus, DESTINATION_NAT)]
            {
                add(FORWARD, vec![to(), E::any_bit(field, bits).to_vec()], accept.clone());
            }
            // What was not published is not reached from elsewhere, though there is a route to it.
            add(FORWARD, vec![to()], drop);
        }
    }
    all
}

/// The elements for published ports, by map.
fn elements(ports: &[Published], addresses: &[IpAddr], comment: &str) -> Vec<(&'static str, Vec<Element>)> {
    let mut all: Vec<(&'static str, Vec<Element>)> = Vec::new();
    for port in ports {
        for address in addresses {
            let map = match (port.host_ip, address) {
                (None, IpAddr::V4(_)) => PORT4,
                (None, IpAddr::V6(_)) => PORT6,
                (Some(IpAddr::V4(ip)), IpAddr::V4(_)) if ip.is_unspecified() => PORT4,
                (Some(IpAddr::V6(ip)), IpAddr::V6(_)) if ip.is_unspecified() => PORT6,
                (Some(IpAddr::V4(_)), IpAddr::V4(_)) => ADDRESS4,
                (Some(IpAddr::V6(_)), IpAddr::V6(_)) => ADDRESS6,
                _ => continue,
            };
            let mut key = Vec::new();
            if let Some(ip) = port.host_ip.filter(|ip| !ip.is_unspecified()) {
                key.extend(bytes(ip));
            }
            key.extend([port.protocol.number(), 0, 0, 0]);
            key.extend(padded(port.host_port));
            let data = [bytes(*address), padded(port.container_port)].concat();
            let element = Element { key, data, comment: comment.to_owned() };
            match all.iter_mut().find(|(name, _)| *name == map.name) {
                Some((_, list)) => list.push(element),
                None => all.push((map.name, vec![element])),
            }
        }
    }
    all
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A port as a register holds it.
fn padded(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}
