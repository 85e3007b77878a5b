//! delete: removes what a container leaves.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci::runtime::Hooks;

use super::directory::Directory;
use super::hooks::of_kind;
use super::kill::{open_init, signal_container};
use super::record::Record;
use crate::resctrl::Group;
use crate::systemd::Unit;
use crate::{Error, ErrorKind, Status, hook};

/// How long a killed init may take to die, in milliseconds.
const PATIENCE: u16 = 10_000;

/// How long the child of a killed `create` may take to die.
const CHILD_PATIENCE: Duration = Duration::from_secs(2);

/// Removes a stopped or created container: processes, cgroup, state directory; then runs the poststop hooks.
/// With `force` a running one is killed first and an unknown one is no error.
///
/// # Errors
/// [`ErrorKind::State`] when it runs and `force` is not given.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), Error> {
    let directory = match Directory::open(root, id) {
        Err(e) if force && e.what() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    let record = match Record::read(&directory) {
        // Killed within the microseconds before the first record: there is only the directory.
        Err(e) if e.what() == ErrorKind::NotFound => {
            check_abandoned(&directory, id)?;
            directory.remove()?;
            return if force { Ok(()) } else { Err(e) };
        }
        result => result?,
    };
    match record.status(&directory)? {
        Status::Stopped => {}
        Status::Creating => {
            check_abandoned(&directory, id)?;
            // Nobody is killed: the child of a dead `create` dies by itself, and until the record says more the
            // cgroup, and the unit, may have been somebody else's all along.
            let cgroup = record.cgroup()?;
            if cgroup.pids()?.is_empty() {
                stop_unit(&record);
            }
            cgroup.remove()?;
            record.resctrl.as_ref().map_or(Ok(()), Group::remove)?;
            return directory.remove();
        }
        status if !force && status != Status::Created => {
            let message = format!("cannot delete container {id} that is not stopped: {status}");
            return Err(Error::new(message).kind(ErrorKind::State));
        }
        _ => kill_and_wait(&record)?,
    }
    destroy(&directory, &record)
}

/// Refuses while `create` is still at work. The lock of a `create` that was killed lives on in its child, which needs
/// a moment to notice.
fn check_abandoned(directory: &Directory, id: &str) -> Result<(), Error> {
    let deadline = Instant::now() + CHILD_PATIENCE;
    while directory.try_lock()?.is_none() {
        if Instant::now() > deadline {
            return Err(Error::new(format!("container {id} is being created")).kind(ErrorKind::State));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Removes the leftovers of a container whose init is dead.
pub(crate) fn destroy(directory: &Directory, record: &Record) -> Result<(), Error> {
    let cgroup = record.cgroup()?;
    if !record.own_pid_namespace {
        // Its other processes outlived the init.
        cgroup.kill_all(nix::libc::SIGKILL)?;
    }
    stop_unit(record);
    cgroup.remove()?;
    record.resctrl.as_ref().map_or(Ok(()), Group::remove)?;
    directory.remove()?;
    let poststop = of_kind(record.hooks.as_ref(), Hooks::poststop);
    hook::run_here("poststop", poststop, &record.hook_state(Status::Stopped, None))
}

/// Has systemd forget the container's unit. Where that fails, removing the cgroup does most of it: a scope ends when its
/// cgroup does.
fn stop_unit(record: &Record) {
    if let Some(Err(e)) = record.unit.as_ref().map(Unit::stop) {
        tracing::warn!("{e:#}");
    }
}

fn kill_and_wait(record: &Record) -> Result<(), Error> {
    let pidfd = match open_init(record) {
        Err(e) if e.what() == ErrorKind::State => return Ok(()),
        result => result?,
    };
    match signal_container(record, nix::libc::SIGKILL) {
        Err(e) if e.what() != ErrorKind::State => return Err(e),
        _ => {}
    }
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PATIENCE)) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("wait for container init").because(e)),
            Ok(0) => return Err(Error::new("container init still running").kind(ErrorKind::State)),
            Ok(_) => return Ok(()),
        }
    }
}
