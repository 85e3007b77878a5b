//! What `docker save` writes: a tar of `manifest.json`, configs and layers.
//!
//! Such an archive has no manifest of its own. One is written from what it holds, so that an image from here is
//! stored like any other: the config's digest (the image ID) is docker's, and each layer's digest and size are
//! those of the bytes in the archive. `Pulled::pinned` is `None`: no registry knows the image by that manifest.

use std::path::Path;

use oci::sink::Layer;
use oci::{Algorithm, Digest, Reference};
use serde::Deserialize;
use serde_json::json;
use sha2::Digest as _;

use crate::Error;
use crate::blob::Open;
use crate::document::{self, Config, DOCUMENT_MAX, Descriptor};
use crate::error::one_line;
use crate::image::Fetched;
use crate::piece::Piece;
use crate::pull::Pull;
use crate::tarball::Tarball;

/// Most images and most layers of one image.
const ENTRIES_MAX: usize = 1000;

/// One image of a docker archive.
pub(crate) struct DockerArchive {
    path: String,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<Piece>,
    names: Vec<Reference>,
}

/// An element of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl DockerArchive {
    pub(crate) fn open(pull: &Pull<'_>, path: &Path, name: Option<&Reference>) -> Result<Self, Error> {
        let tarball = Tarball::open(pull, path)?;
        let member = |name: &str| {
            let missing = || tarball.fail(&format!("there is no {} in it", one_line(name, 100)));
            tarball.member(name)?.ok_or_else(missing)
        };
        let list = member("manifest.json")?.bytes(DOCUMENT_MAX)?;
        let mut deserializer = serde_json::Deserializer::from_slice(&list);
        let entries: Vec<Entry> = serde_path_to_error::deserialize(&mut deserializer).map_err(|e| {
            tarball.fail(&one_line(&format!("at manifest.json, {}: {}", e.path(), e.inner()), 300))
        })?;
        let entry = choose(&tarball, entries, name)?;
        let names = name.map_or_else(|| tags(&entry).collect(), |name| vec![name.clone()]);

        let config = member(&entry.config)?.bytes(DOCUMENT_MAX)?;
        let bad = |reason: String| Error::Document {
            what: "config".into(),
            name: path.display().to_string(),
            reason: one_line(&reason, 300),
        };
        let diff_ids = Config::read(&config).map_err(bad)?.diff_ids();
        let files = entry.layers.unwrap_or_default();
        if files.len() != diff_ids.len() || files.len() > ENTRIES_MAX {
            let (layers, ids) = (files.len(), diff_ids.len());
            return Err(bad(format!("at rootfs.diff_ids: {ids} DiffIDs for {layers} layers")));
        }
        let mut layers = Vec::with_capacity(files.len());
        let mut descriptors = Vec::with_capacity(files.len());
        for (file, diff_id) in files.iter().zip(diff_ids) {
            let piece = member(file)?;
            let (packing, digest) = identify(pull, &piece, diff_id)?;
            descriptors.push(json!({
                "mediaType": format!("application/vnd.oci.image.layer.v1.tar{packing}"),
                "digest": digest,
                "size": piece.size,
            }));
            layers.push(piece);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": document::digest_of(Algorithm::Sha256, &config),
                "size": config.len(),
            },
            "layers": descriptors,
        });
        let path = path.display().to_string();
        Ok(Self { path, manifest: manifest.to_string().into_bytes(), config, layers, names })
    }

    pub(crate) fn location(&self) -> String {
        self.path.clone()
    }

    pub(crate) fn root(&self) -> (Fetched, Vec<Reference>) {
        let digest = document::digest_of(Algorithm::Sha256, &self.manifest);
        (Fetched { bytes: self.manifest.clone(), digest, media_type: None }, self.names.clone())
    }

    /// The config, which is the one document that the manifest refers to.
    pub(crate) fn document(&self, _: &Descriptor) -> Vec<u8> {
        self.config.clone()
    }

    pub(crate) fn layer(&self, pull: &Pull<'_>, layer: &Layer, open: &mut Open<'_>) -> Result<(), Error> {
        self.layers[layer.index].feed(pull, layer, open)
    }
}

fn choose(tarball: &Tarball, entries: Vec<Entry>, name: Option<&Reference>) -> Result<Entry, Error> {
    let count = entries.len();
    if count > ENTRIES_MAX {
        return Err(
            tarball.fail(&format!("at manifest.json: it has {count} images; at most {ENTRIES_MAX} are read"))
        );
    }
    let known: Vec<String> = entries.iter().flat_map(tags).map(|t| t.to_string()).take(40).collect();
    let known = if known.is_empty() { "no name".to_owned() } else { known.join(", ") };
    let mut matching =
        entries.into_iter().filter(|e| name.is_none_or(|name| tags(e).any(|tag| tag == *name)));
    match (matching.next(), matching.next(), name) {
        (None, _, None) => Err(tarball.fail("there is no image in it")),
        (None, _, Some(name)) => {
            Err(tarball.fail(&format!("there is no image {name} in it; it has {known}")))
        }
        (Some(_), Some(_), None) => {
            Err(tarball.fail(&format!("there are {count} images in it; add one of the names: {known}")))
        }
        (Some(entry), _, _) => Ok(entry),
    }
}

/// The names of an image; those that are none are passed over.
fn tags(entry: &Entry) -> impl Iterator<Item = Reference> {
    entry.repo_tags.iter().flatten().filter_map(|tag| tag.parse().ok())
}

/// How a layer is packed, and the digest of its bytes: the DiffID itself for a plain tar, else it is reckoned.
fn identify(pull: &Pull<'_>, piece: &Piece, diff_id: Digest) -> Result<(&'static str, Digest), Error> {
    let mut head = [0; 4];
    let n = if piece.size >= 4 { piece.read_at(0, &mut head)? } else { 0 };
    let packing = match &head[..n] {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => return Ok(("", diff_id)),
    };
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < piece.size {
        pull.check()?;
        let n = piece.read_at(at, &mut buffer)?;
        hash.update(&buffer[..n]);
        at += n as u64;
    }
    Ok((packing, Digest::from_hash(Algorithm::Sha256, &hash.finalize())))
}
