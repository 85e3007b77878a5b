//! `ps` and `rm`: containers that exist.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use runtime::lifecycle;
use store::Store;

use crate::connection;
use crate::health::Health;
use crate::leftover::{destroy, end_runtime, enter};
use crate::lock::Lock;
use crate::mount::Kind;
use crate::options::RemoveOptions;
use crate::record::{Exit, Record, read_started, write_stopped};
use crate::time::Nanos;
use crate::{ContainerStatus, ContainerSummary, Engine, Error, monitor, name, stop};

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
    // When it is started again the exit of the last time goes last.
    let state = lifecycle::state(&engine.states(), id).ok();
    let exit = Exit::read(&dir)?;
    let status = match (state.as_ref().map(|state| state.status), &exit) {
        (Some(runtime::Status::Running | runtime::Status::Stopped), None) => ContainerStatus::Running,
        (Some(runtime::Status::Paused), None) => ContainerStatus::Paused,
        (_, Some(exit)) if exit.restarting => ContainerStatus::Restarting(exit.code),
        (_, Some(exit)) => ContainerStatus::Exited(exit.code),
        // The runtime's state comes after the record and goes before the exit is written; in between it ends.
        (None, None) if started.is_some() => ContainerStatus::Running,
        (Some(runtime::Status::Creating | runtime::Status::Created) | None, None) => ContainerStatus::Created,
    };
    if exit.is_some() {
        return Ok(Life { status, pid: None, started, exit });
    }
    Ok(Life { status, pid: state.map(|state| state.pid).filter(|pid| *pid > 0), started, exit: None })
}

/// A container that runs or is paused, by name, ID or the beginning of an ID, and the process id of its first process.
pub(crate) fn running(engine: &Engine, wanted: &str) -> Result<(Record, i32), Error> {
    let id = name::resolve(engine, wanted)?;
    let record =
        Record::read(&engine.container(&id))?.ok_or_else(|| Error::NoSuchContainer(wanted.to_owned()))?;
    let life = life(engine, &id)?;
    match life.pid.filter(|_| life.status.is_up()) {
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
    let mut rows = containers(engine)?;
    rows.retain(|row| all || row.status.is_up());
    rows.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    Ok(rows)
}

/// All containers, in no order; for those too who hold the lock of one.
pub(crate) fn containers(engine: &Engine) -> Result<Vec<ContainerSummary>, Error> {
    let mut rows = Vec::new();
    for record in name::records(engine)? {
        let life = life(engine, &record.id)?;
        rows.push(summary(&engine.container(&record.id), record, &life)?);
    }
    Ok(rows)
}

fn summary(dir: &Path, record: Record, life: &Life) -> Result<ContainerSummary, Error> {
    let seconds = |at: Nanos| at.div_euclid(1_000_000_000);
    let up = life.status.is_up();
    let ports =
        if up { connection::read(dir).map(|joined| joined.ports).unwrap_or_default() } else { Vec::new() };
    let mounts = record.points.iter().filter(|point| point.kind != Kind::Tmpfs);
    Ok(ContainerSummary {
        health: Health::of(&record, dir, life.status)?.map(|health| health.status),
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
        exposed: record.exposed,
        id: record.id,
        name: record.name,
    })
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
            // Its monitor was killed just now, and nobody has taken its place yet.
            if lifecycle::init(&engine.states(), &id).is_ok() {
                if !options.force {
                    return Err(Error::Running(container.to_owned()));
                }
                end_runtime(engine, &id)?;
                connection::end(engine, &id, &engine.container(&id))?;
                monitor::remove_place(engine, &id)?;
            }
            destroy(engine, &id, record.as_ref(), options.volumes, &Store::open(&engine.root)?, lock)?;
            return Ok(id);
        }
        if !options.force {
            return Err(Error::Running(container.to_owned()));
        }
        // Whoever holds the lock sees the end and lets go. Until it runs there may be nothing to kill yet.
        let _ = write_stopped(&engine.container(&id));
        let _ = lifecycle::kill(&engine.states(), &id, nix::libc::SIGKILL, false);
        if matches!(life(engine, &id).map(|life| life.status), Ok(ContainerStatus::Restarting(_))) {
            stop::wake(engine, &id);
        }
        if Instant::now() > deadline {
            return Err(Error::Invalid(format!(
                "container {container} did not end within {PATIENCE:?} of SIGKILL"
            )));
        }
        if !stop::released(engine, &id, Duration::from_millis(100)) {
            sleep(Duration::from_millis(5));
        }
    }
}
