//! The container's streams: what it writes goes to the log and to clients, what they type goes to it.
//!
//! What was read and is not logged yet, because the line has not ended, is kept in a file too, where the next monitor finds
//! it if this one is killed. Only a kill between the writing of the log and of that file, some microseconds, can repeat the
//! beginning of a line.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::tty;

use crate::check::Check;
use crate::clients::{Clients, Said};
use crate::log::{Log, PART, now};

/// One stream of the container's output.
struct Output {
    from: File,
    /// 1 or 2, as descriptors and messages have it.
    kind: u8,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Where it is kept, how much of it is there already, and whether that is the beginning of another line.
    kept: Option<File>,
    kept_length: usize,
    kept_is_old: bool,
}

/// All of them. Every file is in non-blocking mode.
pub(crate) struct Streams {
    outputs: Vec<Output>,
    /// Standard input, or the terminal's other direction.
    input: Option<File>,
    input_once: bool,
    /// It ends once all that is pending is taken.
    input_ends: bool,
    /// Input that the container has not taken yet.
    pending: Vec<u8>,
    is_terminal: bool,
}

/// How much of the output is read after the container's end. A process outside its namespaces may write for ever.
const REST: usize = 1 << 20;

impl Streams {
    pub(crate) fn new(
        stdin: Option<OwnedFd>,
        input_once: bool,
        outputs: [Option<OwnedFd>; 2],
        terminal: Option<OwnedFd>,
        lines: [Option<OwnedFd>; 2],
        log: &mut Option<Log>,
    ) -> Self {
        let is_terminal = terminal.is_some();
        let copy = terminal.as_ref().and_then(|fd| fd.try_clone().ok());
        let [stdout, stderr] = outputs;
        let [line1, line2] = lines;
        let mut outputs = Vec::new();
        for (kind, fd, kept) in [(1, terminal.or(stdout), line1), (2, stderr, line2)] {
            let (kept, stream) = (kept.map(File::from), stream(kind));
            let line = kept.as_ref().map(remembered).unwrap_or_default();
            match (fd, log.as_mut()) {
                (Some(fd), _) => outputs.push(Output::new(fd.into(), kind, line, kept)),
                // A terminal that hung up with the last monitor.
                (None, Some(log)) if !line.is_empty() => log.add(stream, &line, now()),
                _ => {}
            }
        }
        Self {
            outputs,
            input: copy.or(stdin).map(File::from),
            input_once,
            input_ends: false,
            pending: Vec::new(),
            is_terminal,
        }
    }

    /// Serves until the process of `pidfd` has ended and all it wrote is read.
    pub(crate) fn serve(
        &mut self,
        pidfd: BorrowedFd<'_>,
        clients: &mut Clients,
        log: &mut Option<Log>,
        check: &mut Option<Check>,
    ) -> std::io::Result<()> {
        let mut rest = None;
        loop {
            let held_up = clients.held_up();
            check.iter_mut().for_each(Check::begin);
            let ready = self.wait(rest.is_none().then_some(pidfd), clients, held_up, check.as_ref())?;
            if ready.check {
                check.iter_mut().for_each(Check::reap);
            }
            if held_up.is_some() {
                clients.retry();
            }
            let mut read = 0;
            let mut flags = ready.outputs.iter();
            self.outputs.retain_mut(|output| {
                let progress = if flags.next() == Some(&true) { output.step(clients, log) } else { Some(0) };
                read += progress.unwrap_or(0);
                progress.is_some()
            });
            log.iter_mut().for_each(Log::flush);
            self.outputs.iter_mut().for_each(Output::keep);
            if ready.input {
                self.push_input();
            }
            for index in (0..ready.clients.len()).rev().filter(|index| ready.clients[*index]) {
                self.hear(index, clients);
            }
            if ready.listener {
                clients.accept();
            }
            rest = match rest {
                None if ready.process => {
                    // Before what comes after the end, which may remove the container.
                    check.take().iter_mut().for_each(Check::end);
                    Some(REST)
                }
                None => None,
                // Nothing more came, or too much.
                Some(left) if (read == 0 && clients.held_up().is_none()) || left <= read => break,
                Some(left) => Some(left - read),
            };
        }
        for output in &mut self.outputs {
            output.finish(log);
        }
        log.iter_mut().for_each(Log::flush);
        Ok(())
    }

    fn hear(&mut self, index: usize, clients: &mut Clients) {
        let (said, gave_input_and_went) = clients.receive(index);
        match said {
            Some(Said::Input(bytes)) if self.input.is_some() => {
                self.pending.extend_from_slice(&bytes);
                self.push_input();
            }
            Some(Said::Size(rows, columns)) if self.is_terminal => {
                let size = tty::Size { rows, columns, ..tty::Size::default() };
                // The terminal may just have gone.
                let _ = self.input.as_ref().map(|terminal| tty::set_size(terminal.as_fd(), size));
            }
            Some(Said::EndOfInput) => self.end_input(),
            _ => {}
        }
        if gave_input_and_went {
            self.end_input();
        }
    }

    fn end_input(&mut self) {
        if self.input_once && !self.is_terminal {
            self.input_ends = true;
            self.push_input();
        }
    }

    fn push_input(&mut self) {
        let Some(input) = &mut self.input else { return self.pending.clear() };
        let taken = if self.pending.is_empty() { Ok(0) } else { input.write(&self.pending) };
        match taken {
            Ok(written) => drop(self.pending.drain(..written)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => {
                self.input = None;
                self.pending.clear();
            }
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
            if self.input_ends {
                self.input = None;
            }
        }
    }

    fn wait(
        &self,
        pidfd: Option<BorrowedFd<'_>>,
        clients: &Clients,
        held_up: Option<Duration>,
        check: Option<&Check>,
    ) -> std::io::Result<Ready> {
        let none = PollFlags::empty();
        let mut fds = Vec::with_capacity(8);
        fds.extend(pidfd.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(clients.listener().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let checking = check.and_then(Check::pidfd);
        fds.extend(checking.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let input = self.input.as_ref().filter(|_| !self.pending.is_empty());
        fds.extend(input.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLOUT)));
        // While a client is waited for, and while the container takes no input, the other side waits too.
        let flags = if held_up.is_some() { none } else { PollFlags::POLLIN };
        let outputs = self.outputs.iter().filter(|_| held_up.is_none());
        fds.extend(outputs.map(|output| PollFd::new(output.from.as_fd(), flags)));
        fds.extend(clients.sockets().map(|(fd, waiting)| {
            let read = if self.pending.is_empty() { PollFlags::POLLIN } else { none };
            PollFd::new(fd, read | if waiting { PollFlags::POLLOUT } else { none })
        }));
        let timeout = match (held_up, check.and_then(Check::wait)) {
            // All that is left is to be read.
            (None, _) if pidfd.is_none() => PollTimeout::ZERO,
            (None, None) => PollTimeout::NONE,
            (left, due) => {
                let first = left.into_iter().chain(due).min().unwrap_or_default();
                PollTimeout::try_from(first.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            result => drop(result?),
        }
        let mut found = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::all()));
        let mut any = || found.next().is_some_and(|flags| !flags.is_empty());
        let process = pidfd.is_some() && any();
        let listener = clients.listener().is_some() && any();
        let check = checking.is_some() && any();
        let input = input.is_some() && any();
        let outputs = self.outputs.iter().map(|_| held_up.is_none() && any()).collect();
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let clients = found.map(|flags| flags.intersects(readable)).collect();
        Ok(Ready { process, listener, check, input, outputs, clients })
    }
}

/// What poll(2) found.
struct Ready {
    process: bool,
    listener: bool,
    check: bool,
    input: bool,
    outputs: Vec<bool>,
    clients: Vec<bool>,
}

impl Output {
    fn new(from: File, kind: u8, line: Vec<u8>, kept: Option<File>) -> Self {
        Self { from, kind, kept_length: line.len(), line, kept, kept_is_old: false }
    }

    /// One read; how much it was. `None`: there will be no more. A terminal says EIO when its last user is gone, which may
    /// open it again, but then nobody reads what it says.
    fn step(&mut self, clients: &mut Clients, log: &mut Option<Log>) -> Option<usize> {
        let mut buffer = [0; PART];
        let length = match self.from.read(&mut buffer) {
            Ok(0) => 0,
            Ok(length) => length,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Some(0),
            Err(_) => 0,
        };
        if length == 0 {
            self.finish(log);
            return None;
        }
        clients.send(self.kind, &buffer[..length]);
        if let Some(log) = log {
            self.write(&buffer[..length], log);
        }
        Some(length)
    }

    fn write(&mut self, mut bytes: &[u8], log: &mut Log) {
        let at = now();
        while !bytes.is_empty() {
            let room = PART - self.line.len();
            let end = bytes.iter().take(room).position(|b| *b == b'\n').map(|at| at + 1);
            let length = end.unwrap_or(bytes.len().min(room));
            self.line.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if end.is_some() {
                log.add(stream(self.kind), &self.line, at);
                self.line.clear();
                self.kept_is_old = true;
            } else if self.line.len() == PART {
                // Not in the middle of a character.
                let whole = whole_characters(&self.line);
                log.add(stream(self.kind), &self.line[..whole], at);
                self.line.drain(..whole);
                self.kept_is_old = true;
            }
        }
        if self.line.is_empty() {
            self.line = Vec::new();
        }
    }

    /// What is left is a line too.
    fn finish(&mut self, log: &mut Option<Log>) {
        if let Some(log) = log
            && !self.line.is_empty()
        {
            log.add(stream(self.kind), &self.line, now());
        }
        self.line = Vec::new();
        self.kept_is_old = true;
    }

    /// Keeps the beginning of a line for the next monitor, after what was before it is in the log. What cannot be kept is
    /// lost only if this one is killed.
    fn keep(&mut self) {
        let Some(file) = &self.kept else { return };
        if std::mem::take(&mut self.kept_is_old) && self.kept_length > 0 {
            self.kept_length = 0;
            let _ = file.set_len(0);
        }
        if self.kept_length < self.line.len()
            && file.write_all_at(&self.line[self.kept_length..], self.kept_length as u64).is_ok()
        {
            self.kept_length = self.line.len();
        }
    }
}

fn stream(kind: u8) -> &'static str {
    if kind == 2 { "stderr" } else { "stdout" }
}

/// The beginning of a line that was kept, which is always shorter than a part.
fn remembered(kept: &File) -> Vec<u8> {
    let mut line = vec![0; PART - 1];
    let length = kept.read_at(&mut line, 0).unwrap_or(0);
    line.truncate(length);
    line.shrink_to_fit();
    line
}

/// Length of `bytes` without the beginning of a UTF-8 character at its end.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        assert_eq!(whole_characters("aü".as_bytes()), 3);
        assert_eq!(whole_characters(&"aü".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(b"a\xff"), 2);
    }
}
