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
//!   empty/                       stands for the layers of an image that has none
//!   images/ALGORITHM-HEX.json    one image, by image ID (the config's digest)
//!   names/HEX.json               one name; HEX is the SHA-256 of its text
//!   pins/NAME                    symbolic link to the ID of the image that NAME needs
//!   staging/NAME/                work of a running process that holds a flock on it; garbage without one
//! ```
//!
//! Whatever is outside `staging` is whole: it was written there, synced and renamed into place.

mod copy;
mod error;
mod feed;
mod fsck;
mod gc;
mod hash;
mod image;
mod inflate;
mod layer;
mod lock;
mod mapped;
mod name;
mod overlay;
mod pack;
mod pin;
mod publish;
mod record;
mod remove;
mod sink;
mod store;
mod tar;
mod tree;
mod unpack;

pub use copy::copy_tree;
pub use error::Error;
pub use fsck::{Finding, Problem};
pub use gc::Reclaimed;
pub use hash::digest_of;
pub use image::Image;
pub use mapped::{Owners, mapped_overlay, mapped_overlay_on_old_kernels};
pub use overlay::{Overlay, is_opaque, new_upper, overlay, overlay_on_old_kernels};
pub use pack::{Keep, Tree, owner, pack, pack_entry, pack_mapped};
pub use pin::Pin;
pub use remove::Removed;
pub use sink::Sink;
pub use store::Store;
pub use tree::remove_tree;
