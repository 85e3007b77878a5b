//! What a pull tells its caller while it runs.

use std::time::Duration;

use oci::sink::Layer;

/// One step of a pull. Sent from several threads at once; texts are free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The manifest is being looked up at this place (`docker.io/library/python`, a mirror, a path).
    Resolving {
        /// Registry and repository, or path.
        location: String,
    },
    /// A mirror could not serve the image; the next place is tried.
    MirrorFailed {
        /// Registry and repository of the mirror.
        location: String,
        /// Why, on one line.
        error: String,
    },
    /// The manifest was read: these are all layers, lowest first.
    Layers(Vec<Layer>),
    /// This layer was in the store already.
    LayerPresent {
        /// Its index.
        index: usize,
    },
    /// Another process is fetching this layer; this pull waits for it.
    LayerWaiting {
        /// Its index.
        index: usize,
    },
    /// So many bytes of the layer have arrived. Goes back after a restart; comes at most once per 128 KiB.
    LayerProgress {
        /// Its index.
        index: usize,
        /// Bytes of the (compressed) blob so far.
        bytes: u64,
    },
    /// All bytes have arrived; the receiver is finishing and verifying.
    LayerDownloaded {
        /// Its index.
        index: usize,
    },
    /// The layer is verified, unpacked and visible.
    LayerDone {
        /// Its index.
        index: usize,
    },
    /// A request failed in a way that may pass; it is sent again.
    Retrying {
        /// What is fetched, for instance `layer sha256:1234…`.
        what: String,
        /// How long this waits first.
        after: Duration,
        /// Why, on one line.
        error: String,
    },
    /// Something the user should know that stops nothing.
    Warning(String),
}
