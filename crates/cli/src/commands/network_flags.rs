//! The flags of `run` and `create` that are about networks and names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::{ContainerLink, Dns, Exposed, Hostname, NetworkMode, PortRequest, RunOptions};

use crate::error::Error;
use crate::value::mac;

/// All of them.
#[derive(Debug, clap::Args)]
pub(crate) struct NetworkFlags {
    /// Network: bridge (the default), none, host, container:NAME, or NAME[:ip=ADDRESS,alias=NAME,mac=ADDRESS] of a network,
    /// or cni:NAME of CNI plugins in /etc/cni/net.d; several may be joined
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Vec<NetworkMode>,
    /// Be found by this name too on the network that users made
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<Hostname>,
    /// IPv4 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Address on the wire, for instance 02:00:00:00:00:01
    #[arg(long, value_name = "ADDRESS", value_parser = mac::parse)]
    mac_address: Option<[u8; 6]>,
    /// Pass a port of the host on to the container, for instance 8080:80 or 127.0.0.1:53:53/udp
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/PROTOCOL]")]
    publish: Vec<PortRequest>,
    /// Pass ports of the host, which rcr chooses, on to every port that the image or --expose names
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Name a port that --publish-all passes on, or a range
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<Exposed>,
    /// Add a name to /etc/hosts; host-gateway is the host's address
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = parse_host)]
    add_host: Vec<(Hostname, Option<IpAddr>)>,
    /// Ask this DNS server instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Look for names in this domain; . for none
    #[arg(long, value_name = "DOMAIN", value_parser = parse_word)]
    dns_search: Vec<String>,
    /// Set an option of resolv.conf(5)
    #[arg(long, alias = "dns-opt", value_name = "OPTION", value_parser = parse_word)]
    dns_option: Vec<String>,
    /// Know another container by a name of its own: in /etc/hosts and the environment, or on a network that users made by the
    /// network's server of names
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<ContainerLink>,
}

/// `NAME:ADDRESS`, an IPv6 one in brackets or not, or `NAME:host-gateway`.
fn parse_host(text: &str) -> Result<(Hostname, Option<IpAddr>), String> {
    let wants = "wants NAME:ADDRESS, for instance db:10.0.0.7 or host.local:host-gateway";
    let (name, address) = text.split_once([':', '=']).ok_or(wants)?;
    let name = name.parse::<Hostname>().map_err(|e| e.to_string())?;
    if address == "host-gateway" {
        return Ok((name, None));
    }
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    Ok((name, Some(address.parse().map_err(|_| wants)?)))
}

/// One word of resolv.conf: nothing that would begin another line or field.
fn parse_word(text: &str) -> Result<String, &'static str> {
    let fits = !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or("wants one word of letters, digits and signs")
}

impl NetworkFlags {
    /// Puts what they ask for into `options`.
    pub(crate) fn apply(self, options: &mut RunOptions) -> Result<(), Error> {
        let usage = |why: String| Error::Usage(format!("{why}; see 'rcr run --help'"));
        let mut mode = NetworkMode::merge(self.network).map_err(|why| usage(format!("--network: {why}")))?;
        let wishes = [
            ("--ip", self.ip.is_some()),
            ("--ip6", self.ip6.is_some()),
            ("--mac-address", self.mac_address.is_some()),
            ("--network-alias", !self.network_alias.is_empty()),
        ];
        if let Some((flag, _)) = wishes.into_iter().find(|(_, given)| *given) {
            let (NetworkMode::Joined(joins) | NetworkMode::Cni(joins)) = &mut mode else {
                return Err(usage(format!("{flag} wants a network, and --network {mode} is none")));
            };
            let [join] = joins.as_mut_slice() else {
                return Err(usage(format!(
                    "{flag} is for one network; with several, write --network NAME:ip=ADDRESS,…"
                )));
            };
            join.ip = self.ip.or(join.ip);
            join.ip6 = self.ip6.or(join.ip6);
            join.mac = self.mac_address.or(join.mac);
            join.aliases.extend(self.network_alias.iter().map(ToString::to_string));
        }
        if !self.link.is_empty() && !matches!(mode, NetworkMode::Joined(_) | NetworkMode::Cni(_)) {
            return Err(usage(format!(
                "conflicting options: --link wants a network that both containers are on, and --network {mode} is none"
            )));
        }
        if let NetworkMode::Container(_) = mode {
            let conflicts = [
                ("--hostname", options.hostname.is_some()),
                ("--publish", !self.publish.is_empty() || self.publish_all),
                ("--expose", !self.expose.is_empty()),
                ("--add-host", !self.add_host.is_empty()),
                ("--dns", !self.dns.is_empty() || !self.dns_search.is_empty() || !self.dns_option.is_empty()),
            ];
            if let Some((flag, _)) = conflicts.into_iter().find(|(_, given)| *given) {
                return Err(usage(format!("conflicting options: {flag} and --network {mode}, whose it is")));
            }
        }
        options.network = mode;
        options.ports = self.publish;
        options.publish_all = self.publish_all;
        options.expose = self.expose;
        options.extra_hosts = self.add_host;
        options.links = self.link;
        options.dns = Dns { servers: self.dns, search: self.dns_search, options: self.dns_option };
        Ok(())
    }
}
