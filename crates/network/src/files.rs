//! What the container finds in `/etc/hosts` and `/etc/resolv.conf`.

use std::net::IpAddr;

use crate::{Attachment, Hostname, Mode};

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::\tip6-localnet\n\
                        ff00::\tip6-mcastprefix\n\
                        ff02::1\tip6-allnodes\n\
                        ff02::2\tip6-allrouters\n";

/// `/etc/hosts`: in [`Mode::Host`] a copy of the host's (`of_host`), else the loopback names and the container's own at
/// its addresses; on loopback if it has none, since programs that look up themselves fail without it.
pub fn hosts(mode: &Mode, hostname: &Hostname, attachments: &[Attachment], of_host: &str) -> String {
    if *mode == Mode::Host {
        return of_host.to_owned();
    }
    let addresses = attachments.iter().flat_map(|attachment| &attachment.addresses);
    let own: String = addresses.map(|(ip, _)| format!("{ip}\t{hostname}\n")).collect();
    if own.is_empty() { format!("{LOOPBACK}127.0.0.1\t{hostname}\n") } else { format!("{LOOPBACK}{own}") }
}

/// `/etc/resolv.conf`: the host's (`of_host`), without servers on loopback unless the container shares the host's
/// network: they listen in another namespace.
pub fn resolv_conf(mode: &Mode, of_host: &str) -> String {
    if *mode == Mode::Host {
        return of_host.to_owned();
    }
    of_host.lines().filter(|line| !is_loopback_server(line)).fold(String::new(), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    })
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

    #[test]
    fn hosts_names_the_container_or_is_the_hosts_own() {
        let name: Hostname = "web".parse().unwrap();
        let none = hosts(&Mode::None, &name, &[], "10.0.0.1 secret\n");
        assert!(none.starts_with("127.0.0.1\tlocalhost\n") && none.ends_with("\n127.0.0.1\tweb\n"), "{none}");
        assert!(!none.contains("secret"));
        assert_eq!(hosts(&Mode::Host, &name, &[], "10.0.0.1 x\n"), "10.0.0.1 x\n");
        let joined = Attachment {
            network: String::new(),
            network_id: String::new(),
            link: String::new(),
            host_link: String::new(),
            mac: [0; 6],
            addresses: vec![([10, 5, 0, 2].into(), 24), ("fd05::2".parse().unwrap(), 64)],
            gateways: Vec::new(),
            aliases: Vec::new(),
        };
        let own = hosts(&Mode::Joined(Vec::new()), &name, &[joined], "");
        assert!(own.ends_with("\n10.5.0.2\tweb\nfd05::2\tweb\n"), "{own}");
    }

    #[test]
    fn loopback_servers_stay_with_the_host() {
        let host = "# by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\nsearch a.b\noptions edns0";
        assert_eq!(
            resolv_conf(&Mode::None, host),
            "# by hand\nnameserver 10.0.0.2\nsearch a.b\noptions edns0\n"
        );
        assert_eq!(resolv_conf(&Mode::Host, host), host);
    }
}
