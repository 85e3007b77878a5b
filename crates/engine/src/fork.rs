//! A process of its own for work that outlives the command, and what it reports while it begins.

use std::cell::RefCell;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use sys::message;
use sys::wait::Ended;

use crate::{Error, in_full, monitor};

/// To the command that waits for a container to be there.
#[derive(Debug)]
pub(crate) struct Report(Option<OwnedFd>);

/// Longest message; an error that is longer is cut.
const MOST: usize = 16 << 10;

impl Report {
    /// Nobody waits.
    pub(crate) fn to_nobody() -> Self {
        Self(None)
    }

    /// The container has this ID and is about to be started; returns when the command is ready too.
    pub(crate) fn ready(&self, id: &str) -> Result<(), Error> {
        let Some(socket) = &self.0 else { return Ok(()) };
        let fail = Error::io("report to the command");
        let said = message::send(socket.as_fd(), format!("ready {id}").as_bytes(), None);
        // A command that was killed does not keep the container from starting.
        said.and_then(|()| message::receive(socket.as_fd(), &mut [0; 8])).map(drop).or_else(|e| {
            match e.kind() {
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => Ok(()),
                _ => Err(fail(e)),
            }
        })
    }

    fn failed(&self, error: &Error) {
        let Some(socket) = &self.0 else { return };
        let mut text = format!("{} {}", error.exit_code(), in_full(error));
        if matches!(error, Error::Busy(_)) {
            "busy".clone_into(&mut text);
        }
        let text = &text.as_bytes()[..text.len().min(MOST)];
        let _ = message::send(socket.as_fd(), text, None);
    }
}

/// Runs `body` in a new process, a session of its own with all signals blocked, until it executes another program. The
/// caller must be single-threaded. `ready` is called with the ID when the container is about to start.
pub(crate) fn detached(
    body: impl FnOnce(&Report) -> Result<Infallible, Error>,
    ready: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<Option<String>, Error> {
    let fail = |e: std::io::Error| Error::io("start the container's monitor")(e);
    let (mine, theirs) = message::pair().map_err(fail)?;
    let report = Report(Some(theirs));
    let (body, mine) = (RefCell::new(Some(body)), RefCell::new(Some(mine)));
    let child = sys::clone::clone3(&sys::clone::Options::default(), || {
        drop(mine.take());
        let _ = nix::unistd::setsid();
        let Some(body) = body.take() else { return 125 };
        let error = match monitor::block_signals().and_then(|()| body(&report)) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        report.failed(&error);
        125
    })
    .map_err(fail)?;
    drop(report);
    let Some(mine) = mine.into_inner() else { return Ok(None) };
    let mut id = None;
    let mut buffer = vec![0; MOST];
    loop {
        let (length, _) = message::receive(mine.as_fd(), &mut buffer).map_err(fail)?;
        // It has executed rcr-monitor, or it was killed.
        if length == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if let Some(said) = text.strip_prefix("ready ") {
            id = Some(said.to_owned());
            let went_on = ready(said);
            message::send(mine.as_fd(), b"go", None).map_err(fail)?;
            went_on?;
            continue;
        }
        // It ends by itself now; when this process stays, it would stay a zombie.
        let _ = sys::wait::wait(child.pidfd.as_fd());
        if text == "busy" {
            return Err(Error::Busy(id.unwrap_or_default()));
        }
        let (code, message) = text.split_once(' ').unwrap_or(("125", &text));
        return Err(Error::Detached { code: code.parse().unwrap_or(125), message: message.to_owned() });
    }
    // Executing another program closed its end; being killed did too.
    if matches!(sys::wait::peek(child.pidfd.as_fd()), Ok(Some(Ended::Killed(_)))) {
        return Err(Error::Detached { code: 125, message: "the container's monitor was killed".to_owned() });
    }
    Ok(id)
}
