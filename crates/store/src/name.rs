//! Names of images: one record each.

use std::path::PathBuf;

use oci::{Algorithm, Digest, Reference};

use crate::error::{Error, Result};
use crate::hash;
use crate::record::{self, NameRecord};
use crate::store::{Store, names, sync_directory};

impl Store {
    /// Gives an image a name, taking it away from another that had it. A reference with a digest keeps only
    /// the digest, as docker does.
    pub fn tag(&self, reference: &Reference, id: &Digest) -> Result<()> {
        let _lock = self.shared()?;
        if !self.image_path(id).exists() {
            return Err(Error::NoImage(id.to_string()));
        }
        let record = NameRecord { name: canonical(reference), image: id.clone() };
        self.publish(&record::text(&record), &self.name_path(reference))
    }

    /// Takes a name away; the image stays. Answers which image had it.
    pub fn untag(&self, reference: &Reference) -> Result<Option<Digest>> {
        let _lock = self.exclusive()?;
        let id = self.name_record(reference)?;
        if id.is_some() {
            self.drop_name(reference)?;
        }
        Ok(id)
    }

    /// All names, sorted, and the images that have them.
    pub fn names(&self) -> Result<Vec<(Reference, Digest)>> {
        let _lock = self.shared()?;
        self.all_names()
    }

    /// As [`Self::names`]; the caller holds the store's lock.
    pub(crate) fn all_names(&self) -> Result<Vec<(Reference, Digest)>> {
        let dir = self.root().join("names");
        let mut all = Vec::new();
        for file in names(&dir)? {
            let record: Option<NameRecord> = record::read(&dir.join(file))?;
            // A name that does not parse was not written by tag(); fsck tells.
            let parsed = record.and_then(|record| Some((record.name.parse().ok()?, record.image)));
            all.extend(parsed);
        }
        all.sort();
        Ok(all)
    }

    /// The image of exactly this name.
    pub(crate) fn name_record(&self, reference: &Reference) -> Result<Option<Digest>> {
        let record: Option<NameRecord> = record::read(&self.name_path(reference))?;
        Ok(record.map(|record| record.image))
    }

    /// The caller holds the store's lock.
    pub(crate) fn drop_name(&self, reference: &Reference) -> Result<()> {
        let path = self.name_path(reference);
        std::fs::remove_file(&path).map_err(Error::os("remove", &path))?;
        sync_directory(&self.root().join("names"))
    }

    fn name_path(&self, reference: &Reference) -> PathBuf {
        self.root().join("names").join(file_of(&canonical(reference)))
    }
}

/// The file of a name. Names have slashes and may be longer than a file name may.
pub(crate) fn file_of(name: &str) -> String {
    format!("{}.json", hash::digest(Algorithm::Sha256, name.as_bytes()).hex())
}

fn canonical(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.to_string(),
    }
}
