//! Who works on a container: a file per container in ROOT/container-locks with a flock on it.
//!
//! The kernel drops the flock when its holder dies, whatever kills it. The file is removed while the flock is held,
//! so whoever gets the flock of a file that has no name any more has come too late and starts again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::{Engine, Error};

/// The right to work on one container. Dropped without [`Lock::finish`] it leaves the file, and with it the next
/// command's duty to clean up.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _held: Flock<File>,
}

impl Lock {
    /// Takes the lock of container `id`; `None` if another process has it.
    pub(crate) fn try_take(engine: &Engine, id: &str) -> Result<Option<Self>, Error> {
        let path = engine.locks().join(id);
        let fail = |e: io::Error| Error::io(format!("lock {path:?}"))(e);
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&path)
                .map_err(fail)?;
            let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => held,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(fail(errno.into())),
            };
            if held.metadata().map_err(fail)?.nlink() > 0 {
                return Ok(Some(Self { path, _held: held }));
            }
        }
    }

    /// The work is done: the container is whole, or gone.
    pub(crate) fn finish(self) -> Result<(), Error> {
        crate::place::remove_file(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_no_file_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine { root: dir.path().join("root"), runroot: dir.path().join("run") };
        engine.make_places().unwrap();
        let lock = Lock::try_take(&engine, "a").unwrap().unwrap();
        assert!(Lock::try_take(&engine, "a").unwrap().is_none());
        assert!(Lock::try_take(&engine, "b").unwrap().is_some());
        lock.finish().unwrap();
        assert!(!engine.locks().join("a").exists());
        // A killed holder's file stays, and can be taken over.
        drop(Lock::try_take(&engine, "a").unwrap().unwrap());
        assert!(engine.locks().join("a").exists());
        assert!(Lock::try_take(&engine, "a").unwrap().is_some());
    }
}
