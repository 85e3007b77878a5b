//! Which container has which name: looked up when somebody asks, in the leases and in what is kept of each container.
//! Nothing is remembered, so that nothing can be out of date.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::message::{Answer, Code, INTERNET, Query, kind, reversed};
use crate::{Attachment, ContainerLink, Leases};

/// What is known of a container that has an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its names on every network, the first one first of all.
    pub names: Vec<String>,
    /// The networks that it is on now.
    pub attachments: Vec<Attachment>,
    /// Names that it alone has for others.
    pub links: Vec<ContainerLink>,
    /// Who is asked for it about all other names, instead of the host's resolvers.
    pub servers: Vec<IpAddr>,
}

/// How a container with this ID is looked up; `None`: there is none, or not yet.
pub type LookUp<'a> = &'a dyn Fn(&str) -> Option<Member>;

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is about us.
    Answer(Answer),
    /// Others are to be asked: these, or the host's resolvers.
    Forward(Vec<IpAddr>),
}

/// Decides about a question from `asker` on the network with ID `network`.
pub(super) fn decide(
    leases: &Path,
    network: &str,
    look_up: LookUp<'_>,
    asker: IpAddr,
    query: &Query,
) -> Verdict {
    let owner = Leases::of(leases, network).owner(asker);
    let Some(member) = owner.and_then(|id| look_up(&id)) else {
        return Verdict::Answer(Answer::Only(Code::Refused));
    };
    let named = || member.attachments.iter().filter(|attachment| attachment.names.is_some());
    if query.class == INTERNET {
        let found = match (query.kind, reversed(&query.name)) {
            (kind::PTR, Some(ip)) => name_of(leases, look_up, named(), ip),
            _ => linked(leases, look_up, &member, &query.name)
                .or_else(|| {
                    addresses_of(
                        leases,
                        look_up,
                        named(),
                        &|_, member, there, short| {
                            let fits = |other: &String| other.eq_ignore_ascii_case(short);
                            member.names.iter().chain(&there.aliases).any(fits)
                        },
                        &query.name,
                    )
                })
                .map(|all| of_family(all, query)),
        };
        if let Some(answer) = found {
            return Verdict::Answer(answer);
        }
    }
    // A network without a way out has none for names either (what is asked can carry data as well).
    if member.attachments.iter().all(|attachment| attachment.gateways.is_empty()) {
        return Verdict::Answer(Answer::Only(Code::ServerFailure));
    }
    Verdict::Forward(member.servers)
}

/// Whether a name is one of a container: its ID, what is known of it and of it there, the name.
type Fits<'a> = &'a dyn Fn(&str, &Member, &Attachment, &str) -> bool;

/// The addresses of a name on all these networks; `None`: it is no container's.
fn addresses_of<'a>(
    leases: &Path,
    look_up: LookUp<'_>,
    networks: impl Iterator<Item = &'a Attachment>,
    fits: Fits<'_>,
    name: &str,
) -> Option<Vec<IpAddr>> {
    let mut found = Vec::new();
    for network in networks {
        // Also as NAME.NETWORK.
        let short = name
            .len()
            .checked_sub(network.network.len() + 1)
            .and_then(|at| name.split_at_checked(at))
            .filter(|(_, rest)| rest[1..].eq_ignore_ascii_case(&network.network) && rest.starts_with('.'));
        // One that cannot be read is of no use to anybody.
        let taken = Leases::of(leases, &network.network_id).list().unwrap_or_default();
        let owners: BTreeSet<String> = taken.into_iter().map(|(_, owner)| owner).collect();
        for id in owners {
            let Some(member) = look_up(&id) else { continue };
            let here = |there: &&Attachment| there.network_id == network.network_id;
            for there in member.attachments.iter().filter(here) {
                let fits = |name: &str| fits(&id, &member, there, name);
                if fits(name) || short.is_some_and(|(short, _)| fits(short)) {
                    found.extend(there.addresses.iter().map(|(ip, _)| *ip));
                }
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// The addresses of what the asker has linked under this name, which goes before other containers' own names: the
/// container that was meant, else one that has its name by now.
fn linked(leases: &Path, look_up: LookUp<'_>, asker: &Member, name: &str) -> Option<Vec<IpAddr>> {
    let named = || asker.attachments.iter().filter(|attachment| attachment.names.is_some());
    asker.links.iter().find_map(|link| {
        let is = |alias: &str| link.alias.as_str().eq_ignore_ascii_case(alias);
        let meant: Fits<'_> = &|id, _, _, name| is(name) && id == link.id;
        let called: Fits<'_> = &|_, member, _, name| is(name) && member.names.first() == Some(&link.target);
        addresses_of(leases, look_up, named(), meant, name)
            .or_else(|| addresses_of(leases, look_up, named(), called, name))
    })
}

/// Those of the family asked for. Each asker gets another one first, so that a name of several containers is shared.
fn of_family(mut addresses: Vec<IpAddr>, query: &Query) -> Answer {
    addresses.retain(|ip| match query.kind {
        kind::A => ip.is_ipv4(),
        kind::AAAA => ip.is_ipv6(),
        _ => false,
    });
    if !addresses.is_empty() {
        let first = query.number() % addresses.len();
        addresses.rotate_left(first);
    }
    Answer::Addresses(addresses)
}

/// The name of an address; `None`: it is on none of these networks.
fn name_of<'a>(
    leases: &Path,
    look_up: LookUp<'_>,
    networks: impl Iterator<Item = &'a Attachment>,
    ip: IpAddr,
) -> Option<Answer> {
    for network in networks {
        let there =
            |(own, prefix): &(IpAddr, u8)| IpNet::new(*own, *prefix).is_ok_and(|net| net.contains(&ip));
        if !network.addresses.iter().any(there) {
            continue;
        }
        let owner = Leases::of(leases, &network.network_id).owner(ip);
        let name = owner.and_then(|id| look_up(&id)).and_then(|member| member.names.into_iter().next());
        return Some(match name {
            Some(name) => Answer::Name(format!("{name}.{}", network.network)),
            None => Answer::Only(Code::NoSuchName),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Driver, Network, Subnet};

    fn network(name: &str, subnets: &[&str], internal: bool) -> Network {
        let subnet = |net: &&str| Subnet::new(net.parse().unwrap(), None, None).unwrap();
        Network {
            name: name.to_owned(),
            id: format!("{:02x}{:02x}", name.len(), name.as_bytes()[0]).repeat(16),
            driver: Driver::Bridge,
            link: "br".to_owned(),
            subnets: subnets.iter().map(subnet).collect(),
            internal,
            mtu: None,
            labels: std::collections::BTreeMap::new(),
            created: 0,
        }
    }

    /// Two networks: `db` and `web` on `back`, `web` on `front` too; `alone` on an internal one; `plain` on the default.
    struct World {
        dir: tempfile::TempDir,
        members: Vec<(String, Member)>,
    }

    impl World {
        fn new() -> World {
            let mut world = World { dir: tempfile::tempdir().unwrap(), members: Vec::new() };
            let back = network("back", &["10.9.0.0/24", "fd09::/64"], false);
            let front = network("front", &["10.8.0.0/24"], false);
            let inside = network("inside", &["10.7.0.0/24"], true);
            let bridge = network("bridge", &["10.77.0.0/16"], false);
            world.join("db", &[(&back, &["10.9.0.2", "fd09::2"], &["data"])]);
            world.join("web", &[(&back, &["10.9.0.3", "fd09::3"], &["data"]), (&front, &["10.8.0.3"], &[])]);
            world.join("alone", &[(&inside, &["10.7.0.2"], &[])]);
            world.join("plain", &[(&bridge, &["10.77.0.2"], &[])]);
            world
        }

        fn join(&mut self, name: &str, networks: &[(&Network, &[&str], &[&str])]) {
            let id = format!("{:04x}", self.members.len() + 1).repeat(16);
            let mut member =
                Member { names: vec![name.to_owned(), id[..12].to_owned()], ..Member::default() };
            for (number, (network, addresses, aliases)) in networks.iter().enumerate() {
                let addresses: Vec<(IpAddr, u8)> = addresses
                    .iter()
                    .zip(&network.subnets)
                    .map(|(ip, subnet)| (ip.parse().unwrap(), subnet.subnet.prefix_len()))
                    .collect();
                for ((ip, _), subnet) in addresses.iter().zip(&network.subnets) {
                    Leases::new(self.dir.path(), network).take(subnet, Some(*ip), &id, &|_| true).unwrap();
                }
                let mut attachment = Attachment::new(network, &id, number, addresses);
                attachment.aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
                member.attachments.push(attachment);
            }
            self.members.push((id, member));
        }

        fn ask(&self, asker: &str, on: &str, name: &str, kind: u16) -> Verdict {
            let query = Query::new(name, kind);
            let look_up = |id: &str| {
                self.members.iter().find(|(other, _)| other == id).map(|(_, member)| member.clone())
            };
            let id = network(on, &[], false).id;
            decide(self.dir.path(), &id, &look_up, asker.parse().unwrap(), &query)
        }
    }

    fn addresses(all: &[&str]) -> Verdict {
        Verdict::Answer(Answer::Addresses(all.iter().map(|ip| ip.parse().unwrap()).collect()))
    }

    #[test]
    fn names_aliases_ids_and_networks() {
        let world = World::new();
        let ask = |name: &str, kind| world.ask("10.9.0.2", "back", name, kind);
        assert_eq!(ask("web", kind::A), addresses(&["10.9.0.3"]));
        assert_eq!(ask("web", kind::AAAA), addresses(&["fd09::3"]));
        assert_eq!(ask("web.back", kind::A), addresses(&["10.9.0.3"]));
        assert_eq!(ask(&"0002".repeat(3), kind::A), addresses(&["10.9.0.3"]));
        // An alias of two; who asks next gets the other one first.
        let Verdict::Answer(Answer::Addresses(both)) = ask("data", kind::A) else { panic!("an answer") };
        assert_eq!(both.len(), 2);
        // A name that is known has no other kind of record, which is no reason to ask others.
        assert_eq!(ask("web", 15), addresses(&[]));
        assert_eq!(ask("example.org", kind::A), Verdict::Forward(Vec::new()));
        assert_eq!(ask("web.front", kind::A), Verdict::Forward(Vec::new()), "db is not on front");
        // On all networks of who asks, whichever it asks on.
        assert_eq!(world.ask("10.9.0.3", "back", "web.front", kind::A), addresses(&["10.8.0.3"]));
    }

    #[test]
    fn a_link_is_a_name_for_one_asker_only() {
        let mut world = World::new();
        let link = |text: &str, id: &str| ContainerLink { id: id.to_owned(), ..text.parse().unwrap() };
        let web = world.members[1].0.clone();
        // The second names a container of another network, the third one that is no more.
        world.members[0].1.links =
            vec![link("old-name:store", &web), link("alone:far", ""), link("web:data", &"f".repeat(64))];
        let ask = |asker: &str, name: &str| world.ask(asker, "back", name, kind::A);
        assert_eq!(ask("10.9.0.2", "store"), addresses(&["10.9.0.3"]));
        assert_eq!(ask("10.9.0.2", "Store.back"), addresses(&["10.9.0.3"]));
        assert_eq!(ask("10.9.0.2", "far"), Verdict::Forward(Vec::new()));
        assert_eq!(ask("10.9.0.2", "old-name"), Verdict::Forward(Vec::new()));
        // It goes before aliases that others have.
        assert_eq!(ask("10.9.0.2", "data"), addresses(&["10.9.0.3"]));
        assert_eq!(ask("10.9.0.3", "store"), Verdict::Forward(Vec::new()));
    }

    #[test]
    fn addresses_have_names() {
        let world = World::new();
        let ask = |name: &str| world.ask("10.9.0.2", "back", name, kind::PTR);
        let name = |name: &str| Verdict::Answer(Answer::Name(name.to_owned()));
        assert_eq!(ask("3.0.9.10.in-addr.arpa"), name("web.back"));
        assert_eq!(ask(&format!("3{}.9.0.d.f.ip6.arpa", ".0".repeat(27))), name("web.back"));
        assert_eq!(ask("9.0.9.10.in-addr.arpa"), Verdict::Answer(Answer::Only(Code::NoSuchName)));
        assert_eq!(ask("8.8.8.8.in-addr.arpa"), Verdict::Forward(Vec::new()));
        assert_eq!(ask("3.0.8.10.in-addr.arpa"), Verdict::Forward(Vec::new()), "db is not on front");
    }

    #[test]
    fn who_may_ask_what() {
        let world = World::new();
        let only = |code| Verdict::Answer(Answer::Only(code));
        assert_eq!(world.ask("10.7.0.2", "inside", "alone", kind::A), addresses(&["10.7.0.2"]));
        assert_eq!(world.ask("10.7.0.2", "inside", "example.org", kind::A), only(Code::ServerFailure));
        assert_eq!(world.ask("10.9.0.99", "back", "web", kind::A), only(Code::Refused));
        // The default network has no names.
        assert_eq!(world.ask("10.77.0.2", "bridge", "plain", kind::A), Verdict::Forward(Vec::new()));
    }
}
