//! The store's root directory.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::sink::Sink;

/// An open store. Cheap to clone; safe to use from many threads and processes at once.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// What garbage collection gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Layers removed.
    pub layers: u64,
    /// Manifests, indexes and configs removed.
    pub documents: u64,
    /// Bytes of file content and documents removed.
    pub bytes: u64,
}

impl Store {
    /// Opens the store at `root`, which is made (0700) if it is missing, and removes what killed processes left
    /// half-made. Fails on a store of a newer format.
    pub fn open(root: &Path) -> Result<Self> {
        let _ = root;
        unimplemented!()
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A receiver for one image. What it holds counts as used until it is dropped, so name the image first.
    pub fn sink(&self) -> Result<Sink> {
        unimplemented!()
    }

    /// Removes layers and documents that no image, pin or running pull needs. Never waits for a pull.
    pub fn gc(&self) -> Result<Reclaimed> {
        unimplemented!()
    }
}
