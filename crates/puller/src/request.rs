//! What is asked of a pull, and what comes of it.

use std::path::PathBuf;
use std::time::Duration;

use oci::{Digest, Platform, Reference};

use crate::{Settings, Source};

/// A pull, as plain data.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the image comes from.
    pub source: Source,
    /// The platform the user asked for. `None`: this host's, and an image for another one is a warning
    /// rather than an error where its source offers just that one.
    pub platform: Option<Platform>,
    /// Where the settings of registries lie.
    pub settings: Settings,
    /// `Some(false)`: certificates are not verified and plain http is allowed; `Some(true)`: neither is done,
    /// whatever `registries.conf` says. `None`: as `registries.conf` says.
    pub tls_verify: Option<bool>,
    /// A directory whose `*.crt`, `*.cert` and `*.key` files are used for every registry (`--cert-dir`).
    pub cert_dir: Option<PathBuf>,
    /// How many layers are fetched at once, at least 1.
    pub jobs: usize,
    /// Times and tries.
    pub limits: Limits,
}

/// How long and how often a pull tries. Bytes, entries and depth are bounded by constants of the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect, TLS included.
    pub connect: Duration,
    /// Time from a request to the last byte of the answer's header.
    pub header: Duration,
    /// Longest silence in the middle of a body.
    pub idle: Duration,
    /// How often a request is tried at all.
    pub tries: u32,
    /// Wait after the first failure; doubles with each further one, give or take a fifth.
    pub backoff: Duration,
    /// Longest wait between two tries, also where the registry asks for more (`Retry-After`).
    pub backoff_max: Duration,
}

/// An image that is now in the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Digest of the image's own manifest (not that of an index).
    pub manifest: Digest,
    /// Digest of the config: the image ID.
    pub config: Digest,
    /// What the name stood for: digest of the index or manifest it was resolved to. `None` for a
    /// docker-archive, which has no manifest: the one in `manifest` was written from what the archive holds.
    pub pinned: Option<Digest>,
    /// Names the image should get: the reference pulled, or those that the archive gives.
    pub names: Vec<Reference>,
}

impl Request {
    /// A pull of `source` with the process's settings and the usual limits.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            platform: None,
            settings: Settings::of_process(),
            tls_verify: None,
            cert_dir: None,
            jobs: 4,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            header: Duration::from_secs(60),
            idle: Duration::from_secs(45),
            tries: 5,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        }
    }
}
