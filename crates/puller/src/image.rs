//! From a name's manifest or index to one image: manifest, config and layers that belong together.

use std::collections::BTreeSet;

use oci::sink::Layer;
use oci::{Digest, MediaKind, Platform, Reference};

use crate::Error;
use crate::document::{self, Config, DOCUMENT_MAX, Descriptor, Document, Manifest};
use crate::error::one_line;
use crate::pull::Pull;
use crate::reader::Reader;

/// An index may hold indexes, so deep (CVE-2026-53493).
const DEPTH_MAX: u32 = 3;
/// Most manifests that are fetched to find the one for the platform.
const FETCHES_MAX: u32 = 32;

/// All that is known of an image before its layers are fetched.
pub(crate) struct Image {
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    pub(crate) pinned: Option<Digest>,
    pub(crate) names: Vec<Reference>,
    pub(crate) layers: Vec<Layer>,
}

/// A document as it came.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    /// The media type of its descriptor, or of the HTTP header.
    pub(crate) media_type: Option<String>,
}

/// The search for one image.
struct Search<'a> {
    pull: &'a Pull<'a>,
    reader: &'a Reader<'a>,
    name: String,
    want: Platform,
    offered: BTreeSet<String>,
    fetches: u32,
}

/// Finds the image for the wanted platform below `root`, and keeps its documents in the sink.
pub(crate) fn find(
    pull: &Pull<'_>,
    reader: &Reader<'_>,
    root: Fetched,
    names: Vec<Reference>,
) -> Result<Image, Error> {
    let mut search = Search {
        pull,
        reader,
        name: pull.request.source.to_string(),
        want: pull.request.platform.clone().unwrap_or_else(Platform::host),
        offered: BTreeSet::new(),
        fetches: 0,
    };
    let pinned = root.digest.clone();
    let found = match search.read(&root)? {
        Document::Image(manifest) => search.single(&root, manifest)?,
        Document::Index(index) => match search.descend(&index, 1)? {
            Some(found) => {
                pull.keep("index", &root.digest, &root.bytes)?;
                found
            }
            None => return Err(search.no_platform()),
        },
    };
    let (fetched, manifest, config_bytes, config) = found;
    let layers = search.layers(&manifest, config)?;
    pull.keep("manifest", &fetched.digest, &fetched.bytes)?;
    pull.keep("config", &manifest.config.digest, &config_bytes)?;
    Ok(Image {
        manifest: fetched.digest,
        config: manifest.config.digest,
        pinned: Some(pinned),
        names,
        layers,
    })
}

type Found = (Fetched, Manifest, Vec<u8>, Config);

impl Search<'_> {
    fn read(&self, fetched: &Fetched) -> Result<Document, Error> {
        document::read(&fetched.bytes, fetched.media_type.as_deref())
            .map_err(|reason| self.bad("manifest", &reason))
    }

    fn bad(&self, what: &str, reason: &str) -> Error {
        Error::Document { what: what.to_owned(), name: self.name.clone(), reason: one_line(reason, 300) }
    }

    /// The name stands for one image: take it, if it is not plainly the wrong one.
    fn single(&mut self, fetched: &Fetched, manifest: Manifest) -> Result<Found, Error> {
        let (bytes, config) = self.config(&manifest)?;
        if let Some(actual) = config.platform().filter(|p| self.want.rank(p).is_none()) {
            if self.pull.request.platform.is_some() {
                let (name, wanted, actual) = (self.name.clone(), self.want.to_string(), shown(&actual));
                return Err(Error::WrongPlatform { name, wanted, actual });
            }
            let (want, name) = (&self.want, &self.name);
            self.pull.warn_once(&format!("{name} is an image for {}, this host is {want}", shown(&actual)));
        }
        let fetched =
            Fetched { bytes: fetched.bytes.clone(), digest: fetched.digest.clone(), media_type: None };
        Ok((fetched, manifest, bytes, config))
    }

    /// The best image below an index; `None` if there is none for the platform.
    fn descend(&mut self, index: &[Descriptor], depth: u32) -> Result<Option<Found>, Error> {
        if depth > DEPTH_MAX {
            return Err(self.bad("index", &format!("indexes are nested more than {DEPTH_MAX} deep")));
        }
        let (candidates, offered) = document::candidates(index, &self.want);
        self.offered.extend(offered.iter().map(|p| one_line(p, 60)));
        for entry in candidates {
            self.fetches += 1;
            if self.fetches > FETCHES_MAX {
                return Err(self
                    .bad("index", &format!("it takes more than {FETCHES_MAX} manifests to find an image")));
            }
            let fetched = self.fetch(&entry)?;
            let found = match self.read(&fetched)? {
                Document::Index(inner) => {
                    let found = self.descend(&inner, depth + 1)?;
                    if found.is_some() {
                        self.pull.keep("index", &fetched.digest, &fetched.bytes)?;
                    }
                    found
                }
                Document::Image(manifest) => self.entry(&entry, fetched, manifest)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn entry(
        &mut self,
        entry: &Descriptor,
        fetched: Fetched,
        manifest: Manifest,
    ) -> Result<Option<Found>, Error> {
        let (bytes, config) = self.config(&manifest)?;
        let actual = config.platform();
        let fits = actual.as_ref().is_none_or(|p| self.want.rank(p).is_some());
        match (&entry.platform, actual) {
            (None, Some(actual)) if !fits => {
                self.offered.insert(shown(&actual));
                return Ok(None);
            }
            // The index says it fits, and the index is what tools go by.
            (Some(claimed), Some(actual)) if !fits => self.pull.warn_once(&format!(
                "the index of {} says {}, the config of that image says {}",
                self.name,
                shown(claimed),
                shown(&actual)
            )),
            _ => {}
        }
        Ok(Some((fetched, manifest, bytes, config)))
    }

    fn config(&mut self, manifest: &Manifest) -> Result<(Vec<u8>, Config), Error> {
        let bytes = self.fetch(&manifest.config)?.bytes;
        let config = Config::read(&bytes).map_err(|reason| self.bad("config", &reason))?;
        Ok((bytes, config))
    }

    /// A document by its descriptor: embedded, kept from an earlier pull, or from the source; always verified.
    fn fetch(&self, entry: &Descriptor) -> Result<Fetched, Error> {
        let (what, location) = (format!("document {}", entry.digest), self.reader.location());
        if entry.size > DOCUMENT_MAX {
            let reason = format!("{what} has {} bytes; at most {DOCUMENT_MAX} are read", entry.size);
            return Err(self.bad("descriptor", &reason));
        }
        let bytes = match (&entry.data, self.pull.kept(&entry.digest)?) {
            (Some(data), _) => data.clone(),
            (None, Some(bytes)) => bytes,
            (None, None) => self.reader.document(self.pull, entry)?,
        };
        if bytes.len() as u64 != entry.size {
            let actual = bytes.len().to_string();
            return Err(Error::WrongSize { what, location, expected: entry.size, actual });
        }
        let actual = document::digest_of(entry.digest.algorithm(), &bytes);
        if actual != entry.digest {
            return Err(Error::WrongDigest { what, location, expected: entry.digest.clone(), actual });
        }
        let media_type =
            matches!(entry.kind(), MediaKind::Index | MediaKind::Manifest).then(|| entry.media_type.clone());
        Ok(Fetched { bytes, digest: entry.digest.clone(), media_type })
    }

    fn layers(&self, manifest: &Manifest, config: Config) -> Result<Vec<Layer>, Error> {
        let diff_ids = config.diff_ids();
        if diff_ids.len() != manifest.layers.len() {
            let (layers, ids) = (manifest.layers.len(), diff_ids.len());
            return Err(self.bad("config", &format!("at rootfs.diff_ids: {ids} DiffIDs for {layers} layers")));
        }
        let layer = |(index, (layer, diff_id)): (usize, (&Descriptor, Digest))| Layer {
            index,
            digest: layer.digest.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
            diff_id,
        };
        Ok(manifest.layers.iter().zip(diff_ids).enumerate().map(layer).collect())
    }

    fn no_platform(&self) -> Error {
        let offered = match self.offered.len() {
            0 => "no platform at all".to_owned(),
            _ => self.offered.iter().take(40).cloned().collect::<Vec<_>>().join(", "),
        };
        Error::NoPlatform { name: self.name.clone(), wanted: self.want.to_string(), offered }
    }
}

fn shown(platform: &Platform) -> String {
    one_line(&platform.to_string(), 60)
}
