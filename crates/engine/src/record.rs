//! What is kept of a container: what it is (written once), and how it ended.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use oci::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::mount::Point;
use crate::options::RunOptions;
use crate::time::Nanos;

/// What a container is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// 64 hex digits.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Nanos,
    /// The image's ID.
    pub(crate) image_id: Digest,
    /// What the user asked for.
    pub(crate) options: RunOptions,
    /// The rest is what came of that and of the image's config.
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) stop_signal: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) points: Vec<Point>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) finished: Nanos,
    pub(crate) code: u8,
    pub(crate) oom_killed: bool,
    /// What went wrong, if it did not end by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
}

/// Name of the file that holds a [`Record`].
pub(crate) const RECORD: &str = "record.json";
const EXIT: &str = "exit.json";
const STARTED: &str = "started";

impl Record {
    /// The whole command line.
    pub(crate) fn command_line(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), &self.command].concat()
    }

    /// Stores it; from now on the container exists.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        write(&dir.join(RECORD), self)
    }

    /// Reads it back; `None`: there is no such container, or not yet.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        read(&dir.join(RECORD))
    }
}

impl Exit {
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        write(&dir.join(EXIT), self)
    }

    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        read(&dir.join(EXIT))
    }
}

/// Notes that the command runs since `at`.
pub(crate) fn write_started(dir: &Path, at: Nanos) -> Result<(), Error> {
    crate::place::write_anew(&dir.join(STARTED), at.to_string().as_bytes(), 0o600)
}

/// When the command was started.
pub(crate) fn read_started(dir: &Path) -> Option<Nanos> {
    fs::read_to_string(dir.join(STARTED)).ok()?.trim().parse().ok()
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let json =
        serde_json::to_vec(value).map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
    crate::place::write_whole(path, &json)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let mut bytes = Vec::new();
    match fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(Error::io(format!("read {path:?}")))?,
    };
    let parsed =
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
    Ok(Some(parsed))
}
