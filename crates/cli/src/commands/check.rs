//! `rcr container-check`: not for people. What a container's monitor starts to check the container's health.

use engine::Engine;

use crate::error::Error;

/// The exit code that asks for the next check after the start interval; `rcr-monitor` knows it too.
const EARLY: u8 = 3;

/// Check a container's health once
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Check {
    id: String,
}

impl Check {
    pub(crate) fn execute(self, engine: &Engine) -> Result<u8, Error> {
        Ok(if engine::check(engine, &self.id)? { EARLY } else { 0 })
    }
}
