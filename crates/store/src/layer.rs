//! Receives one layer: hashes, decompresses and unpacks it while it comes.
//!
//! ```text
//! writer ──packed──▶ inflate: digest of what came, decompression ──▶ unpack: tar → diff directory
//!                                                                └──▶ hash: DiffID
//! ```
//! The channels are short, so a slow disk slows the sender down and memory stays bounded. A thread that fails drops
//! its end, which stops the ones before it; nothing waits for ever (CVE-2021-20291).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use oci::sink::Layer;
use oci::{Algorithm, Digest};

use crate::error::{Error, Result};
use crate::feed::{Feed, PIECE, Piece, channel};
use crate::hash::Hasher;
use crate::inflate::inflate;
use crate::overlay::Marks;
use crate::tar::Archive;
use crate::unpack::{Extractor, Notes};

/// A layer on its way in.
pub(crate) struct Receiver {
    layer: Layer,
    got: u64,
    piece: Vec<u8>,
    threads: Option<Threads>,
}

struct Threads {
    input: SyncSender<Piece>,
    inflate: JoinHandle<Result<Digest>>,
    hash: JoinHandle<Option<(Digest, u64)>>,
    unpack: JoinHandle<Result<Notes>>,
}

/// A layer that is whole and as announced.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) notes: Notes,
    /// Length of the uncompressed archive.
    pub(crate) tar_size: u64,
}

impl Receiver {
    /// `diff` is the empty directory to unpack into.
    pub(crate) fn new(layer: Layer, diff: OwnedFd, marks: Marks) -> Result<Self> {
        let threads = Threads::start(&layer, diff, marks)?;
        Ok(Self { layer, got: 0, piece: Vec::with_capacity(PIECE), threads: Some(threads) })
    }

    pub(crate) fn write(&mut self, mut chunk: &[u8]) -> Result<()> {
        self.got += chunk.len() as u64;
        if self.got > self.layer.size {
            return Err(self.wrong_size());
        }
        while !chunk.is_empty() {
            let n = chunk.len().min(PIECE - self.piece.len());
            self.piece.extend_from_slice(&chunk[..n]);
            chunk = &chunk[n..];
            if self.piece.len() == PIECE {
                let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
                self.send(piece)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, piece: Vec<u8>) -> Result<()> {
        let Some(threads) = &self.threads else {
            return Err(Error::Aborted);
        };
        match threads.input.send(Some(Arc::new(piece))) {
            Ok(()) => Ok(()),
            // Something went wrong behind; what, its thread says.
            Err(_) => Err(self.join().err().unwrap_or(Error::Aborted)),
        }
    }

    pub(crate) fn finish(mut self) -> Result<Received> {
        if self.got != self.layer.size {
            return Err(self.wrong_size());
        }
        let last = std::mem::take(&mut self.piece);
        if !last.is_empty() {
            self.send(last)?;
        }
        if let Some(threads) = &self.threads {
            // If nobody listens any more, join() says why.
            threads.input.send(None).ok();
        }
        let (digest, (diff_id, tar_size), notes) = self.join()?;
        let check = |what, want: &Digest, got| match *want == got {
            true => Ok(()),
            false => Err(Error::WrongDigest { what, want: want.clone(), got }),
        };
        check("layer", &self.layer.digest, digest)?;
        check("the uncompressed layer (its DiffID)", &self.layer.diff_id, diff_id)?;
        Ok(Received { notes, tar_size })
    }

    fn wrong_size(&self) -> Error {
        Error::WrongSize { what: "layer", want: self.layer.size, got: self.got }
    }

    /// Waits for all threads; the first cause of a failure counts.
    fn join(&mut self) -> Result<(Digest, (Digest, u64), Notes)> {
        let Some(threads) = self.threads.take() else {
            return Err(Error::Aborted);
        };
        let Threads { input, inflate, hash, unpack } = threads;
        drop(input);
        let inflate = joined(inflate);
        let hash = joined(hash);
        match (inflate, hash, joined(unpack)) {
            (Ok(digest), Some(diff_id), Ok(notes)) => Ok((digest, diff_id, notes)),
            (Err(Error::Aborted) | Ok(_), _, Err(error)) => Err(error),
            (Err(error), ..) => Err(error),
            (Ok(_), None, Ok(_)) => Err(Error::Aborted),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The threads write into the diff directory, which the caller is about to remove.
        self.join().ok();
    }
}

impl Threads {
    fn start(layer: &Layer, diff: OwnedFd, marks: Marks) -> Result<Self> {
        let (input, packed) = channel();
        let (to_hash, hashed) = channel();
        let (to_unpack, unpacked) = channel();
        let digest = Hasher::new(layer.digest.algorithm());
        let algorithm = layer.diff_id.algorithm();
        let lowest = layer.index == 0;
        let inflate = spawn("rcr-inflate", move || {
            let mut packed = Feed::new(packed, Some(digest));
            inflate(&mut packed, PIECE, |piece| {
                let piece = Arc::new(piece);
                to_hash.send(Some(piece.clone())).map_err(|_| Error::Aborted)?;
                to_unpack.send(Some(piece)).map_err(|_| Error::Aborted)
            })?;
            packed.drain().map_err(|_| Error::Aborted)?;
            to_hash.send(None).map_err(|_| Error::Aborted)?;
            to_unpack.send(None).map_err(|_| Error::Aborted)?;
            Ok(packed.into_hasher().expect("it was given one").finish())
        })?;
        let hash = spawn("rcr-hash", move || hash_all(hashed, algorithm))?;
        let unpack = spawn("rcr-unpack", move || {
            let mut archive = Archive::new(Feed::new(unpacked, None));
            let notes = Extractor::new(diff, marks, lowest).unpack(&mut archive)?;
            // Behind its end there may be anything; it is part of what the DiffID is about.
            archive.into_input().drain().map_err(|_| Error::Aborted)?;
            Ok(notes)
        })?;
        Ok(Self { input, inflate, hash, unpack })
    }
}

/// Digest and length of everything, `None` if the end never came.
fn hash_all(pieces: std::sync::mpsc::Receiver<Piece>, algorithm: Algorithm) -> Option<(Digest, u64)> {
    let mut hasher = Hasher::new(algorithm);
    let mut length = 0;
    while let Some(piece) = pieces.recv().ok()? {
        hasher.update(&piece);
        length += piece.len() as u64;
    }
    Some((hasher.finish(), length))
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|source| Error::Os {
        call: "start thread",
        path: name.into(),
        source,
    })
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
