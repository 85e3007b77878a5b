//! `rcr start`.

use engine::{AttachOptions, Engine};

use super::{attach, each};
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::value::keys;

/// Start containers that do not run
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// Show the container's output and pass signals on; exits with its code
    #[arg(short, long)]
    attach: bool,
    /// Pass standard input on, as far as the container was made with -i
    #[arg(short, long)]
    interactive: bool,
    /// Keys that let go of the container's terminal
    #[arg(long, value_name = "KEYS", default_value = keys::USUAL, value_parser = keys::parse)]
    detach_keys: std::vec::Vec<u8>,
    /// Every container that does not run; for instance at boot, with --filter restart-policy=always
    #[arg(long)]
    all: bool,
    /// With --all, those that fit: restart-policy=POLICY
    #[arg(short, long, value_name = "FILTER", value_parser = parse_filter, requires = "all")]
    filter: Vec<Filter>,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "CONTAINER", required_unless_present = "all", conflicts_with = "all")]
    containers: Vec<String>,
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let filter = filter::parse(text, &["restart-policy"])?;
    match ["no", "on-failure", "always", "unless-stopped"].contains(&filter.value.as_str()) {
        true => Ok(filter),
        false => Err("restart-policy wants no, on-failure, always or unless-stopped".to_owned()),
    }
}

impl Start {
    pub(crate) fn execute(self, engine: &Engine) -> Result<u8, Error> {
        let names = match self.all {
            true => {
                let policies: Vec<String> = self.filter.into_iter().map(|filter| filter.value).collect();
                engine::startable(engine, &policies)?
            }
            false => self.containers,
        };
        if !self.attach && !self.interactive {
            return each(&names, |name| engine::start(engine, name)).map(|()| 0);
        }
        let [name] = &names[..] else {
            return Err(Error::Usage(
                "-a and -i want one container; leave them out to start several".to_owned(),
            ));
        };
        let options = AttachOptions {
            stdin: self.interactive && attach::opens_stdin(engine, name)?,
            stdout: true,
            stderr: true,
            sig_proxy: true,
            detach_keys: self.detach_keys,
        };
        attach::code(engine::start_attached(engine, name, &options)?, name)
    }
}
