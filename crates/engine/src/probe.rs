//! One health check: a process in the container, with an end to its time.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};
use runtime::lifecycle::{self, Created};
use runtime::{Console, ErrorKind, Stdio};

use crate::health::{Health, Healthcheck, OUTPUT, Probe};
use crate::options::ExecOptions;
use crate::record::{Record, read_started};
use crate::run::code;
use crate::time::now;
use crate::{Engine, Error, exec, list, run};

/// How a process in the container was seen through.
enum Seen {
    Ended(i32),
    /// It took too long, and was killed.
    TimedOut,
    /// The container has ended.
    ContainerGone,
}

/// Checks a running container once and notes what that found, for the monitor that started this process and waits for it
/// before it starts another one. Answers whether the next check shall come after the start interval.
///
/// # Errors
/// The container is gone, or what was found cannot be noted.
pub fn check(engine: &Engine, id: &str) -> Result<bool, Error> {
    // First of all, because it begins the program anew: the container must not get at its file (CVE-2019-5736).
    run::seal()?;
    let dir = engine.container(id);
    let record = Record::read(&dir)?.ok_or_else(|| Error::NoSuchContainer(id.to_owned()))?;
    let check = record.health.clone().unwrap_or_default();
    let started = read_started(&dir).unwrap_or_else(now);
    if let Some(probe) = probe(engine, &record, &check)? {
        let mut health = Health::read(&dir)?;
        health.count(&check, probe, started);
        health.write(&dir)?;
    }
    Ok(Health::read(&dir)?.is_early(&check, started, now()))
}

/// `None`: it does not count, because the container is paused or has ended.
fn probe(engine: &Engine, record: &Record, check: &Healthcheck) -> Result<Option<Probe>, Error> {
    let Some(command) = check.command(&record.shell) else { return Ok(None) };
    let Ok(init) = lifecycle::init(&engine.states(), &record.id) else { return Ok(None) };
    let timeout = Duration::from_nanos(u64::try_from(check.timeout()).unwrap_or(u64::MAX));
    let start = now();
    let deadline = Instant::now() + timeout;
    let (code, output) = match begin(engine, record, command) {
        Ok((created, pipe)) => {
            let mut output = Output { pipe, kept: Vec::new(), cut: false };
            match see_through(&created, init.as_fd(), deadline, &mut output)? {
                Seen::ContainerGone => return Ok(None),
                Seen::Ended(code) => (code, output.text()),
                // Frozen, it had no time.
                Seen::TimedOut if is_paused(engine, record) => return Ok(None),
                Seen::TimedOut => {
                    (-1, fit(&format!("Health check exceeded timeout ({timeout:?}): {}", output.text())))
                }
            }
        }
        // It is paused, or has just ended.
        Err(Error::Runtime { source, .. })
            if matches!(source.what(), ErrorKind::State | ErrorKind::NotFound) =>
        {
            return Ok(None);
        }
        Err(error) => (-1, fit(&crate::in_full(&error))),
    };
    Ok(Some(Probe { start, end: now(), code, output }))
}

fn is_paused(engine: &Engine, record: &Record) -> bool {
    matches!(list::life(engine, &record.id), Ok(life) if life.status == crate::ContainerStatus::Paused)
}

/// Starts the command as `exec` would, with both its outputs in one pipe.
fn begin(engine: &Engine, record: &Record, command: Vec<String>) -> Result<(Created, File), Error> {
    let fail = |e: std::io::Error| Error::io("connect a health check")(e);
    let first = command.first().cloned();
    let process = exec::describe(engine, record, 0, &ExecOptions { command, ..ExecOptions::default() })?;
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| fail(e.into()))?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| fail(e.into()))?;
    let null: OwnedFd = File::open("/dev/null").map_err(fail)?.into();
    let stdio =
        Stdio { stdin: Some(null), stderr: Some(write.try_clone().map_err(fail)?), stdout: Some(write) };
    let created = lifecycle::exec(lifecycle::ExecOptions {
        stdio,
        console: Console::None,
        // Killed with its monitor, a check leaves nothing behind, and the next monitor's do not overlap it.
        parent_death_signal: Some(libc::SIGKILL),
        ..lifecycle::ExecOptions::new(&engine.states(), &record.id, process)
    });
    let what = format!("check the health of container {}", record.name);
    Ok((created.map_err(|source| Error::start(&what, first.as_ref(), source))?, read.into()))
}

/// What a check says: the beginning is kept, all is read.
struct Output {
    pipe: File,
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Reads what is there, but not for ever. `false`: there will be no more.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    let fits = length.min(OUTPUT - self.kept.len());
                    self.kept.extend_from_slice(&buffer[..fits]);
                    self.cut |= fits < length;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        if self.cut { fit(&format!("{text}...")) } else { fit(&text) }
    }
}

/// Cuts a text to what is kept, with dots in place of the rest.
fn fit(text: &str) -> String {
    if text.len() <= OUTPUT {
        return text.to_owned();
    }
    let end = (0..=OUTPUT - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// Waits for the end of the process, of the container or of its time. Who still has the pipe afterwards is not waited for.
fn see_through(
    created: &Created,
    init: BorrowedFd<'_>,
    deadline: Instant,
    output: &mut Output,
) -> Result<Seen, Error> {
    let process = created.pidfd.as_fd();
    let mut speaks = true;
    let early = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Some(Seen::TimedOut);
        }
        let wanted = if speaks { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(process, PollFlags::POLLIN), PollFd::new(init, PollFlags::POLLIN)];
        if speaks {
            fds.push(PollFd::new(output.pipe.as_fd(), wanted));
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            result => drop(result.map_err(|e| Error::io("wait for a health check")(e.into()))?),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        if speaks && ready[2] {
            speaks = output.read();
        }
        if ready[0] {
            break None;
        }
        if ready[1] {
            break Some(Seen::ContainerGone);
        }
    };
    if early.is_some() {
        // With what it has started, if that stayed in its group. Not yet reaped, its number is nobody else's.
        let _ = killpg(Pid::from_raw(created.pid), Signal::SIGKILL);
        let _ = sys::pidfd::signal(process, libc::SIGKILL);
    }
    let ended = sys::wait::wait(process).map_err(Error::io("wait for a health check"))?;
    output.read();
    Ok(early.unwrap_or_else(|| Seen::Ended(code(ended).into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_between_characters() {
        assert_eq!(fit("short"), "short");
        let long = fit(&"ü".repeat(OUTPUT));
        assert!(long.len() <= OUTPUT && long.ends_with("ü..."), "{}", long.len());
    }
}
