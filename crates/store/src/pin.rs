//! Pins: who needs which image.
//!
//! A pin is a symbolic link to an image ID: it appears and vanishes whole without a sync, which would cost more
//! than starting a container does.

use std::io;
use std::path::PathBuf;

use oci::Digest;

use crate::error::{Error, Result};
use crate::store::{Store, names};

/// A use of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Who uses it, for instance a container's ID.
    pub holder: String,
    /// The image.
    pub image: Digest,
}

impl Store {
    /// Says that `holder` (letters, digits, `_.-`) needs the image until [`Store::unpin`]: it stays even when its
    /// last name goes. A holder has one pin; a second replaces the first.
    pub fn pin(&self, holder: &str, id: &Digest) -> Result<()> {
        let path = self.pin_path(holder)?;
        let _lock = self.shared()?;
        if !self.image_path(id).exists() {
            return Err(Error::NoImage(id.to_string()));
        }
        loop {
            match std::os::unix::fs::symlink(id.as_str(), &path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.unpin(holder)?,
                made => return made.map_err(Error::os("pin", &path)),
            }
        }
    }

    /// Takes a pin away; there need not be one.
    pub fn unpin(&self, holder: &str) -> Result<()> {
        let path = self.pin_path(holder)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::os("unpin", &path)(e)),
            _ => Ok(()),
        }
    }

    /// All pins.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let dir = self.root().join("pins");
        let mut pins = Vec::new();
        for holder in names(&dir)? {
            // Gone meanwhile, or not made by pin(): fsck tells.
            let target = std::fs::read_link(dir.join(&holder)).ok();
            let image = target.and_then(|target| target.to_str()?.parse().ok());
            pins.extend(image.map(|image| Pin { holder, image }));
        }
        Ok(pins)
    }

    fn pin_path(&self, holder: &str) -> Result<PathBuf> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if holder.is_empty() || holder.len() > 200 || holder.starts_with('.') || !holder.bytes().all(fits) {
            return Err(Error::BadHolder(holder.chars().take(300).collect()));
        }
        Ok(self.root().join("pins").join(holder))
    }
}
