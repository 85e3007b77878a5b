//! Where errors and the debug log go: standard error or `--log FILE`, as text or JSON lines in logrus's shape,
//! because containerd and podman read the last `error` line of the file.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;

use serde_json::json;

use super::flags::Parsed;
use super::global;
use crate::Error;
use crate::time::now_in_seconds;

/// The log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// `None` is standard error.
    file: Option<File>,
    json: bool,
}

impl Log {
    /// Opens what the global flags ask for.
    pub(crate) fn open(before: &Parsed, after: &Parsed) -> Result<Log, Error> {
        let json = match global::value(before, after, "log-format").unwrap_or(OsStr::new("")).to_str() {
            Some("" | "text") => false,
            Some("json") => true,
            other => return Err(Error::new(format!("invalid log-format: {}", other.unwrap_or("(not UTF-8)")))),
        };
        let file = match global::value(before, after, "log").filter(|path| !path.is_empty()) {
            None => None,
            Some(path) => Some(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o644)
                    .open(path)
                    .map_err(|e| Error::new(format!("open log {path:?}")).because(e))?,
            ),
        };
        Ok(Log { file, json })
    }

    /// Writes the error that ends the program, once to each place where somebody reads it.
    pub(crate) fn fatal(&self, message: &str) {
        self.line("error", message);
        if self.file.is_some() {
            eprintln!("{message}");
        }
    }

    fn line(&self, level: &str, message: &str) {
        let time = now_in_seconds();
        let line = if self.json {
            format!("{}\n", json!({"level": level, "msg": message, "time": time}))
        } else {
            // logrus quotes as Go does; JSON's quoting differs only for characters that nobody should see raw.
            format!("time={} level={level} msg={}\n", json!(time), json!(message))
        };
        // A log that cannot be written has nowhere to complain to.
        let _ = match &self.file {
            Some(file) => (&mut &*file).write_all(line.as_bytes()),
            None => std::io::stderr().lock().write_all(line.as_bytes()),
        };
    }
}
