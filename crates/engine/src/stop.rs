//! Signals to containers that run: stop, kill, pause; and waiting for the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::cli::signal::number;
use runtime::{ErrorKind, lifecycle};

use crate::client::Watch;
use crate::leftover::enter;
use crate::list::life;
use crate::lock::Lock;
use crate::options::RestartPolicy;
use crate::record::{Exit, Record, is_stopped, unwrite_stopped, write_stopped};
use crate::{ContainerStatus, Engine, Error, name};

/// How long a container gets after its stop signal, docker's default.
const GRACE: Duration = Duration::from_secs(10);
/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stops a container: its stop signal, and SIGKILL after `timeout` (else its own, else 10 s; `Some(None)`: never). One that
/// does not run stays as it is. Returns when the container's end is noted, or with `--rm` when it is gone.
///
/// # Errors
/// [`Error::NoSuchContainer`]; it does not end.
pub fn stop(engine: &Engine, container: &str, timeout: Option<Option<Duration>>) -> Result<(), Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let record = read(engine, &id, container)?;
    let dir = engine.container(&id);
    if !matches!(
        life(engine, &id)?.status,
        ContainerStatus::Running | ContainerStatus::Paused | ContainerStatus::Restarting(_)
    ) {
        return Ok(());
    }
    write_stopped(&dir).or_else(|e| if dir.exists() { Err(e) } else { Ok(()) })?;
    let signal = stop_signal(&record);
    let own = record.options.stop_timeout;
    let grace = timeout.unwrap_or_else(|| match own {
        None => Some(GRACE),
        Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
    });
    let start = Instant::now();
    let (mut asked, mut killed) = (None, None);
    loop {
        // A moment before the next start, or after it, there is nobody yet, or somebody new.
        match lifecycle::init(&engine.states(), &id) {
            Ok(init)
                if asked.is_none() || killed.is_none() && grace.is_some_and(|g| start.elapsed() >= g) =>
            {
                let last = asked.is_some() || grace == Some(Duration::ZERO);
                send(engine, &id, if last { libc::SIGKILL } else { signal })?;
                *(if last { &mut killed } else { &mut asked }) = Some(Instant::now());
                if last {
                    asked = killed;
                } else {
                    // In a frozen one nobody hears the signal.
                    let _ = lifecycle::resume(&engine.states(), &id);
                }
                let left =
                    if last { Some(PATIENCE) } else { grace.map(|g| g.saturating_sub(start.elapsed())) };
                wait_for(init.as_fd(), left)?;
            }
            Ok(_) => {}
            Err(_) => wake(engine, &id),
        }
        if Lock::holder(engine, &id).is_none() || released(engine, &id, Duration::from_millis(50)) {
            // Its monitor may have been killed meanwhile.
            enter(engine)?;
            if Lock::holder(engine, &id).is_none() {
                return Ok(());
            }
        }
        // Somebody started it again on purpose: the one that was to stop has ended, and the new one is not ours to kill.
        if asked.is_some() && dir.exists() && !is_stopped(&dir) {
            return Ok(());
        }
        if killed.is_some_and(|at: Instant| at.elapsed() > PATIENCE) {
            return Err(Error::Invalid(format!(
                "container {container} did not end within {PATIENCE:?} of SIGKILL"
            )));
        }
    }
}

/// The signal that asks the container to end.
fn stop_signal(record: &Record) -> i32 {
    let wanted = record.options.stop_signal.as_ref().or(record.stop_signal.as_ref());
    // An image's nonsense is no reason not to stop.
    wanted.and_then(|name| number(name)).filter(|n| *n > 0).unwrap_or(libc::SIGTERM)
}

/// Sends a signal to a container's first process.
///
/// # Errors
/// [`Error::NotRunning`].
pub fn kill(engine: &Engine, container: &str, signal: i32) -> Result<(), Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let record = read(engine, &id, container)?;
    let dir = engine.container(&id);
    // Who is killed on purpose is not started again.
    let final_one = signal == libc::SIGKILL || signal == stop_signal(&record);
    let before = is_stopped(&dir);
    if final_one {
        write_stopped(&dir)?;
    }
    match lifecycle::kill(&engine.states(), &id, signal, false) {
        Err(e) if matches!(e.what(), ErrorKind::State | ErrorKind::NotFound) => {
            if final_one && !before {
                unwrite_stopped(&dir)?;
            }
            Err(Error::NotRunning(container.to_owned()))
        }
        result => result.map_err(|source| Error::Runtime { what: format!("kill {container}"), source }),
    }
}

fn send(engine: &Engine, id: &str, signal: i32) -> Result<(), Error> {
    match lifecycle::kill(&engine.states(), id, signal, false) {
        // It has just ended.
        Err(e) if matches!(e.what(), ErrorKind::State | ErrorKind::NotFound) => Ok(()),
        result => {
            result.map_err(|source| Error::Runtime { what: format!("stop {}", name::short(id)), source })
        }
    }
}

/// Freezes a container.
///
/// # Errors
/// [`Error::NotRunning`]; it is paused.
pub fn pause(engine: &Engine, container: &str) -> Result<(), Error> {
    let id = running(engine, container)?;
    if life(engine, &id)?.status == ContainerStatus::Paused {
        return Err(Error::Invalid(format!("container {container} is already paused")));
    }
    let paused = lifecycle::pause(&engine.states(), &id);
    paused.map_err(|source| Error::Runtime { what: format!("pause {container}"), source })
}

/// Lets a paused container go on.
///
/// # Errors
/// [`Error::NotRunning`]; it is not paused.
pub fn unpause(engine: &Engine, container: &str) -> Result<(), Error> {
    let id = running(engine, container)?;
    if life(engine, &id)?.status != ContainerStatus::Paused {
        return Err(Error::Invalid(format!("container {container} is not paused")));
    }
    let resumed = lifecycle::resume(&engine.states(), &id);
    resumed.map_err(|source| Error::Runtime { what: format!("unpause {container}"), source })
}

/// ID of a container that has a process.
fn running(engine: &Engine, container: &str) -> Result<String, Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    match life(engine, &id)?.status.is_up() {
        true => Ok(id),
        false => Err(Error::NotRunning(container.to_owned())),
    }
}

/// Waits for a container's end, and answers its exit code; at once if it does not run.
///
/// # Errors
/// [`Error::NoSuchContainer`]; it was removed, and how it ended is not known.
pub fn wait(engine: &Engine, container: &str) -> Result<u8, Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let dir = engine.container(&id);
    loop {
        // Connected first: who ends now tells so.
        let watch = Watch::new(engine, &id);
        match life(engine, &id)?.status {
            ContainerStatus::Exited(code) => return Ok(code),
            ContainerStatus::Created if Lock::holder(engine, &id).is_none() => {
                return if dir.exists() { Ok(0) } else { Err(Error::NoSuchContainer(container.to_owned())) };
            }
            _ => {}
        }
        if let Some(code) = watch.and_then(Watch::end) {
            // What comes next may want it gone: its monitor has some work left, unless that is to start it again.
            let again = Record::read(&dir)?.is_some_and(|record| record.options.restart != RestartPolicy::No);
            if !again {
                released(engine, &id, PATIENCE);
            }
            return Ok(code);
        }
        // In the foreground, between two lives, or without its monitor.
        if let Ok(init) = lifecycle::init(&engine.states(), &id) {
            wait_for(init.as_fd(), None)?;
            let holder = Lock::holder(engine, &id);
            if let Some(holder) = &holder {
                wait_for(holder.as_fd(), Some(PATIENCE))?;
            }
            if !dir.exists()
                && let Ok(Some(ended)) = sys::pidfd::end(init.as_fd())
            {
                return Ok(crate::run::code(ended));
            }
        } else if !released(engine, &id, Duration::from_millis(20)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        enter(engine)?;
        if let Some(exit) = Exit::read(&dir)? {
            return Ok(exit.code);
        }
        if !dir.exists() {
            return Err(Error::NoSuchContainer(container.to_owned()));
        }
    }
}

/// Tells who waits before a container's next start to look at what the user wants.
pub(crate) fn wake(engine: &Engine, id: &str) {
    if matches!(life(engine, id).map(|life| life.status), Ok(ContainerStatus::Restarting(_)))
        && let Some(holder) = Lock::holder(engine, id)
    {
        // It has its mind on the next start, or is `rcr-monitor`, where the signal stays pending.
        let _ = sys::pidfd::signal(holder.as_fd(), libc::SIGTERM);
    }
}

/// Waits for at most so long until the process that holds a container's lock has ended; `false`: it has not, or nobody does.
pub(crate) fn released(engine: &Engine, id: &str, patience: Duration) -> bool {
    let holder: Option<OwnedFd> = Lock::holder(engine, id);
    holder.is_some_and(|holder| wait_for(holder.as_fd(), Some(patience)).unwrap_or(false))
}

/// Waits until a process has ended; `false`: it has not within that time.
fn wait_for(pidfd: BorrowedFd<'_>, patience: Option<Duration>) -> Result<bool, Error> {
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = match left {
            None => PollTimeout::NONE,
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_none_or(|left| left > Duration::from_secs(60)) => {}
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::io("wait for a process")(e.into())),
        }
    }
}

fn read(engine: &Engine, id: &str, container: &str) -> Result<Record, Error> {
    Record::read(&engine.container(id))?.ok_or_else(|| Error::NoSuchContainer(container.to_owned()))
}
