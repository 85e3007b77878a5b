//! What can go wrong in the store.

use std::io;
use std::path::PathBuf;

use oci::Digest;

/// Result of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{call} {}", path.display())]
    Os {
        /// The call, or what it was for.
        call: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// Nothing has that name or ID.
    #[error("no such image: {0}")]
    NoImage(String),
    /// A prefix of several image IDs.
    #[error("{prefix} is the beginning of several image IDs: {}, {}", ids[0].short(), ids[1].short())]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// Two or more images that match.
        ids: Vec<Digest>,
    },
    /// Someone pinned the image.
    #[error("image {} is used by {}", image.short(), holders.join(", "))]
    InUse {
        /// The image.
        image: Digest,
        /// Names given to [`crate::Store::pin`].
        holders: Vec<String>,
    },
    /// An ID was given for removal, but the image has more names than one.
    #[error("image {} has several names ({}); remove them one by one, or force", image.short(), names.join(", "))]
    SeveralNames {
        /// The image.
        image: Digest,
        /// Its names.
        names: Vec<String>,
    },
}
