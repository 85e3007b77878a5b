//! `rcr network`: networks that containers can be on.

use std::net::{Ipv4Addr, Ipv6Addr};

use engine::{Driver, Engine, Hostname, Join, Network, NetworkUse, NewNetwork};
use serde_json::{Map, Value, json};

use super::{inspect, label_list, on_terminal, say};
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::print::calendar;
use crate::print::format::{Format, Listing};
use crate::value::{label, mac};

/// Make, list and remove networks
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(Create),
    Ls(Ls),
    Inspect(Inspect),
    Rm(Rm),
    Prune(Prune),
    Connect(Connect),
    Disconnect(Disconnect),
}

/// Make a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr network create --subnet 10.9.0.0/24 back
  rcr network create --internal db
  rcr network create -d macvlan -o parent=eth0 wire")]
pub(crate) struct Create {
    /// How containers are joined to it: bridge, macvlan or ipvlan
    #[arg(short, long, value_name = "DRIVER", default_value_t)]
    driver: Driver,
    /// Its addresses, for instance 10.9.0.0/24; chosen if none are given. Once for IPv4, once for IPv6
    #[arg(long, value_name = "NET")]
    subnet: Vec<String>,
    /// Address of the host in a subnet, or of the router of a macvlan; the first one if none is given
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Give containers that ask for no address one of these
    #[arg(long, value_name = "NET")]
    ip_range: Vec<String>,
    /// Give it IPv6 too
    #[arg(long)]
    ipv6: bool,
    /// Let nothing beyond it be reached from it
    #[arg(long)]
    internal: bool,
    /// Set an option: parent=LINK (macvlan, ipvlan), com.docker.network.bridge.name=LINK,
    /// com.docker.network.driver.mtu=BYTES
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = label::parse)]
    opt: Vec<(String, String)>,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parse)]
    label: Vec<(String, String)>,
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// List networks
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(crate) struct Ls {
    /// Show those that fit: id=, name=, driver=, label=KEY[=VALUE]
    #[arg(short, long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<Filter>,
    /// table, json, or a Go template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Show IDs in full
    #[arg(long)]
    no_trunc: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
}

/// Show everything about networks, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// Put a container on a network too
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Let it be found by this name too
    #[arg(long, value_name = "NAME")]
    alias: Vec<Hostname>,
    /// IPv4 address to have
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address to have
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Address on the wire to have, for instance 02:00:00:00:00:01
    #[arg(long, alias = "mac", value_name = "ADDRESS", value_parser = mac::parse)]
    mac_address: Option<[u8; 6]>,
    /// Name, ID or beginning of an ID of the network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name, ID or beginning of an ID of the container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Take a container off a network
#[derive(Debug, clap::Args)]
pub(crate) struct Disconnect {
    /// That it is not on it, or not there, is no error
    #[arg(short, long)]
    force: bool,
    /// Name, ID or beginning of an ID of the network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name, ID or beginning of an ID of the container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Remove networks
#[derive(Debug, clap::Args)]
#[command(visible_alias = "remove")]
pub(crate) struct Rm {
    /// One that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// Remove networks that no container is on
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove those that fit only: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter::parse_prune)]
    filter: Vec<Filter>,
    /// Do not ask (nothing asks here; docker's users type it)
    #[arg(short, long)]
    force: bool,
}

const FIELDS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

fn parse_filter(text: &str) -> Result<Filter, String> {
    filter::parse(text, &["id", "name", "driver", "label"])
}

impl Command {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        match self {
            Command::Create(create) => create.execute(engine),
            Command::Ls(ls) => ls.execute(engine),
            Command::Inspect(inspect) => inspect.execute(engine),
            Command::Rm(rm) => rm.execute(engine),
            Command::Connect(connect) => {
                let join = Join {
                    network: connect.network,
                    ip: connect.ip,
                    ip6: connect.ip6,
                    mac: connect.mac_address,
                    aliases: connect.alias.iter().map(ToString::to_string).collect(),
                };
                Ok(engine::connect_network(engine, &connect.container, &join)?)
            }
            Command::Disconnect(Disconnect { force, network, container }) => {
                Ok(engine::disconnect_network(engine, &container, &network, force)?)
            }
            Command::Prune(Prune { filter, .. }) => {
                let removed = prune(engine, &filter)?;
                say(&removed.iter().map(|name| format!("{name}\n")).collect::<String>())
            }
        }
    }
}

/// Removes the networks without containers that fit, and tells their names.
pub(super) fn prune(engine: &Engine, filters: &[Filter]) -> Result<Vec<String>, Error> {
    let fits = |network: &Network| filter::prunable(filters, Some(network.created), &labels(network));
    Ok(engine::prune_networks(engine, fits)?)
}

impl Create {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        say(&format!("{}\n", engine::create_network(engine, self.new_network()?)?.id))
    }

    fn new_network(self) -> Result<NewNetwork, Error> {
        let usage =
            |flag: &str, text: &str, wants: &str| Error::Usage(format!("{flag} {text:?}: wants {wants}"));
        let net = |flag, text: &String| {
            text.parse().map_err(|_| usage(flag, text, "a network such as 10.9.0.0/24 or fd00:9::/64"))
        };
        let mut new = NewNetwork {
            name: self.name,
            driver: self.driver,
            ipv6: self.ipv6,
            internal: self.internal,
            labels: self.label.into_iter().collect(),
            ..NewNetwork::default()
        };
        for text in &self.subnet {
            new.subnets.push((net("--subnet", text)?, None, None));
        }
        // Gateways and ranges belong to the subnet that they lie in.
        for text in &self.gateway {
            let ip = text.parse().map_err(|_| usage("--gateway", text, "an address"))?;
            let of = new.subnets.iter_mut().find(|(net, ..)| net.contains(&ip));
            of.ok_or_else(|| usage("--gateway", text, "an address in one of the --subnet"))?.1 = Some(ip);
        }
        for text in &self.ip_range {
            let range = net("--ip-range", text)?;
            let of = new.subnets.iter_mut().find(|(net, ..)| net.contains(&range));
            of.ok_or_else(|| usage("--ip-range", text, "a part of one of the --subnet"))?.2 = Some(range);
        }
        for (key, value) in self.opt {
            match key.as_str() {
                "parent" => new.parent = Some(value),
                "com.docker.network.bridge.name" => new.bridge = Some(value),
                "mtu" | "com.docker.network.driver.mtu" => {
                    let mtu = value.parse().ok().filter(|mtu| (68..=65535).contains(mtu));
                    new.mtu = Some(mtu.ok_or_else(|| usage("--opt mtu", &value, "68 to 65535 bytes"))?);
                }
                _ => {
                    return Err(usage(
                        "--opt",
                        &key,
                        "parent, com.docker.network.bridge.name or com.docker.network.driver.mtu",
                    ));
                }
            }
        }
        Ok(new)
    }
}

impl Ls {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut networks = engine::networks(engine)?;
        networks.retain(|network| filter::pass(&self.filter, |key, value| holds(network, key, value)));
        let id = |network: &Network| {
            let length = if self.no_trunc { network.id.len() } else { 12 };
            network.id.get(..length).unwrap_or(&network.id).to_owned()
        };
        if self.quiet {
            return say(&networks.iter().map(|network| id(network) + "\n").collect::<String>());
        }
        let rows = networks.iter().map(|network| fields(network, &id(network))).collect();
        let columns = vec!["ID", "Name", "Driver", "Scope"];
        say(&Listing { fields: FIELDS, columns, rows }.render(&self.format, on_terminal())?)
    }
}

fn labels(network: &Network) -> Vec<(String, String)> {
    network.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn holds(network: &Network, key: &str, value: &str) -> bool {
    match key {
        "id" => network.id.starts_with(value),
        "name" => filter::has_name(&network.name, value),
        "driver" => network.driver.to_string() == value,
        "label" => filter::has_label(&labels(network), value),
        _ => false,
    }
}

fn has_ipv6(network: &Network) -> bool {
    network.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6())
}

fn fields(network: &Network, id: &str) -> Map<String, Value> {
    let fields = json!({
        "ID": id,
        "Name": network.name,
        "Driver": network.driver.to_string(),
        "Scope": "local",
        "IPv6": has_ipv6(network).to_string(),
        "Internal": network.internal.to_string(),
        "Labels": label_list(&labels(network)),
        "CreatedAt": calendar::timestamp(network.created),
    });
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Inspect {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        inspect::show(&self.networks, &self.format, |network| describe(engine, network))
    }
}

/// A network by name, ID or beginning of an ID, in docker's shape.
pub(super) fn describe(engine: &Engine, network: &str) -> Result<Value, engine::Error> {
    engine::inspect_network(engine, network).map(|used| shown(&used))
}

/// In docker's shape.
fn shown(used: &NetworkUse) -> Value {
    let NetworkUse { network, containers } = used;
    let config = network.subnets.iter().map(|subnet| {
        let mut one = json!({ "Subnet": subnet.subnet, "Gateway": subnet.gateway });
        if let (Some(range), Value::Object(map)) = (subnet.ip_range, &mut one) {
            map.insert("IPRange".to_owned(), json!(range));
        }
        one
    });
    let containers = containers.iter().map(|(container, attachment)| {
        let of = |ipv4: bool| attachment.addresses.iter().find(move |(ip, _)| ip.is_ipv4() == ipv4);
        let text = |ipv4| of(ipv4).map_or_else(String::new, |(ip, prefix)| format!("{ip}/{prefix}"));
        let value = json!({
            "Name": container.name,
            "MacAddress": attachment.mac.map(|byte| format!("{byte:02x}")).join(":"),
            "IPv4Address": text(true),
            "IPv6Address": text(false),
        });
        (container.id.clone(), value)
    });
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": calendar::timestamp(network.created),
        "Scope": "local",
        "Driver": network.driver.to_string(),
        "EnableIPv6": has_ipv6(network),
        "IPAM": { "Driver": "default", "Config": config.collect::<Vec<_>>() },
        "Internal": network.internal,
        "Link": network.link,
        "Containers": containers.collect::<Map<_, _>>(),
        "Labels": network.labels,
    })
}

impl Rm {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut errors = Vec::new();
        for network in &self.networks {
            match engine::remove_network(engine, network) {
                Ok(_) => say(&format!("{network}\n"))?,
                Err(engine::Error::Network(e)) if self.force && e.is_not_found() => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
    }
}
