//! Checks a store.

use std::fs::File;
use std::path::{Path, PathBuf};

use oci::{Digest, Reference};

use crate::error::{Error, Result};
use crate::hash;
use crate::image::id_of;
use crate::name::file_of;
use crate::record::{self, ImageRecord, LayerRecord, NameRecord};
use crate::store::{Store, names};
use crate::tree;

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
    /// A record that is about something else than its name says.
    #[error("record under a wrong name")]
    Misnamed,
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

/// Names that the root may have.
const KNOWN: [&str; 10] =
    ["blobs", "empty", "fetching", "images", "layers", "lock", "meta.json", "names", "pins", "staging"];

struct Check<'a> {
    store: &'a Store,
    findings: Vec<Finding>,
}

impl Store {
    /// Checks every record, document and layer. An empty answer is a clean store. Files of layers are counted and
    /// their lengths added up; contents are not read, there is nothing to compare them with.
    pub fn fsck(&self) -> Result<Vec<Finding>> {
        // Keeps things from going. They may still come, but never before what they need.
        let _lock = self.shared()?;
        let mut check = Check { store: self, findings: Vec::new() };
        check.strays()?;
        check.pins()?;
        check.names()?;
        check.images()?;
        check.layers()?;
        check.blobs()?;
        check.findings.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(check.findings)
    }
}

impl Check<'_> {
    fn found(&mut self, path: impl Into<PathBuf>, problem: Problem) {
        self.findings.push(Finding { path: path.into(), problem });
    }

    fn needs(&mut self, path: PathBuf, by: &str) {
        if !path.exists() {
            self.found(path, Problem::Missing(by.to_owned()));
        }
    }

    /// Reads a record; says so if that fails.
    fn record<T: serde::de::DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        match record::read(path) {
            Ok(Some(record)) => return Some(record),
            Ok(None) => self.found(path, Problem::Missing("its directory".into())),
            Err(Error::Json { at, source, .. }) => {
                self.found(path, Problem::Unreadable(format!("{at}: {source}")));
            }
            Err(e) => self.found(path, Problem::Unreadable(e.to_string())),
        }
        None
    }

    fn strays(&mut self) -> Result<()> {
        let root = self.store.root().to_owned();
        for name in names(&root)? {
            if !KNOWN.contains(&name.as_str()) {
                self.found(root.join(name), Problem::Stray);
            }
        }
        for kind in ["blobs", "layers"] {
            for algorithm in names(&root.join(kind))? {
                let dir = root.join(kind).join(&algorithm);
                for name in names(&dir)? {
                    if format!("{algorithm}:{name}").parse::<Digest>().is_err() {
                        self.found(dir.join(name), Problem::Stray);
                    }
                }
            }
        }
        Ok(())
    }

    fn blobs(&mut self) -> Result<()> {
        for digest in self.store.digests("blobs")? {
            let path = self.store.blob(&digest);
            match std::fs::read(&path) {
                Ok(bytes) if hash::digest(digest.algorithm(), &bytes) == digest => {}
                Ok(_) => self.found(path, Problem::WrongDigest),
                Err(e) => self.found(path, Problem::Unreadable(e.to_string())),
            }
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<()> {
        for chain in self.store.digests("layers")? {
            let dir = self.store.layer_dir(&chain);
            let path = dir.join("layer.json");
            let Some(record) = self.record::<LayerRecord>(&path) else {
                continue;
            };
            if hash::chain(record.parent.as_ref(), &record.diff_id) != chain {
                self.found(&path, Problem::Misnamed);
            }
            if let Some(parent) = record.parent {
                self.needs(self.store.layer_dir(&parent), &format!("layer {chain}"));
            }
            let diff = dir.join("diff");
            match File::open(&diff).and_then(tree::tally) {
                Ok(tally) if (tally.files, tally.bytes) == (record.files, record.bytes) => {}
                Ok(tally) => {
                    let problem = format!(
                        "{} files of {} bytes, were {} of {}",
                        tally.files, tally.bytes, record.files, record.bytes
                    );
                    self.found(diff, Problem::Changed(problem));
                }
                Err(e) => self.found(diff, Problem::Changed(e.to_string())),
            }
        }
        Ok(())
    }

    fn images(&mut self) -> Result<()> {
        let dir = self.store.root().join("images");
        for file in names(&dir)? {
            let path = dir.join(&file);
            let Some(id) = id_of(&file) else {
                self.found(path, Problem::Stray);
                continue;
            };
            let Some(record) = self.record::<ImageRecord>(&path) else {
                continue;
            };
            if record.config != id {
                self.found(&path, Problem::Misnamed);
            }
            let by = format!("image {id}");
            for digest in [&record.config, &record.manifest] {
                self.needs(self.store.blob(digest), &by);
            }
            for chain in &record.layers {
                self.needs(self.store.layer_dir(chain), &by);
            }
        }
        Ok(())
    }

    fn names(&mut self) -> Result<()> {
        let dir = self.store.root().join("names");
        for file in names(&dir)? {
            let path = dir.join(&file);
            let Some(record) = self.record::<NameRecord>(&path) else {
                continue;
            };
            if record.name.parse::<Reference>().is_err() || file_of(&record.name) != file {
                self.found(&path, Problem::Misnamed);
            }
            self.needs(self.store.image_path(&record.image), &format!("name {}", record.name));
        }
        Ok(())
    }

    fn pins(&mut self) -> Result<()> {
        let dir = self.store.root().join("pins");
        for holder in names(&dir)? {
            let path = dir.join(&holder);
            let target = match std::fs::read_link(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue, // unpinned meanwhile
                target => target.ok().and_then(|target| target.to_str()?.parse::<Digest>().ok()),
            };
            match target {
                Some(id) => self.needs(self.store.image_path(&id), &format!("pin {holder}")),
                None => self.found(path, Problem::Stray),
            }
        }
        Ok(())
    }
}
