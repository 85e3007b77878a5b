//! `--link`: what a container is told of another one.
//!
//! As docker has it (docker-run(1); moby's `daemon/links`): on a network without names, such as the default one, the
//! linking container gets a line in `/etc/hosts` and variables in its environment at its start, so the other one must run
//! then; when that one comes back with another address, the line is renewed. On a network with names the alias is one more
//! name, which the network's server answers this container alone.

use std::net::IpAddr;
use std::path::Path;

use network::{Attachment, ContainerLink, Exposed, Hostname, Mode, Protocol};
use serde::Deserialize;

use crate::joined::{self, Joined};
use crate::lock::Lock;
use crate::options::RunOptions;
use crate::record::{RECORD, Record};
use crate::{Engine, Error, in_full, joining, list, name};

/// How many containers may share one network in a row.
const HOPS: usize = 16;
/// For how many ports of one container there are variables of their own. Ranges have theirs besides, and the environment
/// of a process has an end (execve(2)).
const PORTS: usize = 1000;

/// What comes of a container's links at its start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// Lines for `/etc/hosts`.
    pub(crate) hosts: String,
    /// Variables, `KEY=VALUE` each.
    pub(crate) env: Vec<String>,
}

/// The links of a container that is being made, with the IDs of those that they mean.
pub(crate) fn claim(engine: &Engine, options: &RunOptions) -> Result<Vec<ContainerLink>, Error> {
    let mut links = options.links.clone();
    if links.is_empty() {
        return Ok(links);
    }
    if !matches!(options.network, Mode::Joined(_) | Mode::Cni(_)) {
        let mode = &options.network;
        return Err(Error::Invalid(format!(
            "conflicting options: --link and --network {mode}, where there is no other"
        )));
    }
    for (at, link) in options.links.iter().enumerate() {
        let again = |other: &ContainerLink| other.alias == link.alias && other.target != link.target;
        if let Some(other) = options.links[..at].iter().find(|other| again(other)) {
            let (a, b, alias) = (&other.target, &link.target, &link.alias);
            let why = format!("--link: {a} and {b} cannot both be called {alias}; give one another alias");
            return Err(Error::Invalid(why));
        }
    }
    let named = has_names(engine, &options.network);
    for link in &mut links {
        match name::resolve(engine, &link.target) {
            Ok(id) => link.id = id,
            // docker's rule: it is looked for when somebody asks.
            Err(Error::NoSuchContainer(_)) if named => tracing::warn!(
                "--link {link}: there is no container {} yet; {} is known once it is on the network",
                link.target,
                link.alias
            ),
            Err(Error::NoSuchContainer(_)) => return Err(missing(link)),
            Err(other) => return Err(other),
        }
    }
    if !named {
        for link in &links {
            owner(engine, link)?;
        }
    }
    Ok(links)
}

/// Whether containers have names on the first network of a container that is being made.
fn has_names(engine: &Engine, mode: &Mode) -> bool {
    let first = mode.joins().first().filter(|join| join.network != network::DEFAULT);
    // One that is not there is told when it is joined.
    let network = first.and_then(|join| engine.networks().find(&join.network).ok());
    network.is_some_and(|network| network.name_server().is_some())
}

/// What the links of a container that starts on these networks make of its files and its environment.
pub(crate) fn find(engine: &Engine, record: &Record, joined: &Joined) -> Result<Links, Error> {
    let mut links = Links::default();
    let own = joined.everywhere();
    if own.first().is_none_or(|first| first.names.is_some()) {
        return Ok(links);
    }
    for link in &record.options.links {
        let (target, owner) = owner(engine, link)?;
        let place = format!("/{}/{}", record.name, link.alias);
        let life = list::life(engine, &target.id)?;
        if life.pid.is_none() || !life.status.is_up() {
            let name = &target.name;
            return Err(Error::Invalid(format!(
                "Cannot link to a non running container: /{name} AS {place}; start it first (rcr start {name})"
            )));
        }
        let theirs = joined::read(&engine.container(&owner.id)).unwrap_or_default().everywhere();
        let Some(there) = shared(&own, &theirs) else {
            let list = |all: &[Attachment]| match all {
                [] => "none".to_owned(),
                all => all.iter().map(|one| one.network.as_str()).collect::<Vec<_>>().join(", "),
            };
            let (name, theirs, own) = (&target.name, list(&theirs), list(&own));
            return Err(Error::Invalid(format!(
                "Cannot link to /{name} AS {place}: its networks are {theirs}, those of /{} {own}; put both on one \
                 (rcr network connect)",
                record.name
            )));
        };
        links.hosts += &lines(there, &link.alias, &target);
        links.env.extend(variables(&place, there, &target));
    }
    Ok(links)
}

/// The container that a link means, and the one whose network it has.
fn owner(engine: &Engine, link: &ContainerLink) -> Result<(Record, Record), Error> {
    let read = |id: &str| Record::read(&engine.container(id));
    // One that was removed may have a successor.
    let meant = match link.id.as_str() {
        "" => None,
        id => read(id)?,
    };
    let target = match meant {
        Some(record) => record,
        None => match name::resolve(engine, &link.target) {
            Err(Error::NoSuchContainer(_)) => return Err(missing(link)),
            id => read(&id?)?.ok_or_else(|| missing(link))?,
        },
    };
    let mut owner = target.clone();
    for _ in 0..HOPS {
        match &owner.options.network {
            Mode::Container(other) => {
                let id = name::resolve(engine, other)?;
                owner = read(&id)?.ok_or_else(|| Error::NoSuchContainer(other.clone()))?;
            }
            Mode::Joined(_) | Mode::Cni(_) => return Ok((target, owner)),
            mode => {
                return Err(Error::Invalid(format!(
                    "--link {link}: conflicting options: {mode} type networking of container {} can't be used with \
                     links; it is on no network that others are on",
                    target.name
                )));
            }
        }
    }
    Err(Error::Invalid(format!("--link {link}: more than {HOPS} containers share one network in a row")))
}

fn missing(link: &ContainerLink) -> Error {
    let target = &link.target;
    Error::Invalid(format!(
        "--link {link}: could not get container for {target}: no such container; run one of that name first, or list \
         those there are (rcr ps -a)"
    ))
}

/// What the other one has of the first network that both are on.
fn shared<'a>(own: &[Attachment], theirs: &'a [Attachment]) -> Option<&'a Attachment> {
    own.iter().find_map(|here| theirs.iter().find(|there| there.network_id == here.network_id))
}

/// Lines for `/etc/hosts`: alias, host name, and name if it is another one.
fn lines(there: &Attachment, alias: &Hostname, target: &Record) -> String {
    let mut names = format!("{alias} {}", target.hostname);
    if target.name != alias.as_str() {
        names += &format!(" {}", target.name);
    }
    there.addresses.iter().map(|(ip, _)| format!("{ip}\t{names}\n")).collect()
}

fn variables(place: &str, there: &Attachment, target: &Record) -> Vec<String> {
    let of_family = |ipv4: bool| there.addresses.iter().map(|(ip, _)| *ip).find(|ip| ip.is_ipv4() == ipv4);
    let Some(ip) = of_family(true).or_else(|| of_family(false)) else { return Vec::new() };
    // What rcr has put there itself is not the other one's.
    let made = [format!("HOSTNAME={}", target.hostname), "TERM=xterm".to_owned()];
    let env = target.env.iter().filter(|entry| !made.contains(entry) || target.options.env.contains(entry));
    environment(place, ip, &target.exposed, env)
}

/// The variables of a link `/ME/ALIAS` to a container with this address, these ports and this environment, as moby's
/// `links.Link.ToEnv` makes them; but only ports of one protocol make a range.
fn environment<'a>(
    place: &str,
    ip: IpAddr,
    exposed: &[Exposed],
    env: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let alias = place.rsplit('/').next().unwrap_or_default().to_uppercase().replace('-', "_");
    let host = if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") };
    let url = |port: u16, protocol: Protocol| format!("{protocol}://{host}:{port}");
    let mut ports: Vec<(Protocol, u16)> = exposed
        .iter()
        .flat_map(|Exposed { ports: (first, last), protocol }| (*first..=*last).map(|port| (*protocol, port)))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let mut all = Vec::new();
    if let Some((protocol, port)) = ports.iter().min_by_key(|(protocol, port)| (port, protocol)) {
        all.push(format!("{alias}_PORT={}", url(*port, *protocol)));
    }
    let key = |port: u16, protocol: Protocol| {
        format!("{alias}_PORT_{port}_{}", protocol.to_string().to_uppercase())
    };
    let follows = |a: &(Protocol, u16), b: &(Protocol, u16)| a.0 == b.0 && b.1 - a.1 == 1;
    for range in ports.chunk_by(follows).filter(|range| range.len() > 2) {
        let ((protocol, first), (_, last)) = (range[0], range[range.len() - 1]);
        let (key, end) = (key(first, protocol), key(last, protocol));
        all.push(format!("{key}_START={}", url(first, protocol)));
        all.push(format!("{key}_ADDR={ip}"));
        all.push(format!("{key}_PROTO={protocol}"));
        all.push(format!("{key}_PORT_START={first}"));
        all.push(format!("{end}_END={}", url(last, protocol)));
        all.push(format!("{key}_PORT_END={last}"));
    }
    for (protocol, port) in ports.iter().take(PORTS) {
        let key = key(*port, *protocol);
        all.push(format!("{key}={}", url(*port, *protocol)));
        all.push(format!("{key}_ADDR={ip}"));
        all.push(format!("{key}_PORT={port}"));
        all.push(format!("{key}_PROTO={protocol}"));
    }
    all.push(format!("{alias}_NAME={place}"));
    let own = env.filter(|entry| !["HOME=", "PATH="].iter().any(|key| entry.starts_with(key)));
    all.extend(own.map(|entry| format!("{alias}_ENV_{entry}")));
    all
}

/// The part of a record that makes names: its own, and those it has for others.
#[derive(Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) options: Linking,
}

/// The part of its options that does.
#[derive(Deserialize)]
pub(crate) struct Linking {
    #[serde(default)]
    pub(crate) links: Vec<ContainerLink>,
}

impl Named {
    /// That of the container with this directory, if it has a record.
    pub(crate) fn read(dir: &Path) -> Option<Named> {
        serde_json::from_slice(&std::fs::read(dir.join(RECORD)).ok()?).ok()
    }
}

/// Tells the running containers that have linked this one, which has just been started once more, its address.
pub(crate) fn renew(engine: &Engine, record: &Record, joined: &Joined) {
    let theirs = joined.everywhere();
    if theirs.is_empty() {
        return;
    }
    for other in name::ids(engine).unwrap_or_default() {
        // Looking at one's own lock would drop it.
        if other == record.id || !Lock::is_held(engine, &other) {
            continue;
        }
        let is_it = |link: &ContainerLink| link.id == record.id || link.target == record.name;
        let named = Named::read(&engine.container(&other));
        let mut links = named.map_or_else(Vec::new, |named| named.options.links);
        links.retain(is_it);
        if !links.is_empty()
            && let Err(error) = renew_in(engine, &other, &links, record, &theirs)
        {
            let (other, name) = (name::short(&other), &record.name);
            tracing::warn!(
                "container {other} keeps the old address of {name} in its hosts: {}",
                in_full(&error)
            );
        }
    }
}

fn renew_in(
    engine: &Engine,
    id: &str,
    links: &[ContainerLink],
    target: &Record,
    theirs: &[Attachment],
) -> Result<(), Error> {
    let lock = joined::lock(engine, id)?;
    let dir = engine.container(id);
    let own = joined::read(&dir).unwrap_or_default().everywhere();
    let by_file = own.first().is_some_and(|first| first.names.is_none());
    let renewed = match shared(&own, theirs).filter(|_| by_file) {
        None => Ok(()),
        Some(there) => joining::rewrite(&dir.join("hosts"), |text| {
            let new: String = links.iter().map(|link| lines(there, &link.alias, target)).collect();
            let is_old = |line: &str| {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                let [_, alias, hostname, ..] = words[..] else { return false };
                links.iter().any(|link| link.alias.as_str() == alias) && hostname == target.hostname
            };
            let kept = text.lines().filter(|line| !is_old(line)).map(|line| format!("{line}\n"));
            let after = kept.collect::<String>() + &new;
            (after != text).then_some(after)
        }),
    };
    lock.finish()?;
    renewed
}

/// Records in an order in which each comes after those that it has linked.
pub(crate) fn targets_first(records: Vec<Record>) -> Vec<Record> {
    let mut waiting = records;
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let waits = |record: &Record| {
            let is = |link: &ContainerLink, other: &Record| other.id == link.id || other.name == link.target;
            let links = &record.options.links;
            links.iter().any(|link| waiting.iter().any(|other| other.id != record.id && is(link, other)))
        };
        // In a ring somebody has to be first.
        let next = waiting.iter().position(|record| !waits(record)).unwrap_or(0);
        ordered.push(waiting.remove(next));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(exposed: &[&str], env: &[&str], ip: &str) -> Vec<String> {
        let exposed: Vec<Exposed> = exposed.iter().map(|text| text.parse().unwrap()).collect();
        let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
        environment("/web/my-db", ip.parse().unwrap(), &exposed, env.iter())
    }

    #[test]
    fn a_link_says_what_docker_says() {
        assert_eq!(
            variables(&["5432", "53/udp"], &["PATH=/bin", "HOME=/", "A=1=2"], "10.77.0.2"),
            [
                "MY_DB_PORT=udp://10.77.0.2:53",
                "MY_DB_PORT_5432_TCP=tcp://10.77.0.2:5432",
                "MY_DB_PORT_5432_TCP_ADDR=10.77.0.2",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_PORT_53_UDP=udp://10.77.0.2:53",
                "MY_DB_PORT_53_UDP_ADDR=10.77.0.2",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_A=1=2",
            ]
        );
        assert_eq!(variables(&[], &[], "10.77.0.2"), ["MY_DB_NAME=/web/my-db"]);
        assert!(variables(&["80"], &[], "fd00::2").contains(&"MY_DB_PORT=tcp://[fd00::2]:80".to_owned()));
    }

    #[test]
    fn ranges_of_ports_have_a_beginning_and_an_end() {
        let range = variables(&["8000-8002", "8003/udp"], &[], "10.0.0.1");
        for entry in [
            "MY_DB_PORT_8000_TCP_START=tcp://10.0.0.1:8000",
            "MY_DB_PORT_8000_TCP_PORT_START=8000",
            "MY_DB_PORT_8002_TCP_END=tcp://10.0.0.1:8002",
            "MY_DB_PORT_8000_TCP_PORT_END=8002",
            "MY_DB_PORT_8003_UDP_PORT=8003",
        ] {
            assert!(range.iter().any(|other| other == entry), "{entry}: {range:?}");
        }
        // Two are none; and so many do not fit into an environment.
        assert!(!variables(&["1-2"], &[], "10.0.0.1").iter().any(|entry| entry.contains("_START")));
        let many = variables(&["1-65535", "1-65535/udp"], &[], "10.0.0.1");
        assert!(many.len() < 5000 && many.iter().map(String::len).sum::<usize>() < 300_000);
    }
}
