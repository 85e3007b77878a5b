//! The networks of one container: its addresses, its links, its ports; taken before it starts, given back after its end.

use std::fs::File;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use network::{
    Attachment, Exposed, Held, Hostname, Join, Mode, Network, Networks, PortRequest, Published, Table, Wishes,
};
use serde::{Deserialize, Serialize};
use store::Image;
use sys::rtnetlink::Netlink;

use crate::lock::Lock;
use crate::options::RunOptions;
use crate::{Engine, Error, host, list, name, names, place};

/// Name of the file that holds a [`Joined`].
const FILE: &str = "network.json";

/// What a container has of its networks while it runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// One for each network, in the order of the flags.
    pub(crate) attachments: Vec<Attachment>,
    /// Ports of the host that are passed on to it.
    pub(crate) ports: Vec<Published>,
    /// Who is asked for names that are no container's, instead of the host's resolvers.
    #[serde(default)]
    pub(crate) servers: Vec<IpAddr>,
}

/// A container's networks on their way: addresses are taken, nothing is connected yet.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    networks: Vec<Network>,
    pub(crate) joined: Joined,
    held: Vec<Held>,
    /// The container whose network it shares.
    pub(crate) shared: Option<Shared>,
}

/// A container's network that another one shares.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Open, so that it is this one whatever becomes of the process that it was found by.
    namespace: File,
    /// Where its `hosts`, `hostname` and `resolv.conf` are.
    pub(crate) dir: PathBuf,
}

impl Shared {
    fn open(engine: &Engine, container: &str) -> Result<Shared, Error> {
        let id = name::resolve(engine, container)?;
        let not_running = || {
            let name: String = container.chars().take(100).collect();
            Error::Invalid(format!("cannot join the network of container {name}: it does not run"))
        };
        let pid = list::life(engine, &id)?.pid.ok_or_else(not_running)?;
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(|_| not_running())?;
        // Whose number it was before it was opened.
        if list::life(engine, &id)?.pid != Some(pid) {
            return Err(not_running());
        }
        Ok(Shared { namespace, dir: engine.container(&id) })
    }

    /// A path by which this process, and no other one, finds the namespace.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.namespace.as_raw_fd()))
    }
}

/// What `-p` asks for, and with `-P` what the image and `--expose` name. What an image names and is no port is left out.
fn ports_to_publish(options: &RunOptions, image: &Image) -> Vec<PortRequest> {
    let mut ports = options.ports.clone();
    if options.publish_all {
        let mut exposed = options.expose.clone();
        let config = image.config.config().as_ref();
        let named = config.and_then(|config| config.exposed_ports().as_ref()).into_iter().flatten();
        exposed.extend(named.filter_map(|text| text.parse::<Exposed>().ok()));
        ports.extend(PortRequest::for_exposed(&exposed, &options.ports));
    }
    ports
}

impl Connection {
    /// Takes addresses and ports of the host for container `id`, as its options ask, and notes them in its directory.
    pub(crate) fn prepare(
        engine: &Engine,
        id: &str,
        dir: &Path,
        options: &RunOptions,
        image: &Image,
    ) -> Result<Connection, Error> {
        let ports = ports_to_publish(options, image);
        if let Mode::Container(other) = &options.network {
            return Ok(Connection { shared: Some(Shared::open(engine, other)?), ..Connection::default() });
        }
        let joins = options.network.joins();
        if joins.is_empty() {
            return match (&options.network, ports.is_empty()) {
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
        let prepared = connection.take(engine, &all, &netlink, id, dir, joins, options, &ports);
        if prepared.is_err() {
            connection.give_back_addresses(&all, id);
        }
        prepared.map(|()| connection)
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
        ports: &[PortRequest],
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
        for network in &self.networks {
            names::ensure(engine, network)?;
        }
        self.joined.servers.clone_from(&options.dns.servers);
        self.held = network::hold(ports).map_err(|e| port_in_use(engine, e))?;
        self.joined.ports = self.held.iter().map(|held| held.port).collect();
        let json = serde_json::to_vec(&self.joined)
            .map_err(|source| Error::Damaged { path: dir.join(FILE), source })?;
        place::write_whole(&dir.join(FILE), &json)
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

/// The contents of `/etc/hosts` and `/etc/resolv.conf` of a container on these networks.
pub(crate) fn files(
    options: &RunOptions,
    hostname: &Hostname,
    attachments: &[Attachment],
) -> Result<(String, String), Error> {
    let mode = &options.network;
    let hosts = network::hosts(mode, hostname, attachments, &host::etc("hosts"), &options.extra_hosts);
    let resolv_conf = network::resolv_conf(mode, &host::resolv_conf(mode), attachments, &options.dns);
    Ok((hosts.map_err(Error::Invalid)?, resolv_conf))
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
    let running = list::ps(engine, false).unwrap_or_default();
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
