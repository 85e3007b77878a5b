//! `rcr attach`.

use engine::{AttachOptions, Attended, Engine};

use crate::error::Error;
use crate::value::keys;

/// Connect this terminal with a container that runs in the background
///
/// ctrl-p ctrl-q lets go of a container's terminal. Exits with the container's code, or 0 after that.
#[derive(Debug, clap::Args)]
pub(crate) struct Attach {
    /// Keys that let go of the container's terminal
    #[arg(long, value_name = "KEYS", default_value = keys::USUAL, value_parser = keys::parse)]
    detach_keys: std::vec::Vec<u8>,
    /// Do not pass standard input on
    #[arg(long)]
    no_stdin: bool,
    /// false: signals end rcr, and do not reach the container
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true)]
    sig_proxy: bool,
    /// Name, ID or beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Attach {
    pub(crate) fn execute(self, engine: &Engine) -> Result<u8, Error> {
        let options = AttachOptions {
            stdin: !self.no_stdin && opens_stdin(engine, &self.container)?,
            stdout: true,
            stderr: true,
            sig_proxy: self.sig_proxy,
            detach_keys: self.detach_keys,
        };
        code(engine::attach(engine, &self.container, &options)?, &self.container)
    }
}

/// Whether the container was made with `-i`.
pub(super) fn opens_stdin(engine: &Engine, name: &str) -> Result<bool, Error> {
    let found = engine::inspect(engine, name, Some(engine::ObjectKind::Container), false)?;
    Ok(found["Config"]["OpenStdin"] == true)
}

/// docker's keys.
pub(super) fn usual_keys() -> Vec<u8> {
    keys::parse(keys::USUAL).unwrap_or_default()
}

/// The exit code for how it ended.
pub(super) fn code(attended: Attended, name: &str) -> Result<u8, Error> {
    match attended {
        Attended::Ended(code) => Ok(code),
        Attended::Detached => Ok(0),
        Attended::Dropped => Err(engine::Error::Invalid(format!(
            "the connection to container {name} broke: this side was too slow, or its monitor was killed; attach again, \
             or read rcr logs {name}"
        ))
        .into()),
    }
}
