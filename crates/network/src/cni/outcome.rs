//! What the last plugin says: addresses, links, servers of names.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::parse_mac;

/// A result, as far as rcr uses it. Routes are set by the plugins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Outcome {
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    mac: String,
    /// Path of the namespace it is in; empty for one of the host.
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: IpNet,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dns {
    nameservers: Vec<String>,
    domain: String,
    search: Vec<String>,
    options: Vec<String>,
}

impl Outcome {
    /// Nothing at all is a result, too.
    pub(super) fn read(result: Option<&Value>) -> Result<Self, String> {
        let Some(result) = result else { return Ok(Self::default()) };
        Self::deserialize(result).map_err(|e| e.to_string())
    }

    pub(super) fn addresses(&self) -> Vec<(IpAddr, u8)> {
        self.ips.iter().map(|ip| (ip.address.addr(), ip.address.prefix_len())).collect()
    }

    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.ips.iter().filter_map(|ip| ip.gateway).collect()
    }

    /// Address on the wire of the container's link.
    pub(super) fn mac(&self, link: &str) -> Option<[u8; 6]> {
        let is_it = |interface: &&Interface| interface.name == link && !interface.sandbox.is_empty();
        self.interfaces.iter().find(is_it).and_then(|interface| parse_mac(&interface.mac))
    }

    /// A resolv.conf. Words with blanks or line ends in them would be more than they say they are.
    pub(super) fn resolv_conf(&self, of_host: String) -> String {
        let is_word = |word: &&String| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
        let mut text = of_host;
        if self.dns.nameservers.iter().any(|server| server.parse::<IpAddr>().is_ok()) {
            text = String::new();
            for server in self.dns.nameservers.iter().filter(|server| server.parse::<IpAddr>().is_ok()) {
                text += &format!("nameserver {server}\n");
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut search: Vec<&String> = self.dns.search.iter().filter(is_word).collect();
        if search.is_empty() {
            search.extend(Some(&self.dns.domain).filter(is_word));
        }
        let options: Vec<&String> = self.dns.options.iter().filter(is_word).collect();
        for (key, words) in [("search", search), ("options", options)] {
            if !words.is_empty() {
                let words: Vec<&str> = words.into_iter().map(String::as_str).collect();
                text += &format!("{key} {}\n", words.join(" "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_of_bridge_and_host_local() {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                { "name": "cni0", "mac": "02:00:00:00:00:01" },
                { "name": "veth1", "mac": "02:00:00:00:00:02" },
                { "name": "eth0", "mac": "02:00:00:00:00:03", "sandbox": "/run/netns/x" },
            ],
            "ips": [
                { "interface": 2, "address": "10.9.0.5/16", "gateway": "10.9.0.1" },
                { "interface": 2, "address": "fd09::5/64", "version": "6" },
            ],
            "routes": [{ "dst": "0.0.0.0/0" }],
            "dns": { "nameservers": ["10.9.0.1"], "domain": "a.b", "search": ["x", "y z"], "options": ["ndots:2"] },
        });
        let outcome = Outcome::read(Some(&result)).unwrap();
        assert_eq!(
            outcome.addresses(),
            [("10.9.0.5".parse().unwrap(), 16), ("fd09::5".parse().unwrap(), 64)]
        );
        assert_eq!(outcome.gateways(), ["10.9.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(outcome.mac("eth0"), Some([2, 0, 0, 0, 0, 3]));
        assert_eq!(outcome.mac("veth1"), None, "it is the host's");
        assert_eq!(
            outcome.resolv_conf("nameserver 9.9.9.9".into()),
            "nameserver 10.9.0.1\nsearch x\noptions ndots:2\n"
        );
    }

    #[test]
    fn nothing_said_is_the_hosts() {
        let outcome = Outcome::read(None).unwrap();
        assert!(outcome.addresses().is_empty());
        assert_eq!(outcome.resolv_conf("nameserver 9.9.9.9".into()), "nameserver 9.9.9.9\n");
        let domain = json!({ "dns": { "domain": "a.b", "nameservers": ["no address\nnameserver 6.6.6.6"] } });
        let domain = Outcome::read(Some(&domain)).unwrap();
        assert_eq!(domain.resolv_conf("nameserver 9.9.9.9\n".into()), "nameserver 9.9.9.9\nsearch a.b\n");
        assert!(Outcome::read(Some(&json!({ "ips": [{ "address": "x" }] }))).is_err());
    }
}
