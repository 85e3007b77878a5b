//! Receives one image.

use oci::Digest;
use oci::sink::{ImageSink, Layer, LayerSlot, SinkError};

/// Receives one image; see [`crate::Store::sink`]. Dropped without a commit, only whole layers stay, until the
/// next garbage collection.
#[derive(Debug)]
pub struct Sink {}

impl ImageSink for Sink {
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SinkError> {
        let _ = digest;
        unimplemented!()
    }

    fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SinkError> {
        let _ = (digest, bytes);
        unimplemented!()
    }

    fn begin(&self, layers: &[Layer]) -> Result<(), SinkError> {
        let _ = layers;
        unimplemented!()
    }

    fn layer(&self, index: usize) -> Result<LayerSlot, SinkError> {
        let _ = index;
        unimplemented!()
    }

    fn commit(&self, manifest: &Digest, config: &Digest) -> Result<(), SinkError> {
        let _ = (manifest, config);
        unimplemented!()
    }
}
