//! `network connect` and `disconnect`: a container that runs gets or loses a network at once, one that does not at its next
//! start.
//!
//! What is under way is noted before anything is made or removed, so that the next command can take it back if this one is
//! killed at any moment (`joined::recover`).

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use network::{Attachment, Hostname, Join, Mode, Table, Wishes};
use sys::rtnetlink::Netlink;

use crate::connection::{self, open_netlink};
use crate::joined::{self, Joined};
use crate::leftover::enter;
use crate::list::life;
use crate::lock::Lock;
use crate::record::Record;
use crate::{ContainerStatus, Engine, Error, name, name_server};

/// How long a container may be on its way between running and not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest `/etc/hosts` of a container that is still kept up to date, in bytes.
const LONGEST: u64 = 1 << 20;

/// Puts a container on one more network.
///
/// # Errors
/// There is no such container or network, or it is on it, or shares somebody else's; an address that cannot be had.
pub fn connect_network(engine: &Engine, container: &str, join: &Join) -> Result<(), Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let (lock, there) = settled(engine, &id)?;
    let connected = connect(engine, &id, join, there.as_ref());
    lock.finish()?;
    connected
}

/// Takes a container off a network. With `force` it is no error that it is not on it, or not there at all.
///
/// # Errors
/// There is no such container or network, or it is not on it.
pub fn disconnect_network(engine: &Engine, container: &str, network: &str, force: bool) -> Result<(), Error> {
    enter(engine)?;
    let id = match name::resolve(engine, container) {
        Err(Error::NoSuchContainer(_)) if force => return Ok(()),
        other => other?,
    };
    let (lock, there) = settled(engine, &id)?;
    let disconnected = disconnect(engine, &id, network, force, there.as_ref());
    lock.finish()?;
    disconnected
}

/// Finishes or takes back what a killed `network connect`, `network disconnect` or `rename` was at. The lock is the one
/// that it left.
pub(crate) fn recover(engine: &Engine, id: &str, lock: Lock) -> Result<(), Error> {
    let dir = engine.container(id);
    if let Some(record) = Record::read(&dir)? {
        name::release_but(engine, &record.name, id)?;
        // Without it the container does not run, or is being started by somebody who takes addresses just now.
        if let Some(mut now) = joined::read(&dir) {
            let netlink = open_netlink()?;
            let there = life(engine, id)?.pid.and_then(joined::namespace);
            if now.passing.is_some() {
                // Whether ports led to it is not known.
                take_off(engine, &netlink, record, &mut now, true, there.as_ref())?;
            }
            joined::give_back_but(engine, id, &now.attachments)?;
        }
    }
    lock.finish()
}

fn connect(engine: &Engine, id: &str, join: &Join, there: Option<&File>) -> Result<(), Error> {
    let dir = engine.container(id);
    let mut record = read_record(id, &dir)?;
    let netlink = open_netlink()?;
    let network = connection::find(engine, &netlink, &join.network)?;
    let mut joins = joins(&record)?;
    let mut now = joined::read(&dir).unwrap_or_default();
    let on_it = match there {
        Some(_) => now.attachments.iter().any(|attachment| attachment.network_id == network.id),
        None => joins.iter().any(|other| is(&network.name, &network.id, other)),
    };
    if on_it {
        let (container, network) = (&record.name, &network.name);
        return Err(Error::Invalid(format!("container {container} is on network {network} already")));
    }
    joins.retain(|other| !is(&network.name, &network.id, other));
    joins.push(Join { network: network.name.clone(), ..join.clone() });
    record.options.network = Mode::Joined(joins);
    let Some(there) = there else { return record.write(&dir) };
    let number = (0..).find(|number| {
        let name = format!("eth{number}");
        !now.attachments.iter().any(|attachment| attachment.link == name)
    });
    let taken = joined::take(engine, &netlink, &network, id, number.unwrap_or(0), join);
    let is_first = now.attachments.is_empty();
    let plugged = taken.and_then(|mut attachment| {
        name_server::stand_in(engine, &network, &mut attachment, &record.options);
        now.passing = Some(attachment.clone());
        now.write(&dir)?;
        name_server::ensure(engine, &network)?;
        // Whether it leads out is seen there: only if nothing else does.
        let wishes = Wishes { default_route: true, hairpin: !now.ports.is_empty() };
        network::connect(&netlink, &network, &attachment, there.as_fd(), wishes)?;
        let after = [now.attachments.as_slice(), &[attachment]].concat();
        write_files(&record, &dir, &now.attachments, &after)?;
        record.write(&dir)?;
        let after = Joined { attachments: after, passing: None, ..now.clone() };
        if is_first {
            publish(engine, id, &after)?;
        }
        // From here on it is on it.
        after.write(&dir)
    });
    if plugged.is_err() {
        // The first error is the one to tell. Without one that is passing, only addresses may have been taken.
        let _ = match now.passing {
            Some(_) => take_off(engine, &netlink, record, &mut now, is_first, Some(there)),
            None => joined::give_back_but(engine, id, &now.attachments),
        };
    }
    plugged
}

fn disconnect(
    engine: &Engine,
    id: &str,
    wanted: &str,
    force: bool,
    there: Option<&File>,
) -> Result<(), Error> {
    let dir = engine.container(id);
    let mut record = read_record(id, &dir)?;
    let network = engine.networks().find(wanted)?;
    let mut joins = joins(&record)?;
    let mut now = joined::read(&dir).unwrap_or_default();
    let at = now.attachments.iter().position(|attachment| attachment.network_id == network.id);
    if let (Some(at), Some(there)) = (at, there) {
        now.passing = Some(now.attachments.remove(at));
        now.write(&dir)?;
        return take_off(engine, &open_netlink()?, record, &mut now, at == 0, Some(there));
    }
    if !joins.iter().any(|other| is(&network.name, &network.id, other)) {
        let (container, network) = (&record.name, &network.name);
        let error = Error::Invalid(format!("container {container} is not on network {network}"));
        return if force { Ok(()) } else { Err(error) };
    }
    joins.retain(|other| !is(&network.name, &network.id, other));
    record.options.network = Mode::Joined(joins);
    record.write(&dir)
}

/// Removes what is passing: from the record, on the host and in the container, and last from what is noted, so that it can
/// be done once more if this is killed. `was_first` is whether ports were passed on to it.
fn take_off(
    engine: &Engine,
    netlink: &Netlink,
    mut record: Record,
    now: &mut Joined,
    was_first: bool,
    there: Option<&File>,
) -> Result<(), Error> {
    let (id, dir) = (record.id.clone(), engine.container(&record.id));
    let Some(passing) = now.passing.clone() else { return Ok(()) };
    if let Mode::Joined(joins) = &mut record.options.network {
        joins.retain(|join| !is(&passing.network, &passing.network_id, join));
        record.write(&dir)?;
    }
    if was_first && !now.ports.is_empty() {
        let table = Table::open(&engine.networks().table()).map_err(network::Error::from)?;
        table.unpublish(&|comment| comment == id).map_err(network::Error::from)?;
        publish(engine, &id, now)?;
    }
    network::disconnect(netlink, &passing, there.map(AsFd::as_fd))?;
    if let Some(there) = there
        && let Some(first) = now.attachments.iter().find(|attachment| !attachment.gateways.is_empty())
    {
        network::lead_out(first, there.as_fd())?;
    }
    let before = [now.attachments.as_slice(), &[passing]].concat();
    write_files(&record, &dir, &before, &now.attachments)?;
    joined::give_back_but(engine, &id, &now.attachments)?;
    now.passing = None;
    now.write(&dir)
}

fn read_record(id: &str, dir: &Path) -> Result<Record, Error> {
    Record::read(dir)?.ok_or_else(|| Error::NoSuchContainer(name::short(id).to_owned()))
}

/// The networks that the container asks for.
fn joins(record: &Record) -> Result<Vec<Join>, Error> {
    match &record.options.network {
        Mode::Joined(joins) => Ok(joins.clone()),
        mode => Err(Error::Invalid(format!(
            "container {} was made with --network {mode}, which no network can be added to or taken from",
            record.name
        ))),
    }
}

/// Whether a container asks for the network of this name and ID.
fn is(network: &str, network_id: &str, join: &Join) -> bool {
    join.network == network || (join.network.len() >= 12 && network_id.starts_with(&join.network))
}

/// The right to change the container's networks, and its network namespace if it runs; not while it is starting or ending,
/// and who ends it wants that right too.
fn settled(engine: &Engine, id: &str) -> Result<(Lock, Option<File>), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lock = joined::lock(engine, id)?;
        let life = life(engine, id)?;
        let up = matches!(life.status, ContainerStatus::Running | ContainerStatus::Paused);
        if let Some(namespace) = life.pid.filter(|_| up).and_then(joined::namespace) {
            return Ok((lock, Some(namespace)));
        }
        if !up && !Lock::is_held(engine, id) {
            return Ok((lock, None));
        }
        lock.finish()?;
        if Instant::now() > deadline {
            let id = name::short(id);
            return Err(Error::Invalid(format!("container {id} is just starting or ending; try again")));
        }
        sleep(Duration::from_millis(5));
    }
}

/// Passes its ports on to its first network.
fn publish(engine: &Engine, id: &str, now: &Joined) -> Result<(), Error> {
    if now.ports.is_empty() || now.attachments.is_empty() {
        return Ok(());
    }
    let table = Table::open(&engine.networks().table()).map_err(network::Error::from)?;
    Ok(table.publish(&now.ports, &now.published_at(), id).map_err(network::Error::from)?)
}

/// Keeps `/etc/hosts` and `/etc/resolv.conf` up to date, in place, because they are bound into the container. What was
/// written there by others stays: of `hosts` only lines of ours change, `resolv.conf` only if it is all ours.
fn write_files(
    record: &Record,
    dir: &Path,
    before: &[Attachment],
    after: &[Attachment],
) -> Result<(), Error> {
    let hostname: Hostname = record.hostname.parse().map_err(|e| Error::Invalid(format!("{e}")))?;
    let lines = |attachments: &[Attachment]| -> Vec<String> {
        let addresses = attachments.iter().flat_map(|attachment| &attachment.addresses);
        addresses.map(|(ip, _)| own_line(*ip, &hostname)).collect()
    };
    let (old, new) = (lines(before), lines(after));
    rewrite(&dir.join("hosts"), |text| {
        let kept = text
            .lines()
            .filter(|line| !old.iter().any(|old| old == line) || new.iter().any(|new| new == line));
        let mut lines: Vec<String> = kept.map(str::to_owned).collect();
        lines.extend(new.iter().filter(|line| !old.contains(line)).cloned());
        Some(lines.iter().map(|line| format!("{line}\n")).collect())
    })?;
    let of = |attachments: &[Attachment]| connection::resolv_conf(&record.options, attachments);
    let (old, new) = (of(before), of(after));
    rewrite(&dir.join("resolv.conf"), |text| (text == old && old != new).then_some(new))
}

fn own_line(ip: IpAddr, hostname: &Hostname) -> String {
    format!("{ip}\t{hostname}")
}

/// Changes a file that is bound into a container, in place; `None` leaves it.
pub(crate) fn rewrite(path: &Path, change: impl FnOnce(&str) -> Option<String>) -> Result<(), Error> {
    let fail = || Error::io(format!("write {path:?}"));
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(fail())?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(fail())?;
    if bytes.len() as u64 > LONGEST {
        return Ok(());
    }
    let Some(text) = change(&String::from_utf8_lossy(&bytes)) else { return Ok(()) };
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).truncate(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(fail())?;
    file.write_all(text.as_bytes()).map_err(fail())
}
