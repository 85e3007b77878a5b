//! Manifests, indexes and configs: reading them strictly, with no network and no files.
//!
//! The types are those of `oci-spec`; what it leaves open is refused here: a document that could be read as
//! another kind, keys in another case, digests that are none, sizes beyond reason, and more entries than any
//! image has.

use std::collections::BTreeSet;

use base64::Engine;
use oci::image::{Descriptor as SpecDescriptor, ImageIndex, ImageManifest};
use oci::{Algorithm, Digest, MediaKind, Platform, classify};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::Digest as _;

use crate::json;

/// Largest manifest, index or config (distribution-spec, "Pushing manifests": registries should allow 4 MiB).
pub(crate) const DOCUMENT_MAX: u64 = 4 << 20;
/// Most descriptors in one document.
const DESCRIPTORS_MAX: usize = 1000;

/// Media types asked for, best first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1";

/// A checked document.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Image(Manifest),
}

/// A checked image manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// A checked descriptor.
#[derive(Debug, Clone)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// `None` where the index says nothing.
    pub(crate) platform: Option<Platform>,
    /// The content itself, where it is embedded; verified.
    pub(crate) data: Option<Vec<u8>>,
    /// `org.opencontainers.image.ref.name` and kin.
    pub(crate) annotations: Vec<(String, String)>,
}

impl Descriptor {
    pub(crate) fn kind(&self) -> MediaKind {
        classify(&self.media_type)
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The digest of `bytes`.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::from_hash(algorithm, &sha2::Sha256::digest(bytes)),
        Algorithm::Sha512 => Digest::from_hash(algorithm, &sha2::Sha512::digest(bytes)),
    }
}

const INDEX_KEYS: &[&str] = &["schemaVersion", "mediaType", "artifactType", "manifests", "subject"];
const IMAGE_KEYS: &[&str] = &["schemaVersion", "mediaType", "artifactType", "config", "layers", "subject"];
const DESCRIPTOR_KEYS: &[&str] =
    &["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"];

/// Reads a manifest or an index. `outer` is the media type that its descriptor or the HTTP header gave.
/// Fails with the reason.
pub(crate) fn read(bytes: &[u8], outer: Option<&str>) -> Result<Document, String> {
    let top = json::object(bytes)?;
    let inner = match top.get("mediaType") {
        None => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err("at mediaType: it is not a string".into()),
    };
    match kind_of(&top, inner, outer)? {
        MediaKind::Index => read_index(&top),
        _ => read_image(&top),
    }
}

/// Which kind a document is, when its own media type, the one it was announced with and its keys agree.
fn kind_of(top: &Map<String, Value>, inner: Option<&str>, outer: Option<&str>) -> Result<MediaKind, String> {
    let has = |key: &str| top.contains_key(key);
    let schema1 = || {
        Err("it is a Docker schema 1 manifest, which no registry has accepted since 2019; \
             push the image again with a current docker or buildah"
            .to_owned())
    };
    let version = top.get("schemaVersion").and_then(Value::as_u64);
    if version == Some(1) && !has("layers") && !has("manifests") {
        return schema1();
    }
    if let Some(key) = json::misspelt(top, &[INDEX_KEYS, IMAGE_KEYS, &["fsLayers"]].concat()) {
        return Err(format!(
            "ambiguous: the key {key:?} differs from a known one in upper and lower case only"
        ));
    }
    let sides = [has("manifests"), has("layers") || has("config"), has("fsLayers")];
    if sides.iter().filter(|s| **s).count() > 1 {
        return Err("ambiguous: it could be read as an index and as a manifest".into());
    }
    let by_keys = match sides {
        [true, _, _] => Some(MediaKind::Index),
        [_, true, _] => Some(MediaKind::Manifest),
        [_, _, true] => return schema1(),
        _ => None,
    };
    let named = [inner, outer].into_iter().flatten().map(|t| (t, classify(t)));
    for (text, kind) in named.clone() {
        match kind {
            MediaKind::Schema1 => return schema1(),
            MediaKind::Index | MediaKind::Manifest if by_keys.is_some_and(|k| k != kind) => {
                return Err(format!("ambiguous: it says {text:?} but has the keys of another kind"));
            }
            // A generic type (text/plain, application/json) from a header means nothing; the document's own does.
            MediaKind::Index | MediaKind::Manifest => {}
            _ if Some(text) == inner => {
                return Err(format!("it is no image but {text:?}"));
            }
            _ => {}
        }
    }
    if version != Some(2) {
        return Err("at schemaVersion: it is not 2".into());
    }
    match (by_keys, named.map(|(_, kind)| kind).find(|k| matches!(k, MediaKind::Index | MediaKind::Manifest)))
    {
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) => Err("it is neither a manifest nor an index".into()),
    }
}

fn read_index(top: &Map<String, Value>) -> Result<Document, String> {
    let index: ImageIndex = json::shape(top)?;
    let entries = index.manifests();
    bounded(entries.len())?;
    let mut out = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        exact_keys(&top["manifests"][i], &format!("manifests[{i}]"))?;
        out.push(check(entry, &format!("manifests[{i}]"))?);
    }
    Ok(Document::Index(out))
}

fn read_image(top: &Map<String, Value>) -> Result<Document, String> {
    let image: ImageManifest = json::shape(top)?;
    bounded(image.layers().len())?;
    exact_keys(&top["config"], "config")?;
    let config = check(image.config(), "config")?;
    // What the config is decides first: an artifact's layers are of any type.
    if config.kind() != MediaKind::Config {
        let what = image.artifact_type().as_ref().map_or(config.media_type.clone(), ToString::to_string);
        return Err(format!("it is no container image but an artifact of type {what:?}"));
    }
    let mut layers = Vec::with_capacity(image.layers().len());
    for (i, layer) in image.layers().iter().enumerate() {
        let at = format!("layers[{i}]");
        exact_keys(&top["layers"][i], &at)?;
        let layer = check(layer, &at)?;
        match layer.kind() {
            MediaKind::Layer(_) => layers.push(layer),
            MediaKind::EncryptedLayer => {
                return Err(format!(
                    "at {at}: the layer is encrypted; decrypt the image first, for instance with skopeo"
                ));
            }
            _ => return Err(format!("at {at}: {:?} is no type of a layer", layer.media_type)),
        }
    }
    Ok(Document::Image(Manifest { config, layers }))
}

fn bounded(count: usize) -> Result<(), String> {
    if count > DESCRIPTORS_MAX {
        return Err(format!("it has {count} entries; at most {DESCRIPTORS_MAX} are read"));
    }
    Ok(())
}

fn exact_keys(value: &Value, at: &str) -> Result<(), String> {
    match value.as_object().and_then(|map| json::misspelt(map, DESCRIPTOR_KEYS)) {
        Some(key) => {
            Err(format!("ambiguous: at {at}: the key {key:?} differs from a known one in case only"))
        }
        None => Ok(()),
    }
}

fn check(descriptor: &SpecDescriptor, at: &str) -> Result<Descriptor, String> {
    let digest: Digest =
        descriptor.digest().to_string().parse().map_err(|e| format!("at {at}.digest: {e}"))?;
    let size = descriptor.size();
    if size > i64::MAX.unsigned_abs() {
        return Err(format!("at {at}.size: {size} is more than 2^63-1"));
    }
    let data = match descriptor.data() {
        None => None,
        Some(text) => Some(embedded(text, &digest, size).map_err(|e| format!("at {at}.data: {e}"))?),
    };
    let platform = descriptor.platform().as_ref().map(|p| {
        Platform::normalised(&p.os().to_string(), &p.architecture().to_string(), p.variant().as_deref())
    });
    let annotations = descriptor.annotations().iter().flatten();
    Ok(Descriptor {
        media_type: descriptor.media_type().to_string(),
        digest,
        size,
        platform,
        data,
        annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
    })
}

/// Content in the descriptor must be what the descriptor says (image-spec descriptor.md, "Embedded Content").
fn embedded(text: &str, digest: &Digest, size: u64) -> Result<Vec<u8>, String> {
    let data = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| "it is not base64")?;
    if data.len() as u64 != size {
        return Err(format!("it has {} bytes, the descriptor says {size}", data.len()));
    }
    let actual = digest_of(digest.algorithm(), &data);
    if actual != *digest {
        return Err(format!("its digest is {actual}, the descriptor says {digest}"));
    }
    Ok(data)
}

/// What a pull needs of an image config; all else is its reader's business.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    /// Null in images with no layer at all that docker made.
    diff_ids: Option<Vec<Digest>>,
}

impl Config {
    /// Reads a config; fails with the reason.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        json::shape(&json::object(bytes)?)
    }

    /// `None` where the config leaves it open, as those of images made by hand do.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let filled = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
        Some(Platform::normalised(&filled(&self.os)?, &filled(&self.architecture)?, self.variant.as_deref()))
    }

    /// DiffIDs, lowest first.
    pub(crate) fn diff_ids(self) -> Vec<Digest> {
        self.rootfs.diff_ids.unwrap_or_default()
    }
}

/// Entries of an index that may suit `want`, best first, and the platforms offered to everybody else.
/// An entry that names no platform is a candidate after all that do; its config will tell.
pub(crate) fn candidates(index: &[Descriptor], want: &Platform) -> (Vec<Descriptor>, BTreeSet<String>) {
    let mut offered = BTreeSet::new();
    let mut ranked = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in index {
        if !matches!(entry.kind(), MediaKind::Index | MediaKind::Manifest) {
            continue;
        }
        let rank = match &entry.platform {
            // BuildKit marks attestations so.
            Some(p) if p.os == "unknown" || p.architecture == "unknown" => continue,
            Some(p) => {
                offered.insert(p.to_string());
                want.rank(p)
            }
            None => Some(u32::MAX),
        };
        if let Some(rank) = rank
            && seen.insert(&entry.digest)
        {
            ranked.push((rank, entry.clone()));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    (ranked.into_iter().map(|(_, entry)| entry).collect(), offered)
}
