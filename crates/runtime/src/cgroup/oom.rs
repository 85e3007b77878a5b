//! The kernel's OOM killer at work in a cgroup: how often it was, and being told when it is.

use super::dir::{Dir, gone};
use super::{Cgroup, Version};
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

/// Counts OOM kills from the moment it was made.
#[derive(Debug)]
pub struct OomWatch {
    bell: Bell,
    /// memory.oom_control or memory.events; both have a line `oom_kill N`.
    counter: File,
    /// The count that has been told.
    told: u64,
}

/// What becomes readable.
#[derive(Debug)]
enum Bell {
    /// v1: counts the times that memory ran out, also where the killer is off, and the end of the cgroup.
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
    let told = count(&counter).unwrap_or(0);
    Ok(OomWatch { bell: Bell::Event(event), counter, told })
}

fn watch_v2(dir: &Dir) -> Result<OomWatch, Error> {
    debug_assert_eq!(dir.version, Version::V2);
    let file = "memory.events";
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(|e| Error::new("make an inotify instance").because(e))?;
    inotify
        .add_watch(&dir.path.join(file), AddWatchFlags::IN_MODIFY)
        .map_err(|e| dir.failed("watch", file, e.into()))?;
    let counter = open(dir, file)?;
    let told = count(&counter).unwrap_or(0);
    Ok(OomWatch { bell: Bell::File(inotify), counter, told })
}

fn open(dir: &Dir, file: &str) -> Result<File, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(&dir.fd, file, flags, Mode::empty())
        .map(File::from)
        .map_err(|e| dir.failed("open", file, e.into()))
}

impl OomWatch {
    /// How many times memory ran out since the last call. `ended`: the container's init is dead, so that its cgroup
    /// may be gone.
    ///
    /// # Errors
    /// The count can't be read.
    pub fn take(&mut self, ended: bool) -> Result<u64, Error> {
        let rung = self.bell.silence().map_err(|e| Error::new("read the OOM notification").because(e))?;
        let counted = match count(&self.counter) {
            Ok(count) => Some(count),
            Err(e) if gone(&e) => None,
            Err(e) => return Err(Error::new("read the count of OOM kills").because(e)),
        };
        let fresh = match (&self.bell, counted) {
            // The bell rings before the kill, which the count has only after it; and it rings when nobody is killed.
            (Bell::Event(_), _) if !ended => rung,
            // The last ring is the end of the cgroup.
            (Bell::Event(_), None) => rung.saturating_sub(1),
            (Bell::File(_), None) => 0,
            (_, Some(count)) => count.saturating_sub(self.told),
        };
        self.told += fresh;
        Ok(fresh)
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
    /// Reads all there is, without waiting: how often an event was counted.
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

/// The present count of kills.
fn count(file: &File) -> io::Result<u64> {
    // A line each for half a dozen events.
    let mut text = [0; 1024];
    let length = file.read_at(&mut text, 0)?;
    let text = String::from_utf8_lossy(&text[..length]);
    Ok(text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(bell: Bell, text: &str) -> (tempfile::NamedTempFile, OomWatch) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let counter = File::open(file.path()).unwrap();
        let told = count(&counter).unwrap();
        (file, OomWatch { bell, counter, told })
    }

    #[test]
    fn v2_tells_what_was_counted_since() {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        let (file, mut watch) = watch(Bell::File(inotify), "low 0\noom 1\noom_kill 1\noom_group_kill 0\n");
        assert_eq!(watch.take(false).unwrap(), 0, "that was before");
        std::fs::write(file.path(), "low 0\noom 3\noom_kill 3\noom_group_kill 0\n").unwrap();
        assert_eq!(watch.take(false).unwrap(), 2);
        assert_eq!(watch.take(true).unwrap(), 0);
    }

    #[test]
    fn v1_tells_each_ring_and_at_the_end_what_is_missing() {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap();
        let (file, mut watch) = watch(Bell::Event(event), "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        let ring = |watch: &OomWatch, times| match &watch.bell {
            Bell::Event(event) => drop(event.write(times).unwrap()),
            Bell::File(_) => unreachable!(),
        };
        ring(&watch, 2);
        assert_eq!(watch.take(false).unwrap(), 2, "the kills are not counted yet");
        std::fs::write(file.path(), "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n").unwrap();
        // One more that nobody was told of; what rings now may be the cgroup's end.
        ring(&watch, 1);
        assert_eq!(watch.take(true).unwrap(), 1);
        ring(&watch, 1);
        assert_eq!(watch.take(true).unwrap(), 0);
    }
}
