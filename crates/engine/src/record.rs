//! What is kept of a container: what it is (written once), and how it ended.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use network::Exposed;
use oci::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::health::Healthcheck;
use crate::ids::Ids;
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
    /// Ports that image and user name, and those that are published.
    #[serde(default)]
    pub(crate) exposed: Vec<Exposed>,
    pub(crate) points: Vec<Point>,
    #[serde(default)]
    pub(crate) health: Option<Healthcheck>,
    /// What the image runs a line of a health check with, if it says.
    #[serde(default)]
    pub(crate) shell: Vec<String>,
    /// The ids of its user namespace, if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<Ids>,
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
    /// It is going to be started again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) restarting: bool,
}

/// Name of the file that holds a [`Record`].
pub(crate) const RECORD: &str = "record.json";
const EXIT: &str = "exit.json";
const STARTED: &str = "started";
const MADE: &str = "made";
const STOPPED: &str = "stopped";
const RESTARTS: &str = "restarts";

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

    /// It runs again.
    pub(crate) fn forget(dir: &Path) -> Result<(), Error> {
        crate::place::remove_file(&dir.join(EXIT))
    }
}

/// Notes that a container stays that has never been started.
pub(crate) fn write_made(dir: &Path) -> Result<(), Error> {
    crate::place::write_new(&dir.join(MADE), b"", 0o600)
}

/// Whether the container stays when who works on it is killed: it was made for later, or it has run.
pub(crate) fn stays(dir: &Path) -> bool {
    dir.join(STARTED).exists() || dir.join(MADE).exists()
}

/// Notes that the user wants the container stopped: no restart policy shall start it again.
pub(crate) fn write_stopped(dir: &Path) -> Result<(), Error> {
    crate::place::write_anew(&dir.join(STOPPED), b"", 0o600)
}

/// The user wants it to run.
pub(crate) fn unwrite_stopped(dir: &Path) -> Result<(), Error> {
    crate::place::remove_file(&dir.join(STOPPED))
}

/// Whether the user wants it stopped.
pub(crate) fn is_stopped(dir: &Path) -> bool {
    dir.join(STOPPED).exists()
}

/// How often its policy has started it again since the user started it.
pub(crate) fn read_restarts(dir: &Path) -> u32 {
    fs::read_to_string(dir.join(RESTARTS)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Notes how often its policy has started it again.
pub(crate) fn write_restarts(dir: &Path, count: u32) -> Result<(), Error> {
    match count {
        0 => crate::place::remove_file(&dir.join(RESTARTS)),
        _ => crate::place::write_anew(&dir.join(RESTARTS), count.to_string().as_bytes(), 0o600),
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

/// Writes a record, whole or not at all.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let json =
        serde_json::to_vec(value).map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
    crate::place::write_whole(path, &json)
}

/// Reads a record back; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    // Room for a usual one: two system calls less than by asking for its size, and ps reads thousands.
    let mut bytes = Vec::with_capacity(8 << 10);
    match fs::File::open(path).and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(Error::io(format!("read {path:?}")))?,
    };
    let parsed =
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
    Ok(Some(parsed))
}
