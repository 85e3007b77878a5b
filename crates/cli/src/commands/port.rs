//! `rcr port`.

use engine::{Engine, Published};

use super::say;
use crate::error::Error;

/// List the ports of the host that are passed on to a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr port web
  rcr port web 80/tcp")]
pub(crate) struct Port {
    /// Name, ID or beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only for this port of the container, for instance 80 or 53/udp
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

impl Port {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let ports = engine::ports(engine, &self.container)?;
        let host = |port: &Published| {
            let text = port.to_string();
            text.split("->").next().unwrap_or_default().to_owned()
        };
        let inside = |port: &Published| format!("{}/{}", port.container_port, port.protocol);
        let Some(wanted) = self.port else {
            let lines = ports.iter().map(|port| format!("{} -> {}\n", inside(port), host(port)));
            return say(&lines.collect::<String>());
        };
        let wanted = if wanted.contains('/') { wanted } else { format!("{wanted}/tcp") };
        let found: String =
            ports.iter().filter(|port| inside(port) == wanted).map(|port| host(port) + "\n").collect();
        if found.is_empty() {
            return Err(engine::Error::Invalid(format!(
                "no public port '{wanted}' published for {}",
                self.container
            ))
            .into());
        }
        say(&found)
    }
}
