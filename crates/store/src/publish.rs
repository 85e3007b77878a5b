//! Makes received layers visible, in the order of the chain.
//!
//! A layer waits in staging until those below are there: what it says about them is done then, against them. What
//! is ready goes in one batch, because syncing a file system costs the same for one layer as for ten.

use std::fs::File;
use std::path::{Path, PathBuf};

use oci::Digest;
use oci::sink::Layer;

use crate::error::{Error, Result};
use crate::record::{self, LayerRecord};
use crate::sink::{Pull, Ready, Stage};
use crate::store::{discard, sync_directory};
use crate::tree::{self, Tally};
use crate::unpack::settle;

struct Item {
    index: usize,
    layer: Layer,
    chain: Digest,
    parent: Option<Digest>,
    ready: Ready,
}

impl Pull {
    /// Publishes every received layer whose lower ones are all there. `caller` is the layer that the calling
    /// thread is about: a failure of another one is kept for [`oci::sink::ImageSink::commit`].
    pub(crate) fn publish_ready(&self, caller: usize) -> Result<()> {
        loop {
            let (mut batch, mut lower) = self.take_batch();
            if batch.is_empty() {
                return Ok(());
            }
            let mut failure = None;
            for nth in 0..batch.len() {
                if let Err(error) = self.finish(&mut batch[nth], &lower) {
                    let mut rest = batch.split_off(nth).into_iter();
                    failure = rest.next().map(|item| (item, error));
                    let mut state = self.state();
                    for item in rest {
                        state.slots[item.index].stage = Stage::Ready(item.ready);
                    }
                    break;
                }
                lower.push(batch[nth].ready.dir.join("diff"));
            }
            let moved = self.move_in(&batch);
            for item in batch {
                self.leave(&item, moved.is_ok());
            }
            moved?;
            let Some((item, error)) = failure else {
                continue;
            };
            self.leave(&item, false);
            if item.index == caller {
                return Err(error);
            }
            self.state().failure.get_or_insert(error);
            return Ok(());
        }
    }

    /// The lowest layers that are ready, and the diff directories of those that are published.
    fn take_batch(&self) -> (Vec<Item>, Vec<PathBuf>) {
        let (mut batch, mut lower, mut parent) = (Vec::new(), Vec::new(), None);
        for (index, slot) in self.state().slots.iter_mut().enumerate() {
            match std::mem::replace(&mut slot.stage, Stage::Publishing) {
                Stage::Present if batch.is_empty() => {
                    slot.stage = Stage::Present;
                    lower.push(self.store.layer_dir(&slot.chain).join("diff"));
                }
                Stage::Ready(ready) => {
                    let (layer, chain) = (slot.layer.clone(), slot.chain.clone());
                    batch.push(Item { index, layer, chain, parent: parent.take(), ready });
                }
                other => {
                    slot.stage = other;
                    break;
                }
            }
            parent = Some(slot.chain.clone());
        }
        (batch, lower)
    }

    /// Does what depends on the lower layers, and writes the record.
    fn finish(&self, item: &mut Item, lower: &[PathBuf]) -> Result<()> {
        let diff = item.ready.dir.join("diff");
        let root = File::open(&diff).map_err(Error::os("open", &diff))?;
        let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        let notes = std::mem::take(&mut item.ready.received.notes);
        settle(root.try_clone().map_err(Error::os("open", &diff))?.into(), notes, &lower, self.marks)?;
        let Tally { files, bytes } = tree::tally(&root).map_err(Error::os("count files", &diff))?;
        let record = LayerRecord {
            diff_id: item.layer.diff_id.clone(),
            parent: item.parent.clone(),
            blob: item.layer.digest.clone(),
            blob_size: item.layer.size,
            tar_size: item.ready.received.tar_size,
            files,
            bytes,
        };
        let path = item.ready.dir.join("layer.json");
        std::fs::write(&path, record::text(&record)).map_err(Error::os("write", &path))
    }

    /// Syncs all of them and moves them to where they are visible.
    fn move_in(&self, batch: &[Item]) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let staged = &self.staged.path;
        let dir = File::open(staged).map_err(Error::os("open", staged))?;
        // Everything, the records included, is on disk before any of it has its final name.
        nix::unistd::syncfs(&dir).map_err(|e| Error::os("sync", staged)(e.into()))?;
        let _lock = self.store.shared()?;
        for item in batch {
            let path = self.store.layer_dir(&item.chain);
            let parent = self.store.make_parent(&path)?;
            if path.exists() {
                // Without a record, else it would have been taken for present: damaged.
                let old = staged.join(format!("damaged-{}", item.index));
                std::fs::rename(&path, &old).map_err(Error::os("move away", &path))?;
            }
            std::fs::rename(&item.ready.dir, &path).map_err(Error::os("publish", &path))?;
            sync_directory(parent)?;
        }
        Ok(())
    }

    fn leave(&self, item: &Item, present: bool) {
        if !present {
            // Else its name is the published one.
            discard(&item.ready.dir).ok();
        }
        self.state().slots[item.index].stage = if present { Stage::Present } else { Stage::Wanted };
    }
}
