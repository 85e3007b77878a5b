//! The process that stays with a detached container: it keeps the log, serves who attaches, and waits for the end.
//!
//! `rcr` starts a container and then becomes this program (execve), which needs a tenth of its memory; the container's
//! first process stays its child, and the lock on the container stays held, because its descriptor stays open. At the
//! end it becomes `rcr` again, whose words follow `--`, with the exit code and the time of the end behind them. In
//! between it knows nothing of images, networks or policies: only of the descriptors that it was given by number.
//!
//! All signals are blocked, as `rcr` left them: only SIGKILL ends it before the container does.

mod check;
mod clients;
mod log;
mod streams;

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sys::wait::Ended;

use crate::check::Check;
use crate::clients::Clients;
use crate::log::Log;
use crate::streams::Streams;

/// What it is given, `KEY=VALUE` each; descriptors by number.
#[derive(Default)]
struct Given {
    pidfd: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    /// Standard input ends with the first client that gave some.
    stdin_once: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// The container's terminal, instead of the three.
    terminal: Option<OwnedFd>,
    log: Option<PathBuf>,
    /// Where the beginnings of lines are kept whose ends have not come, of standard output and standard error.
    lines: [Option<OwnedFd>; 2],
    /// Bytes after which the log is rotated; 0: never.
    max_size: u64,
    /// How many files of the log there are at most.
    max_file: u32,
    /// Milliseconds to the first health check, and between checks: usually, and while the container is young.
    check_times: [u64; 3],
    /// The command line that checks once.
    check: Vec<CString>,
    /// What it becomes at the end; nothing for one that only checks.
    after: Vec<CString>,
}

fn main() -> ExitCode {
    match read(std::env::args_os().skip(1))
        .ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
        .and_then(stay)
    {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads this, but for who starts it by hand.
        Err(error) => {
            eprintln!("rcr-monitor: {error}; it is started by rcr run -d only");
            ExitCode::FAILURE
        }
    }
}

fn read(mut words: impl Iterator<Item = OsString>) -> Option<Given> {
    let mut given = Given::default();
    for word in words.by_ref() {
        if word == "--" {
            break;
        }
        let word = word.as_bytes();
        let at = word.iter().position(|b| *b == b'=')?;
        let (key, value) = (&word[..at], &word[at + 1..]);
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        let descriptor = || sys::process::inherited(i32::try_from(number()?).ok()?).ok();
        match key {
            b"pidfd" => given.pidfd = descriptor(),
            b"listener" => given.listener = descriptor(),
            b"stdin" => given.stdin = descriptor(),
            b"stdin-once" => given.stdin_once = true,
            b"stdout" => given.stdout = descriptor(),
            b"stderr" => given.stderr = descriptor(),
            b"terminal" => given.terminal = descriptor(),
            b"line1" => given.lines[0] = descriptor(),
            b"line2" => given.lines[1] = descriptor(),
            b"log" => given.log = Some(OsString::from_vec(value.to_vec()).into()),
            b"max-size" => given.max_size = number()?,
            b"check-first" => given.check_times[0] = number()?,
            b"check-every" => given.check_times[1] = number()?,
            b"check-early" => given.check_times[2] = number()?,
            b"check" => given.check.push(CString::new(value).ok()?),
            b"max-file" => given.max_file = u32::try_from(number()?).ok()?,
            _ => return None,
        }
    }
    given.after = words.map(|word| CString::new(word.into_vec())).collect::<Result<_, _>>().ok()?;
    let has_work = !(given.after.is_empty() && given.check.is_empty());
    (given.pidfd.is_some() && has_work).then_some(given)
}

/// Serves the container to its end, then becomes `after`, if there is that.
fn stay(given: Given) -> std::io::Result<()> {
    let pidfd = given.pidfd.ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut log = given.log.map(|path| Log::open(path, given.max_size, given.max_file)).transpose()?;
    let mut clients = Clients::new(given.listener);
    let outputs = [given.stdout, given.stderr];
    let mut streams =
        Streams::new(given.stdin, given.stdin_once, outputs, given.terminal, given.lines, &mut log);
    let times = given.check_times.map(Duration::from_millis);
    let mut check = (!given.check.is_empty()).then(|| Check::new(times, given.check));
    streams.serve(pidfd.as_fd(), &mut clients, &mut log, &mut check)?;
    if given.after.is_empty() {
        return Ok(());
    }
    let code = exit_code(&pidfd);
    clients.tell_end(code);
    let finished = log::now();
    let mut words = given.after;
    let code = code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
    words.extend([code, finished.to_string()].into_iter().filter_map(|word| CString::new(word).ok()));
    let args = sys::process::Strings::new(words);
    let program = args.first().map(ToOwned::to_owned).unwrap_or_default();
    Err(sys::process::execve(&program, &args, &mut sys::process::Strings::new(Vec::new()), None))
}

/// 128+N for signal N. A container whose first monitor was killed is no child: the kernel tells (since 6.15) once its
/// new parent has reaped it; `None` if it does not.
fn exit_code(pidfd: &OwnedFd) -> Option<u8> {
    let code = |ended| match ended {
        Ended::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Ended::Killed(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    };
    if let Ok(ended) = sys::wait::wait(pidfd.as_fd()) {
        return Some(code(ended));
    }
    for _ in 0..100 {
        if let Ok(Some(ended)) = sys::pidfd::end(pidfd.as_fd()) {
            return Some(code(ended));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
