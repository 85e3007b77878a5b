//! The networks of one container: its addresses, its links, its ports; taken before it starts, given back after its end.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use network::{
    Attachment, Exposed, Held, Hostname, Mode, Network, Networks, PortRequest, Published, Table, Wishes,
};
use store::Image;
use sys::rtnetlink::Netlink;

use crate::joined;
use crate::options::RunOptions;
use crate::record::Record;
use crate::{Engine, Error, host, list, name, name_server, plugins};

pub(crate) use crate::joined::{Joined, read};

/// A container's networks on their way: addresses are taken, nothing is connected yet.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    networks: Vec<Network>,
    pub(crate) joined: Joined,
    held: Vec<Held>,
    /// The container whose network it shares.
    pub(crate) shared: Option<Shared>,
    /// The namespace that CNI plugins have connected.
    plugged: Option<PathBuf>,
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
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.namespace.as_raw_fd()))
    }
}

/// What `-p` asks for, and with `-P` what the image and `--expose` name.
fn ports_to_publish(options: &RunOptions, image: &Image) -> Vec<PortRequest> {
    let mut ports = options.ports.clone();
    if options.publish_all {
        ports.extend(PortRequest::for_exposed(&named_ports(options, image), &options.ports));
    }
    ports
}

/// Ports that the image and `--expose` name. What an image names and is no port is left out.
fn named_ports(options: &RunOptions, image: &Image) -> Vec<Exposed> {
    let config = image.config.config().as_ref();
    let named = config.and_then(|config| config.exposed_ports().as_ref()).into_iter().flatten();
    let of_image = named.filter_map(|text| text.parse::<Exposed>().ok());
    options.expose.iter().copied().chain(of_image).collect()
}

/// Ports of the container that others are told of: those named, and those that are published, as docker has it.
pub(crate) fn exposed_ports(options: &RunOptions, image: &Image) -> Vec<Exposed> {
    let published = options.ports.iter();
    let published = published.map(|port| Exposed { ports: port.container_ports, protocol: port.protocol });
    let mut all: Vec<Exposed> = named_ports(options, image).into_iter().chain(published).collect();
    all.sort_by_key(|exposed| (exposed.ports, exposed.protocol));
    all.dedup();
    all
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
        if let Mode::Cni(joins) = &options.network {
            let held = network::hold(&ports).map_err(|e| port_in_use(engine, e))?;
            return plugins::plug_in(engine, id, dir, joins, held);
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
        let prepared = connection.take(engine, &netlink, id, dir, options, &ports);
        if prepared.is_err() {
            connection.give_back_addresses(&all, id);
        }
        prepared.map(|()| connection)
    }

    /// As plugins have made it.
    pub(crate) fn plugged(joined: Joined, held: Vec<Held>, namespace: PathBuf) -> Connection {
        Connection { joined, held, plugged: Some(namespace), ..Connection::default() }
    }

    /// The network namespace that is there already.
    pub(crate) fn namespace(&self) -> Option<PathBuf> {
        self.shared.as_ref().map(Shared::path).or_else(|| self.plugged.clone())
    }

    /// Holds the ports of a running container again, after the death of who held them. Where somebody else was quicker the
    /// container keeps what rules pass on to it, and the user is told.
    pub(crate) fn take_over(engine: &Engine, record: &Record) -> Connection {
        let joined = read(&engine.container(&record.id)).unwrap_or_default();
        let again = |port: &Published| {
            let host_ports = Some((port.host_port, port.host_port));
            let container_ports = (port.container_port, port.container_port);
            let request =
                PortRequest { host_ip: port.host_ip, host_ports, container_ports, protocol: port.protocol };
            network::hold(&[request]).unwrap_or_else(|error| {
                tracing::warn!(
                    "container {}: after the death of its monitor its port {port} cannot be held again: {}; the container \
                     is still reached there, and who else listens is not, until it stops",
                    record.name,
                    crate::in_full(&Error::from(error)),
                );
                Vec::new()
            })
        };
        let held = joined.ports.iter().flat_map(again).collect();
        Connection { joined, held, ..Connection::default() }
    }

    fn take(
        &mut self,
        engine: &Engine,
        netlink: &Netlink,
        id: &str,
        dir: &Path,
        options: &RunOptions,
        ports: &[PortRequest],
    ) -> Result<(), Error> {
        for (number, join) in options.network.joins().iter().enumerate() {
            let network = find(engine, netlink, &join.network)?;
            // In reach of give_back_addresses before the first address is taken.
            self.networks.push(network.clone());
            self.joined.attachments.push(joined::take(engine, netlink, &network, id, number, join)?);
        }
        for (network, attachment) in self.networks.iter().zip(&mut self.joined.attachments) {
            name_server::ensure(engine, network)?;
            name_server::stand_in(engine, network, attachment, options);
        }
        self.joined.servers.clone_from(&options.dns.servers);
        self.held = network::hold(ports).map_err(|e| port_in_use(engine, e))?;
        self.joined.ports = self.held.iter().map(|held| held.port).collect();
        self.joined.write(dir)
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
        if !self.joined.ports.is_empty() {
            let table = Table::open(&engine.networks().table()).map_err(network::Error::from)?;
            let addresses = self.joined.published_at();
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
    joined: &Joined,
) -> Result<(String, String), Error> {
    let (mode, attachments) = (&options.network, joined.everywhere());
    let hosts = network::hosts(mode, hostname, &attachments, &host::etc("hosts"), &options.extra_hosts);
    // Of several networks the first has the last word.
    let plugged = joined.plugged.iter().rev();
    let servers = plugged.fold(host::resolv_conf(mode), |text, plugged| plugged.resolv_conf(text));
    let resolv_conf = network::resolv_conf(mode, &servers, &attachments, &options.dns);
    Ok((hosts.map_err(Error::Invalid)?, resolv_conf))
}

/// The contents of `/etc/resolv.conf`.
pub(crate) fn resolv_conf(options: &RunOptions, attachments: &[Attachment]) -> String {
    let mode = &options.network;
    network::resolv_conf(mode, &host::resolv_conf(mode), attachments, &options.dns)
}

/// Gives back what a container that has ended had.
pub(crate) fn end(engine: &Engine, id: &str, dir: &Path) -> Result<(), Error> {
    joined::end(engine, id, dir, false)
}

/// A network by name or ID; the default one is made at first use.
pub(crate) fn find(engine: &Engine, netlink: &Netlink, wanted: &str) -> Result<Network, Error> {
    let all = engine.networks();
    match wanted {
        network::DEFAULT => Ok(all.default_network(netlink)?),
        other => Ok(all.find(other)?),
    }
}

pub(crate) fn open_netlink() -> Result<Netlink, Error> {
    Netlink::open().map_err(Error::io("open a netlink socket"))
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
