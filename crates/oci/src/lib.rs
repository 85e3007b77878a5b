//! The vocabulary that every crate of rcr shares: digests, image references, platforms, media types, the
//! boundary between a source of images and the store ([`sink`]), and the `oci-spec` types re-exported.
//!
//! Nothing here does I/O; parsers take `&str` or bytes.

mod digest;
mod media_type;
mod platform;
mod reference;
pub mod sink;

pub use digest::{Algorithm, Digest, ParseDigestError};
pub use media_type::{Compression, MediaKind, classify};
pub use oci_spec::{image, runtime};
pub use platform::{ParsePlatformError, Platform};
pub use reference::{ParseReferenceError, Reference};
