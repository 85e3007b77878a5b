//! `rcr rmi`.

use engine::{Engine, RemovedImage};

use super::say;
use crate::error::Error;

/// Remove images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr rmi python:3.8.5-alpine
  rcr rmi $(rcr images -q --filter dangling=true)")]
pub(crate) struct Rmi {
    /// Remove all names of an image given by ID; an image that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Rmi {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut errors = Vec::new();
        for image in &self.images {
            match engine::remove_image(engine, image, self.force) {
                Ok(removed) => say(&told(&removed))?,
                Err(engine::Error::NoSuchImage(_)) if self.force => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
    }
}

fn told(removed: &[RemovedImage]) -> String {
    let line = |removed: &RemovedImage| match removed {
        RemovedImage::Untagged(name) => format!("Untagged: {}\n", name.familiar()),
        RemovedImage::Deleted(id) => format!("Deleted: {id}\n"),
    };
    removed.iter().map(line).collect()
}
