//! Garbage collection: what no image, pin or running pull needs goes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci::Digest;

use crate::error::{Error, Result};
use crate::lock::Staged;
use crate::record::{self, LayerRecord};
use crate::store::{Store, discard, names};

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
    /// Removes layers and documents that no image, pin or running pull needs. Never waits for a pull.
    pub fn gc(&self) -> Result<Reclaimed> {
        let trash = Staged::new(self.root(), None)?;
        // Under the lock things only move away; removing them takes long and comes after.
        let reclaimed = self.sweep(&trash.path);
        discard(&trash.path)?;
        reclaimed
    }

    fn sweep(&self, trash: &Path) -> Result<Reclaimed> {
        let _lock = self.exclusive()?;
        let needed = self.needed()?;
        let mut reclaimed = Reclaimed::default();
        let move_away = |path: PathBuf| {
            let name = path.file_name().expect("it ends with a digest");
            std::fs::rename(&path, trash.join(name)).map_err(Error::os("move away", &path))
        };
        for digest in self.digests("layers")? {
            if needed.contains(&digest) {
                continue;
            }
            let path = self.layer_dir(&digest);
            let record: Option<LayerRecord> = record::read(&path.join("layer.json")).unwrap_or_default();
            reclaimed.bytes += record.map_or(0, |record| record.bytes);
            reclaimed.layers += 1;
            move_away(path)?;
        }
        for digest in self.digests("blobs")? {
            if needed.contains(&digest) {
                continue;
            }
            let path = self.blob(&digest);
            reclaimed.bytes += std::fs::metadata(&path).map_or(0, |meta| meta.len());
            reclaimed.documents += 1;
            move_away(path)?;
        }
        Ok(reclaimed)
    }

    /// Chain IDs and digests of documents. The caller holds the store's lock. A record that can't be read stops the
    /// collection: what it needs is not known.
    fn needed(&self) -> Result<HashSet<Digest>> {
        let mut needed = HashSet::new();
        for id in self.ids()? {
            if let Some(record) = self.image_record(&id)? {
                needed.extend([record.config, record.manifest]);
                needed.extend(record.layers);
            }
        }
        let staging = self.root().join("staging");
        for name in names(&staging)? {
            // What has no owner needs nothing, but whoever finds that out removes it; here it just counts.
            let lease = std::fs::read_to_string(staging.join(name).join("lease")).unwrap_or_default();
            needed.extend(lease.lines().filter_map(|line| line.parse::<Digest>().ok()));
        }
        Ok(needed)
    }
}
