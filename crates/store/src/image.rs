//! Images: one record each, by image ID.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use oci::image::ImageConfiguration;
use oci::{Digest, Reference};

use crate::error::{Error, Result};
use crate::hash;
use crate::record::{self, ImageRecord, LayerRecord};
use crate::store::{Store, names};

/// An image that is completely here.
#[derive(Debug, Clone)]
pub struct Image {
    /// Image ID: the digest of the config.
    pub id: Digest,
    /// Digest of the manifest it came with last.
    pub manifest: Digest,
    /// The config as it was fetched, byte for byte.
    pub raw_config: Vec<u8>,
    /// The same, parsed.
    pub config: ImageConfiguration,
    /// Diff directories, absolute, lowest layer first; at least one, for an image without layers an empty one.
    pub layers: Vec<PathBuf>,
    /// Bytes of file content in all layers, as docker counts an image's size.
    pub size: u64,
    /// When it was pulled.
    pub pulled: SystemTime,
}

impl Store {
    /// All images, newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        let _lock = self.shared()?;
        let mut images = self.ids()?.iter().map(|id| self.load(id)).collect::<Result<Vec<_>>>()?;
        images.sort_by(|a, b| b.pulled.cmp(&a.pulled).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// Bytes of file content of each layer that an image needs, by its diff directory as [`Image::layers`] has it.
    pub fn layer_sizes(&self) -> Result<BTreeMap<PathBuf, u64>> {
        let _lock = self.shared()?;
        let mut sizes = BTreeMap::new();
        for id in self.ids()? {
            for chain in self.image_record(&id)?.map(|record| record.layers).unwrap_or_default() {
                let layer = self.layer_dir(&chain);
                let record: Option<LayerRecord> = record::read(&layer.join("layer.json"))?;
                sizes.insert(layer.join("diff"), record.map_or(0, |record| record.bytes));
            }
        }
        Ok(sizes)
    }

    /// Finds an image by full ID, name (docker's normalisation) or the beginning of an ID, in this order.
    pub fn resolve(&self, wanted: &str) -> Result<Image> {
        let _lock = self.shared()?;
        self.load(&self.find(wanted)?)
    }

    /// The image with this ID.
    pub fn image(&self, id: &Digest) -> Result<Image> {
        let _lock = self.shared()?;
        self.load(id)
    }

    /// The ID of the image that `wanted` stands for. The caller holds the store's lock.
    pub(crate) fn find(&self, wanted: &str) -> Result<Digest> {
        let full = if wanted.contains(':') { wanted.parse() } else { format!("sha256:{wanted}").parse() };
        if let Ok(id) = full
            && self.image_path(&id).exists()
        {
            return Ok(id);
        }
        if let Ok(reference) = wanted.parse::<Reference>()
            && let Some(id) = self.named(&reference)?
        {
            return Ok(id);
        }
        let prefix = wanted.strip_prefix("sha256:").unwrap_or(wanted);
        let hex = !prefix.is_empty() && prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut ids: Vec<Digest> = match hex {
            true => self.ids()?.into_iter().filter(|id| id.hex().starts_with(prefix)).collect(),
            false => Vec::new(),
        };
        match ids.len() {
            0 => Err(Error::NoImage(wanted.to_owned())),
            1 => Ok(ids.remove(0)),
            _ => Err(Error::Ambiguous { prefix: wanted.to_owned(), ids }),
        }
    }

    /// The image that a name stands for; a digest may also be that of the manifest of an image of this name.
    fn named(&self, reference: &Reference) -> Result<Option<Digest>> {
        if let Some(id) = self.name_record(reference)? {
            return Ok(Some(id));
        }
        let Some(digest) = reference.digest() else {
            return Ok(None);
        };
        for (other, id) in self.all_names()? {
            let same = other.name() == reference.name();
            if same && self.image_record(&id)?.is_some_and(|record| record.manifest == *digest) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn load(&self, id: &Digest) -> Result<Image> {
        let record = self.image_record(id)?.ok_or_else(|| Error::NoImage(id.to_string()))?;
        let path = self.blob(id);
        let raw_config = std::fs::read(&path).map_err(Error::os("read", &path))?;
        let got = hash::digest(id.algorithm(), &raw_config);
        if got != *id {
            return Err(Error::WrongDigest { what: "stored config", want: id.clone(), got });
        }
        let config = record::parse(&raw_config, &path)?;
        let mut layers: Vec<PathBuf> =
            record.layers.iter().map(|chain| self.layer_dir(chain).join("diff")).collect();
        if layers.is_empty() {
            layers.push(self.root().join("empty"));
        }
        Ok(Image {
            id: id.clone(),
            manifest: record.manifest,
            raw_config,
            config,
            layers,
            size: record.bytes,
            pulled: SystemTime::UNIX_EPOCH + Duration::from_secs(record.pulled),
        })
    }

    /// IDs of all images.
    pub(crate) fn ids(&self) -> Result<Vec<Digest>> {
        let files = names(&self.root().join("images"))?;
        Ok(files.iter().filter_map(|name| id_of(name)).collect())
    }

    pub(crate) fn image_record(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        record::read(&self.image_path(id))
    }

    pub(crate) fn image_path(&self, id: &Digest) -> PathBuf {
        self.root().join("images").join(format!("{}-{}.json", id.algorithm().as_str(), id.hex()))
    }
}

/// The ID that a file in `images` is about.
pub(crate) fn id_of(file: &str) -> Option<Digest> {
    file.strip_suffix(".json")?.replacen('-', ":", 1).parse().ok()
}
