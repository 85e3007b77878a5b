//! Fetches images: from registries, OCI layouts and archives into whatever implements
//! [`oci::sink::ImageSink`].
//!
//! Owns the distribution protocol, authentication, `registries.conf`, mirrors, retries, and the choice of a
//! manifest for a platform. Owns no storage: bytes go to the sink while they arrive, and the sink checks size,
//! digest and DiffID. Nothing here is kept in memory whole but manifests and configs, which are capped.
//!
//! Reading order: [`pull`] → `reader` (which place) → `image` (which manifest) → `layers` → `blob`, and below
//! them `registry` (one repository), `auth`, `http`, `tls`.

mod archive;
mod auth;
mod blob;
mod credentials;
mod document;
mod error;
mod event;
mod hint;
mod http;
mod image;
mod json;
mod layers;
mod layout;
mod piece;
mod pull;
mod reader;
mod registries;
mod registry;
mod request;
mod settings;
mod source;
mod tarball;
mod tls;
mod tries;

pub use error::Error;
pub use event::Event;
pub use pull::pull;
pub use request::{Limits, Pulled, Request};
pub use settings::Settings;
pub use source::{ParseSourceError, Source};
