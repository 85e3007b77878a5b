//! Where a source of images (a registry, an OCI layout, an archive) meets the store.
//!
//! The source finds manifests and streams bytes; whoever implements [`ImageSink`] keeps them. Neither crate
//! knows the other. Methods may block on disks and locks: an asynchronous caller moves them off its executor.

use crate::digest::Digest;

/// What a receiver failed with. The sender adds which blob of which image it was about.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Wraps an error of a receiver where the bytes are at fault (digest, DiffID, gzip, tar) and not this host
/// (disk, locks): the sender may know a better place to fetch them from.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct WrongContent(pub SinkError);

/// One layer of an image, as its manifest and config describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Position in the image, 0 = lowest.
    pub index: usize,
    /// Digest of the bytes as they are sent (compressed or not).
    pub digest: Digest,
    /// Length of those bytes.
    pub size: u64,
    /// Media type from the descriptor; a hint, the first bytes decide.
    pub media_type: String,
    /// Digest of the uncompressed tar (config `rootfs.diff_ids[index]`).
    pub diff_id: Digest,
}

/// Answer to "do you want this layer?".
pub enum LayerSlot {
    /// It is unpacked already, or another process just did it.
    Present,
    /// Another process is fetching it right now: ask again in a while. So the sender can be interrupted
    /// while it waits, and fetches the other layers meanwhile.
    Busy,
    /// Stream its bytes here.
    Fetch(Box<dyn LayerWriter>),
}

/// Receives the bytes of one layer. Dropped without [`LayerWriter::finish`], all it wrote vanishes.
pub trait LayerWriter: Send {
    /// Takes the next bytes in order; blocks while the receiver is behind.
    /// Fails as soon as the receiver knows that the layer cannot become valid.
    fn write(&mut self, chunk: &[u8]) -> Result<(), SinkError>;

    /// All bytes were sent: checks size, digest and DiffID, and makes the layer visible.
    fn finish(self: Box<Self>) -> Result<(), SinkError>;
}

/// Receives one image.
///
/// Order of calls: [`document`](Self::document) / [`put_document`](Self::put_document) for manifest and config,
/// then [`begin`](Self::begin) once with all layers, then [`layer`](Self::layer) for each layer — started in
/// order of index, from several threads at once — and last [`commit`](Self::commit).
pub trait ImageSink: Send + Sync {
    /// A manifest or config that is already here, verified. `Ok(None)`: not here.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SinkError>;

    /// Keeps a manifest, index or config; the receiver checks `bytes` against `digest`.
    fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SinkError>;

    /// Announces all layers, lowest first.
    fn begin(&self, layers: &[Layer]) -> Result<(), SinkError>;

    /// Asks for one announced layer; does not wait for other processes (see [`LayerSlot::Busy`]).
    fn layer(&self, index: usize) -> Result<LayerSlot, SinkError>;

    /// All layers are there: records the image of this manifest and config, under no name yet.
    fn commit(&self, manifest: &Digest, config: &Digest) -> Result<(), SinkError>;
}
