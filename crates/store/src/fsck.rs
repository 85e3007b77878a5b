//! Checks a store.

use std::path::PathBuf;

use crate::error::Result;
use crate::store::Store;

/// Something wrong in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not the store's.
    #[error("does not belong here")]
    Stray,
    /// A record that can't be read.
    #[error("unreadable record: {0}")]
    Unreadable(String),
    /// A document's bytes are not those of its digest.
    #[error("its bytes have another digest")]
    WrongDigest,
    /// A record points to something that is not there.
    #[error("missing, needed by {0}")]
    Missing(String),
    /// A layer's files are not what was unpacked.
    #[error("layer was changed: {0}")]
    Changed(String),
}

impl Store {
    /// Checks every record, document and layer. An empty answer is a clean store.
    pub fn fsck(&self) -> Result<Vec<Finding>> {
        unimplemented!()
    }
}
