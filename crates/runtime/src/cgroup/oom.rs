//! The kernel's OOM killer at work in a cgroup: how often it was, and being told when it is.

use super::Cgroup;
use super::dir::{Dir, gone};
use crate::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long after v1's bell a kill may be counted, and rings may be echoes of it: each process that finds no memory
/// rings, until the one that is killed has given back its own.
const ECHO: Duration = Duration::from_secs(1);

/// How often the count is looked at in that time.
const LOOK: Duration = Duration::from_millis(20);

/// Counts OOM kills from the moment it was made.
#[derive(Debug)]
pub struct OomWatch {
    bell: Bell,
    /// memory.oom_control or memory.events; both have a line `oom_kill N`.
    counter: File,
    /// The count that has been told.
    told: u64,
    /// v1's bell has rung.
    alert: Option<Alert>,
}

#[derive(Debug)]
struct Alert {
    until: Instant,
    /// A kill explains it.
    explained: bool,
}

/// What becomes readable.
#[derive(Debug)]
enum Bell {
    /// v1: rings before somebody is killed, also where the killer is off, and at the end of the cgroup.
    Event(EventFd),
    /// v2: any change of memory.events.
    File(Inotify),
}

impl Cgroup {
    /// Starts watching.
    ///
    /// # Errors
    /// No memory controller, or the kernel's refusal.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        match (self.v1("memory"), self.unified()) {
            (Some(dir), _) => watch_v1(dir),
            (None, Some(dir)) if !dir.lacks("memory") => watch_v2(dir),
            _ => Err(Error::new("memory controller missing")),
        }
    }
}

/// admin-guide/cgroup-v1/memory, "OOM Control".
fn watch_v1(dir: &Dir) -> Result<OomWatch, Error> {
    let counter = open(dir, "memory.oom_control")?;
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|e| Error::new("make an eventfd").because(e))?;
    let line = format!("{} {} ", event.as_fd().as_raw_fd(), counter.as_raw_fd());
    dir.write("cgroup.event_control", &line)
        .map_err(|e| dir.failed("write to", "cgroup.event_control", e))?;
    let told = Count::read(&counter).map_or(0, |count| count.kills);
    Ok(OomWatch { bell: Bell::Event(event), counter, told, alert: None })
}

fn watch_v2(dir: &Dir) -> Result<OomWatch, Error> {
    let file = "memory.events";
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(|e| Error::new("make an inotify instance").because(e))?;
    inotify
        .add_watch(&dir.path.join(file), AddWatchFlags::IN_MODIFY)
        .map_err(|e| dir.failed("watch", file, e.into()))?;
    let counter = open(dir, file)?;
    let told = Count::read(&counter).map_or(0, |count| count.kills);
    Ok(OomWatch { bell: Bell::File(inotify), counter, told, alert: None })
}

fn open(dir: &Dir, file: &str) -> Result<File, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(&dir.fd, file, flags, Mode::empty())
        .map(File::from)
        .map_err(|e| dir.failed("open", file, e.into()))
}

impl OomWatch {
    /// How many times the OOM killer was at work since the last call. `ended`: the container's init is dead, so that its
    /// cgroup may be gone.
    ///
    /// # Errors
    /// The count can't be read.
    pub fn take(&mut self, ended: bool) -> Result<u64, Error> {
        let rung = self.bell.silence().map_err(|e| Error::new("read the OOM notification").because(e))?;
        let count = match Count::read(&self.counter) {
            Ok(count) => Some(count),
            Err(e) if gone(&e) => None,
            Err(e) => return Err(Error::new("read the count of OOM kills").because(e)),
        };
        let kills = count.as_ref().map_or(0, |count| count.kills.saturating_sub(self.told));
        self.told += kills;
        if kills > 0 {
            self.alert.iter_mut().for_each(|alert| alert.explained = true);
        }
        // The last ring of all is for the end of the cgroup.
        if rung > u64::from(ended) {
            let alert = self.alert.get_or_insert(Alert { until: Instant::now(), explained: kills > 0 });
            alert.until = Instant::now() + ECHO;
        }
        let off = count.is_some_and(|count| count.killer_is_off);
        match self.alert.take_if(|alert| ended || off || alert.until <= Instant::now()) {
            // Nobody was killed, or somebody in a cgroup below, which v1 does not count here.
            Some(alert) if !alert.explained => Ok(1),
            _ => Ok(kills),
        }
    }

    /// When [`OomWatch::take`] is to be called again, though nothing became readable.
    pub fn look_again(&self) -> Option<Duration> {
        self.alert.is_some().then_some(LOOK)
    }
}

impl AsFd for OomWatch {
    /// Readable when [`OomWatch::take`] may have something to tell.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.bell {
            Bell::Event(event) => event.as_fd(),
            Bell::File(inotify) => inotify.as_fd(),
        }
    }
}

impl Bell {
    /// Reads all there is, without waiting: how often v1's rang.
    fn silence(&self) -> Result<u64, Errno> {
        let read = match self {
            Bell::Event(event) => event.read(),
            Bell::File(inotify) => inotify.read_events().map(|_| 0),
        };
        match read {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            result => result,
        }
    }
}

/// What the file says.
struct Count {
    kills: u64,
    /// v1 only: processes wait for memory instead.
    killer_is_off: bool,
}

impl Count {
    fn read(file: &File) -> io::Result<Count> {
        // A line each for half a dozen events.
        let mut text = [0; 1024];
        let length = file.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        let killer_is_off = text.lines().any(|line| line == "oom_kill_disable 1");
        Ok(Count { kills: kills.unwrap_or(0), killer_is_off })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(bell: Bell, text: &str) -> (tempfile::NamedTempFile, OomWatch) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let counter = File::open(file.path()).unwrap();
        let told = Count::read(&counter).unwrap().kills;
        (file, OomWatch { bell, counter, told, alert: None })
    }

    fn bell() -> Bell {
        Bell::Event(EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap())
    }

    fn ring(watch: &OomWatch, times: u64) {
        match &watch.bell {
            Bell::Event(event) => drop(event.write(times).unwrap()),
            Bell::File(_) => unreachable!(),
        }
    }

    #[test]
    fn v2_tells_what_was_counted_since() {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        let (file, mut watch) = watch(Bell::File(inotify), "low 0\noom 1\noom_kill 1\noom_group_kill 0\n");
        assert_eq!(watch.take(false).unwrap(), 0, "that was before");
        std::fs::write(file.path(), "low 0\noom 3\noom_kill 3\noom_group_kill 0\n").unwrap();
        assert_eq!(watch.take(false).unwrap(), 2);
        assert_eq!(watch.take(true).unwrap(), 0);
        assert_eq!(watch.look_again(), None);
    }

    #[test]
    fn v1_tells_each_kill_once_however_often_it_rings() {
        let (file, mut watch) = watch(bell(), "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        assert_eq!(watch.take(false).unwrap(), 0);
        ring(&watch, 3);
        assert_eq!(watch.take(false).unwrap(), 0, "it is not counted yet");
        assert!(watch.look_again().is_some());
        std::fs::write(file.path(), "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n").unwrap();
        assert_eq!(watch.take(false).unwrap(), 1);
        ring(&watch, 20);
        assert_eq!(watch.take(false).unwrap(), 0, "echoes");
        std::fs::write(file.path(), "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n").unwrap();
        assert_eq!(watch.take(false).unwrap(), 2);
        watch.alert.as_mut().unwrap().until = Instant::now();
        assert_eq!(watch.take(false).unwrap(), 0, "all are explained");
        assert_eq!(watch.look_again(), None);
        // The end of the cgroup rings once.
        ring(&watch, 1);
        assert_eq!(watch.take(true).unwrap(), 0);
    }

    #[test]
    fn v1_tells_a_ring_that_nothing_explains() {
        let (file, mut watch) = watch(bell(), "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        ring(&watch, 2);
        assert_eq!(watch.take(false).unwrap(), 0);
        watch.alert.as_mut().unwrap().until = Instant::now();
        assert_eq!(watch.take(false).unwrap(), 1);
        ring(&watch, 1);
        assert_eq!(watch.take(false).unwrap(), 0);
        assert_eq!(watch.take(true).unwrap(), 1, "no time is left to wait");
        std::fs::write(file.path(), "oom_kill_disable 1\nunder_oom 1\noom_kill 0\n").unwrap();
        ring(&watch, 1);
        assert_eq!(watch.take(false).unwrap(), 1, "nobody will be killed");
        assert_eq!(watch.take(true).unwrap(), 0);
    }
}
