//! Who works on a container: a file per container in ROOT/container-locks with a lock on it.
//!
//! The kernel drops the lock when its holder dies, whatever kills it. A record lock (fcntl(2)) and not flock(2): a
//! container's process, cloned and not yet executing, has a copy of every descriptor and would keep a flock alive
//! beyond the death of rcr. The file is removed while the lock is held, so whoever gets the lock of a file that has
//! no name any more has come too late and starts again.
//!
//! Beside `ID` there is `ID.KIND` for each [`Kind`] of work that others may do on a container that somebody has.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::{Engine, Error};

/// Work on a container that does not need the container's own lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes its networks or its name.
    Record,
    /// Stops it and starts it again.
    Restart,
    /// Has it frozen for a moment.
    Frozen,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Record, Kind::Restart, Kind::Frozen];

    fn word(self) -> &'static str {
        match self {
            Kind::Record => "record",
            Kind::Restart => "restart",
            Kind::Frozen => "frozen",
        }
    }

    /// Name of the file of this lock.
    pub(crate) fn of(self, id: &str) -> String {
        format!("{id}.{}", self.word())
    }

    /// The container and the work that a file among the locks is about.
    pub(crate) fn read(file: &str) -> Option<(&str, Kind)> {
        let (id, word) = file.split_once('.')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
        crate::name::is_id(id).then_some((id, kind))
    }
}

/// The right to work on one container. Dropped without [`Lock::finish`] it leaves the file, and with it the next
/// command's duty to clean up. A process must not take the same lock twice: closing either would drop both.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    held: File,
}

impl Lock {
    /// Takes the lock of container `id`; `None` if another process has it.
    pub(crate) fn try_take(engine: &Engine, id: &str) -> Result<Option<Self>, Error> {
        Self::try_take_by(engine, id, |lock| FcntlArg::F_SETLK(lock))
    }

    /// As [`Lock::try_take`], but it is kept by the processes that this one makes too, until they execute another program,
    /// and this process itself can look at it, as [`crate::leftover::enter`] does, without dropping it.
    pub(crate) fn try_take_with_children(engine: &Engine, id: &str) -> Result<Option<Self>, Error> {
        Self::try_take_by(engine, id, |lock| FcntlArg::F_OFD_SETLK(lock))
    }

    fn try_take_by(
        engine: &Engine,
        id: &str,
        by: fn(&libc::flock) -> FcntlArg<'_>,
    ) -> Result<Option<Self>, Error> {
        let path = engine.locks().join(id);
        let fail = |e: io::Error| Error::io(format!("lock {path:?}"))(e);
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .map_err(fail)?;
            match fcntl(&file, by(&whole_file())) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
                Err(errno) => return Err(fail(errno.into())),
            }
            if file.metadata().map_err(fail)?.nlink() > 0 {
                return Ok(Some(Self { path, held: file }));
            }
        }
    }

    /// Tries again until it has the lock; `None` if somebody else has had it for all of `patience`.
    pub(crate) fn wait_for(
        patience: Duration,
        mut take: impl FnMut() -> Result<Option<Self>, Error>,
    ) -> Result<Option<Self>, Error> {
        let until = Instant::now() + patience;
        loop {
            match take()? {
                None if Instant::now() <= until => sleep(Duration::from_millis(2)),
                taken => return Ok(taken),
            }
        }
    }

    /// Whether another process holds the lock of container `id`.
    pub(crate) fn is_held(engine: &Engine, id: &str) -> bool {
        let Ok(file) = File::open(engine.locks().join(id)) else { return false };
        let mut lock = whole_file();
        // What the kernel cannot tell counts as held.
        let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
        asked.is_err() || i32::from(lock.l_type) != libc::F_UNLCK
    }

    /// The process that holds the lock of container `id`; `None`: nobody does.
    pub(crate) fn holder(engine: &Engine, id: &str) -> Option<OwnedFd> {
        let pid = || {
            let file = File::open(engine.locks().join(id)).ok()?;
            let mut lock = whole_file();
            fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
            (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
        };
        let first = pid()?;
        let pidfd = sys::pidfd::open(first).ok()?;
        // The number cannot have changed hands if it is the holder's still.
        (pid()? == first).then_some(pidfd)
    }

    /// The lock that the program before this one took and left open under this number.
    pub(crate) fn inherited(engine: &Engine, id: &str, number: i32) -> Result<Self, Error> {
        let path = engine.locks().join(id);
        let held = sys::process::inherited(number).map_err(Error::io(format!("take over lock {path:?}")))?;
        Ok(Self { path, held: held.into() })
    }

    /// Its descriptor.
    pub(crate) fn held(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }

    /// The work is done: the container is whole, or gone.
    pub(crate) fn finish(self) -> Result<(), Error> {
        crate::place::remove_file(&self.path)
    }
}

#[allow(clippy::cast_possible_truncation)] // constants that the type is made for
fn whole_file() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_children_keep_is_seen_by_its_own_process() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine { root: dir.path().join("root"), runroot: dir.path().join("run") };
        engine.make_places().unwrap();
        let id = "ab".repeat(32);
        let file = Kind::Restart.of(&id);
        assert_eq!(Kind::read(&file), Some((id.as_str(), Kind::Restart)));
        assert!(Kind::read(&id).is_none() && Kind::read(&format!("{id}.x")).is_none());
        let lock = Lock::try_take_with_children(&engine, &file).unwrap().unwrap();
        assert!(Lock::try_take(&engine, &file).unwrap().is_none() && Lock::is_held(&engine, &file));
        lock.finish().unwrap();
        assert!(!Lock::is_held(&engine, &file));
    }

    #[test]
    fn a_finished_lock_leaves_no_file_and_an_abandoned_one_can_be_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine { root: dir.path().join("root"), runroot: dir.path().join("run") };
        engine.make_places().unwrap();
        Lock::try_take(&engine, "a").unwrap().unwrap().finish().unwrap();
        assert!(!engine.locks().join("a").exists());
        drop(Lock::try_take(&engine, "a").unwrap().unwrap());
        assert!(engine.locks().join("a").exists());
        Lock::try_take(&engine, "a").unwrap().unwrap().finish().unwrap();
        assert!(!engine.locks().join("a").exists());
    }
}
