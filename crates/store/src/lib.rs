//! Content-addressed store of images: documents, unpacked layers, records, names, and overlay mounts of them.
//!
//! Owns everything below its root and nothing outside. Knows no registry (bytes come in through
//! [`oci::sink::ImageSink`]) and no container (who uses an image says so with [`Store::pin`]).
//!
//! ```text
//! ROOT/                          0700
//!   meta.json                    format version
//!   lock                         flock: shared while records are read or published, exclusive for gc
//!   fetching                     byte-range locks, one per chain ID that is being fetched
//!   blobs/ALGORITHM/HEX          manifests and configs; compressed layers are not kept
//!   layers/ALGORITHM/HEX/        one layer, by chain ID (image-spec config.md)
//!     diff/                      the overlay lower directory
//!     layer.json                 diff ID, digest, sizes, parent
//!   images/ALGORITHM-HEX.json    one image, by image ID (the config's digest)
//!   names/HEX.json               one name; HEX is the SHA-256 of its text
//!   pins/NAME.json               who needs which image
//!   staging/NAME/                work of a running process that holds a flock on it; garbage without one
//! ```
//!
//! Whatever is outside `staging` is whole: it was written there, synced and renamed into place.

mod copy;
mod error;
mod fsck;
mod image;
mod overlay;
mod sink;
mod store;

pub use copy::copy_tree;
pub use error::Error;
pub use fsck::{Finding, Problem};
pub use image::{Image, Pin, Removed};
pub use overlay::{Overlay, overlay};
pub use sink::Sink;
pub use store::{Reclaimed, Store};
