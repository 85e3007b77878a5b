//! The processes of a cgroup: finding, signalling, freezing them.

use super::dir::{Dir, gone, is};
use super::{Cgroup, Version};
use crate::Error;
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long all processes may take to stand still. A process in an uninterruptible wait comes to rest when the
/// wait ends.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// All processes in it and below it.
    ///
    /// # Errors
    /// `cgroup.procs` can't be read.
    pub fn pids(&self) -> Result<Vec<Pid>, Error> {
        let mut pids = Vec::new();
        if let Some(dir) = self.main() {
            collect(&dir.path, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The directory that is asked for processes. Any would do, since a container joins all hierarchies; v2 moves
    /// processes atomically, and `devices` is the one that runc asks.
    fn main(&self) -> Option<&Dir> {
        self.unified().or_else(|| self.v1("devices")).or_else(|| self.dirs.first())
    }

    /// Sends signal number `signal` to all processes in it and below it, forks in flight included.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill_all(&self, signal: i32) -> Result<(), Error> {
        let number =
            Signal::try_from(signal).map_err(|e| Error::new(format!("signal {signal}")).because(e))?;
        if number != Signal::SIGKILL {
            // Frozen processes don't fork and don't end, so that no pid can be another's.
            let held = !self.is_frozen()? && self.freeze().is_ok();
            let result = self.signal_each(number);
            if held {
                self.thaw()?;
            }
            return result;
        }
        if let Some(dir) = self.unified() {
            // Linux 5.14; a threaded cgroup has none.
            match dir.write("cgroup.kill", "1") {
                Ok(()) => return self.let_die(),
                Err(e) if gone(&e) || is(&e, Errno::EOPNOTSUPP) => {}
                Err(e) => return Err(dir.failed("write 1 to", "cgroup.kill", e)),
            }
        }
        // A fork that began before the signal may have put one more process there.
        for _ in 0..10 {
            let held = self.freeze().is_ok();
            let result = self.signal_each(number);
            if held {
                self.let_die()?;
            }
            result?;
            sleep(Duration::from_millis(1));
            if self.pids()?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// A process that the v1 freezer holds can't die.
    fn let_die(&self) -> Result<(), Error> {
        match self.v1("freezer").map(|dir| (dir, dir.write("freezer.state", "THAWED"))) {
            Some((dir, Err(e))) if !gone(&e) => Err(dir.failed("write THAWED to", "freezer.state", e)),
            _ => Ok(()),
        }
    }

    fn signal_each(&self, signal: Signal) -> Result<(), Error> {
        for pid in self.pids()? {
            match signal::kill(pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => {
                    return Err(Error::new(format!("kill {pid} with {signal}")).because(io::Error::from(e)));
                }
            }
        }
        Ok(())
    }

    /// The directory with the freezer: v1's controller where it is mounted, else v2's own.
    fn freezer(&self) -> Result<&Dir, Error> {
        self.v1("freezer")
            .or_else(|| self.unified())
            .ok_or_else(|| Error::new("cannot toggle freezer: cgroups not configured for container"))
    }

    /// Stops all processes and waits until they stand still.
    ///
    /// # Errors
    /// No freezer, or it did not come to rest; then all run again.
    pub fn freeze(&self) -> Result<(), Error> {
        let dir = self.freezer()?;
        let result = match dir.version {
            Version::V1 => freeze_v1(dir),
            Version::V2 => freeze_v2(dir),
        };
        if result.is_err() {
            // Half frozen is the worst: nothing works, and nobody thaws it.
            drop(thaw(dir));
        }
        result
    }

    /// Undoes [`Cgroup::freeze`].
    ///
    /// # Errors
    /// No freezer, or the kernel's refusal.
    pub fn thaw(&self) -> Result<(), Error> {
        thaw(self.freezer()?)
    }

    /// Whether [`Cgroup::freeze`] holds; a frozen cgroup above does not count. A cgroup that is gone, or without a
    /// freezer, is not frozen.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let Ok(dir) = self.freezer() else { return Ok(false) };
        let file = match dir.version {
            Version::V1 => "freezer.self_freezing",
            Version::V2 => "cgroup.freeze",
        };
        match dir.read(file) {
            Ok(text) => Ok(text.trim() == "1"),
            Err(e) if gone(&e) => Ok(false),
            Err(e) => Err(dir.failed("read", file, e)),
        }
    }
}

fn thaw(dir: &Dir) -> Result<(), Error> {
    let (file, value) = match dir.version {
        Version::V1 => ("freezer.state", "THAWED"),
        Version::V2 => ("cgroup.freeze", "0"),
    };
    dir.write(file, value).map_err(|e| dir.failed(&format!("write {value} to"), file, e))
}

fn freeze_v1(dir: &Dir) -> Result<(), Error> {
    let file = "freezer.state";
    let deadline = Instant::now() + FREEZE_PATIENCE;
    let mut tries = 0u32;
    loop {
        dir.write(file, "FROZEN").map_err(|e| dir.failed("write FROZEN to", file, e))?;
        let state = dir.read(file).map_err(|e| dir.failed("read", file, e))?;
        if state.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new(format!("{:?} stays {}", dir.path.join(file), state.trim())));
        }
        tries += 1;
        // v1's freezer can miss a process that is being forked; writing the state again catches it, and after
        // many misses letting all run for a moment.
        if tries.is_multiple_of(50) {
            drop(thaw(dir));
            sleep(Duration::from_millis(10));
        } else if tries > 10 {
            sleep(Duration::from_micros(100));
        }
    }
}

fn freeze_v2(dir: &Dir) -> Result<(), Error> {
    dir.write("cgroup.freeze", "1").map_err(|e| dir.failed("write 1 to", "cgroup.freeze", e))?;
    let deadline = Instant::now() + FREEZE_PATIENCE;
    loop {
        let events = dir.read("cgroup.events").map_err(|e| dir.failed("read", "cgroup.events", e))?;
        if events.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new(format!("{:?} does not freeze", dir.path)));
        }
        sleep(Duration::from_micros(500));
    }
}

fn collect(dir: &Path, pids: &mut Vec<Pid>) -> Result<(), Error> {
    let file = dir.join("cgroup.procs");
    match std::fs::read_to_string(&file) {
        // 0 stands for a process that is not in this pid namespace.
        Ok(text) => {
            pids.extend(text.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw))
        }
        Err(e) if gone(&e) => return Ok(()),
        // A threaded cgroup has no processes, they are all in the domain above it.
        Err(e) if is(&e, Errno::EOPNOTSUPP) => {}
        Err(e) => return Err(Error::new(format!("read {file:?}")).because(e)),
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}
