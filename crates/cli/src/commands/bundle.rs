//! `rcr bundle`.

use std::path::PathBuf;

use engine::Engine;

use crate::error::Error;

/// Write an image as a bundle that rcr-runtime, runc and crun run
///
/// DIR gets rootfs, a copy of the image's root file system, and config.json, which runs its command.
#[derive(Debug, clap::Args)]
pub(crate) struct Bundle {
    /// Name or ID of an image, or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to: made if it is missing, else empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Bundle {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        Ok(engine::bundle(engine, &self.image, &self.dir)?)
    }
}
