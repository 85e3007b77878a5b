//! What a container has of its networks now: `network.json` in its directory, and who may change it and the record.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use network::{Attachment, Join, Network, Networks, Plugged, Published, Table};
use serde::{Deserialize, Serialize};
use sys::rtnetlink::Netlink;

use crate::lock::{Kind, Lock};
use crate::{Engine, Error, in_full, name, place, plugins, record};

/// Name of the file that holds a [`Joined`].
const FILE: &str = "network.json";
/// How long another process may be at a container's networks or name.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a container has of its networks while it runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// One for each network, in the order of the flags.
    pub(crate) attachments: Vec<Attachment>,
    /// One that is just being made or removed: nothing of it stays if whoever is at it gets killed, in the record neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passing: Option<Attachment>,
    /// Ports of the host that are passed on to it.
    pub(crate) ports: Vec<Published>,
    /// Instead of the attachments: its part in networks that CNI plugins make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) plugged: Vec<Plugged>,
    /// Who is asked for names that are no container's, instead of the host's resolvers.
    #[serde(default)]
    pub(crate) servers: Vec<IpAddr>,
}

impl Joined {
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let json =
            serde_json::to_vec(self).map_err(|source| Error::Damaged { path: path.clone(), source })?;
        place::write_whole(&path, &json)
    }

    /// What it has of all networks, whoever made them.
    pub(crate) fn everywhere(&self) -> Vec<Attachment> {
        self.attachments.iter().cloned().chain(self.plugged.iter().map(Plugged::attachment)).collect()
    }

    /// The addresses that ports are passed on to: those on the first network.
    pub(crate) fn published_at(&self) -> Vec<IpAddr> {
        self.attachments
            .first()
            .map(|first| first.addresses.iter().map(|(ip, _)| *ip).collect())
            .unwrap_or_default()
    }
}

/// What a container has of its networks; `None` if it was never connected.
pub(crate) fn read(dir: &Path) -> Option<Joined> {
    serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
}

/// The right to change what container `id` has of its networks, and what its record says. If its holder is killed, the next
/// command finishes or takes back what was under way (`joining::recover`).
pub(crate) fn lock(engine: &Engine, id: &str) -> Result<Lock, Error> {
    let lock = Lock::wait_for(PATIENCE, || Lock::try_take(engine, &Kind::Record.of(id)))?;
    lock.ok_or_else(|| {
        let id = name::short(id);
        Error::Invalid(format!("another command is at the networks or the name of container {id}; try again"))
    })
}

/// The network namespace of a process, if it lives.
pub(crate) fn namespace(pid: i32) -> Option<std::fs::File> {
    std::fs::File::open(format!("/proc/{pid}/ns/net")).ok()
}

/// Gives back all addresses of a container on networks that are not among these.
pub(crate) fn give_back_but(engine: &Engine, id: &str, kept: &[Attachment]) -> Result<(), Error> {
    let all = engine.networks();
    for network in all.list()? {
        if !kept.iter().any(|attachment| attachment.network_id == network.id) {
            all.leases(&network).give_back_all(id)?;
        }
    }
    Ok(())
}

/// Takes addresses on a network for container `id`, and makes sure that the network is there on the host. On error
/// addresses may be taken.
pub(crate) fn take(
    engine: &Engine,
    netlink: &Netlink,
    network: &Network,
    id: &str,
    number: usize,
    join: &Join,
) -> Result<Attachment, Error> {
    let all = engine.networks();
    let leases = all.leases(network);
    // Looking at one's own lock would drop it.
    let lives = |other: &str| other == id || Lock::is_held(engine, other);
    let wished = || [join.ip.map(IpAddr::from), join.ip6.map(IpAddr::from)].into_iter().flatten();
    let mut addresses = Vec::new();
    for subnet in &network.subnets {
        let wanted = wished().find(|ip| ip.is_ipv4() == subnet.subnet.addr().is_ipv4());
        let address = leases.take(subnet, wanted, id, &lives).map_err(with_name(engine))?;
        addresses.push((address, subnet.subnet.prefix_len()));
    }
    if let Some(ip) = wished().find(|ip| !addresses.iter().any(|(other, _)| other == ip)) {
        return Err(Error::Invalid(format!("network {} has no subnet for address {ip}", network.name)));
    }
    let mut attachment = Attachment::new(network, id, number, addresses);
    attachment.aliases.clone_from(&join.aliases);
    attachment.mac = join.mac.unwrap_or(attachment.mac);
    let set_up = all.set_up(netlink, network).map_err(cannot_be_made(&network.name))?;
    if !set_up.switched.is_empty() {
        tracing::info!("switched on for network {}: {}", network.name, set_up.switched.join(", "));
    }
    if set_up.made {
        repair(engine, &all, netlink, id)?;
    }
    Ok(attachment)
}

/// Plugs the containers that live into their bridges again and passes their ports on again: somebody removed a bridge, or
/// flushed the rules. `id` is being started and has nothing yet.
fn repair(engine: &Engine, all: &Networks, netlink: &Netlink, id: &str) -> Result<(), Error> {
    let table = Table::open(&all.table()).map_err(network::Error::from)?;
    for other in name::ids(engine)?.into_iter().filter(|other| other != id) {
        let Some(joined) = read(&engine.container(&other)).filter(|_| Lock::is_held(engine, &other)) else {
            continue;
        };
        if joined.attachments.is_empty() {
            continue;
        }
        for attachment in &joined.attachments {
            if let Ok(network) = all.find(&attachment.network_id) {
                network::plug_in_again(netlink, &network, attachment)?;
            }
        }
        match table.publish(&joined.ports, &joined.published_at(), &other) {
            // They were never gone.
            Err(e) if e.raw_os_error() == Some(nix::libc::EEXIST) => {}
            done => done.map_err(network::Error::from)?,
        }
    }
    Ok(())
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
            let record = record::Record::read(&engine.container(&by)).ok().flatten();
            let by = record.map_or_else(|| name::short(&by).to_owned(), |record| record.name);
            network::Error::AddressInUse { address, network, by }.into()
        }
        other => other.into(),
    }
}

/// Gives back all that a container that has ended had: addresses and ports. Its links went with its namespace. `killed` is
/// whether it was killed at any moment, so that what is noted may not be all.
pub(crate) fn end(engine: &Engine, id: &str, dir: &Path, killed: bool) -> Result<(), Error> {
    let found = read(dir);
    if found.is_none() && !killed {
        return Ok(());
    }
    let lock = lock(engine, id)?;
    let joined = read(dir).unwrap_or_default();
    let all = engine.networks();
    let left = plugins::take_back(engine, id, &joined);
    if !joined.ports.is_empty() && joined.plugged.is_empty() {
        let table = Table::open(&all.table()).map_err(network::Error::from)?;
        table.unpublish(&|comment| comment == id).map_err(network::Error::from)?;
    }
    if killed {
        give_back_but(engine, id, &[])?;
    }
    for attachment in joined.attachments.iter().chain(&joined.passing) {
        // A network that is gone has no leases.
        if let Ok(network) = all.find(&attachment.network_id) {
            let leases = all.leases(&network);
            for (address, _) in &attachment.addresses {
                leases.give_back(*address, id)?;
            }
        }
    }
    match left {
        Ok(()) => place::remove_file(&dir.join(FILE))?,
        // The end of a container does not wait for a plugin.
        Err(error) => {
            tracing::warn!("container {} left something behind: {}", name::short(id), in_full(&error));
            Joined { plugged: joined.plugged, ..Joined::default() }.write(dir)?;
        }
    }
    lock.finish()
}
