//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

/// Result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

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
    /// The store is of a later version of rcr.
    #[error("store {} has format {found}, this rcr knows up to {known}; use a newer rcr, or another --root", path.display())]
    NewerFormat {
        /// The store's root.
        path: PathBuf,
        /// Format it says it has.
        found: u32,
        /// Highest format known here.
        known: u32,
    },
    /// A record or document is not the JSON it should be.
    #[error("{}: {at}: not as expected", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Path of the value inside it, `.` for the whole.
        at: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Nothing has that name or ID.
    #[error("no such image: {0}")]
    NoImage(String),
    /// A prefix of several image IDs.
    #[error("{prefix} is the beginning of several image IDs: {}, {}; give more digits", ids[0].short(), ids[1].short())]
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
    /// Not a name that [`crate::Store::pin`] takes.
    #[error("invalid holder {0:?}: wants 1 to 200 letters, digits, '_', '.' or '-', not starting with a dot")]
    BadHolder(String),

    /// Bytes have another digest than announced.
    #[error("{what} has digest {got}, wanted {want}")]
    WrongDigest {
        /// Which bytes.
        what: &'static str,
        /// The announced digest.
        want: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("{what} has {got} bytes, wanted {want}")]
    WrongSize {
        /// Which bytes.
        what: &'static str,
        /// The announced length.
        want: u64,
        /// What came; when too much, one more than wanted or a little above.
        got: u64,
    },
    /// Manifest, config and announced layers do not describe one image.
    #[error("{0}")]
    Inconsistent(String),
    /// The layer does not decompress.
    #[error("decompress layer ({format})")]
    Packed {
        /// What it is compressed with.
        format: &'static str,
        /// What the decoder says.
        source: io::Error,
    },
    /// The layer is compressed with something that no media type of the image-spec stands for.
    #[error("layer is compressed with {0}; only gzip and zstd are layer formats")]
    Format(&'static str),
    /// The layer is no tar archive.
    #[error("layer is not a tar archive: byte {offset}: {reason}")]
    Archive {
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// An entry of a layer can't be unpacked as it stands.
    #[error("unpack {name:?}: {reason}")]
    Entry {
        /// Its name in the archive.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host did not let an entry be unpacked.
    #[error("unpack {name:?}: {call}")]
    Unpack {
        /// Its name in the archive.
        name: String,
        /// The call.
        call: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// The sender gave up before the last byte.
    #[error("the layer's sender gave up")]
    Aborted,
    /// Calls came in another order than [`oci::sink::ImageSink`] says.
    #[error("image is not complete: {0}; pull it again (rcr pull)")]
    Incomplete(String),

    /// The kernel refused an overlay mount.
    #[error("mount overlay of {layers} layers: {step}{}{}", said(log), hint.map(|h| format!(" ({h})")).unwrap_or_default())]
    Overlay {
        /// How many lower directories.
        layers: usize,
        /// The call, with the option it was about.
        step: String,
        /// What the kernel logged on this mount.
        log: String,
        /// A known cause and its cure.
        hint: Option<&'static str>,
        /// The errno.
        source: io::Error,
    },
    /// A tree is nested deeper than rcr walks.
    #[error("{}: more than {limit} directories deep", path.display())]
    TooDeep {
        /// Where it went too deep.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
}

fn said(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(": kernel says {log:?}") }
}

impl Error {
    pub(crate) fn os(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Os { call, path, source }
    }

    pub(crate) fn entry(name: &[u8], reason: impl Into<String>) -> Self {
        Self::Entry { name: lossy(name), reason: reason.into() }
    }

    /// For `map_err` on a call that an entry named `name` needed.
    pub(crate) fn unpack<E: Into<io::Error>>(
        name: &[u8],
        call: &'static str,
    ) -> impl FnOnce(E) -> Self + use<E> {
        let name = lossy(name);
        move |source| Self::Unpack { name, call, source: source.into() }
    }

    /// Is what the sender sent at fault, not this host?
    pub fn is_content(&self) -> bool {
        match self {
            Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::Inconsistent(_)
            | Self::Packed { .. }
            | Self::Format(_)
            | Self::Archive { .. }
            | Self::Entry { .. } => true,
            Self::Unpack { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::ENAMETOOLONG | libc::EINVAL | libc::ELOOP | libc::ENOTDIR | libc::EISDIR)
                    | Some(libc::EEXIST | libc::ENOENT | libc::EMLINK | libc::EFBIG | libc::E2BIG)
            ),
            _ => false,
        }
    }
}

/// A name for people; at most 300 characters of it.
fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(300).collect()
}
