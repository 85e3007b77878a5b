//! `rcr container-ended`: not for people. What a container's monitor becomes when the container has ended.

use engine::{End, Engine};

use crate::error::Error;

/// Clean up after a container that has ended
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Ended {
    id: String,
    /// Number of the lock's descriptor.
    lock: i32,
    /// Milliseconds.
    pause: u64,
    /// Exit code, or `unknown`.
    code: String,
    /// Nanoseconds since 1970.
    finished: i64,
}

impl Ended {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let code = self.code.parse().ok();
        let end = End { id: self.id, lock: self.lock, pause: self.pause, code, finished: self.finished };
        Ok(engine::ended(engine, &end)?)
    }
}
