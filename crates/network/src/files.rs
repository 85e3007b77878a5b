//! What the container finds in `/etc/hosts` and `/etc/resolv.conf`.

use std::net::IpAddr;

use crate::{Hostname, Mode};

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::\tip6-localnet\n\
                        ff00::\tip6-mcastprefix\n\
                        ff02::1\tip6-allnodes\n\
                        ff02::2\tip6-allrouters\n";

/// `/etc/hosts`: in [`Mode::Host`] a copy of the host's (`of_host`), else the loopback names, with the container's
/// own name on loopback too, since programs that look up themselves fail without it.
pub fn hosts(mode: Mode, hostname: &Hostname, of_host: &str) -> String {
    match mode {
        Mode::Host => of_host.to_owned(),
        Mode::None => format!("{LOOPBACK}127.0.0.1\t{hostname}\n"),
    }
}

/// `/etc/resolv.conf`: the host's (`of_host`), without servers on loopback unless the container shares the host's
/// network: they listen in another namespace.
pub fn resolv_conf(mode: Mode, of_host: &str) -> String {
    match mode {
        Mode::Host => of_host.to_owned(),
        Mode::None => {
            of_host.lines().filter(|line| !is_loopback_server(line)).fold(String::new(), |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            })
        }
    }
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
        let none = hosts(Mode::None, &name, "10.0.0.1 secret\n");
        assert!(none.starts_with("127.0.0.1\tlocalhost\n") && none.ends_with("\n127.0.0.1\tweb\n"), "{none}");
        assert!(!none.contains("secret"));
        assert_eq!(hosts(Mode::Host, &name, "10.0.0.1 x\n"), "10.0.0.1 x\n");
    }

    #[test]
    fn loopback_servers_stay_with_the_host() {
        let host = "# by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\nsearch a.b\noptions edns0";
        assert_eq!(
            resolv_conf(Mode::None, host),
            "# by hand\nnameserver 10.0.0.2\nsearch a.b\noptions edns0\n"
        );
        assert_eq!(resolv_conf(Mode::Host, host), host);
    }
}
