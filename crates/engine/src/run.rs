//! One container in the foreground, from its making to its end.
//!
//! Nothing here starts a thread, and nothing is synced to disk.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use runtime::Stdio;
use store::{Image, Store};
use sys::wait::Ended;

use crate::attach::{self, Attached, OnSignal};
use crate::leftover::{destroy, end_runtime, enter};
use crate::make::{Made, make, unmake};
use crate::options::RunOptions;
use crate::record::{Exit, Record};
use crate::signals::Signals;
use crate::start::{Given, Running, start};
use crate::{Engine, Error, Event, ExitStatus, connection, detach, image, monitor, oom, time};

/// Runs a container in the foreground and returns when it has ended and been cleaned up.
///
/// The caller must be single-threaded: signals are blocked while the container runs (and forwarded to it), and
/// nothing else may reap children.
///
/// # Errors
/// The container never ran; see [`Error::exit_code`]. Nothing is left of it.
pub fn run(
    engine: &Engine,
    options: &RunOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<ExitStatus, Error> {
    seal()?;
    enter(engine)?;
    if options.tty {
        attach::check_terminal(options.interactive)?;
    }
    let store = Store::open(&engine.root)?;
    let (image, unpinned) = image::obtain(&store, options, events, cancel)?;
    let signals = Signals::block()?;
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Interrupted(libc::SIGINT));
    }
    let Made { record, rootfs, lock } = make(engine, options, &image, &store)?;
    drop(unpinned);
    let started = match signals.end_wanted() {
        Some(signal) => Err(Error::Interrupted(signal)),
        None => attached(engine, &record, &image, rootfs),
    };
    let (running, streams) = match started {
        Ok(started) => started,
        Err(error) => {
            unmake(engine, &record, &store, lock);
            return Err(error);
        }
    };
    let dir = engine.container(&record.id);
    let watching = monitor::program()
        .and_then(|program| monitor::watch(engine, &record, &program, running.created.pidfd.as_fd()));
    let watching = watching.unwrap_or_else(|error| {
        tracing::warn!("the container's health is not checked: {}", crate::in_full(&error));
        None
    });
    let status = see_through(&running, streams, &signals);
    // A check that is still under way goes with it.
    let _ = watching.map(|monitor| sys::wait::wait(monitor.as_fd()));
    let status = status.map(|code| {
        let oom_killed = (options.memory.is_some() || code == 137) && oom::happened(&record);
        ExitStatus { code, oom_killed }
    });
    let ended = end_runtime(engine, &record.id).and_then(|()| connection::end(engine, &record.id, &dir));
    let status = status?;
    if options.rm && !detach::is_restarting(engine, &record.id) {
        ended?;
        destroy(engine, &record.id, Some(&record), true, &store, lock)?;
    } else {
        Exit {
            finished: time::now(),
            code: status.code,
            oom_killed: status.oom_killed,
            error: String::new(),
            restarting: false,
        }
        .write(&dir)?;
        ended?;
        lock.finish()?;
    }
    Ok(status)
}

/// Protects rcr's program file from containers (CVE-2019-5736). First of all, because it begins the program anew.
pub(crate) fn seal() -> Result<(), Error> {
    let what = "protect rcr's program file from the container".to_owned();
    runtime::seal::seal().map_err(|source| Error::Runtime { what, source })
}

/// Starts the container on the caller's own streams.
fn attached(
    engine: &Engine,
    record: &Record,
    image: &Image,
    rootfs: std::os::fd::OwnedFd,
) -> Result<(Running, Attached), Error> {
    let options = &record.options;
    let (stdio, streams) = match options.tty {
        true => (Stdio::default(), Attached::default()),
        false => attach::streams(options.interactive, &options.attach)?,
    };
    let size = if options.tty { attach::terminal_size() } else { None };
    // Whatever kills rcr takes the container with it.
    let given = Given { stdio, size, parent_death_signal: Some(libc::SIGKILL) };
    let mut running = start(engine, record, image, rootfs, given)?;
    let streams = match running.created.console.take() {
        Some(master) => Attached::terminal(master, options.interactive),
        None => Ok(streams),
    };
    match streams {
        Ok(streams) => Ok((running, streams)),
        Err(error) => {
            let _ = end_runtime(engine, &record.id);
            let _ = connection::end(engine, &record.id, &engine.container(&record.id));
            Err(error)
        }
    }
}

/// Serves the container until its first process has ended; answers the exit code.
fn see_through(running: &Running, mut streams: Attached, signals: &Signals) -> Result<u8, Error> {
    let pidfd = running.created.pidfd.as_fd();
    let served = streams.serve(pidfd, signals, OnSignal::PassOn);
    if served.is_err() {
        // It has ended already if this fails.
        let _ = sys::pidfd::signal(pidfd, libc::SIGKILL);
    }
    let ended = sys::wait::wait(pidfd).map_err(Error::io("wait for the container"))?;
    served.map(|_| code(ended))
}

/// The exit code: 128+N for signal N.
pub(crate) fn code(ended: Ended) -> u8 {
    let code = match ended {
        Ended::Exited(code) => code,
        Ended::Killed(signal) => 128 + signal,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
