//! The user's terminal while a container in the foreground has one of its own.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use sys::tty::Size;

use crate::Error;

/// The terminal this program was started on.
#[derive(Debug)]
pub(crate) struct Terminal {
    fd: OwnedFd,
    /// What it was before [`Terminal::make_raw`]; restored on drop.
    original: Option<Termios>,
}

impl Terminal {
    /// Whichever of the standard streams is a terminal; when all are redirected, the controlling one.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn find() -> Result<Terminal, Error> {
        let streams =
            [io::stderr().as_fd().try_clone_to_owned(), io::stdout().as_fd().try_clone_to_owned(), {
                io::stdin().as_fd().try_clone_to_owned()
            }];
        if let Some(fd) = streams.into_iter().flatten().find(|fd| tcgetattr(fd).is_ok()) {
            return Ok(Terminal { fd, original: None });
        }
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|e| {
            Error::new(
                "process.terminal is set, but there is no terminal here (detach with --console-socket)",
            )
            .because(e)
        })?;
        Ok(Terminal { fd: tty.into(), original: None })
    }

    /// Lets every key through to the container, which has a line discipline of its own. Output processing stays on:
    /// the container's side leaves the line ends to this one ([`crate::Console::Relay`]).
    pub(crate) fn make_raw(&mut self) -> Result<(), Error> {
        let fail = |e| Error::new("failed to set the terminal to raw mode").because(e);
        let original = tcgetattr(&self.fd).map_err(fail)?;
        let mut raw = original.clone();
        cfmakeraw(&mut raw);
        raw.output_flags |= OutputFlags::OPOST;
        tcsetattr(&self.fd, SetArg::TCSANOW, &raw).map_err(fail)?;
        self.original = Some(original);
        Ok(())
    }

    /// How large it is, if it can be told.
    pub(crate) fn size(&self) -> Option<Size> {
        sys::tty::size(self.fd.as_fd()).ok()
    }

    /// Gives the container's terminal the size of this one.
    pub(crate) fn resize(&self, container: BorrowedFd<'_>) {
        // Either terminal may be gone by now, and then its size matters no more.
        let _ = sys::tty::size(self.fd.as_fd()).and_then(|size| sys::tty::set_size(container, size));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(original) = &self.original {
            // It may have been hung up.
            let _ = tcsetattr(&self.fd, SetArg::TCSANOW, original);
        }
    }
}
