//! `network create`, `ls`, `inspect`, `rm`, `prune`.

use network::{Network, NewNetwork};

use crate::connection::{self, open_netlink};
use crate::leftover::enter;
use crate::{ContainerSummary, Engine, Error, ps};

/// A network and the running containers on it.
#[derive(Debug, Clone)]
pub struct NetworkUse {
    /// The network.
    pub network: Network,
    /// Each container with its addresses there.
    pub containers: Vec<(ContainerSummary, network::Attachment)>,
}

/// Describes a new network.
///
/// # Errors
/// A name or subnet that is taken, or cannot be.
pub fn create_network(engine: &Engine, new: NewNetwork) -> Result<Network, Error> {
    enter(engine)?;
    Ok(engine.networks().create(&open_netlink()?, new)?)
}

/// All networks, by name; the default one too, once something was on it.
///
/// # Errors
/// A description cannot be read.
pub fn networks(engine: &Engine) -> Result<Vec<Network>, Error> {
    enter(engine)?;
    Ok(engine.networks().list()?)
}

/// A network by name, ID or beginning of an ID, and who is on it.
///
/// # Errors
/// There is none.
pub fn inspect_network(engine: &Engine, wanted: &str) -> Result<NetworkUse, Error> {
    enter(engine)?;
    let network = engine.networks().find(wanted)?;
    Ok(NetworkUse { containers: users(engine, &network)?, network })
}

/// Removes a network, and tells its name.
///
/// # Errors
/// There is none; a running container is on it.
pub fn remove_network(engine: &Engine, wanted: &str) -> Result<String, Error> {
    let NetworkUse { network, containers } = inspect_network(engine, wanted)?;
    if let Some((container, _)) = containers.first() {
        let name = &network.name;
        return Err(Error::Invalid(format!(
            "network {name} is in use by container {}; stop it first",
            container.name
        )));
    }
    engine.networks().remove(&open_netlink()?, &network)?;
    Ok(network.name)
}

/// Removes every network that no container is on and that `wanted` holds for, and tells their names.
///
/// # Errors
/// The networks cannot be read or removed.
pub fn prune_networks(engine: &Engine, wanted: impl Fn(&Network) -> bool) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for network in networks(engine)?.into_iter().filter(wanted) {
        if users(engine, &network)?.is_empty() {
            engine.networks().remove(&open_netlink()?, &network)?;
            removed.push(network.name);
        }
    }
    Ok(removed)
}

fn users(engine: &Engine, network: &Network) -> Result<Vec<(ContainerSummary, network::Attachment)>, Error> {
    let mut users = Vec::new();
    for container in ps(engine, false)? {
        let joined = connection::read(&engine.container(&container.id)).unwrap_or_default();
        let on = joined.attachments.into_iter().find(|attachment| attachment.network_id == network.id);
        users.extend(on.map(|attachment| (container, attachment)));
    }
    Ok(users)
}

/// The ports of the host that are passed on to a running container.
///
/// # Errors
/// There is no such container.
pub fn ports(engine: &Engine, container: &str) -> Result<Vec<network::Published>, Error> {
    enter(engine)?;
    let id = crate::name::resolve(engine, container)?;
    Ok(connection::read(&engine.container(&id)).unwrap_or_default().ports)
}
