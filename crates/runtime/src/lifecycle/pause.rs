//! pause, resume and ps: what a container's cgroup can do and knows.

use std::path::Path;

use super::directory::Directory;
use super::record::Record;
use crate::{Error, ErrorKind, Status};

/// Freezes every process of the container.
///
/// # Errors
/// [`ErrorKind::State`] unless it is created or running.
pub fn pause(root: &Path, id: &str) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = Record::read(&directory)?;
    match record.status(&directory)? {
        Status::Running | Status::Created => record.cgroup()?.freeze(),
        _ => Err(Error::new("container not running or created").kind(ErrorKind::State)),
    }
}

/// Thaws a paused container.
///
/// # Errors
/// [`ErrorKind::State`] unless it is paused.
pub fn resume(root: &Path, id: &str) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = Record::read(&directory)?;
    match record.status(&directory)? {
        Status::Paused => record.cgroup()?.thaw(),
        _ => Err(Error::new("container not paused").kind(ErrorKind::State)),
    }
}

/// Process ids (as the host sees them) of every process in the container's cgroup.
///
/// # Errors
/// [`ErrorKind::NotFound`]; the cgroup cannot be read.
pub fn processes(root: &Path, id: &str) -> Result<Vec<i32>, Error> {
    let record = Record::read(&Directory::open(root, id)?)?;
    Ok(record.cgroup()?.pids()?.into_iter().map(nix::unistd::Pid::as_raw).collect())
}
