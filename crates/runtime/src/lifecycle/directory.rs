//! A container's state directory: ROOT/ID with state.json, config.json and exec.fifo.
//!
//! All access is through a descriptor of the directory and never through a link, so that whoever can write below the
//! state root cannot make the runtime write elsewhere.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};

use super::id::check_id;
use crate::{Error, ErrorKind};

/// Longest state.json or config.json that is read back, in bytes.
const MAX_FILE: u64 = 32 << 20;

/// The FIFO whose presence means "created, not started yet".
pub(crate) const EXEC_FIFO: &str = "exec.fifo";

/// Locked by who changes limits.
const UPDATE_LOCK: &str = "update.lock";

/// An open state directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Makes the directory of a new container, and the state root if need be.
    pub(crate) fn create(root: &Path, id: &str) -> Result<Directory, Error> {
        check_id(id)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|e| Error::new(format!("make state root {root:?}")).because(e))?;
        let root_fd = open_root(root)?;
        let path = root.join(id);
        // 0711 as runc has it: a container's mapped root must be able to reach notify sockets below it.
        match mkdirat(&root_fd, id, Mode::from_bits_truncate(0o711)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(Error::new("container with given ID already exists").kind(ErrorKind::Exists));
            }
            Err(e) => return Err(Error::new(format!("make state directory {path:?}")).because(e)),
        }
        Directory::open_in(root_fd, path, id)
    }

    /// Opens the directory of an existing container.
    pub(crate) fn open(root: &Path, id: &str) -> Result<Directory, Error> {
        check_id(id)?;
        Directory::open_in(open_root(root)?, root.join(id), id)
    }

    fn open_in(root: OwnedFd, path: PathBuf, id: &str) -> Result<Directory, Error> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&root, id, flags, Mode::empty()) {
            Ok(fd) => Ok(Directory { fd, path }),
            Err(Errno::ENOENT) => Err(no_such_container()),
            Err(e) => Err(Error::new(format!("open state directory {path:?}")).because(e)),
        }
    }

    /// Writes a file whole or not at all: others see the old one or the new one.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let fail = |e: std::io::Error| Error::new(format!("write {:?}", self.path.join(name))).because(e);
        let temporary = format!(".{name}.{}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file: File = openat(&self.fd, temporary.as_str(), flags, Mode::from_bits_truncate(0o600))
            .map_err(|e| fail(e.into()))?
            .into();
        let written = file
            .write_all(content)
            .and_then(|()| Ok(renameat(&self.fd, temporary.as_str(), &self.fd, name)?));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = unlinkat(&self.fd, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written.map_err(fail)
    }

    /// Reads a file; `None` when it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let fail = |e: std::io::Error| Error::new(format!("read {:?}", self.path.join(name))).because(e);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file: File = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(fail(e.into())),
        };
        // Room for a usual one, or it would be read in many small pieces.
        let mut content = Vec::with_capacity(16 << 10);
        file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(fail)?;
        if content.len() as u64 > MAX_FILE {
            return Err(Error::new(format!("read {:?}: longer than {MAX_FILE} bytes", self.path.join(name))));
        }
        Ok(Some(content))
    }

    /// Makes the exec FIFO and opens both its ends: opening it blocks nobody, and a byte written later reaches whoever
    /// has inherited the descriptor.
    pub(crate) fn make_fifo(&self) -> Result<OwnedFd, Error> {
        let fail = |e: Errno| Error::new(format!("make {:?}", self.path.join(EXEC_FIFO))).because(e);
        mkfifoat(&self.fd, EXEC_FIFO, Mode::from_bits_truncate(0o600)).map_err(fail)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.fd, EXEC_FIFO, flags, Mode::empty()).map_err(fail)
    }

    /// Opens the FIFO for writing, without waiting. ENXIO: the process that waited for a byte is gone.
    pub(crate) fn open_fifo(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(&self.fd, EXEC_FIFO, flags, Mode::empty())
    }

    /// Whether the FIFO is there.
    pub(crate) fn has_fifo(&self) -> bool {
        fstatat(&self.fd, EXEC_FIFO, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|s| SFlag::from_bits_truncate(s.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFIFO)
    }

    /// Removes the FIFO.
    pub(crate) fn remove_fifo(&self) -> Result<(), Error> {
        match unlinkat(&self.fd, EXEC_FIFO, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(Error::new(format!("remove {:?}", self.path.join(EXEC_FIFO))).because(e)),
        }
    }

    /// Makes a directory in it.
    pub(crate) fn make_directory(&self, name: &str, mode: u32) -> Result<(), Error> {
        mkdirat(&self.fd, name, Mode::from_bits_truncate(mode))
            .map_err(|e| Error::new(format!("make {:?}", self.path.join(name))).because(e))
    }

    /// Removes a directory in it, which is empty.
    pub(crate) fn remove_directory(&self, name: &str) -> Result<(), Error> {
        unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)
            .map_err(|e| Error::new(format!("remove {:?}", self.path.join(name))).because(e))
    }

    /// Waits until no other process holds the lock of this container, and holds it until the value is dropped.
    pub(crate) fn lock(&self) -> Result<Flock<OwnedFd>, Error> {
        let fail = |e: std::io::Error| Error::new(format!("lock {:?}", self.path)).because(e);
        let copy = self.fd.try_clone().map_err(fail)?;
        Flock::lock(copy, FlockArg::LockExclusive).map_err(|(_, e)| fail(e.into()))
    }

    /// Waits until no other process changes the limits of this container, and keeps others waiting.
    pub(crate) fn lock_updates(&self) -> Result<Flock<OwnedFd>, Error> {
        let fail = |e: Errno| Error::new(format!("lock {:?}", self.path.join(UPDATE_LOCK))).because(e);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, UPDATE_LOCK, flags, Mode::from_bits_truncate(0o600)).map_err(fail)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| fail(e))
    }

    /// [`Directory::lock`] without waiting: `None` when another process holds it.
    pub(crate) fn try_lock(&self) -> Result<Option<Flock<OwnedFd>>, Error> {
        let fail = |e: std::io::Error| Error::new(format!("lock {:?}", self.path)).because(e);
        let copy = self.fd.try_clone().map_err(fail)?;
        match Flock::lock(copy, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(fail(e.into())),
        }
    }

    /// Its owner and the like.
    pub(crate) fn stat(&self) -> Result<FileStat, Error> {
        nix::sys::stat::fstat(&self.fd).map_err(|e| Error::new(format!("stat {:?}", self.path)).because(e))
    }

    /// Absolute path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory with all that is in it. That it is gone already is no error.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(format!("remove state directory {:?}", self.path)).because(e))
            }
            _ => Ok(()),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error for an id that nothing belongs to, in the words that runc's callers search for.
pub(crate) fn no_such_container() -> Error {
    Error::new("container does not exist").kind(ErrorKind::NotFound)
}

fn open_root(root: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
    match nix::fcntl::open(root, flags, Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::ENOENT) => Err(no_such_container()),
        Err(e) => Err(Error::new(format!("open state root {root:?}")).because(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_id_is_taken_once_and_gone_after_removal() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("deep/state");
        assert_eq!(Directory::open(&root, "web").unwrap_err().what(), ErrorKind::NotFound);
        let directory = Directory::create(&root, "web").unwrap();
        assert_eq!(Directory::create(&root, "web").unwrap_err().what(), ErrorKind::Exists);
        directory.write("state.json", b"{}").unwrap();
        directory.remove().unwrap();
        directory.remove().unwrap();
        assert_eq!(Directory::open(&root, "web").unwrap_err().what(), ErrorKind::NotFound);
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn links_are_neither_read_nor_written_through() {
        let root = tempfile::tempdir().unwrap();
        let canary = root.path().join("canary");
        std::fs::write(&canary, "untouched").unwrap();
        let directory = Directory::create(root.path(), "web").unwrap();
        for name in ["state.json", EXEC_FIFO] {
            symlink(&canary, directory.path().join(name)).unwrap();
        }
        assert!(directory.read("state.json").is_err());
        assert!(!directory.has_fifo());
        assert!(directory.make_fifo().is_err());
        // Replaced, not followed.
        directory.write("state.json", b"new").unwrap();
        assert_eq!(directory.read("state.json").unwrap().unwrap(), b"new");
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched");
        // A link in place of the directory itself is no container.
        symlink(directory.path(), root.path().join("alias")).unwrap();
        assert!(Directory::open(root.path(), "alias").is_err());
    }

    #[test]
    fn only_one_holds_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let first = Directory::create(root.path(), "web").unwrap();
        let second = Directory::open(root.path(), "web").unwrap();
        let lock = first.lock().unwrap();
        assert!(second.try_lock().unwrap().is_none());
        drop(lock);
        assert!(second.try_lock().unwrap().is_some());
    }

    #[test]
    fn a_byte_in_the_fifo_reaches_the_inherited_descriptor() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path(), "web").unwrap();
        let both: File = directory.make_fifo().unwrap().into();
        assert!(directory.has_fifo());
        let mut writer: File = directory.open_fifo().unwrap().into();
        writer.write_all(b"0").unwrap();
        let mut byte = [0];
        (&both).read_exact(&mut byte).unwrap();
        drop((both, writer));
        assert_eq!(directory.open_fifo().unwrap_err(), Errno::ENXIO);
        directory.remove_fifo().unwrap();
        assert!(!directory.has_fifo());
    }
}
