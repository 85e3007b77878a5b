//! `rcr stop` and `rcr restart`.

use std::time::Duration;

use engine::Engine;

use super::each;
use crate::error::Error;

/// Stop containers: their stop signal, and SIGKILL when they do not end
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr stop web
  rcr stop -t 2 web db     SIGKILL after two seconds")]
pub(crate) struct Stop {
    #[command(flatten)]
    timeout: Timeout,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Stop containers, and start them again
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    timeout: Timeout,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Timeout {
    /// Seconds after which SIGKILL follows; -1 for never [default: the container's --stop-timeout, or 10]
    #[arg(
        short = 't',
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
}

impl Timeout {
    fn grace(&self) -> Option<Option<Duration>> {
        self.time.map(|seconds| u64::try_from(seconds).ok().map(Duration::from_secs))
    }
}

impl Stop {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let grace = self.timeout.grace();
        each(&self.containers, |name| engine::stop(engine, name, grace))
    }
}

impl Restart {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let grace = self.timeout.grace();
        each(&self.containers, |name| engine::restart(engine, name, grace))
    }
}
