//! `rcr rm`.

use engine::{Engine, RemoveOptions};

use super::say;
use crate::error::Error;

/// Remove containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr rm -f web
  rcr rm $(rcr ps -aq --filter status=exited)")]
pub(crate) struct Rm {
    /// Kill a container that runs; one that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Remove the volumes without a name that belong to the container
    #[arg(short, long)]
    volumes: bool,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let options = RemoveOptions { force: self.force, volumes: self.volumes };
        let mut errors = Vec::new();
        for container in &self.containers {
            match engine::remove(engine, container, options) {
                // As docker: what was typed comes back, so that it can be piped on.
                Ok(_) => say(&format!("{container}\n"))?,
                Err(engine::Error::NoSuchContainer(_)) if self.force => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
    }
}
