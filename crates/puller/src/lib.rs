//! Fetches images: from registries, OCI layouts and archives into whatever implements
//! [`oci::sink::ImageSink`].
//!
//! Owns the distribution protocol, authentication, `registries.conf`, mirrors, retries, and the choice of a
//! manifest for a platform. Owns no storage: bytes go to the sink while they arrive, and the sink checks size,
//! digest and DiffID. Nothing here is kept in memory whole but manifests and configs, which are capped.

mod error;
mod event;
mod request;
mod source;

pub use error::Error;
pub use event::Event;
pub use request::{Limits, Pulled, Request, Settings, pull};
pub use source::{ParseSourceError, Source};
