//! OCI image layouts (image-spec image-layout.md), as a directory or in a tar file.

use std::path::{Path, PathBuf};

use oci::sink::Layer;
use oci::{Digest, MediaKind, Reference};

use crate::Error;
use crate::blob::Open;
use crate::document::{self, DOCUMENT_MAX, Descriptor, Document};
use crate::error::one_line;
use crate::image::Fetched;
use crate::json;
use crate::piece::Piece;
use crate::pull::Pull;
use crate::tarball::Tarball;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's and docker's full name of an image, where [`REF_NAME`] is just the tag.
const FULL_NAME: &str = "io.containerd.image.name";

/// A layout and the tag that is wanted of it.
pub(crate) struct Layout {
    files: Files,
    tag: Option<String>,
}

enum Files {
    Dir(PathBuf),
    Tar(Tarball),
}

impl Layout {
    pub(crate) fn dir(path: &Path, tag: Option<&str>) -> Self {
        Self { files: Files::Dir(path.to_owned()), tag: tag.map(str::to_owned) }
    }

    pub(crate) fn archive(pull: &Pull<'_>, path: &Path, tag: Option<&str>) -> Result<Self, Error> {
        Ok(Self { files: Files::Tar(Tarball::open(pull, path)?), tag: tag.map(str::to_owned) })
    }

    fn path(&self) -> &Path {
        match &self.files {
            Files::Dir(path) => path,
            Files::Tar(tarball) => tarball.path(),
        }
    }

    pub(crate) fn location(&self) -> String {
        self.path().display().to_string()
    }

    fn fail(&self, reason: &str) -> Error {
        Error::Archive { path: self.path().to_owned(), reason: one_line(reason, 400) }
    }

    fn file(&self, name: &str) -> Result<Piece, Error> {
        match &self.files {
            Files::Dir(dir) => Piece::open(&dir.join(name)),
            Files::Tar(tarball) => {
                tarball.member(name)?.ok_or_else(|| self.fail(&format!("there is no {name} in it")))
            }
        }
    }

    fn blob(&self, digest: &Digest) -> Result<Piece, Error> {
        self.file(&format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex()))
    }

    /// The manifest or index that the tag stands for, and the image's names if the layout gives any.
    pub(crate) fn root(&self) -> Result<(Fetched, Vec<Reference>), Error> {
        let marker = self
            .file("oci-layout")
            .and_then(|f| f.bytes(DOCUMENT_MAX))
            .map_err(|e| self.fail(&format!("it is no OCI image layout: {e}")))?;
        let version = json::object(&marker)
            .ok()
            .and_then(|map| Some(map.get("imageLayoutVersion")?.as_str()?.to_owned()))
            .unwrap_or_default();
        if !version.starts_with("1.") {
            return Err(self.fail(&format!("at oci-layout: version {version:?} is not 1.x")));
        }
        let bytes = self.file("index.json")?.bytes(DOCUMENT_MAX)?;
        let at_index = |reason: &str| self.fail(&format!("at index.json: {reason}"));
        let Document::Index(entries) = document::read(&bytes, None).map_err(|r| at_index(&r))? else {
            return Err(at_index("it is no index"));
        };
        let entries: Vec<_> = entries
            .into_iter()
            .filter(|e| matches!(e.kind(), MediaKind::Index | MediaKind::Manifest))
            .collect();
        let tags: Vec<&str> = entries.iter().filter_map(|e| e.annotation(REF_NAME)).collect();
        let listed = || if tags.is_empty() { "none".to_owned() } else { tags.join(", ") };
        let chosen = match (&self.tag, &entries[..]) {
            (Some(tag), _) => {
                entries.iter().find(|e| e.annotation(REF_NAME) == Some(tag)).ok_or_else(|| {
                    self.fail(&format!("there is no image with the tag {tag:?} in it; it has {}", listed()))
                })?
            }
            (None, []) => return Err(self.fail("there is no image in it")),
            (None, [entry]) => entry,
            // Manifests without tags are one image for several platforms.
            (None, _) if tags.is_empty() => {
                let digest = document::digest_of(oci::Algorithm::Sha256, &bytes);
                return Ok((Fetched { bytes, digest, media_type: None }, Vec::new()));
            }
            (None, _) => {
                return Err(
                    self.fail(&format!("there are several images in it; add one of the tags: {}", listed()))
                );
            }
        };
        let names = names(chosen);
        let bytes = self.document(chosen)?;
        let digest = document::digest_of(chosen.digest.algorithm(), &bytes);
        if digest != chosen.digest {
            let (what, location) = ("the manifest".to_owned(), self.location());
            return Err(Error::WrongDigest {
                what,
                location,
                expected: chosen.digest.clone(),
                actual: digest,
            });
        }
        Ok((Fetched { bytes, digest, media_type: Some(chosen.media_type.clone()) }, names))
    }

    pub(crate) fn document(&self, entry: &Descriptor) -> Result<Vec<u8>, Error> {
        self.blob(&entry.digest)?.bytes(entry.size.min(DOCUMENT_MAX))
    }

    pub(crate) fn layer(&self, pull: &Pull<'_>, layer: &Layer, open: &mut Open<'_>) -> Result<(), Error> {
        self.blob(&layer.digest)?.feed(pull, layer, open)
    }
}

/// A tag alone (`latest`, `3.8`) names no image; a name with a path or a tag does.
fn names(entry: &Descriptor) -> Vec<Reference> {
    let full = entry.annotation(FULL_NAME);
    let short = entry.annotation(REF_NAME).filter(|name| name.contains(['/', ':']));
    full.or(short).and_then(|name| name.parse().ok()).into_iter().collect()
}
