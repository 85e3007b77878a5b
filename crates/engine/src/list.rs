//! `ps` and `rm`: containers that exist.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use runtime::lifecycle;
use store::Store;

use crate::connection;
use crate::leftover::{destroy, enter};
use crate::lock::Lock;
use crate::mount::Kind;
use crate::options::RemoveOptions;
use crate::record::{Exit, Record, read_started};
use crate::time::Nanos;
use crate::{ContainerStatus, ContainerSummary, Engine, Error, name};

/// How long a killed container may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container's life so far.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) status: ContainerStatus,
    pub(crate) pid: Option<i32>,
    pub(crate) started: Option<Nanos>,
    pub(crate) exit: Option<Exit>,
}

/// Finds out where a container is in its life.
pub(crate) fn life(engine: &Engine, id: &str) -> Result<Life, Error> {
    let dir = engine.container(id);
    let started = read_started(&dir);
    if let Some(exit) = Exit::read(&dir)? {
        return Ok(Life { status: ContainerStatus::Exited(exit.code), pid: None, started, exit: Some(exit) });
    }
    // The runtime's state comes after the record and goes before the exit is written; in between is "created".
    let state = lifecycle::state(&engine.states(), id).ok();
    let status = match state.as_ref().map(|state| state.status) {
        Some(runtime::Status::Running | runtime::Status::Stopped) => ContainerStatus::Running,
        Some(runtime::Status::Paused) => ContainerStatus::Paused,
        Some(runtime::Status::Creating | runtime::Status::Created) | None => ContainerStatus::Created,
    };
    Ok(Life { status, pid: state.map(|state| state.pid).filter(|pid| *pid > 0), started, exit: None })
}

/// A container that runs or is paused, by name, ID or the beginning of an ID, and the process id of its first process.
pub(crate) fn running(engine: &Engine, wanted: &str) -> Result<(Record, i32), Error> {
    let id = name::resolve(engine, wanted)?;
    let record =
        Record::read(&engine.container(&id))?.ok_or_else(|| Error::NoSuchContainer(wanted.to_owned()))?;
    let life = life(engine, &id)?;
    let up = matches!(life.status, ContainerStatus::Running | ContainerStatus::Paused);
    match life.pid.filter(|_| up) {
        Some(pid) => Ok((record, pid)),
        None => Err(Error::NotRunning(record.name)),
    }
}

/// Running containers, or `all`; newest first.
///
/// # Errors
/// The records cannot be read.
pub fn ps(engine: &Engine, all: bool) -> Result<Vec<ContainerSummary>, Error> {
    enter(engine)?;
    let mut rows = Vec::new();
    for record in name::records(engine)? {
        let life = life(engine, &record.id)?;
        if all || matches!(life.status, ContainerStatus::Running | ContainerStatus::Paused) {
            rows.push(summary(&engine.container(&record.id), record, &life));
        }
    }
    rows.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    Ok(rows)
}

fn summary(dir: &Path, record: Record, life: &Life) -> ContainerSummary {
    let seconds = |at: Nanos| at.div_euclid(1_000_000_000);
    let up = matches!(life.status, ContainerStatus::Running | ContainerStatus::Paused);
    let ports =
        if up { connection::read(dir).map(|joined| joined.ports).unwrap_or_default() } else { Vec::new() };
    let mounts = record.points.iter().filter(|point| point.kind != Kind::Tmpfs);
    ContainerSummary {
        volumes: record.points.iter().filter(|point| point.kind == Kind::Volume).count(),
        mounts: mounts.map(|p| p.name.clone().unwrap_or_else(|| p.source.display().to_string())).collect(),
        command: record.command_line(),
        image: record.options.image,
        image_id: record.image_id,
        created: seconds(record.created),
        started: life.started.map(seconds),
        finished: life.exit.as_ref().map(|exit| seconds(exit.finished)),
        status: life.status,
        pid: life.pid,
        network: record.options.network,
        ports,
        labels: record.labels,
        id: record.id,
        name: record.name,
    }
}

/// Removes a container by name, ID or the beginning of an ID, and returns its ID.
///
/// # Errors
/// [`Error::NoSuchContainer`], [`Error::Running`].
pub fn remove(engine: &Engine, container: &str, options: RemoveOptions) -> Result<String, Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(lock) = Lock::try_take(engine, &id)? {
            // A damaged record is no reason to keep the rest.
            let record = Record::read(&engine.container(&id)).ok().flatten();
            if record.is_none() && !engine.container(&id).exists() {
                // `rcr run --rm` was faster.
                lock.finish()?;
                return if options.force {
                    Ok(id)
                } else {
                    Err(Error::NoSuchContainer(container.to_owned()))
                };
            }
            destroy(engine, &id, record.as_ref(), options.volumes, &Store::open(&engine.root)?, lock)?;
            return Ok(id);
        }
        if !options.force {
            return Err(Error::Running(container.to_owned()));
        }
        // Whoever holds the lock sees the end and lets go. Until it runs there may be nothing to kill yet.
        let _ = lifecycle::kill(&engine.states(), &id, nix::libc::SIGKILL, false);
        if Instant::now() > deadline {
            return Err(Error::Invalid(format!(
                "container {container} did not end within {PATIENCE:?} of SIGKILL"
            )));
        }
        sleep(Duration::from_millis(5));
    }
}
