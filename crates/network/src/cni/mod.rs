//! Networks that CNI plugins make (CNI spec 0.3.0 to 1.1.0): lists of plugins in /etc/cni/net.d, each plugin a program that
//! is told on its standard input and in its environment what to do, and says on its standard output what it did.
//!
//! What a container has of such a network ([`Plugged`]) holds all that is needed to take it back, so that neither the list
//! nor `CNI_PATH` is asked again: both may have changed since.

mod config;
mod namespace;
mod outcome;
mod plugin;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Attachment, Error, Join, Published};

use config::Config;
pub use config::Place;
pub use namespace::{make as make_namespace, remove as remove_namespace};
use outcome::Outcome;
use plugin::{Call, Command};

/// A container's part in one network of plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugged {
    config: Config,
    /// Where the plugins were looked for.
    path: Vec<PathBuf>,
    /// ID of the container.
    container: String,
    /// Name of its link.
    link: String,
    /// What plugins are told that have the capability for it.
    runtime: Map<String, Value>,
    aliases: Vec<String>,
    /// What the last plugin said; nothing before it was plugged in.
    result: Option<Value>,
}

impl Plugged {
    /// The `number`th link of a container, with these wishes. Makes nothing.
    ///
    /// # Errors
    /// There is no such list; no plugin of it has the capability that a wish needs.
    pub fn new(
        place: &Place,
        container: &str,
        number: usize,
        join: &Join,
        ports: &[Published],
    ) -> Result<Self, Error> {
        let config = Config::find(&place.lists, &join.network)?;
        let mut runtime = Map::new();
        let ips: Vec<String> = wished(join.ip, join.ip6);
        let mac = join.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        for (capability, flag, value) in [
            ("ips", "ip=", (!ips.is_empty()).then(|| json!(ips))),
            ("mac", "mac=", mac.map(Value::String)),
            ("aliases", "alias=", (!join.aliases.is_empty()).then(|| json!({ &config.name: join.aliases }))),
            ("portMappings", "--publish", (!ports.is_empty()).then(|| mappings(ports))),
        ] {
            let Some(value) = value else { continue };
            if !config.has_capability(capability) {
                return Err(Error::Invalid(format!(
                    "network cni:{}: no plugin of its list has the capability {capability}, which {flag} wants",
                    config.name
                )));
            }
            runtime.insert(capability.to_owned(), value);
        }
        Ok(Self {
            config,
            path: place.plugins.clone(),
            container: container.to_owned(),
            link: format!("eth{number}"),
            runtime,
            aliases: join.aliases.clone(),
            result: None,
        })
    }

    /// Whether its plugins can pass ports of the host on.
    pub fn publishes(place: &Place, network: &str) -> Result<bool, Error> {
        Ok(Config::find(&place.lists, network)?.has_capability("portMappings"))
    }

    /// Has the plugins connect a network namespace, one after the other.
    ///
    /// # Errors
    /// The plugin that failed, and why. What those before it made is there until [`Plugged::take_back`].
    pub fn plug_in(&mut self, namespace: &Path) -> Result<(), Error> {
        let mut result = None;
        for plugin in &self.config.plugins {
            let said = self.call(Command::Add, namespace, plugin, result.as_ref())?;
            // A plugin that says nothing passes on what was said before it.
            result = said.or(result);
        }
        self.result = result;
        Outcome::read(self.result.as_ref()).map(drop).map_err(|why| {
            Error::Invalid(format!("network cni:{}: the last plugin's result: {why}", self.config.name))
        })
    }

    /// Has the plugins take back what they made, in the reverse order; all of them, also after an error. It is no error
    /// that there is nothing. A namespace that is gone has taken its links along.
    ///
    /// # Errors
    /// The first plugin that failed, and why.
    pub fn take_back(&self, namespace: &Path) -> Result<(), Error> {
        let mut first = Ok(());
        for plugin in self.config.plugins.iter().rev() {
            let done = self.call(Command::Del, namespace, plugin, self.result.as_ref()).map(drop);
            first = first.and(done);
        }
        first
    }

    fn call(
        &self,
        command: Command,
        namespace: &Path,
        plugin: &Map<String, Value>,
        before: Option<&Value>,
    ) -> Result<Option<Value>, Error> {
        let call =
            Call { command, container: &self.container, namespace, link: &self.link, path: &self.path };
        call.make(&self.config.name, &self.config.request(plugin, &self.runtime, before))
    }

    /// As files and listings have networks of rcr's own.
    pub fn attachment(&self) -> Attachment {
        let outcome = Outcome::read(self.result.as_ref()).unwrap_or_default();
        Attachment {
            network: self.config.name.clone(),
            network_id: String::new(),
            link: self.link.clone(),
            host_link: String::new(),
            mac: outcome.mac(&self.link).unwrap_or_default(),
            addresses: outcome.addresses(),
            gateways: outcome.gateways(),
            names: None,
            resolver: None,
            aliases: self.aliases.clone(),
        }
    }

    /// What it says about names, as a resolv.conf, on top of the host's: servers go in the place of the host's.
    pub fn resolv_conf(&self, of_host: String) -> String {
        let outcome = Outcome::read(self.result.as_ref()).unwrap_or_default();
        outcome.resolv_conf(of_host)
    }
}

fn wished(ip: Option<Ipv4Addr>, ip6: Option<Ipv6Addr>) -> Vec<String> {
    let ips = [ip.map(|ip| ip.to_string()), ip6.map(|ip| ip.to_string())];
    ips.into_iter().flatten().collect()
}

/// As the portmap plugin wants them.
fn mappings(ports: &[Published]) -> Value {
    let mapping = |port: &Published| {
        json!({
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.to_string(),
            "hostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        })
    };
    Value::Array(ports.iter().map(mapping).collect())
}
