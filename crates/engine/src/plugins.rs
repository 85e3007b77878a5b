//! A container's part in networks that CNI plugins make: connected before it starts, taken back after its end.
//!
//! All that is needed to take it back is noted before the first plugin is called, so that it can be done after whatever
//! killed rcr. What a plugin fails to take back stays noted, and is tried again before the next start and at `rm`.

use std::path::Path;

use network::{Held, Join, Plugged, PluginPlace, Published};

use crate::connection::Connection;
use crate::joined::{self, Joined};
use crate::{Engine, Error, in_full, name, place};

/// Has plugins connect a new network namespace for container `id`. On error what they made is noted.
pub(crate) fn plug_in(
    engine: &Engine,
    id: &str,
    dir: &Path,
    joins: &[Join],
    held: Vec<Held>,
) -> Result<Connection, Error> {
    // The specification wants what was before to be gone.
    if let Some(before) = joined::read(dir) {
        take_back(engine, id, &before)?;
    }
    let all = PluginPlace::usual(|name| std::env::var_os(name));
    let ports: Vec<Published> = held.iter().map(|held| held.port).collect();
    let publisher = publisher(&all, joins, &ports)?;
    let plug = |(number, join): (usize, &Join)| {
        let ports = if publisher == number { ports.as_slice() } else { &[] };
        Plugged::new(&all, id, number, join, ports)
    };
    let plugged = joins.iter().enumerate().map(plug).collect::<Result<_, _>>()?;
    let mut joined = Joined { plugged, ports: ports.clone(), ..Joined::default() };
    joined.write(dir)?;
    let namespace = engine.namespace(id);
    place::make_dir_all(&engine.runroot.join("netns"))?;
    network::make_namespace(&namespace)?;
    for plugged in &mut joined.plugged {
        plugged.plug_in(&namespace)?;
    }
    joined.write(dir)?;
    Ok(Connection::plugged(joined, held, namespace))
}

/// The network that passes ports on: the first that can; of those that cannot the first will say so.
fn publisher(all: &PluginPlace, joins: &[Join], ports: &[Published]) -> Result<usize, Error> {
    for (number, join) in joins.iter().enumerate().filter(|_| !ports.is_empty()) {
        if Plugged::publishes(all, &join.network)? {
            return Ok(number);
        }
    }
    Ok(0)
}

/// Has plugins take back all that they made for a container.
pub(crate) fn take_back(engine: &Engine, id: &str, joined: &Joined) -> Result<(), Error> {
    if joined.plugged.is_empty() {
        return Ok(());
    }
    let namespace = engine.namespace(id);
    let mut first = Ok(());
    for plugged in joined.plugged.iter().rev() {
        first = first.and(plugged.take_back(&namespace));
    }
    first?;
    Ok(network::remove_namespace(&namespace)?)
}

/// The container goes for good: what cannot be taken back now is told, and left to whoever reads that.
pub(crate) fn give_up(engine: &Engine, id: &str, dir: &Path) {
    let Some(joined) = joined::read(dir).filter(|joined| !joined.plugged.is_empty()) else { return };
    if let Err(error) = take_back(engine, id, &joined) {
        tracing::warn!(
            "container {} goes, and leaves something behind: {}",
            name::short(id),
            in_full(&error)
        );
        // The links in it go with it.
        let _ = network::remove_namespace(&engine.namespace(id));
    }
}
