//! `rcr export`.

use std::path::PathBuf;

use engine::Engine;

use super::output;
use crate::error::Error;

/// Write a container's file system as a tar
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name, ID or beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Export {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        output::write(self.output.as_deref(), |out| engine::export(engine, &self.container, out))
    }
}
