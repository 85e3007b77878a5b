//! Removing a cgroup with all that is below it.

use super::Cgroup;
use super::dir::{gone, is, remove_made};
use crate::Error;
use nix::dir::{Dir as Listing, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long dying processes may take to leave. They hold their cgroup until the last of their threads is gone.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Removes the directories, those below them first, and the parents that [`Cgroup::create`] made unless
    /// others use them. Waits for processes that are dying, at most about two seconds. Directories that are gone
    /// are no error.
    ///
    /// # Errors
    /// The directories that are still there.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut failed: Option<Error> = None;
        for dir in &self.dirs {
            match remove(&dir.path, deadline) {
                Ok(()) => remove_made(dir.made.split_last().map_or(&[], |(_, parents)| parents)),
                Err(e) if failed.is_none() => {
                    failed = Some(Error::new(format!("rmdir {:?}", dir.path)).because(e));
                }
                Err(_) => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn remove(path: &Path, deadline: Instant) -> io::Result<()> {
    // Nearly always there is nothing below and nobody in it.
    match std::fs::remove_dir(path) {
        Err(e) if is(&e, Errno::EBUSY) || e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(e) if gone(&e) => return Ok(()),
        result => return result,
    }
    remove_below(path, deadline)?;
    match until(deadline, || std::fs::remove_dir(path)) {
        Err(e) if gone(&e) => Ok(()),
        result => result,
    }
}

/// Removes all directories below `path`. The container may have made them, in a chain longer than any path or
/// table of descriptors: so the walk holds one directory and goes back by `..`, which in cgroupfs nobody can
/// redirect.
fn remove_below(path: &Path, deadline: Instant) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut current = open(path, flags, Mode::empty())?;
    let mut names: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = first_child(&current)? {
            current = openat(&current, name.as_c_str(), flags, Mode::empty())?;
            names.push(name);
            continue;
        }
        let Some(name) = names.pop() else { return Ok(()) };
        current = openat(&current, c"..", flags, Mode::empty())?;
        let unlink = || match unlinkat(current.as_fd(), name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(io::Error::from(e)),
        };
        until(deadline, unlink)?;
    }
}

fn first_child(dir: &OwnedFd) -> io::Result<Option<CString>> {
    let mut listing = Listing::openat(dir, c".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// Calls `act` again while it says EBUSY, with growing pauses.
fn until(deadline: Instant, mut act: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut pause = Duration::from_micros(50);
    loop {
        match act() {
            Err(e) if is(&e, Errno::EBUSY) && Instant::now() < deadline => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}
