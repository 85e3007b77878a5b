//! `rcr tag`.

use engine::{Engine, Reference};

use crate::error::Error;

/// Give an image one more name
#[derive(Debug, clap::Args)]
pub(crate) struct Tag {
    /// Name or ID of the image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    name: Reference,
}

impl Tag {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        Ok(engine::tag(engine, &self.image, &self.name)?)
    }
}
