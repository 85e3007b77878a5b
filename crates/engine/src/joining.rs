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

use network::{Attachment, Hostname, Join, Mode, Network, Table, Wishes};
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
    let lock = joined::lock(engine, &id)?;
    let connected = connect(engine, &id, join);
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
    let lock = joined::lock(engine, &id)?;
    let disconnected = disconnect(engine, &id, network, force);
    lock.finish()?;
    disconnected
}

fn connect(engine: &Engine, id: &str, join: &Join) -> Result<(), Error> {
    let dir = engine.container(id);
    let mut record = read_record(id, &dir)?;
    let netlink = open_netlink()?;
    let network = connection::find(engine, &netlink, &join.network)?;
    let mut joins = joins(&record)?;
    let there = namespace(engine, id)?;
    let mut now = joined::read(&dir).unwrap_or_default();
    let on_it = match there {
        Some(_) => now.attachments.iter().any(|attachment| attachment.network_id == network.id),
        None => joins.iter().any(|other| is(&network, other)),
    };
    if on_it {
        let (container, network) = (&record.name, &network.name);
        return Err(Error::Invalid(format!("container {container} is on network {network} already")));
    }
    if let Some(there) = &there {
        let number = (0..).find(|number| {
            let name = format!("eth{number}");
            !now.attachments.iter().any(|attachment| attachment.link == name)
        });
        let taken = joined::take(engine, &netlink, &network, id, number.unwrap_or(0), join);
        let plugged = taken.and_then(|attachment| {
            now.passing = Some(attachment.clone());
            now.write(&dir)?;
            name_server::ensure(engine, &network)?;
            // Whether it leads out is seen there: only if nothing else does.
            let wishes = Wishes { default_route: true, hairpin: !now.ports.is_empty() };
            network::connect(&netlink, &network, &attachment, there.as_fd(), wishes)?;
            Ok(attachment)
        });
        let attachment = match plugged {
            Ok(attachment) => attachment,
            Err(error) => {
                // The first error is the one to tell.
                let _ = take_back(engine, &netlink, id, &dir, &mut now, there);
                return Err(error);
            }
        };
        let before = now.attachments.clone();
        now.passing = None;
        now.attachments.push(attachment);
        now.write(&dir)?;
        if before.is_empty() {
            publish(engine, id, &now)?;
        }
        write_files(&record, &dir, &before, &now.attachments)?;
    }
    joins.retain(|other| !is(&network, other));
    joins.push(Join { network: network.name, ..join.clone() });
    record.options.network = Mode::Joined(joins);
    record.write(&dir)
}

fn disconnect(engine: &Engine, id: &str, wanted: &str, force: bool) -> Result<(), Error> {
    let dir = engine.container(id);
    let mut record = read_record(id, &dir)?;
    let netlink = open_netlink()?;
    let network = engine.networks().find(wanted)?;
    let mut joins = joins(&record)?;
    let there = namespace(engine, id)?;
    let mut now = joined::read(&dir).unwrap_or_default();
    let at = now.attachments.iter().position(|attachment| attachment.network_id == network.id);
    let at = at.filter(|_| there.is_some());
    if at.is_none() && !joins.iter().any(|other| is(&network, other)) {
        let (container, network) = (&record.name, &network.name);
        let error = Error::Invalid(format!("container {container} is not on network {network}"));
        return if force { Ok(()) } else { Err(error) };
    }
    if let (Some(at), Some(there)) = (at, &there) {
        let before = now.attachments.clone();
        now.passing = Some(now.attachments.remove(at));
        now.write(&dir)?;
        if at == 0 && !now.ports.is_empty() {
            let table = Table::open(&engine.networks().table()).map_err(network::Error::from)?;
            table.unpublish(&|comment| comment == id).map_err(network::Error::from)?;
            publish(engine, id, &now)?;
        }
        take_back(engine, &netlink, id, &dir, &mut now, there)?;
        if let Some(first) = now.attachments.iter().find(|attachment| !attachment.gateways.is_empty()) {
            network::lead_out(first, there.as_fd())?;
        }
        write_files(&record, &dir, &before, &now.attachments)?;
    }
    joins.retain(|other| !is(&network, other));
    record.options.network = Mode::Joined(joins);
    record.write(&dir)
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

fn is(network: &Network, join: &Join) -> bool {
    join.network == network.name || (join.network.len() >= 12 && network.id.starts_with(&join.network))
}

/// The container's network namespace if it runs; not while it is starting or ending.
fn namespace(engine: &Engine, id: &str) -> Result<Option<File>, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let life = life(engine, id)?;
        let up = matches!(life.status, ContainerStatus::Running | ContainerStatus::Paused);
        if let Some(namespace) = life.pid.filter(|_| up).and_then(joined::namespace) {
            return Ok(Some(namespace));
        }
        if !up && !Lock::is_held(engine, id) {
            return Ok(None);
        }
        if Instant::now() > deadline {
            let id = name::short(id);
            return Err(Error::Invalid(format!("container {id} is just starting or ending; try again")));
        }
        sleep(Duration::from_millis(5));
    }
}

/// Removes what is passing, on the host and from what is noted.
fn take_back(
    engine: &Engine,
    netlink: &Netlink,
    id: &str,
    dir: &Path,
    now: &mut Joined,
    there: &File,
) -> Result<(), Error> {
    if let Some(passing) = &now.passing {
        network::disconnect(netlink, passing, Some(there.as_fd()))?;
    }
    joined::give_back_but(engine, id, &now.attachments)?;
    if now.passing.take().is_some() { now.write(dir) } else { Ok(()) }
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

fn rewrite(path: &Path, change: impl FnOnce(&str) -> Option<String>) -> Result<(), Error> {
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
