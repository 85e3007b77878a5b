//! The networks of one container: its addresses, its links, its ports; taken before it starts, given back after its end.

use std::fs::File;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use network::{Attachment, Held, Join, Mode, Network, Networks, PortRequest, Published, Table, Wishes};
use serde::{Deserialize, Serialize};
use sys::rtnetlink::Netlink;

use crate::lock::Lock;
use crate::options::RunOptions;
use crate::{Engine, Error, list, name, place};

/// Name of the file that holds a [`Joined`].
const FILE: &str = "network.json";

/// What a container has of its networks while it runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// One for each network, in the order of the flags.
    pub(crate) attachments: Vec<Attachment>,
    /// Ports of the host that are passed on to it.
    pub(crate) ports: Vec<Published>,
}

/// A container's networks on their way: addresses are taken, nothing is connected yet.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    networks: Vec<Network>,
    pub(crate) joined: Joined,
    held: Vec<Held>,
}

impl Connection {
    /// Takes addresses and ports of the host for container `id`, as its options ask, and notes them in its directory.
    pub(crate) fn prepare(
        engine: &Engine,
        id: &str,
        dir: &Path,
        options: &RunOptions,
    ) -> Result<Connection, Error> {
        let joins = options.network.joins();
        if joins.is_empty() {
            return match (&options.network, options.ports.is_empty()) {
                (_, true) => Ok(Connection::default()),
                // docker's rule: they are reached anyway.
                (Mode::Host, false) => {
                    tracing::warn!("published ports are discarded when using host network mode");
                    Ok(Connection::default())
                }
                _ => Err(Error::Invalid(
                    "a port can only be published on a network: leave out --network none".to_owned(),
                )),
            };
        }
        let (all, netlink) = (engine.networks(), open_netlink()?);
        let mut connection = Connection::default();
        let prepared = connection.take(engine, &all, &netlink, id, dir, joins, options);
        if prepared.is_err() {
            connection.give_back_addresses(&all, id);
        }
        prepared.map(|()| connection)
    }

    /// Holds the ports of a running container again, after the death of who held them. Where somebody else was quicker the
    /// container keeps what rules pass on to it.
    pub(crate) fn take_over(engine: &Engine, id: &str) -> Connection {
        let joined = read(&engine.container(id)).unwrap_or_default();
        let again = |port: &Published| {
            let host_ports = Some((port.host_port, port.host_port));
            let container_ports = (port.container_port, port.container_port);
            let request =
                PortRequest { host_ip: port.host_ip, host_ports, container_ports, protocol: port.protocol };
            network::hold(&[request]).unwrap_or_default()
        };
        let held = joined.ports.iter().flat_map(again).collect();
        Connection { joined, held, ..Connection::default() }
    }

    #[allow(clippy::too_many_arguments)] // one call, only apart for the clean-up after it
    fn take(
        &mut self,
        engine: &Engine,
        all: &Networks,
        netlink: &Netlink,
        id: &str,
        dir: &Path,
        joins: &[Join],
        options: &RunOptions,
    ) -> Result<(), Error> {
        for (number, join) in joins.iter().enumerate() {
            let network = match join.network.as_str() {
                network::DEFAULT => all.default_network(netlink)?,
                other => all.find(other)?,
            };
            let leases = all.leases(&network);
            // Looking at one's own lock would drop it.
            let lives = |other: &str| other == id || Lock::is_held(engine, other);
            let wished = [join.ip.map(IpAddr::from), join.ip6.map(IpAddr::from)];
            let mut addresses = Vec::new();
            // In reach of give_back_addresses before the first address is taken.
            self.networks.push(network.clone());
            for subnet in &network.subnets {
                let wanted =
                    wished.into_iter().flatten().find(|ip| ip.is_ipv4() == subnet.subnet.addr().is_ipv4());
                let address = leases.take(subnet, wanted, id, &lives).map_err(with_name(engine))?;
                addresses.push((address, subnet.subnet.prefix_len()));
            }
            if let Some(ip) =
                wished.into_iter().flatten().find(|ip| !addresses.iter().any(|(other, _)| other == ip))
            {
                return Err(Error::Invalid(format!(
                    "network {} has no subnet for address {ip}",
                    network.name
                )));
            }
            let mut attachment = Attachment::new(&network, id, number, addresses);
            attachment.aliases.clone_from(&join.aliases);
            attachment.mac = join.mac.unwrap_or(attachment.mac);
            self.joined.attachments.push(attachment);
            let switched = all.set_up(netlink, &network).map_err(cannot_be_made(&network.name))?;
            if !switched.is_empty() {
                tracing::info!("switched on for network {}: {}", network.name, switched.join(", "));
            }
        }
        self.held = network::hold(&options.ports).map_err(|e| port_in_use(engine, e))?;
        self.joined.ports = self.held.iter().map(|held| held.port).collect();
        let json = serde_json::to_vec(&self.joined)
            .map_err(|source| Error::Damaged { path: dir.join(FILE), source })?;
        place::write_whole(&dir.join(FILE), &json)
    }

    /// The sockets that hold the host's ports.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.held.iter().flat_map(|held| &held.sockets).map(AsFd::as_fd)
    }

    /// Whether there is something to connect.
    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Connects the network namespace of process `pid`, and passes the ports on.
    pub(crate) fn connect(&self, engine: &Engine, id: &str, pid: i32) -> Result<(), Error> {
        let netlink = open_netlink()?;
        let path = format!("/proc/{pid}/ns/net");
        let there = File::open(&path).map_err(Error::io(format!("open {path:?}")))?;
        for (number, (network, attachment)) in self.networks.iter().zip(&self.joined.attachments).enumerate()
        {
            let wishes = Wishes { default_route: number == 0, hairpin: !self.joined.ports.is_empty() };
            network::connect(&netlink, network, attachment, there.as_fd(), wishes)?;
        }
        if !self.joined.ports.is_empty()
            && let Some(first) = self.joined.attachments.first()
        {
            let addresses: Vec<IpAddr> = first.addresses.iter().map(|(ip, _)| *ip).collect();
            let table = Table::open(&engine.networks().table()).map_err(network::Error::from)?;
            table.publish(&self.joined.ports, &addresses, id).map_err(network::Error::from)?;
        }
        Ok(())
    }

    fn give_back_addresses(&self, all: &Networks, id: &str) {
        for network in &self.networks {
            // The first error is the one to tell; a stale lease is replaced by whoever wants it.
            let _ = all.leases(network).give_back_all(id);
        }
    }
}

/// What a container has of its networks; `None` if it was never connected.
pub(crate) fn read(dir: &Path) -> Option<Joined> {
    serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
}

/// Gives back what a container that has ended had: addresses and ports. Its links went with its namespace.
pub(crate) fn end(engine: &Engine, id: &str, dir: &Path) -> Result<(), Error> {
    let path = dir.join(FILE);
    let Some(joined) = read(dir) else { return Ok(()) };
    let all = engine.networks();
    if !joined.ports.is_empty() {
        let table = Table::open(&all.table()).map_err(network::Error::from)?;
        table.unpublish(&|comment| comment == id).map_err(network::Error::from)?;
    }
    for attachment in &joined.attachments {
        // A network that is gone has no leases.
        if let Ok(network) = all.find(&attachment.network_id) {
            let leases = all.leases(&network);
            for (address, _) in &attachment.addresses {
                leases.give_back(*address, id)?;
            }
        }
    }
    place::remove_file(&path)
}

pub(crate) fn open_netlink() -> Result<Netlink, Error> {
    Netlink::open().map_err(Error::io("open a netlink socket"))
}

/// What the kernel refused to make, or what the caller may not make, can be done without.
fn cannot_be_made(network: &str) -> impl Fn(network::Error) -> Error + '_ {
    move |source| match source {
        network::Error::Link { .. } | network::Error::Io { .. } | network::Error::Nftables(_) => {
            Error::NoNetwork { network: network.to_owned(), source }
        }
        other => other.into(),
    }
}

/// Shows a container by its name where the network knows its ID only.
fn with_name(engine: &Engine) -> impl Fn(network::Error) -> Error + '_ {
    |error| match error {
        network::Error::AddressInUse { address, network, by } => {
            let record = crate::record::Record::read(&engine.container(&by)).ok().flatten();
            let by = record.map_or_else(|| name::short(&by).to_owned(), |record| record.name);
            network::Error::AddressInUse { address, network, by }.into()
        }
        other => other.into(),
    }
}

/// Finds out who has the port: a container of ours, if it is one.
fn port_in_use(engine: &Engine, error: network::Error) -> Error {
    let network::Error::Io { what, source } = &error else { return error.into() };
    if source.kind() != ErrorKind::AddrInUse {
        return error.into();
    }
    let port = what.trim_start_matches("publish ").to_owned();
    let wanted = |published: &Published| {
        let SocketPort { port: number, protocol } = SocketPort::parse(&port);
        published.host_port == number && published.protocol.to_string() == protocol
    };
    let running = list::containers(engine).unwrap_or_default();
    let owner = running.into_iter().find(|container| container.ports.iter().any(wanted));
    let by = owner.map_or_else(String::new, |container| format!(" by container {}", container.name));
    Error::PortInUse { port, by }
}

/// `0.0.0.0:80/tcp` taken apart.
struct SocketPort<'a> {
    port: u16,
    protocol: &'a str,
}

impl SocketPort<'_> {
    fn parse(text: &str) -> SocketPort<'_> {
        let (address, protocol) = text.rsplit_once('/').unwrap_or((text, ""));
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
        SocketPort { port, protocol }
    }
}
