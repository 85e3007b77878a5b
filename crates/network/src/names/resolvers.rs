//! The host's own resolvers, as /etc/resolv.conf names them when they are needed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use sys::rtnetlink::Netlink;

/// How many resolv.conf(5) uses (MAXNS).
const MOST: usize = 3;
const PORT: u16 = 53;

/// Those of the host. One on loopback is as good as any: who asks is in the host's network.
pub(super) fn of_host() -> Vec<SocketAddr> {
    let text = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let number =
        |link: &str| Netlink::open().and_then(|netlink| netlink.link(link)).ok().map(|link| link.index);
    let found = named_by(&String::from_utf8_lossy(&text), number);
    // What resolv.conf(5) says of a file without any.
    if found.is_empty() { vec![(Ipv4Addr::LOCALHOST, PORT).into()] } else { found }
}

fn named_by(text: &str, number: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let server = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        let (address, zone) = server.split_once('%').unwrap_or((server, ""));
        match address.parse().ok()? {
            IpAddr::V6(ip) if !zone.is_empty() => Some(SocketAddrV6::new(ip, PORT, 0, number(zone)?).into()),
            ip => Some(SocketAddr::new(ip, PORT)),
        }
    });
    servers.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_at_most_with_their_links() {
        let text = "search a\nnameserver 127.0.0.53 # stub\n;nameserver 1.1.1.1\nnameserver fe80::1%eth0\n\
                    nameserver x\nnameserver fe80::2%none\nnameserver ::1\nnameserver 10.0.0.1\n";
        let found = named_by(text, |link| (link == "eth0").then_some(7));
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.53:53", "[fe80::1%7]:53", "[::1]:53"]);
        assert!(named_by("", |_| None).is_empty());
    }
}
