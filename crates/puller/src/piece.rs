//! A stretch of a local file: a blob of a layout, a member of an archive.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::sink::Layer;

use crate::blob::{EVENT_STEP, Open};
use crate::pull::Pull;
use crate::{Error, Event};

/// Bytes handed over at a time.
const STEP: usize = 256 << 10;

/// Part of a file that is read by position, so that threads can share it.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) file: Arc<File>,
    /// For messages.
    pub(crate) path: PathBuf,
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl Piece {
    /// A whole file. Symbolic links are followed (build systems lay out blobs that way), but what is there must be
    /// a regular file: opening a fifo would hang.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::Archive { path: path.to_owned(), reason };
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = file.map_err(|e| fail(e.to_string()))?;
        let meta = file.metadata().map_err(|e| fail(e.to_string()))?;
        if !meta.is_file() {
            return Err(fail("it is not a regular file".into()));
        }
        Ok(Self { file: Arc::new(file), path: path.to_owned(), start: 0, size: meta.len() })
    }

    /// Reads at most `buffer.len()` bytes from `at` on; 0 at the end.
    pub(crate) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        loop {
            match self.file.read_at(&mut buffer[..wanted], self.start + at) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) if wanted > 0 => return Err(self.fail("it ends early; the file is truncated")),
                Ok(n) => return Ok(n),
                Err(e) => return Err(self.fail(&e.to_string())),
            }
        }
    }

    /// The whole content, if it has at most `max` bytes.
    pub(crate) fn bytes(&self, max: u64) -> Result<Vec<u8>, Error> {
        if self.size > max {
            return Err(self.fail(&format!("it has {} bytes; at most {max} are read", self.size)));
        }
        let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(0)];
        let mut at = 0;
        while at < bytes.len() {
            at += self.read_at(at as u64, &mut bytes[at..])?;
        }
        Ok(bytes)
    }

    /// Feeds the content to a layer's writer.
    pub(crate) fn feed(&self, pull: &Pull<'_>, layer: &Layer, open: &mut Open<'_>) -> Result<(), Error> {
        if self.size != layer.size {
            let (what, location) = (format!("layer {}", layer.digest), self.path.display().to_string());
            return Err(Error::WrongSize {
                what,
                location,
                expected: layer.size,
                actual: self.size.to_string(),
            });
        }
        let Some(mut writer) = open()? else { return Ok(()) };
        let failed = |source| Error::Sink {
            what: format!("layer {} from {}", layer.digest, self.path.display()),
            source,
        };
        let mut buffer = vec![0; STEP];
        let (mut at, mut announced) = (0, 0);
        while at < self.size {
            pull.check()?;
            let n = self.read_at(at, &mut buffer)?;
            writer.write(&buffer[..n]).map_err(failed)?;
            at += n as u64;
            if at - announced >= EVENT_STEP || at == self.size {
                announced = at;
                (pull.events)(Event::LayerProgress { index: layer.index, bytes: at });
            }
        }
        (pull.events)(Event::LayerDownloaded { index: layer.index });
        writer.finish().map_err(failed)
    }

    pub(crate) fn fail(&self, reason: &str) -> Error {
        Error::Archive { path: self.path.clone(), reason: reason.to_owned() }
    }
}
