//! A store in memory that checks what a store must check, and counts what it was told to drop.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use oci::Digest;
use oci::sink::{ImageSink, Layer, LayerSlot, LayerWriter, SinkError, WrongContent};
use sha2::Digest as _;

#[derive(Default)]
pub struct State {
    pub documents: HashMap<Digest, Vec<u8>>,
    pub announced: Vec<Layer>,
    /// Layers that were finished and right.
    pub layers: HashMap<Digest, Vec<u8>>,
    pub committed: Option<(Digest, Digest)>,
    /// Layers with a writer now; nobody else gets one.
    pub open: HashSet<Digest>,
    pub opened: usize,
    pub dropped: usize,
    /// Answers `Busy` so often before it takes a layer.
    pub busy: usize,
    /// Fails each write with this, as a full disk would.
    pub broken: Option<&'static str>,
}

#[derive(Clone, Default)]
pub struct Sink(pub Arc<Mutex<State>>);

impl ImageSink for Sink {
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SinkError> {
        Ok(self.0.lock().unwrap().documents.get(digest).cloned())
    }

    fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SinkError> {
        if sha256(bytes) != *digest {
            return Err(format!("document is not {digest}").into());
        }
        self.0.lock().unwrap().documents.insert(digest.clone(), bytes.to_vec());
        Ok(())
    }

    fn begin(&self, layers: &[Layer]) -> Result<(), SinkError> {
        self.0.lock().unwrap().announced = layers.to_vec();
        Ok(())
    }

    fn layer(&self, index: usize) -> Result<LayerSlot, SinkError> {
        let mut state = self.0.lock().unwrap();
        let layer = state.announced[index].clone();
        if state.layers.contains_key(&layer.digest) {
            return Ok(LayerSlot::Present);
        }
        if state.busy > 0 {
            state.busy -= 1;
            return Ok(LayerSlot::Busy);
        }
        if !state.open.insert(layer.digest.clone()) {
            return Ok(LayerSlot::Busy);
        }
        state.opened += 1;
        Ok(LayerSlot::Fetch(Box::new(Writer {
            sink: self.clone(),
            layer,
            bytes: Vec::new(),
            finished: false,
        })))
    }

    fn commit(&self, manifest: &Digest, config: &Digest) -> Result<(), SinkError> {
        let mut state = self.0.lock().unwrap();
        for digest in [manifest, config] {
            assert!(state.documents.contains_key(digest), "committed without {digest}");
        }
        for layer in &state.announced {
            assert!(state.layers.contains_key(&layer.digest), "committed without layer {}", layer.digest);
        }
        state.committed = Some((manifest.clone(), config.clone()));
        Ok(())
    }
}

struct Writer {
    sink: Sink,
    layer: Layer,
    bytes: Vec<u8>,
    finished: bool,
}

impl LayerWriter for Writer {
    fn write(&mut self, chunk: &[u8]) -> Result<(), SinkError> {
        if let Some(reason) = self.sink.0.lock().unwrap().broken {
            return Err(reason.into());
        }
        self.bytes.extend_from_slice(chunk);
        assert!(self.bytes.len() as u64 <= self.layer.size, "written beyond the size");
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let actual = sha256(&self.bytes);
        if actual != self.layer.digest {
            let text = format!("wrong digest: expected {}, got {actual}", self.layer.digest);
            return Err(Box::new(WrongContent(text.into())));
        }
        self.finished = true;
        let bytes = std::mem::take(&mut self.bytes);
        self.sink.0.lock().unwrap().layers.insert(self.layer.digest.clone(), bytes);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.sink.0.lock().unwrap();
        state.open.remove(&self.layer.digest);
        state.dropped += usize::from(!self.finished);
    }
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_hash(oci::Algorithm::Sha256, &sha2::Sha256::digest(bytes))
}
