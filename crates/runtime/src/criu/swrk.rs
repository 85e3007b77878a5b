//! One run of criu, and the conversation with it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sys::wait::Ended;

use super::images::{Images, find_errors};
use super::rpc::{Kind, Notification, Response, acknowledge};
use crate::error::reason;
use crate::launch::{At, Launched, Request, launch};
use crate::{Console, Error, ErrorKind, Stdio, plan};

/// Longest message that criu sends, in bytes. Those that are known are shorter than a hundred.
const MAX_MESSAGE: usize = 64 << 10;

/// Longest piece of criu's output that is searched for errors, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;

/// How long it may take to end when nobody has orders for it any more, in milliseconds.
const PATIENCE: u16 = 10_000;

/// A criu that waits for orders. Dropped, it has to end.
#[derive(Debug)]
pub(crate) struct Criu {
    socket: Option<OwnedFd>,
    process: Launched,
    reaped: bool,
    /// What it writes to its standard streams, if that is kept.
    output: Option<File>,
}

/// Called when criu says what it is about to do, or has done.
pub(crate) type OnNotify<'a> = dyn FnMut(&Notification, Option<OwnedFd>) -> Result<(), Error> + 'a;

impl Criu {
    /// Starts criu beside this process.
    pub(crate) fn alone() -> Result<Criu, Error> {
        let (ours, theirs) = pair()?;
        let output = || -> std::io::Result<(File, Stdio)> {
            let output: File = memfd_create(c"criu", MFdFlags::MFD_CLOEXEC)?.into();
            let stdio = Stdio {
                stdin: Some(File::open("/dev/null")?.into()),
                stdout: Some(output.try_clone()?.into()),
                stderr: Some(output.try_clone()?.into()),
            };
            Ok((output, stdio))
        };
        let (output, stdio) = output().map_err(|e| Error::new("prepare the streams of criu").because(e))?;
        let plan = plan::criu(theirs.as_raw_fd(), std::env::vars_os())?;
        let request = Request {
            plan: &plan,
            rootfs: None,
            cgroup: None,
            v1_tasks: Vec::new(),
            exec_fifo: None,
            kept: vec![theirs],
            stdio,
            console: Console::None,
        };
        let mut criu = Criu::launch(request, ours, &mut |_| Ok(()))?;
        criu.output = Some(output);
        Ok(criu)
    }

    /// Starts the criu of `request`, whose plan names the other end of `socket` ([`pair`]).
    pub(crate) fn launch(
        request: Request<'_>,
        socket: OwnedFd,
        at: &mut dyn FnMut(At<'_>) -> Result<(), Error>,
    ) -> Result<Criu, Error> {
        let process = launch(request, at).map_err(|e| match e.what() {
            ErrorKind::CommandNotFound => {
                let hint = "criu is not installed (it is what checkpoints and restores containers)";
                Error::new(hint).because(e).kind(ErrorKind::Other)
            }
            _ => Error::new("start criu").because(e),
        })?;
        Ok(Criu { socket: Some(socket), process, reaped: false, output: None })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Gives an order and waits until it is carried out; `on` hears of everything in between, and what it refuses
    /// ends the order. A criu that dies gives the answer of a failure.
    ///
    /// # Errors
    /// What `on` refused, or the socket.
    pub(crate) fn ask(&mut self, message: &[u8], on: &mut OnNotify<'_>) -> Result<Response, Error> {
        let Some(socket) = &self.socket else { return Ok(Response::default()) };
        let fail = |e: std::io::Error| Error::new("talk to criu").because(e);
        let send = |message: &[u8]| match sys::message::send(socket.as_fd(), message, None) {
            // Its death is found by reading.
            Err(e) if e.raw_os_error() == Some(Errno::EPIPE as i32) => Ok(()),
            other => other.map_err(fail),
        };
        send(message)?;
        let mut refused = None;
        let mut bytes = vec![0; MAX_MESSAGE];
        loop {
            let (length, fd) = match sys::message::receive(socket.as_fd(), &mut bytes) {
                Err(e) if e.raw_os_error() == Some(Errno::ECONNRESET as i32) => (0, None),
                other => other.map_err(fail)?,
            };
            if length == 0 {
                return refused.map_or_else(|| Ok(Response::default()), Err);
            }
            let response = Some(&bytes[..length]).filter(|_| length < MAX_MESSAGE).and_then(Response::parse);
            let response =
                response.ok_or_else(|| Error::new("criu answered with no message of its protocol"))?;
            match &response.notify {
                Some(notification) if response.is(Kind::Notify) && response.success => {
                    tracing::debug!("criu: {:?}", notification.script);
                    let result = if refused.is_none() { on(notification, fd) } else { Ok(()) };
                    send(&acknowledge(result.is_ok() && refused.is_none()))?;
                    if let Err(e) = result {
                        refused = Some(e);
                    }
                }
                _ => return refused.map_or(Ok(response), Err),
            }
        }
    }

    /// Lets go of it and waits for its end; false if that was a failure.
    pub(crate) fn end(mut self) -> Result<bool, Error> {
        drop(self.socket.take());
        let ended = sys::wait::wait(self.process.pidfd.as_fd());
        self.reaped = true;
        ended.map(|ended| ended == Ended::Exited(0)).map_err(|e| Error::new("wait for criu").because(e))
    }

    /// The errors that it wrote to its standard streams.
    pub(crate) fn said(&mut self) -> Option<String> {
        let output = self.output.as_mut()?;
        output.seek(SeekFrom::Start(0)).ok()?;
        find_errors(output.take(MAX_OUTPUT))
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // Without the socket it ends by itself; killed, it could not put right what it began.
        drop(self.socket.take());
        let pidfd = self.process.pidfd.as_fd();
        // All fail only for a process that is gone already.
        let _ = poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::from(PATIENCE));
        let _ = sys::pidfd::signal(pidfd, nix::libc::SIGKILL);
        let _ = sys::wait::wait(pidfd);
    }
}

/// The socket for a conversation: this process's end, and criu's. criu takes descriptors that it is told of from the
/// process that made the pair.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    sys::message::pair().map_err(|e| Error::new("make a socket pair").because(e))
}

/// The streams of a criu that restores a process with a terminal: none of ours.
pub(crate) fn no_streams() -> Result<Stdio, Error> {
    let null = || -> std::io::Result<OwnedFd> {
        Ok(OpenOptions::new().read(true).write(true).open(Path::new("/dev/null"))?.into())
    };
    let streams = || Ok(Stdio { stdin: Some(null()?), stdout: Some(null()?), stderr: Some(null()?) });
    streams().map_err(|e: std::io::Error| Error::new("open /dev/null").because(e))
}

/// Why criu could not do `kind`: what its log says, what it answered, or what it wrote.
pub(crate) fn failure(
    kind: Kind,
    response: &Response,
    said: Option<String>,
    log: Option<(&Images, &str)>,
) -> Error {
    let (logged, path) = match log.map(|(images, name)| images.cause(name)) {
        Some((cause, path)) => (cause, Some(path)),
        None => (None, None),
    };
    let answered = || response.message.clone().map(|m: OsString| m.to_string_lossy().into_owned());
    let errno = || (response.errno != 0).then(|| reason(&Errno::from_raw(response.errno)));
    let cause = logged.or(said).or_else(answered).or_else(errno);
    let cause = cause.unwrap_or_else(|| "it does not say why".to_owned());
    let at = path.map(|path| format!("; its log is {path:?}")).unwrap_or_default();
    Error::new(format!("criu failed ({kind}): {cause}{at}"))
}
