//! One cgroup directory, held open: its files are read and written relative to it.

use super::{Hierarchy, Version};
use crate::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A cgroup's directory in one hierarchy.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) version: Version,
    /// As [`Hierarchy::controllers`].
    pub(super) controllers: Vec<String>,
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    /// Where the hierarchy is mounted, if this was found through one.
    pub(super) mountpoint: Option<PathBuf>,
    /// The directories made for it, outermost first; itself too, unless it was there before.
    pub(super) made: Vec<PathBuf>,
}

impl Dir {
    /// Opens `path`, which exists.
    pub(super) fn open(version: Version, controllers: Vec<String>, path: PathBuf) -> io::Result<Dir> {
        let fd = open(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Dir { version, controllers, path, fd, mountpoint: None, made: Vec::new() })
    }

    /// Makes `path` and what is missing above it in `hierarchy`. On failure nothing of it stays.
    pub(super) fn make(hierarchy: &Hierarchy, path: PathBuf) -> Result<Dir, Error> {
        let mut made = Vec::new();
        let result = make_all(hierarchy, &path, &mut made).and_then(|()| {
            Dir::open(hierarchy.version, hierarchy.controllers.clone(), path.clone())
                .map_err(|e| Error::new(format!("open {path:?}")).because(e))
        });
        match result {
            Ok(dir) => Ok(Dir { mountpoint: Some(hierarchy.mountpoint.clone()), made, ..dir }),
            Err(e) => {
                remove_made(&made);
                Err(e)
            }
        }
    }

    /// Whether [`Dir::make`] found it in place.
    pub(super) fn was_there(&self) -> bool {
        self.made.last() != Some(&self.path)
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// Opens `file` of this directory for writing.
    pub(super) fn open_to_write(&self, file: &str) -> io::Result<File> {
        let fd = openat(&self.fd, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(File::from(fd))
    }

    /// Writes `value` to `file` in one write(2), as cgroup files want it.
    pub(super) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        self.open_to_write(file)?.write_all(value.as_bytes())
    }

    /// All of `file`.
    pub(super) fn read(&self, file: &str) -> io::Result<String> {
        let fd = openat(&self.fd, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text)?;
        Ok(text)
    }

    /// A failed access to `file`, as an error.
    pub(super) fn failed(&self, call: &str, file: &str, cause: io::Error) -> Error {
        Error::new(format!("{call} {:?}", self.path.join(file))).because(cause)
    }
}

/// Whether the cause is this errno.
pub(super) fn is(e: &io::Error, errno: Errno) -> bool {
    e.raw_os_error() == Some(errno as i32)
}

/// No permission, in any of the ways the kernel says so.
pub(super) fn not_permitted(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The directory was removed: ENOENT by path, ENODEV through a descriptor.
pub(super) fn gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || is(e, Errno::ENODEV)
}

/// Removes directories of [`Dir::made`], innermost first. One that is in use by then is someone else's too and
/// stays.
pub(super) fn remove_made(made: &[PathBuf]) {
    for path in made.iter().rev() {
        if std::fs::remove_dir(path).is_err() {
            return;
        }
    }
}

fn make_all(hierarchy: &Hierarchy, path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let inside = path
        .strip_prefix(&hierarchy.mountpoint)
        .map_err(|_| Error::new(format!("cgroup {path:?} is not below {:?}", hierarchy.mountpoint)))?;
    let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
    let mut current = hierarchy.mountpoint.clone();
    for name in inside {
        let parent = current.clone();
        current.push(name);
        match std::fs::create_dir(&current) {
            Ok(()) => made.push(current.clone()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::new(format!("mkdir {current:?}")).because(e)),
        }
        if cpuset {
            inherit_cpuset(&parent, &current)?;
        }
    }
    Ok(())
}

/// A v1 cpuset starts empty, and an empty one takes no process (admin-guide/cgroup-v1/cpusets).
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<(), Error> {
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).map_err(|e| Error::new(format!("read {path:?}")).because(e))
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read(dir.join(file))?.trim().is_empty() {
            let value = read(parent.join(file))?;
            let path = dir.join(file);
            std::fs::write(&path, value.trim())
                .map_err(|e| Error::new(format!("write {:?} to {path:?}", value.trim())).because(e))?;
        }
    }
    Ok(())
}
