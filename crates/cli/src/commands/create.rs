//! `rcr create`.

use engine::Engine;

use super::run::with_image;
use super::say;
use crate::commands::container_flags::ContainerFlags;
use crate::error::Error;

/// Make a container from an image without starting it, and print its ID
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_usage = "rcr create [OPTIONS] IMAGE [COMMAND] [ARG]...")]
#[command(after_help = "Examples:
  rcr create --name web -p 8080:80 python:3.8.5-alpine python3 -m http.server 80")]
pub(crate) struct Create {
    #[command(flatten)]
    container: ContainerFlags,
}

impl Create {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let quiet = self.container.quiet;
        let options = self.container.options()?;
        let id =
            with_image(&options, quiet, |events, cancel| engine::create(engine, &options, events, cancel))?;
        say(&format!("{id}\n"))
    }
}
