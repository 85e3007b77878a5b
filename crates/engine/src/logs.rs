//! `logs`: what a detached container wrote, from the files that its monitor keeps.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Deserialize;

use crate::leftover::enter;
use crate::record::Record;
use crate::{ContainerStatus, Engine, Error, list, monitor, name, time};

/// What `logs` is asked for.
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// Go on until the container has ended.
    pub follow: bool,
    /// Only so many of the last lines; a part of a long one counts as one, as with docker.
    pub tail: Option<usize>,
    /// Only what was written at this moment or later, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// Only what was written before this moment, as `since`.
    pub until: Option<i64>,
}

/// A line, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    /// With its line end, if it has one.
    #[serde(rename = "log")]
    pub text: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339 in UTC with nanoseconds.
    pub time: String,
}

/// Hands `each` the lines of a container's output in order, until it answers `false`.
///
/// # Errors
/// [`Error::NoSuchContainer`]; its output was not kept.
pub fn logs(
    engine: &Engine,
    container: &str,
    options: &LogsOptions,
    each: &mut dyn FnMut(&LogLine) -> bool,
) -> Result<(), Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let record = Record::read(&engine.container(&id))?;
    let record = record.ok_or_else(|| Error::NoSuchContainer(container.to_owned()))?;
    let path = monitor::log_path(engine, &id);
    if !path.exists() {
        check_kept(engine, container, &record)?;
    }
    // Before the first look, so that nothing is missed in between.
    let changes = if options.follow { Some(watch(&engine.container(&id))?) } else { None };
    let mut current = Current { path, file: None };
    let mut last: VecDeque<LogLine> = VecDeque::new();
    let mut stop = false;
    let (since, until) = (options.since.map(time::rfc3339), options.until.map(time::rfc3339));
    let wanted = |line: &LogLine| {
        since.as_ref().is_none_or(|since| line.time >= *since)
            && until.as_ref().is_none_or(|until| line.time < *until)
    };
    current.read(&mut |line| {
        if stop || !wanted(&line) {
            return;
        }
        let Some(tail) = options.tail else {
            stop = !each(&line);
            return;
        };
        last.push_back(line);
        if last.len() > tail {
            last.pop_front();
        }
    })?;
    for line in last {
        stop = stop || !each(&line);
    }
    let Some(changes) = changes else { return Ok(()) };
    loop {
        // Looked at first: what is written before the end is read after it.
        let status = list::life(engine, &id).map(|life| life.status);
        let over = !matches!(
            status,
            Ok(ContainerStatus::Running | ContainerStatus::Paused | ContainerStatus::Restarting(_))
        );
        current.read(&mut |line| stop = stop || wanted(&line) && !each(&line))?;
        if stop || over {
            return Ok(());
        }
        // A monitor that was killed tells nothing; the second look finds that out.
        let ready = poll(&mut [PollFd::new(changes.as_fd(), PollFlags::POLLIN)], PollTimeout::from(1000u16));
        match ready {
            Ok(0) => enter(engine)?,
            _ => while changes.read_events().is_ok() {},
        }
    }
}

/// Why there is no log.
fn check_kept(engine: &Engine, container: &str, record: &Record) -> Result<(), Error> {
    if !record.options.log.keep {
        return Err(Error::Invalid(format!("container {container} keeps no log (--log-driver none)")));
    }
    let never_ran = list::life(engine, &record.id)?.started.is_none();
    if never_ran || monitor::is_detached(engine, &record.id) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "container {container} ran in the foreground: its output went to where rcr run had its own; run -d keeps it"
    )))
}

fn watch(dir: &Path) -> Result<Inotify, Error> {
    let fail = |e: nix::Error| Error::io(format!("watch {dir:?}"))(e.into());
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(fail)?;
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE;
    watch.add_watch(dir, flags).map_err(fail)?;
    Ok(watch)
}

/// The files of a log and how far they are read.
struct Current {
    path: PathBuf,
    /// The newest file that was read, with its inode number.
    file: Option<(BufReader<File>, u64)>,
}

impl Current {
    /// Reads what there is now. The files are rotated meanwhile, so the one that was read last is found by its inode.
    fn read(&mut self, each: &mut dyn FnMut(LogLine)) -> Result<(), Error> {
        let mut files = Vec::new();
        // From the oldest to the newest.
        let mut number = 0;
        while let Some(file) = self.open(number)? {
            let inode = file.metadata().map_err(Error::io(format!("look at {:?}", self.path)))?.ino();
            files.insert(0, (file, inode));
            number += 1;
        }
        if let Some((reader, inode)) = &mut self.file {
            parse(reader, each)?;
            if let Some(at) = files.iter().position(|(_, other)| other == inode) {
                files.drain(..=at);
            }
        }
        for (file, inode) in files {
            let mut reader = BufReader::new(file);
            parse(&mut reader, each)?;
            self.file = Some((reader, inode));
        }
        Ok(())
    }

    fn open(&self, number: u32) -> Result<Option<File>, Error> {
        let mut path = self.path.clone().into_os_string();
        if number > 0 {
            path.push(format!(".{number}"));
        }
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("open {path:?}"))(e)),
        }
    }
}

/// Objects are written whole, so the end of the file is the end of one. What is no object is left out.
fn parse(reader: &mut BufReader<File>, each: &mut dyn FnMut(LogLine)) -> Result<(), Error> {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let length = reader.read_until(b'\n', &mut bytes).map_err(Error::io("read the log"))?;
        if length == 0 {
            return Ok(());
        }
        if let Ok(line) = serde_json::from_slice(&bytes) {
            each(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(current: &mut Current) -> String {
        let mut all = String::new();
        current.read(&mut |line| all += &line.text).unwrap();
        all
    }

    #[test]
    fn rotated_files_are_read_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let old = dir.path().join("log.1");
        let object = |text: &str| {
            format!(
                "{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"2020-01-01T00:00:00.000000000Z\"}}\n"
            )
        };
        std::fs::write(&old, object("a")).unwrap();
        std::fs::write(&path, object("b") + "not an object\n").unwrap();
        let mut current = Current { path: path.clone(), file: None };
        assert_eq!(texts(&mut current), "ab");
        assert_eq!(texts(&mut current), "");
        std::fs::rename(&path, &old).unwrap();
        std::fs::write(&path, object("c")).unwrap();
        assert_eq!(texts(&mut current), "c");
    }
}
