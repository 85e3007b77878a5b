//! The JSON files of a store.

use std::path::Path;

use oci::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Format that this version writes, and the highest it reads.
pub(crate) const FORMAT: u32 = 1;
/// No record is longer; a manifest's own limit is the same (distribution-spec).
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// `meta.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) format: u32,
}

/// `layers/…/layer.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Chain ID of the layer below.
    pub(crate) parent: Option<Digest>,
    /// What was fetched, and its length.
    pub(crate) blob: Digest,
    pub(crate) blob_size: u64,
    /// Length of the uncompressed archive.
    pub(crate) tar_size: u64,
    /// What is in `diff`.
    pub(crate) files: u64,
    /// Bytes of file content there.
    pub(crate) bytes: u64,
}

/// `images/….json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) config: Digest,
    pub(crate) manifest: Digest,
    /// Chain IDs, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// Bytes of file content in all layers.
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) pulled: u64,
}

/// `names/….json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub(crate) name: String,
    pub(crate) image: Digest,
}

/// Reads a record; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::os("read", path)(e)),
    };
    parse(&text, path).map(Some)
}

/// Parses JSON; the error says where in it.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8], path: &Path) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| Error::Json {
        path: path.to_owned(),
        at: e.path().to_string(),
        source: e.into_inner(),
    })?;
    json.end().map_err(|source| Error::Json { path: path.to_owned(), at: ".".into(), source })?;
    Ok(value)
}

/// A record as it is written.
pub(crate) fn text<T: Serialize>(record: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(record).expect("records have only strings and numbers");
    text.push(b'\n');
    text
}
