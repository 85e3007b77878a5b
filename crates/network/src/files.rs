//! What the container finds in `/etc/hosts` and `/etc/resolv.conf`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Attachment, Hostname, Mode};

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::\tip6-localnet\n\
                        ff00::\tip6-mcastprefix\n\
                        ff02::1\tip6-allnodes\n\
                        ff02::2\tip6-allrouters\n";

/// What a user wants in `/etc/resolv.conf` instead of what the host has; nothing keeps the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`; one `.` is none.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// `/etc/hosts`: in [`Mode::Host`] a copy of the host's (`of_host`), else the loopback names and the container's own at
/// its addresses; on loopback if it has none, since programs that look up themselves fail without it. Then the names that
/// the user adds; without an address they are the host's: its address on the first network, loopback where the container
/// shares its network.
///
/// # Errors
/// The host has no address on any network of the container.
pub fn hosts(
    mode: &Mode,
    hostname: &Hostname,
    attachments: &[Attachment],
    of_host: &str,
    extra: &[(Hostname, Option<IpAddr>)],
) -> Result<String, String> {
    let addresses = attachments.iter().flat_map(|attachment| &attachment.addresses);
    let own: String = addresses.map(|(ip, _)| format!("{ip}\t{hostname}\n")).collect();
    let mut text = match (mode, own.as_str()) {
        (Mode::Host, _) => of_host.to_owned(),
        (_, "") => format!("{LOOPBACK}127.0.0.1\t{hostname}\n"),
        (_, own) => format!("{LOOPBACK}{own}"),
    };
    if !text.ends_with('\n') && !text.is_empty() {
        text.push('\n');
    }
    let gateway = match mode {
        Mode::Host => Some(IpAddr::from([127, 0, 0, 1])),
        _ => attachments.iter().find_map(|attachment| attachment.gateways.first().copied()),
    };
    for (name, ip) in extra {
        let ip = ip.or(gateway).ok_or_else(|| {
            format!("host-gateway of {name}: the host has no address on a network of the container")
        })?;
        text += &format!("{ip}\t{name}\n");
    }
    Ok(text)
}

/// `/etc/resolv.conf`: the host's (`of_host`) with what the user wants instead. On a network where containers have names
/// the server is the network's, which asks the others. Servers on loopback are left out unless the container shares the
/// host's network: they listen in another namespace, and where there are no others the bridge asks them.
pub fn resolv_conf(mode: &Mode, of_host: &str, attachments: &[Attachment], dns: &Dns) -> String {
    let names = attachments.iter().find_map(|attachment| attachment.names);
    let usable = |line: &&str| *mode == Mode::Host || !is_loopback_server(line);
    let lines = || of_host.lines().filter(usable);
    let stand_in = attachments.iter().find_map(|attachment| attachment.resolver);
    let stand_in = names.or(stand_in.filter(|_| dns.servers.is_empty()));
    let mut text = String::new();
    if names.is_none() && *dns == Dns::default() {
        text.extend(stand_in.map(|ip| format!("nameserver {ip}\n")));
        return lines().fold(text, |text, line| text + line + "\n");
    }
    match (stand_in, dns.servers.as_slice()) {
        (Some(ip), _) => text += &format!("nameserver {ip}\n"),
        (None, []) => {
            lines().filter(|line| key(line) == "nameserver").for_each(|line| text += &format!("{line}\n"))
        }
        (None, servers) => servers.iter().for_each(|ip| text += &format!("nameserver {ip}\n")),
    }
    // Of several lines the last one counts, and `domain` is a search of one.
    let last = |keys: &[&str]| {
        let line = lines().rfind(|line| keys.contains(&key(line))).unwrap_or_default();
        line.split_ascii_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut search = if dns.search.is_empty() { last(&["search", "domain"]) } else { dns.search.clone() };
    search.retain(|name| name != ".");
    let mut options = if dns.options.is_empty() { last(&["options"]) } else { dns.options.clone() };
    // A container's name has no dot: else it would be looked for in every domain of the search first.
    if names.is_some() && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    for (key, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            text += &format!("{key} {}\n", words.join(" "));
        }
    }
    text
}

fn key(line: &str) -> &str {
    line.split_ascii_whitespace().next().unwrap_or_default()
}

/// Whether a resolv.conf names a server.
pub fn names_a_server(resolv_conf: &str) -> bool {
    resolv_conf.lines().any(|line| key(line) == "nameserver")
}

/// Whether a resolv.conf names servers, and only such as listen on loopback.
pub fn names_loopback_only(resolv_conf: &str) -> bool {
    let mut servers = resolv_conf.lines().filter(|line| key(line) == "nameserver").peekable();
    servers.peek().is_some() && servers.all(is_loopback_server)
}

fn is_loopback_server(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("nameserver") {
        return false;
    }
    // fe80::1%eth0 carries a zone that IpAddr does not read.
    let address =
        words.next().and_then(|word| word.split('%').next()).and_then(|ip| ip.parse::<IpAddr>().ok());
    address.is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(names: Option<&str>) -> Attachment {
        Attachment {
            network: String::new(),
            network_id: String::new(),
            link: String::new(),
            host_link: String::new(),
            mac: [0; 6],
            addresses: vec![([10, 5, 0, 2].into(), 24), ("fd05::2".parse().unwrap(), 64)],
            gateways: vec![[10, 5, 0, 1].into()],
            names: names.map(|ip| ip.parse().unwrap()),
            resolver: None,
            aliases: Vec::new(),
        }
    }

    #[test]
    fn hosts_names_the_container_or_is_the_hosts_own() {
        let name: Hostname = "web".parse().unwrap();
        let none = hosts(&Mode::None, &name, &[], "10.0.0.1 secret\n", &[]).unwrap();
        assert!(none.starts_with("127.0.0.1\tlocalhost\n") && none.ends_with("\n127.0.0.1\tweb\n"), "{none}");
        assert!(!none.contains("secret"));
        assert_eq!(hosts(&Mode::Host, &name, &[], "10.0.0.1 x\n", &[]).unwrap(), "10.0.0.1 x\n");
        let own = hosts(&Mode::default(), &name, &[joined(None)], "", &[]).unwrap();
        assert!(own.ends_with("\n10.5.0.2\tweb\nfd05::2\tweb\n"), "{own}");
    }

    #[test]
    fn hosts_can_be_added() {
        let name: Hostname = "web".parse().unwrap();
        let extra = [("db".parse().unwrap(), "10.0.0.7".parse().ok()), ("host.local".parse().unwrap(), None)];
        let own = hosts(&Mode::default(), &name, &[joined(None)], "", &extra).unwrap();
        assert!(own.ends_with("\n10.0.0.7\tdb\n10.5.0.1\thost.local\n"), "{own}");
        let host = hosts(&Mode::Host, &name, &[], "10.0.0.1 x", &extra).unwrap();
        assert_eq!(host, "10.0.0.1 x\n10.0.0.7\tdb\n127.0.0.1\thost.local\n");
        assert!(hosts(&Mode::None, &name, &[], "", &extra).unwrap_err().contains("host.local"));
    }

    const HOST: &str =
        "# by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\nsearch a.b\noptions edns0";

    #[test]
    fn loopback_servers_stay_with_the_host() {
        let of = |mode: &Mode| resolv_conf(mode, HOST, &[], &Dns::default());
        assert_eq!(of(&Mode::None), "# by hand\nnameserver 10.0.0.2\nsearch a.b\noptions edns0\n");
        assert_eq!(of(&Mode::Host), format!("{HOST}\n"));
        assert!(!names_loopback_only(HOST) && !names_loopback_only("search x"));
        assert!(names_loopback_only("nameserver 127.0.0.53\noptions edns0"));
    }

    #[test]
    fn the_bridge_stands_in_for_servers_on_loopback_unless_others_are_wished_for() {
        let alone = Attachment { resolver: "10.5.0.1".parse().ok(), ..joined(None) };
        let host = "nameserver 127.0.0.1\nsearch a.b\n";
        let of = |dns: &Dns| resolv_conf(&Mode::default(), host, std::slice::from_ref(&alone), dns);
        assert_eq!(of(&Dns::default()), "nameserver 10.5.0.1\nsearch a.b\n");
        let search = Dns { search: vec!["x".to_owned()], ..Dns::default() };
        assert_eq!(of(&search), "nameserver 10.5.0.1\nsearch x\n");
        let servers = Dns { servers: vec![[9, 9, 9, 9].into()], ..Dns::default() };
        assert_eq!(of(&servers), "nameserver 9.9.9.9\nsearch a.b\n");
    }

    #[test]
    fn the_networks_own_server_comes_first_and_wishes_replace() {
        let mode = Mode::default();
        let named = [joined(None), joined(Some("10.5.0.1"))];
        let of = |attachments: &[Attachment], dns: &Dns| resolv_conf(&mode, HOST, attachments, dns);
        let none = Dns::default();
        assert_eq!(of(&named, &none), "nameserver 10.5.0.1\nsearch a.b\noptions edns0 ndots:0\n");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let wishes = Dns {
            servers: vec![[9, 9, 9, 9].into()],
            search: words(&["x", "y"]),
            options: words(&["ndots:3", "rotate"]),
        };
        assert_eq!(of(&named, &wishes), "nameserver 10.5.0.1\nsearch x y\noptions ndots:3 rotate\n");
        assert_eq!(of(&[joined(None)], &wishes), "nameserver 9.9.9.9\nsearch x y\noptions ndots:3 rotate\n");
        let no_search = Dns { search: words(&["."]), ..Dns::default() };
        assert_eq!(of(&[], &no_search), "nameserver 10.0.0.2\noptions edns0\n");
    }
}
