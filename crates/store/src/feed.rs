//! Bytes on their way from one thread to the next.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::Error;
use crate::hash::Hasher;

/// Size of a piece. Fewer, larger ones cost fewer wake-ups; a layer in work holds about sixteen.
pub(crate) const PIECE: usize = 256 << 10;
/// Pieces that may wait between two threads.
const WAITING: usize = 6;

/// What goes through a channel: pieces, which several may read, and `None` once after the last. A sender that
/// leaves without that gave up.
pub(crate) type Piece = Option<Arc<Vec<u8>>>;

/// Makes a channel for pieces.
pub(crate) fn channel() -> (SyncSender<Piece>, Receiver<Piece>) {
    sync_channel(WAITING)
}

/// The receiving end, as a reader. Hashes what it receives if it was given a hasher.
pub(crate) struct Feed {
    receiver: Receiver<Piece>,
    piece: Piece,
    at: usize,
    ended: bool,
    hasher: Option<Hasher>,
}

impl Feed {
    pub(crate) fn new(receiver: Receiver<Piece>, hasher: Option<Hasher>) -> Self {
        Self { receiver, piece: None, at: 0, ended: false, hasher }
    }

    /// Receives the rest and drops it.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        loop {
            match self.fill_buf()?.len() {
                0 => return Ok(()),
                n => self.consume(n),
            }
        }
    }

    /// The hash of everything received.
    pub(crate) fn into_hasher(self) -> Option<Hasher> {
        self.hasher
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.piece.as_ref().is_none_or(|piece| self.at == piece.len()) {
            self.at = 0;
            match self.receiver.recv() {
                Ok(Some(piece)) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&piece);
                    }
                    self.piece = Some(piece);
                }
                Ok(None) => {
                    self.piece = None;
                    self.ended = true;
                }
                Err(_) => return Err(io::Error::other(Error::Aborted)),
            }
        }
        Ok(self.piece.as_ref().map_or(&[], |piece| &piece[self.at..]))
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Feed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let n = have.len().min(buf.len());
        buf[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}
