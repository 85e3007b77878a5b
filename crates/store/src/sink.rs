//! Receives one image.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use oci::Digest;
use oci::image::{ImageConfiguration, ImageManifest};
use oci::sink::{ImageSink, Layer, LayerSlot, LayerWriter, SinkError, WrongContent};

use crate::error::{Error, Result};
use crate::hash;
use crate::layer::{Received, Receiver};
use crate::lock::{Fetch, Staged};
use crate::overlay::Marks;
use crate::record::{self, ImageRecord, LayerRecord, MAX_DOCUMENT};
use crate::store::{Store, discard};

/// Receives one image; see [`Store::sink`]. Dropped without a commit, only whole layers stay, until the next
/// garbage collection.
#[derive(Debug, Clone)]
pub struct Sink {
    pull: Arc<Pull>,
}

/// What the sink and the writers of its layers share.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) store: Store,
    pub(crate) marks: Marks,
    pub(crate) staged: Staged,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) slots: Vec<Slot>,
    /// Directories made so far, to name the next.
    pub(crate) directories: u64,
    /// Why layers that were received can't be published.
    pub(crate) failure: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) layer: Layer,
    pub(crate) chain: Digest,
    pub(crate) stage: Stage,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Wanted,
    Fetching,
    /// Received, but a lower layer is not there yet.
    Ready(Ready),
    /// A thread is at it.
    Publishing,
    Present,
}

/// A received layer in its staging directory.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) dir: PathBuf,
    pub(crate) received: Received,
    /// Held until it is published.
    pub(crate) _fetch: Fetch,
}

impl Store {
    /// A receiver for one image. What it holds counts as used until it is dropped, so name the image first.
    pub fn sink(&self) -> Result<Sink> {
        let staged = Staged::new(self.root(), None)?;
        let pull = Pull { store: self.clone(), marks: Marks::here(), staged, state: Mutex::default() };
        Ok(Sink { pull: Arc::new(pull) })
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        // What can't be removed now goes at the next open.
        if let Err(e) = discard(&self.staged.path) {
            tracing::warn!("{e}");
        }
    }
}

impl Pull {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked changed nothing half-way: stages are single assignments.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps garbage collection off these while the pull lasts. The caller holds the store's lock.
    fn lease<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<()> {
        let path = self.staged.path.join("lease");
        let lines: String = digests.into_iter().map(|digest| format!("{digest}\n")).collect();
        File::options()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(Error::os("write", &path))
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let _lock = self.store.shared()?;
        let path = self.store.blob(digest);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::os("read", &path)(e)),
        };
        // A damaged one is fetched again.
        if hash::digest(digest.algorithm(), &bytes) != *digest {
            return Ok(None);
        }
        self.lease([digest])?;
        Ok(Some(bytes))
    }

    fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Error::WrongSize { what: "document", want: MAX_DOCUMENT, got: bytes.len() as u64 });
        }
        let got = hash::digest(digest.algorithm(), bytes);
        if got != *digest {
            return Err(Error::WrongDigest { what: "document", want: digest.clone(), got });
        }
        let _lock = self.store.shared()?;
        self.lease([digest])?;
        let path = self.store.blob(digest);
        self.store.make_parent(&path)?;
        self.store.publish(bytes, &path)
    }

    fn begin(&self, layers: &[Layer]) -> Result<()> {
        let mut slots = Vec::with_capacity(layers.len());
        let mut parent: Option<Digest> = None;
        for (index, layer) in layers.iter().enumerate() {
            if layer.index != index {
                return Err(Error::Incomplete(format!("layer {} announced as number {index}", layer.index)));
            }
            let chain = hash::chain(parent.as_ref(), &layer.diff_id);
            parent = Some(chain.clone());
            slots.push(Slot { layer: layer.clone(), chain, stage: Stage::Wanted });
        }
        let _lock = self.store.shared()?;
        self.lease(slots.iter().map(|slot| &slot.chain))?;
        self.state().slots = slots;
        Ok(())
    }

    fn layer(self: &Arc<Self>, index: usize) -> Result<LayerSlot> {
        let (layer, chain) = {
            let mut state = self.state();
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            let slot = state.slots.get(index);
            let slot = slot.ok_or_else(|| Error::Incomplete(format!("there is no layer {index}")))?;
            match slot.stage {
                Stage::Wanted => {}
                Stage::Present => return Ok(LayerSlot::Present),
                _ => return Ok(LayerSlot::Busy),
            }
            (slot.layer.clone(), slot.chain.clone())
        };
        let present = || self.store.layer_dir(&chain).join("layer.json").exists();
        if !present() {
            let Some(fetch) = Fetch::take(self.store.root(), &chain)? else {
                return Ok(LayerSlot::Busy);
            };
            // Another process may have published it and let go of it in between.
            if !present() {
                return self.fetch(layer, fetch).map(|writer| LayerSlot::Fetch(Box::new(writer)));
            }
        }
        self.state().slots[index].stage = Stage::Present;
        self.publish_ready(index)?;
        Ok(LayerSlot::Present)
    }

    fn fetch(self: &Arc<Self>, layer: Layer, fetch: Fetch) -> Result<Writer> {
        let dir = {
            let mut state = self.state();
            state.slots[layer.index].stage = Stage::Fetching;
            state.directories += 1;
            self.staged.path.join(format!("layer-{}", state.directories))
        };
        let index = layer.index;
        let mut writer =
            Writer { pull: self.clone(), index, dir: Some(dir.clone()), receiver: None, fetch: Some(fetch) };
        let diff = dir.join("diff");
        let mkdir =
            |path: &Path, mode| DirBuilder::new().mode(mode).create(path).map_err(Error::os("mkdir", path));
        mkdir(&dir, 0o700)?;
        mkdir(&diff, 0o755)?;
        let root = File::open(&diff).map_err(Error::os("open", &diff))?;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
        nix::sys::stat::fchmod(&root, mode).map_err(|e| Error::os("chmod", &diff)(e.into()))?;
        writer.receiver = Some(Receiver::new(layer, root.into(), self.marks)?);
        Ok(writer)
    }

    /// A writer is done with its layer.
    fn received(&self, index: usize, ready: Ready) -> Result<()> {
        self.state().slots[index].stage = Stage::Ready(ready);
        self.publish_ready(index)
    }

    fn commit(&self, manifest: &Digest, config: &Digest) -> Result<()> {
        let mut chains = Vec::new();
        let mut layers = Vec::new();
        {
            let mut state = self.state();
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            for slot in &state.slots {
                if !matches!(slot.stage, Stage::Present) {
                    return Err(Error::Incomplete(format!("layer {} is missing", slot.layer.digest)));
                }
                chains.push(slot.chain.clone());
                layers.push(slot.layer.clone());
            }
        }
        let _lock = self.store.shared()?;
        self.check(manifest, config, &layers)?;
        let mut bytes = 0;
        for chain in &chains {
            let path = self.store.layer_dir(chain).join("layer.json");
            let record: Option<LayerRecord> = record::read(&path)?;
            let record = record.ok_or_else(|| Error::Incomplete(format!("layer {chain} is missing")))?;
            bytes += record.bytes;
        }
        let pulled = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let record =
            ImageRecord { config: config.clone(), manifest: manifest.clone(), layers: chains, bytes, pulled };
        self.store.publish(&record::text(&record), &self.store.image_path(config))
    }

    /// Config, manifest and the layers that came belong together.
    fn check(&self, manifest: &Digest, config: &Digest, layers: &[Layer]) -> Result<()> {
        let document = |digest: &Digest| {
            let path = self.store.blob(digest);
            std::fs::read(&path).map(|text| (text, path.clone())).map_err(Error::os("read", &path))
        };
        let same = |what: &str, listed: Vec<String>, came: Vec<&str>| match listed == came {
            true => Ok(()),
            false => Err(Error::Inconsistent(format!("{what} of {} other layers than came", listed.len()))),
        };
        let (text, path) = document(config)?;
        let parsed: ImageConfiguration = record::parse(&text, &path)?;
        let diff_ids = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        same("config", parsed.rootfs().diff_ids().clone(), diff_ids)?;
        let (text, path) = document(manifest)?;
        let parsed: ImageManifest = record::parse(&text, &path)?;
        let digests = layers.iter().map(|layer| layer.digest.as_str()).collect();
        same("manifest", parsed.layers().iter().map(|l| l.digest().to_string()).collect(), digests)?;
        if parsed.config().digest().to_string() != config.as_str() {
            return Err(Error::Inconsistent(format!("manifest {manifest} is not about config {config}")));
        }
        Ok(())
    }
}

/// Takes the bytes of one layer.
struct Writer {
    pull: Arc<Pull>,
    index: usize,
    /// Its staging directory; `None` once it was handed over.
    dir: Option<PathBuf>,
    receiver: Option<Receiver>,
    fetch: Option<Fetch>,
}

impl Writer {
    fn receive(&mut self) -> Result<()> {
        let receiver = self.receiver.take().ok_or(Error::Aborted)?;
        let received = receiver.finish()?;
        let (Some(dir), Some(fetch)) = (self.dir.take(), self.fetch.take()) else {
            return Err(Error::Aborted);
        };
        self.pull.received(self.index, Ready { dir, received, _fetch: fetch })
    }
}

impl LayerWriter for Writer {
    fn write(&mut self, chunk: &[u8]) -> Result<(), SinkError> {
        let receiver = self.receiver.as_mut().ok_or_else(|| wrap(Error::Aborted))?;
        receiver.write(chunk).map_err(wrap)
    }

    fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        self.receive().map_err(wrap)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Its threads first: they write into the directory.
        self.receiver = None;
        if let Some(dir) = self.dir.take() {
            if let Err(e) = discard(&dir) {
                tracing::warn!("{e}");
            }
            self.fetch = None;
            self.pull.state().slots[self.index].stage = Stage::Wanted;
        }
    }
}

/// The sender tells wrong bytes from a host that fails.
fn wrap(error: Error) -> SinkError {
    if error.is_content() { Box::new(WrongContent(Box::new(error))) } else { Box::new(error) }
}

impl ImageSink for Sink {
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SinkError> {
        self.pull.document(digest).map_err(wrap)
    }

    fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SinkError> {
        self.pull.put_document(digest, bytes).map_err(wrap)
    }

    fn begin(&self, layers: &[Layer]) -> Result<(), SinkError> {
        self.pull.begin(layers).map_err(wrap)
    }

    fn layer(&self, index: usize) -> Result<LayerSlot, SinkError> {
        self.pull.layer(index).map_err(wrap)
    }

    fn commit(&self, manifest: &Digest, config: &Digest) -> Result<(), SinkError> {
        self.pull.commit(manifest, config).map_err(wrap)
    }
}
