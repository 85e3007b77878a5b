//! `rcr bundle`.

use std::path::PathBuf;

use engine::{Engine, Platform, PullOptions};

use crate::error::Error;
use crate::progress::{Progress, Stream};

/// Write an image as a bundle that rcr-runtime, runc and crun run
///
/// DIR gets rootfs, a copy of the image's root file system, and config.json, which runs its command.
#[derive(Debug, clap::Args)]
pub(crate) struct Bundle {
    /// Take the image for OS/ARCH[/VARIANT] instead of the host's, where it has to be pulled
    #[arg(long)]
    platform: Option<Platform>,
    /// Name or ID of an image, or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to: made if it is missing, else empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Bundle {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        match engine::bundle(engine, &self.image, &self.dir) {
            Err(engine::Error::NoSuchImage(_)) => {}
            done => return Ok(done?),
        }
        let options = PullOptions { platform: self.platform, ..PullOptions::new(&self.image) };
        let (pulled, _) = super::pull::fetch(engine, &options, Progress::new(Stream::Err, None))?;
        Ok(engine::bundle(engine, pulled.id.as_str(), &self.dir)?)
    }
}
