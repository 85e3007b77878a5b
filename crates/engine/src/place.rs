//! Where the engine keeps what it keeps.
//!
//! ```text
//! ROOT/                     the store's, and beside its directories:
//!   containers/ID/          0700
//!     record.json           what the container is; it exists from the moment this is renamed into place
//!     started               when its command was started: nanoseconds since 1970, as text
//!     exit.json             how and when it ended
//!     made stopped restarts it is to stay; the user stopped it; how often its policy started it again
//!     ID-json.log           what a detached one wrote
//!     upper/ work/          the overlay's writable half
//!     rootfs/               empty; where the container's own mount namespace has its root
//!     hosts hostname resolv.conf init     bound into it
//!   container-locks/ID      there while a process makes, runs or removes the container, which holds a lock on it;
//!                           without the lock that process was killed, and the next command cleans up; ID.KIND: for
//!                           work beside that process (lock.rs)
//!   container-names/NAME    symbolic link to the beginning of the ID: making it is what claims the name
//!   volumes/NAME/_data      contents of a volume; anonymous ones have 64 hex digits for a name; volume.json: labels
//!   volumes/.garbage-*      being made or removed; without a process that does, the next command that removes volumes does
//! RUNROOT/containers/ID/    the runtime's state of a running container
//! RUNROOT/netns/ID          its network namespace, mounted, if CNI plugins connect it
//! RUNROOT/shm/ID            its /dev/shm, mounted, if others may have it
//! RUNROOT/attach/ID/        of a detached one: socket, its streams 0, 1 and 2 as FIFOs, and 1.line and 2.line: what its
//!                           monitor has read of a line that has not ended
//! ```

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Engine, Error};

impl Engine {
    /// Directory of all containers.
    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Directory of one container.
    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("container-locks")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("container-names")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Networks and who has which address on them.
    pub(crate) fn networks(&self) -> network::Networks {
        let usual = self.root == Path::new("/var/lib/rcr");
        network::Networks::new(&self.root, &self.runroot, usual)
    }

    /// State root for the runtime.
    pub(crate) fn states(&self) -> PathBuf {
        self.runroot.join("containers")
    }

    /// Where a detached container's streams and its monitor's socket are.
    pub(crate) fn attach(&self, id: &str) -> PathBuf {
        self.runroot.join("attach").join(id)
    }

    /// Where the network namespace of a container is mounted that CNI plugins connect.
    pub(crate) fn namespace(&self, id: &str) -> PathBuf {
        self.runroot.join("netns").join(id)
    }

    /// Where the /dev/shm of a container is mounted that others may have too.
    pub(crate) fn shm(&self, id: &str) -> PathBuf {
        self.runroot.join("shm").join(id)
    }

    /// Makes the directories that the engine puts things into.
    pub(crate) fn make_places(&self) -> Result<(), Error> {
        for dir in [
            self.containers(),
            self.locks(),
            self.names(),
            self.volumes(),
            self.states(),
            self.runroot.join("attach"),
        ] {
            make_dir_all(&dir)?;
        }
        Ok(())
    }
}

/// Makes a directory that only its owner may enter (0700 whatever the umask, since no bit is for others), and those
/// above it.
pub(crate) fn make_dir_all(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::io(format!("make directory {path:?}")))
}

/// Makes one directory, which must be new, with this mode whatever the umask.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(mode).create(path);
    let made = made.and_then(|()| match mode & 0o77 {
        0 => Ok(()),
        _ => fs::set_permissions(path, Permissions::from_mode(mode)),
    });
    made.map_err(Error::io(format!("make directory {path:?}")))
}

/// Writes a file that must be new (never through a link that is already there), with this mode whatever the umask.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        if mode & 0o77 != 0 {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        file.write_all(bytes)
    };
    write().map_err(Error::io(format!("write {path:?}")))
}

/// Writes a new file as [`write_new`] does, in the place of one that may be there.
pub(crate) fn write_anew(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    match write_new(path, bytes, mode) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            remove_file(path)?;
            write_new(path, bytes, mode)
        }
        result => result,
    }
}

/// Writes a file so that it is there as a whole or not at all; an old one is replaced.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    remove_file(&new)?;
    write_new(&new, bytes, 0o600)?;
    fs::rename(&new, path).map_err(Error::io(format!("rename {new:?} to {path:?}")))
}

/// Removes a file that may be missing.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(format!("remove {path:?}"))(e)),
        _ => Ok(()),
    }
}

/// Gives directory `to` the owner, mode and modification time of `from`.
pub(crate) fn copy_attributes(from: &Path, to: &Path) -> Result<(), Error> {
    let copy = || {
        let stat = fs::metadata(from)?;
        std::os::unix::fs::chown(to, Some(stat.uid()), Some(stat.gid()))?;
        fs::set_permissions(to, stat.permissions())?;
        fs::File::open(to)?.set_modified(stat.modified()?)
    };
    copy().map_err(Error::io(format!("copy attributes of {from:?} to {to:?}")))
}
