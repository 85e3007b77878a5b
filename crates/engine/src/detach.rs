//! Containers in the background: made, started, attached to, renamed.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use store::{Image, Sink, Store};

use crate::client::{self, AttachOptions, Attended};
use crate::leftover::{destroy, enter};
use crate::list::life;
use crate::lock::{Kind, Lock};
use crate::make::{make, unmake};
use crate::options::RunOptions;
use crate::record::{Exit, Record, is_stopped, write_made};
use crate::{
    ContainerStatus, Engine, Error, Event, RestartPolicy, fork, image, joined, link, monitor, name, run,
    start as starting,
};

/// How long another command may take with a container that this one waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a container, starts it in the background and answers its ID.
///
/// The caller must be single-threaded.
///
/// # Errors
/// As [`crate::run`]; nothing is left of it.
pub fn run_detached(
    engine: &Engine,
    options: &RunOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<String, Error> {
    let (_store, image, _unpinned) = wanted(engine, options, events, cancel)?;
    let program = monitor::program()?;
    let body = |report: &_| monitor::make_and_start(engine, options, &image, &program, report);
    let started = fork::detached(body, &mut |_| Ok(()))?;
    started.ok_or_else(|| Error::Invalid("the container's monitor did not tell its ID".to_owned()))
}

/// Makes a container that [`start`] can start, and answers its ID.
///
/// # Errors
/// Whatever is wrong with the options or the image; nothing is left of it.
pub fn create(
    engine: &Engine,
    options: &RunOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<String, Error> {
    let (store, image, _unpinned) = wanted(engine, options, events, cancel)?;
    let made = make(engine, options, &image, &store)?;
    let dir = engine.container(&made.record.id);
    let checked = starting::check(&made.record, &dir, &image).and_then(|()| write_made(&dir));
    if let Err(error) = checked {
        unmake(engine, &made.record, &store, made.lock);
        return Err(error);
    }
    made.lock.finish()?;
    Ok(made.record.id)
}

/// The image of a container to make, in the store, and what keeps it there until it is pinned.
fn wanted(
    engine: &Engine,
    options: &RunOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<(Store, Image, Option<Sink>), Error> {
    // First of all, because what is made would be made again when a start begins the program anew.
    run::seal()?;
    enter(engine)?;
    let store = Store::open(&engine.root)?;
    let (image, unpinned) = image::obtain(&store, options, events, cancel)?;
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Interrupted(libc::SIGINT));
    }
    Ok((store, image, unpinned))
}

/// Starts a container in the background. One that runs already stays as it is.
///
/// # Errors
/// It is paused; as [`crate::run`], and then it is what it was.
pub fn start(engine: &Engine, container: &str) -> Result<(), Error> {
    begin(engine, container, &mut |_| Ok(())).map(drop)
}

/// Stops a container if it runs, as [`crate::stop`], and starts it. One made with `--rm` survives that.
///
/// # Errors
/// As [`crate::stop`] and [`start`].
pub fn restart(engine: &Engine, container: &str, timeout: Option<Option<Duration>>) -> Result<(), Error> {
    run::seal()?;
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let take = || Lock::try_take_with_children(engine, &Kind::Restart.of(&id));
    let lock = Lock::wait_for(PATIENCE, take)?.ok_or_else(|| Error::Busy(container.to_owned()))?;
    let restarted = crate::stop(engine, container, timeout).and_then(|()| start(engine, container));
    recover(engine, &id, lock)?;
    restarted
}

/// Whether somebody stops a container in order to start it again.
pub(crate) fn is_restarting(engine: &Engine, id: &str) -> bool {
    Lock::is_held(engine, &Kind::Restart.of(id))
}

/// Ends a restart, or that of a command that was killed: a container made with `--rm` that has ended and was not started
/// again goes now.
pub(crate) fn recover(engine: &Engine, id: &str, restart: Lock) -> Result<(), Error> {
    let dir = engine.container(id);
    let own = Record::read(&dir)?.filter(|record| record.options.rm);
    if let Some(record) = own
        && matches!(life(engine, id)?.status, ContainerStatus::Exited(_))
        // Else somebody starts it.
        && let Some(lock) = Lock::try_take(engine, id)?
    {
        destroy(engine, id, Some(&record), true, &Store::open(&engine.root)?, lock)?;
    }
    restart.finish()
}

/// Starts a container and attaches to it before it can say anything. One that runs already is only attached to.
///
/// # Errors
/// As [`start`] and [`attach`].
pub fn start_attached(engine: &Engine, container: &str, options: &AttachOptions) -> Result<Attended, Error> {
    let mut socket = None;
    let id = begin(engine, container, &mut |id| {
        socket = monitor::reach(engine, id);
        Ok(())
    })?;
    serve(engine, &id, container, socket, options)
}

/// Makes sure that a container runs, and answers its ID.
fn begin(
    engine: &Engine,
    container: &str,
    ready: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<String, Error> {
    run::seal()?;
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let until = Instant::now() + PATIENCE;
    let program = monitor::program()?;
    loop {
        match life(engine, &id)?.status {
            ContainerStatus::Running if Lock::is_held(engine, &id) => return Ok(id),
            ContainerStatus::Paused => {
                return Err(Error::Invalid(format!(
                    "container {container} is paused; let it go on first (rcr unpause {container})"
                )));
            }
            _ => {}
        }
        match fork::detached(|report| monitor::start_again(engine, &id, &program, report), ready) {
            Ok(_) => return Ok(id),
            // It ends just now, or another command starts it.
            Err(Error::Busy(_)) if Instant::now() < until => {
                if !engine.container(&id).exists() {
                    return Err(Error::NoSuchContainer(container.to_owned()));
                }
                crate::stop::wake(engine, &id);
                std::thread::sleep(Duration::from_millis(10));
                enter(engine)?;
            }
            Err(Error::Busy(_)) => return Err(Error::Busy(container.to_owned())),
            Err(error) => return Err(error),
        }
    }
}

/// Connects the caller's streams with a container that runs in the background, until it ends or the user lets go.
///
/// # Errors
/// [`Error::NotRunning`]; it is paused; it runs in the foreground of another process.
pub fn attach(engine: &Engine, container: &str, options: &AttachOptions) -> Result<Attended, Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    match life(engine, &id)?.status {
        ContainerStatus::Running => {}
        ContainerStatus::Paused => {
            return Err(Error::Invalid(format!(
                "container {container} is paused; let it go on first (rcr unpause {container})"
            )));
        }
        ContainerStatus::Restarting(_) => {
            return Err(Error::Invalid(format!(
                "container {container} is about to be started again; wait for that"
            )));
        }
        _ => return Err(Error::NotRunning(container.to_owned())),
    }
    let Some(socket) = monitor::reach(engine, &id) else {
        return Err(Error::Invalid(format!(
            "container {container} runs in the foreground of another rcr run, which has its streams; only one started \
             by run -d or start can be attached to"
        )));
    };
    serve(engine, &id, container, Some(socket), options)
}

fn serve(
    engine: &Engine,
    id: &str,
    container: &str,
    socket: Option<OwnedFd>,
    options: &AttachOptions,
) -> Result<Attended, Error> {
    let record = Record::read(&engine.container(id)).ok().flatten();
    let tty = record.is_some_and(|record| record.options.tty);
    let Some(socket) = socket.or_else(|| monitor::reach(engine, id)) else {
        // It has ended meanwhile.
        return crate::wait(engine, container).map(Attended::Ended);
    };
    let attended = client::serve(engine, id, &socket, tty, options)?;
    if let Attended::Ended(_) = attended {
        // So that the next command finds it ended, or with --rm gone.
        crate::stop::released(engine, id, PATIENCE);
    }
    if attended == Attended::Dropped
        && let Ok(Some(exit)) = Exit::read(&engine.container(id))
    {
        return Ok(Attended::Ended(exit.code));
    }
    Ok(attended)
}

/// Gives a container another name.
///
/// # Errors
/// The name is taken, or is none.
pub fn rename(engine: &Engine, container: &str, name: &str) -> Result<(), Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let lock = joined::lock(engine, &id)?;
    let renamed = rename_locked(engine, &id, container, name.strip_prefix('/').unwrap_or(name));
    lock.finish()?;
    renamed
}

fn rename_locked(engine: &Engine, id: &str, container: &str, name: &str) -> Result<(), Error> {
    let dir = engine.container(id);
    let mut record = Record::read(&dir)?.ok_or_else(|| Error::NoSuchContainer(container.to_owned()))?;
    if record.name == name {
        return Err(Error::Invalid(format!("container {container} has the name {name:?} already")));
    }
    let old = std::mem::replace(&mut record.name, name::claim(engine, Some(name), id)?);
    // Killed here, it has two names; the next command gives the one back that its record does not have.
    record.write(&dir)?;
    name::release(engine, &old, id)
}

/// Names of the containers that do not run and have one of these restart policies (any, if there are none); those that the user
/// has stopped are left out where their policy is `unless-stopped`. Who has linked others comes after them.
///
/// # Errors
/// The records cannot be read.
pub fn startable(engine: &Engine, policies: &[String]) -> Result<Vec<String>, Error> {
    enter(engine)?;
    let mut found = Vec::new();
    for record in name::records(engine)? {
        let policy = record.options.restart;
        let stays = policy == RestartPolicy::UnlessStopped && is_stopped(&engine.container(&record.id));
        let wanted = policies.is_empty() || policies.iter().any(|name| name == policy.name());
        let status = life(engine, &record.id)?.status;
        if wanted && !stays && matches!(status, ContainerStatus::Created | ContainerStatus::Exited(_)) {
            found.push(record);
        }
    }
    found.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(link::targets_first(found).into_iter().map(|record| record.name).collect())
}
