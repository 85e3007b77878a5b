//! `rcr load`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use engine::Engine;

use super::say;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Stream};

/// Read the images of an archive that save, docker or podman wrote
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Read a file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Do not show how far it is
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        if self.input.is_none() && io::stdin().is_terminal() {
            return Err(Error::Usage("standard input is a terminal; use -i FILE or redirect it".to_owned()));
        }
        let interrupt = Interrupt::listen();
        let progress = match self.quiet || !io::stderr().is_terminal() {
            true => Progress::quiet(),
            false => Progress::new(Stream::Err, None),
        };
        let loaded =
            engine::load(engine, self.input.as_deref(), &|event| progress.tell(event), interrupt.asked());
        progress.end();
        let loaded = loaded.map_err(|error| interrupt.or(error))?;
        let mut text = String::new();
        for image in loaded {
            for name in &image.names {
                text += &format!("Loaded image: {}\n", name.familiar());
            }
            if image.names.is_empty() {
                text += &format!("Loaded image ID: {}\n", image.id);
            }
        }
        say(&text)
    }
}
