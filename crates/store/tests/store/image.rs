//! Sends images into a store, as a puller does.

use std::io::Write;

use oci::sink::{ImageSink, Layer, LayerSlot, SinkError};
use oci::{Algorithm, Digest};
use sha2::Digest as _;
use store::{Image, Store};

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha256, &sha2::Sha256::digest(bytes))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A blob and the digest of what it unpacks to.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) diff_id: Digest,
}

pub(crate) fn gzipped(tar: &[u8]) -> Blob {
    Blob { bytes: gzip(tar), diff_id: sha256(tar) }
}

/// Everything of an image.
pub(crate) struct Bundle {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Bundle {
    pub(crate) fn new(blobs: Vec<Blob>) -> Self {
        let diff_ids: Vec<&str> = blobs.iter().map(|blob| blob.diff_id.as_str()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let layers: Vec<_> = blobs
            .iter()
            .map(|blob| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": sha256(&blob.bytes).as_str(), "size": blob.bytes.len(),
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha256(&config).as_str(), "size": config.len(),
            },
            "layers": layers,
        })
        .to_string()
        .into_bytes();
        Self { blobs, config, manifest }
    }

    pub(crate) fn id(&self) -> Digest {
        sha256(&self.config)
    }

    pub(crate) fn layers(&self) -> Vec<Layer> {
        let layer = |(index, blob): (usize, &Blob)| Layer {
            index,
            digest: sha256(&blob.bytes),
            size: blob.bytes.len() as u64,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            diff_id: blob.diff_id.clone(),
        };
        self.blobs.iter().enumerate().map(layer).collect()
    }

    /// Documents and announcement.
    pub(crate) fn begin(&self, sink: &dyn ImageSink) -> Result<(), SinkError> {
        for document in [&self.manifest, &self.config] {
            if sink.document(&sha256(document))?.is_none() {
                sink.put_document(&sha256(document), document)?;
            }
        }
        sink.begin(&self.layers())
    }

    /// One layer, in pieces of `chunk` bytes.
    pub(crate) fn send(&self, sink: &dyn ImageSink, index: usize, chunk: usize) -> Result<(), SinkError> {
        loop {
            match sink.layer(index)? {
                LayerSlot::Present => return Ok(()),
                LayerSlot::Busy => std::thread::sleep(std::time::Duration::from_millis(5)),
                LayerSlot::Fetch(mut writer) => {
                    for piece in self.blobs[index].bytes.chunks(chunk) {
                        writer.write(piece)?;
                    }
                    return writer.finish();
                }
            }
        }
    }

    pub(crate) fn commit(&self, sink: &dyn ImageSink) -> Result<(), SinkError> {
        sink.commit(&sha256(&self.manifest), &self.id())
    }

    /// The whole image, highest layer first, so that every one waits for the lowest.
    pub(crate) fn pull(&self, store: &Store) -> Result<Image, SinkError> {
        let sink = store.sink()?;
        self.begin(&sink)?;
        for index in (0..self.blobs.len()).rev() {
            self.send(&sink, index, 1 << 20)?;
        }
        self.commit(&sink)?;
        Ok(store.image(&self.id())?)
    }
}

/// An image of these archives, gzipped.
pub(crate) fn image(tars: &[Vec<u8>]) -> Bundle {
    Bundle::new(tars.iter().map(|tar| gzipped(tar)).collect())
}

/// All messages of an error.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

impl Bundle {
    /// Writes an OCI image layout with this image under the tag `it`.
    pub(crate) fn layout(&self, dir: &std::path::Path) {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        for bytes in self.blobs.iter().map(|blob| &blob.bytes).chain([&self.config, &self.manifest]) {
            std::fs::write(blobs.join(sha256(bytes).hex()), bytes).unwrap();
        }
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": sha256(&self.manifest).as_str(), "size": self.manifest.len(),
                "annotations": {"org.opencontainers.image.ref.name": "it"},
            }],
        });
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    }
}
