//! Where errors and the debug log go: standard error or `--log FILE`, as text or JSON lines in logrus's shape,
//! because containerd and podman read the last `error` line of the file.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span;

use super::flags::Parsed;
use super::global;
use crate::Error;
use crate::time::now_in_seconds;

/// The log.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    /// `None` is standard error.
    file: Option<Arc<File>>,
    json: bool,
    /// Everything goes there, not only what users should know.
    debug: bool,
}

impl Log {
    /// Opens what the global flags ask for; what users should know goes there, with `--debug` all its events.
    pub(crate) fn open(before: &Parsed, after: &Parsed) -> Result<Log, Error> {
        let json = match global::value(before, after, "log-format").unwrap_or(OsStr::new("")).to_str() {
            Some("" | "text") => false,
            Some("json") => true,
            other => {
                return Err(Error::new(format!("invalid log-format: {}", other.unwrap_or("(not UTF-8)"))));
            }
        };
        let file = match global::value(before, after, "log").filter(|path| !path.is_empty()) {
            None => None,
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
                Some(Arc::new(file.map_err(|e| Error::new(format!("open log {path:?}")).because(e))?))
            }
        };
        let mut log = Log { file, json, debug: false };
        log.debug = global::value(before, after, "debug").is_some_and(|v| v == "true");
        // The only one who sets it is this function, called once.
        let _ = tracing::subscriber::set_global_default(log.clone());
        Ok(log)
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
        // logrus's word for it, which those who read the log look for.
        let level = if level == "warn" { "warning" } else { level };
        let line = if self.json {
            format!("{}\n", json!({"level": level, "msg": message, "time": time}))
        } else {
            // logrus quotes as Go does; JSON's quoting differs only for characters that nobody should see raw.
            format!("time={} level={level} msg={}\n", json!(time), json!(message))
        };
        // A log that cannot be written has nowhere to complain to.
        let _ = match &self.file {
            Some(file) => (&mut &**file).write_all(line.as_bytes()),
            None => std::io::stderr().lock().write_all(line.as_bytes()),
        };
    }
}

/// Events become lines; spans are not used here.
impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        !metadata.is_span() && (self.debug || *metadata.level() <= tracing::Level::INFO)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        Some(if self.debug { LevelFilter::TRACE } else { LevelFilter::INFO })
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        // logrus's words.
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warning",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        self.line(level, &message.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event's message, then its other fields as `name=value`.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
