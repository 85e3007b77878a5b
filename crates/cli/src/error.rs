//! Why a command failed, and how that is told.

use std::io::{self, Write};
use std::path::PathBuf;

use engine::{Engine, in_full};

use crate::hint;
use crate::print::safe;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The engine's answer.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The engine's answer to `exec`, whose exit codes are its own.
    #[error(transparent)]
    Exec(engine::Error),
    /// A flag's value that only shows to be wrong in use, for instance a field that `--format` names.
    #[error("{0}")]
    Usage(String),
    /// An `--env-file` that cannot be read.
    #[error("read --env-file {path:?}")]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// Its errno.
        source: io::Error,
    },
    /// A file that was asked for cannot be written.
    #[error("write {path:?}")]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// Its errno.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("write standard output")]
    Output(#[source] io::Error),
    /// A signal ended a pull.
    #[error("interrupted")]
    Interrupted(i32),
    /// Some of several things could not be done; the others were.
    #[error("{} errors", .0.len())]
    Several(Vec<engine::Error>),
    /// What a check found is on standard output already.
    #[error("the store has {0} problems")]
    Unsound(usize),
}

impl Error {
    /// Prints it on standard error, one line an error, as `rcr: ERROR: CAUSE: CAUSE; WHAT TO DO`.
    pub(crate) fn tell(&self, engine: &Engine) {
        let with_hint = |error: &engine::Error| in_full(error) + &hint::next(engine, error);
        let lines: Vec<String> = match self {
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => return,
            Self::Several(errors) => errors.iter().map(with_hint).collect(),
            Self::Engine(error) | Self::Exec(error) => vec![with_hint(error)],
            other => vec![in_full(other)],
        };
        let mut stderr = io::stderr().lock();
        for line in lines {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(stderr, "rcr: {}", safe::line(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_once() {
        let error = Error::EnvFile { path: "/x".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(in_full(&error), "read --env-file \"/x\": entity not found");
        assert_eq!(in_full(&Error::Engine(engine::Error::NoSuchImage("x".into()))), "no such image: x");
    }
}
