//! `rcr save`.

use std::path::PathBuf;

use clap::ValueEnum;
use engine::{ArchiveFormat, Engine};

use super::output;
use crate::error::Error;

/// Write images as an archive that docker, podman and rcr load
#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::DockerArchive)]
    format: Format,
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What docker save writes
    DockerArchive,
    /// A tar of an OCI image layout
    OciArchive,
}

impl Save {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let format = match self.format {
            Format::DockerArchive => ArchiveFormat::Docker,
            Format::OciArchive => ArchiveFormat::Oci,
        };
        output::write(self.output.as_deref(), |out| engine::save(engine, &self.images, format, out))
    }
}
