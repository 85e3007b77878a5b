//! kill: a signal for a container's init, or for all of it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::directory::Directory;
use super::record::Record;
use crate::{Error, ErrorKind};

/// Sends a signal to the container's init; with `all`, a container that is not running is no error.
///
/// SIGKILL to a container without a pid namespace of its own goes to every process of its cgroup.
///
/// # Errors
/// [`ErrorKind::State`] when it is not running.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<(), Error> {
    let record = Record::read(&Directory::open(root, id)?)?;
    match signal_container(&record, signal) {
        Err(e) if all && e.what() == ErrorKind::State => Ok(()),
        result => result,
    }
}

/// A pidfd of a container's first process.
///
/// # Errors
/// [`ErrorKind::NotFound`]; [`ErrorKind::State`] when it has ended.
pub fn init(root: &Path, id: &str) -> Result<OwnedFd, Error> {
    open_init(&Record::read(&Directory::open(root, id)?)?)
}

/// What [`kill`] does, for a container that was read already.
pub(crate) fn signal_container(record: &Record, signal: i32) -> Result<(), Error> {
    if signal == nix::libc::SIGKILL && !record.own_pid_namespace {
        let cgroup = record.cgroup()?;
        // An empty cgroup and no init: there is nobody left to kill.
        if cgroup.pids()?.is_empty() {
            return signal_init(record, signal);
        }
        return cgroup.kill_all(signal);
    }
    signal_init(record, signal)
}

/// Sends a signal to the init process, if it is still the one of the record.
pub(crate) fn signal_init(record: &Record, signal: i32) -> Result<(), Error> {
    let pidfd = open_init(record)?;
    match sys::pidfd::signal(pidfd.as_fd(), signal) {
        Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => return Err(not_running()),
        result => result.map_err(|e| Error::new(format!("signal {signal} to container init")).because(e))?,
    }
    if signal == nix::libc::SIGKILL {
        // In a frozen v1 cgroup nobody dies before it is thawed.
        let cgroup = record.cgroup()?;
        if cgroup.is_frozen()? {
            cgroup.thaw()?;
        }
    }
    Ok(())
}

/// A pidfd of the init process. First it is opened, then the start time is compared: the number cannot change hands
/// in between.
pub(crate) fn open_init(record: &Record) -> Result<OwnedFd, Error> {
    let pidfd = match sys::pidfd::open(record.init_process_pid) {
        Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => return Err(not_running()),
        result => {
            result.map_err(|e| Error::new(format!("pidfd_open {}", record.init_process_pid)).because(e))?
        }
    };
    if record.is_alive()? { Ok(pidfd) } else { Err(not_running()) }
}

/// The words that containerd searches for.
fn not_running() -> Error {
    Error::new("container not running").kind(ErrorKind::State)
}
