//! events: what a container uses, once or at intervals, and when it runs out of memory.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::directory::Directory;
use super::kill::open_init;
use super::record::Record;
use crate::resctrl::Resctrl;
use crate::stats::Stats;
use crate::{Error, ErrorKind, Status};

/// Something to report of a container.
#[derive(Debug)]
pub enum Event {
    /// A reading.
    Stats(Box<Stats>),
    /// The kernel's OOM killer was at work.
    Oom,
}

/// What the container has used until now.
///
/// # Errors
/// [`ErrorKind::State`] when it is stopped; a file of its cgroup that can't be read.
pub fn stats(root: &Path, id: &str) -> Result<Stats, Error> {
    read(&running(root, id)?)
}

/// Reports a reading at every `interval` and each OOM, until the container ends.
///
/// # Errors
/// As [`stats`]; its OOM killer can't be watched; an error of `report`, which ends it.
pub fn events(
    root: &Path,
    id: &str,
    interval: Duration,
    report: &mut dyn FnMut(Event) -> Result<(), Error>,
) -> Result<(), Error> {
    let record = running(root, id)?;
    let init = open_init(&record).map_err(|_| stopped(id))?;
    let mut oom = record.cgroup()?.watch_oom()?;
    let mut due = Instant::now() + interval;
    loop {
        let wait = due.saturating_duration_since(Instant::now());
        let wait = oom.look_again().map_or(wait, |soon| soon.min(wait));
        let mut fds =
            [PollFd::new(init.as_fd(), PollFlags::POLLIN), PollFd::new(oom.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, milliseconds(wait)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("wait for events").because(e)),
        }
        let ended = fds[0].any().unwrap_or(false);
        for _ in 0..oom.take(ended)? {
            report(Event::Oom)?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() < due {
            continue;
        }
        due = (due + interval).max(Instant::now());
        let stats = read(&record);
        // A reading from which the cgroup was taken away tells nothing.
        if ended_now(init.as_fd()) {
            continue;
        }
        match stats {
            Ok(stats) => report(Event::Stats(Box::new(stats)))?,
            // The next one may do.
            Err(e) => tracing::error!("{e:#}"),
        }
    }
}

fn read(record: &Record) -> Result<Stats, Error> {
    let stats = record.cgroup()?.stats();
    let mut stats = stats.map_err(|e| Error::new("unable to get container cgroup stats").because(e))?;
    if let Some(group) = &record.resctrl
        && let Some(resctrl) = Resctrl::detect()?
    {
        let read = resctrl.stats(group);
        stats.intel_rdt =
            read.map_err(|e| Error::new("unable to get container Intel RDT stats").because(e))?;
    }
    Ok(stats)
}

/// The record of a container that is not stopped.
fn running(root: &Path, id: &str) -> Result<Record, Error> {
    let directory = Directory::open(root, id)?;
    let record = Record::read(&directory)?;
    match record.status(&directory)? {
        Status::Creating | Status::Stopped => Err(stopped(id)),
        _ => Ok(record),
    }
}

fn stopped(id: &str) -> Error {
    Error::new(format!("container with id {id} is not running")).kind(ErrorKind::State)
}

fn ended_now(init: std::os::fd::BorrowedFd<'_>) -> bool {
    matches!(poll(&mut [PollFd::new(init, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
}

/// Rounded up, so that nothing is polled for in a circle.
fn milliseconds(wait: Duration) -> PollTimeout {
    let rounded = wait.saturating_add(Duration::from_nanos(999_999)).as_millis();
    // A longer one is waited for again.
    PollTimeout::try_from(i32::try_from(rounded).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up_and_capped() {
        for (wait, ms) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(100), 100),
            (Duration::from_secs(u64::MAX), i32::MAX),
        ] {
            assert_eq!(milliseconds(wait).as_millis(), Some(ms.unsigned_abs()), "{wait:?}");
        }
    }
}
