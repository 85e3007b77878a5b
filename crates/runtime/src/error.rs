//! The one error type of this crate: what was being done to what, and why it failed.
//!
//! A message is shaped like the call that failed (`open "/run/x/state.json"`, `linux.namespaces[2].path`), lower case,
//! without a full stop; the reason is the source. Printing is `main`'s business: [`Error`]'s alternate form
//! (`{:#}`) is the whole chain on one line.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use nix::errno::Errno;

/// What kind of failure it was, for callers that answer differently to some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing the caller is expected to tell apart.
    Other,
    /// config.json, an argument or a container id is not acceptable; nothing was done.
    Invalid,
    /// There is no container of that id.
    NotFound,
    /// A container of that id exists already.
    Exists,
    /// The container's state does not allow this (not running, already running, paused).
    State,
    /// The command does not exist in the container (exit code 127 in `docker run`).
    CommandNotFound,
    /// The command exists but cannot be executed (exit code 126 in `docker run`).
    CommandNotExecutable,
}

/// A failed operation: the message, its kind and its cause.
#[derive(Debug)]
pub struct Error {
    message: String,
    kind: ErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of kind [`ErrorKind::Other`] without a cause.
    pub fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), kind: ErrorKind::Other, source: None }
    }

    /// The same error as another kind.
    #[must_use]
    pub fn kind(self, kind: ErrorKind) -> Error {
        Error { kind, ..self }
    }

    /// The same error with its cause; a cause that is an [`Error`] too hands its kind on.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let source = source.into();
        let kind = match source.downcast_ref::<Error>() {
            Some(inner) if self.kind == ErrorKind::Other => inner.kind,
            _ => self.kind,
        };
        Error { kind, source: Some(source), ..self }
    }

    /// What kind of failure this is.
    pub fn what(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if f.alternate() {
            let mut cause = self.source();
            while let Some(error) = cause {
                write!(f, ": {}", reason(error))?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

/// The words for one cause. An errno reads as it does in runc's messages, which docker and podman search for
/// `no such file or directory` and the like: lower case, no number.
pub(crate) fn reason(cause: &(dyn StdError + 'static)) -> String {
    let errno = match cause.downcast_ref::<Errno>() {
        Some(errno) => Some(*errno),
        None => cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(Errno::from_raw),
    };
    match errno {
        Some(errno) => {
            // The C library's words, which are Go's, but for the capital and the number.
            let words = io::Error::from(errno).to_string();
            words.split(" (os error").next().unwrap_or_default().to_ascii_lowercase()
        }
        None => cause.to_string(),
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alternate_form_prints_the_whole_chain_and_kinds_travel_outwards() {
        let io = std::io::Error::from_raw_os_error(2);
        let inner = Error::new("open \"/x\"").kind(ErrorKind::NotFound).because(io);
        let outer = Error::new("load \"web\"").because(inner);
        assert_eq!(format!("{outer:#}"), "load \"web\": open \"/x\": no such file or directory");
        assert_eq!(reason(&Errno::ERANGE), "numerical result out of range");
        assert_eq!(reason(&Errno::EOPNOTSUPP), "operation not supported");
        assert_eq!(outer.to_string(), "load \"web\"");
        assert_eq!(outer.what(), ErrorKind::NotFound);
    }
}
