//! Health checks: when one is due, the command that was given for it is run, one at a time.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::libc;
use sys::clone::{Cloned, clone3};
use sys::process::Strings;
use sys::wait::Ended;

/// The exit code by which the command asks for the next check after the shorter time.
const EARLY: i32 = 3;

/// When and how.
pub(crate) struct Check {
    every: Duration,
    early: Duration,
    command: Strings,
    due: Instant,
    running: Option<Cloned>,
}

impl Check {
    /// The first check is due after `first`; each other one `every` after the end of the one before, or `early`.
    pub(crate) fn new([first, every, early]: [Duration; 3], command: Vec<CString>) -> Self {
        Self { every, early, command: Strings::new(command), due: Instant::now() + first, running: None }
    }

    /// How long until the next one is due, unless one is running.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.running.is_none().then(|| self.due.saturating_duration_since(Instant::now()))
    }

    /// The one that is running.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|child| child.pidfd.as_fd())
    }

    /// It has ended.
    pub(crate) fn reap(&mut self) {
        let Some(child) = self.running.take() else { return };
        let pause = match sys::wait::wait(child.pidfd.as_fd()) {
            Ok(Ended::Exited(EARLY)) => self.early,
            _ => self.every,
        };
        self.due = Instant::now() + pause;
    }

    /// Begins a check if one is due.
    pub(crate) fn begin(&mut self) {
        if self.wait() != Some(Duration::ZERO) {
            return;
        }
        let me = nix::unistd::getpid();
        let command = &self.command;
        let child = clone3(&sys::clone::Options::default(), || {
            // It must not outlive this process: the next monitor begins checks of its own.
            let bound = sys::process::set_parent_death_signal(libc::SIGKILL);
            // What is open here is the container's: with its listener a dead monitor could still be connected to.
            let closed = sys::process::close_on_exec_from(3);
            if bound.is_ok() && closed.is_ok() && nix::unistd::getppid() == me {
                let program = command.first().unwrap_or_default();
                sys::process::execve(program, command, &mut Strings::new(Vec::new()), None);
            }
            125
        });
        match child {
            Ok(child) => self.running = Some(child),
            // No process to be had now.
            Err(_) => self.due = Instant::now() + self.every,
        }
    }

    /// The container has ended: so does a check that is running.
    pub(crate) fn end(&mut self) {
        if let Some(child) = self.running.take() {
            let _ = sys::pidfd::signal(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = sys::wait::wait(child.pidfd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, times: [u64; 3]) -> Check {
        let words = ["/bin/sh", "-c", script].map(|word| CString::new(word).unwrap());
        Check::new(times.map(Duration::from_millis), words.into())
    }

    fn run_once(check: &mut Check) -> Duration {
        check.begin();
        assert!(check.pidfd().is_some() && check.wait().is_none());
        check.reap();
        check.wait().unwrap()
    }

    #[test]
    fn the_command_says_when_the_next_one_is_due() {
        let times = [0, 100_000, 10_000];
        assert!(run_once(&mut check("exit 3", times)) <= Duration::from_secs(10));
        for other in ["exit 0", "exit 1", "kill -9 $$"] {
            assert!(run_once(&mut check(other, times)) > Duration::from_secs(90), "{other}");
        }
    }

    #[test]
    fn none_before_its_time_and_none_beside_another() {
        let mut later = check("exit 0", [60_000; 3]);
        later.begin();
        assert!(later.pidfd().is_none());
        let mut slow = check("exec sleep 100", [0; 3]);
        slow.begin();
        let first = slow.running.as_ref().unwrap().pid;
        slow.begin();
        assert_eq!(slow.running.as_ref().unwrap().pid, first);
        slow.end();
        assert!(slow.pidfd().is_none());
        assert!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), None).is_err(), "it is reaped");
    }

    #[test]
    fn it_inherits_nothing_but_the_standard_streams() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        let (_read, _write) = nix::unistd::pipe().unwrap();
        let mut check = check(&format!("ls /proc/$$/fd > {}", list.display()), [0; 3]);
        run_once(&mut check);
        let mut numbers: Vec<u32> =
            std::fs::read_to_string(&list).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        // The shell's own file, which it may have opened at 3 and above.
        numbers.retain(|number| *number < 10 && *number > 3);
        assert!(numbers.is_empty(), "{numbers:?}");
    }
}
