//! Images: records, names, pins.

use std::path::PathBuf;
use std::time::SystemTime;

use oci::image::ImageConfiguration;
use oci::{Digest, Reference};

use crate::error::Result;
use crate::store::{Reclaimed, Store};

/// An image that is completely here.
#[derive(Debug, Clone)]
pub struct Image {
    /// Image ID: the digest of the config.
    pub id: Digest,
    /// Digest of the manifest it came with last.
    pub manifest: Digest,
    /// The config as it was fetched, byte for byte.
    pub raw_config: Vec<u8>,
    /// The same, parsed.
    pub config: ImageConfiguration,
    /// Diff directories, absolute, lowest layer first. Empty for an image without layers.
    pub layers: Vec<PathBuf>,
    /// Bytes of file content in all layers, as docker counts an image's size.
    pub size: u64,
    /// When it was pulled.
    pub pulled: SystemTime,
}

/// A use of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Who uses it, for instance a container's ID.
    pub holder: String,
    /// The image.
    pub image: Digest,
}

/// What a removal did, in the order in which it did it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away.
    pub untagged: Vec<Reference>,
    /// The image, if it went too.
    pub deleted: Option<Digest>,
    /// What that gave back.
    pub reclaimed: Reclaimed,
}

impl Store {
    /// Gives an image a name, taking it away from another that had it. A reference with a digest keeps only
    /// the digest, as docker does.
    pub fn tag(&self, reference: &Reference, id: &Digest) -> Result<()> {
        let _ = (reference, id);
        unimplemented!()
    }

    /// Takes a name away; the image stays. Answers which image had it.
    pub fn untag(&self, reference: &Reference) -> Result<Option<Digest>> {
        let _ = reference;
        unimplemented!()
    }

    /// All names, sorted, and the images that have them.
    pub fn names(&self) -> Result<Vec<(Reference, Digest)>> {
        unimplemented!()
    }

    /// All images, newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        unimplemented!()
    }

    /// Finds an image by name (docker's normalisation), full ID, or the beginning of an ID, in this order.
    pub fn resolve(&self, wanted: &str) -> Result<Image> {
        let _ = wanted;
        unimplemented!()
    }

    /// The image with this ID.
    pub fn image(&self, id: &Digest) -> Result<Image> {
        let _ = id;
        unimplemented!()
    }

    /// Says that `holder` (letters, digits, `_.-`) needs the image until [`Store::unpin`]: its layers stay even
    /// when its last name goes. A holder has one pin; a second replaces the first.
    pub fn pin(&self, holder: &str, id: &Digest) -> Result<()> {
        let _ = (holder, id);
        unimplemented!()
    }

    /// Takes a pin away; there need not be one.
    pub fn unpin(&self, holder: &str) -> Result<()> {
        let _ = holder;
        unimplemented!()
    }

    /// All pins.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        unimplemented!()
    }

    /// What `rmi` does. A name is taken away, and with the last one the image goes. By ID the image goes, unless
    /// it has several names (`force` takes them all). A pinned image is refused; with `force` only its names go.
    pub fn remove(&self, wanted: &str, force: bool) -> Result<Removed> {
        let _ = (wanted, force);
        unimplemented!()
    }
}
