//! Copies bytes from one descriptor to another without ever blocking on either.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollFlags;

use crate::keys::Keys;

/// A copy in progress. Both files must be in non-blocking mode, or blocking ones that poll(2) says are ready.
#[derive(Debug)]
pub(crate) struct Pump {
    from: File,
    to: File,
    buffer: Vec<u8>,
    /// The part of `buffer` that is still to be written.
    start: usize,
    end: usize,
    /// What is copied is typed, and these keys end it.
    keys: Option<Keys>,
}

const BUFFER: usize = 16 << 10;

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may be more.
    Open,
    /// The source has ended and all of it is written.
    Ended,
    /// The other side takes nothing any more.
    Refused,
    /// The keys that detach were typed.
    Detached,
}

impl Pump {
    pub(crate) fn new(from: File, to: File) -> Self {
        Self { from, to, buffer: vec![0; BUFFER], start: 0, end: 0, keys: None }
    }

    /// Ends with [`Progress::Detached`] when the `keys` come by.
    pub(crate) fn watched(self, keys: Keys) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// What to wait for: the source while there is nothing to write, else the other side.
    pub(crate) fn wants(&self) -> (BorrowedFd<'_>, PollFlags) {
        if self.start == self.end {
            (self.from.as_fd(), PollFlags::POLLIN)
        } else {
            (self.to.as_fd(), PollFlags::POLLOUT)
        }
    }

    /// One read or one write. An error of the source is its end: a terminal says EIO when its last user is gone.
    pub(crate) fn step(&mut self) -> Progress {
        if self.start == self.end {
            return match self.from.read(&mut self.buffer[..]) {
                Ok(0) => Progress::Ended,
                Ok(n) => {
                    (self.start, self.end) = (0, n);
                    self.look_for_keys()
                }
                Err(e) if passing(e.kind()) => Progress::Open,
                Err(_) => Progress::Ended,
            };
        }
        match self.to.write(&self.buffer[self.start..self.end]) {
            Ok(n) => {
                self.start += n;
                Progress::Open
            }
            Err(e) if passing(e.kind()) => Progress::Open,
            Err(_) => Progress::Refused,
        }
    }

    fn look_for_keys(&mut self) -> Progress {
        let Some(keys) = &mut self.keys else { return Progress::Open };
        let Some(mut passed) = keys.pass(&self.buffer[..self.end]) else { return Progress::Detached };
        self.end = passed.len();
        // Keys held back before may make it longer than what was read.
        passed.resize(passed.len().max(BUFFER), 0);
        self.buffer = passed;
        Progress::Open
    }
}

fn passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
