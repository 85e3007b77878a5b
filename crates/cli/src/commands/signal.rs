//! `rcr kill`, `pause`, `unpause`, `wait` and `rename`.

use engine::Engine;

use super::{each, say};
use crate::error::Error;
use crate::value::signal;

/// Send a signal to containers, SIGKILL unless another one is given
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr kill web
  rcr kill -s HUP web")]
pub(crate) struct Kill {
    /// Signal by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal::parse)]
    signal: i32,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Freeze every process of containers
#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Let paused containers go on
#[derive(Debug, clap::Args)]
pub(crate) struct Unpause {
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Give a container another name
#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    /// Name, ID or beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Kill {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        each(&self.containers, |name| engine::kill(engine, name, self.signal))
    }
}

impl Pause {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        each(&self.containers, |name| engine::pause(engine, name))
    }
}

impl Unpause {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        each(&self.containers, |name| engine::unpause(engine, name))
    }
}

impl Wait {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut errors = Vec::new();
        for name in &self.containers {
            match engine::wait(engine, name) {
                Ok(code) => say(&format!("{code}\n"))?,
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
    }
}

impl Rename {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        Ok(engine::rename(engine, &self.container, &self.name)?)
    }
}
