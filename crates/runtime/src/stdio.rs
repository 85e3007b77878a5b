//! What a container's process finds as its standard streams, and where its terminal goes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The three standard streams; `None` inherits the caller's.
#[derive(Debug, Default)]
pub struct Stdio {
    /// File descriptor 0.
    pub stdin: Option<OwnedFd>,
    /// File descriptor 1.
    pub stdout: Option<OwnedFd>,
    /// File descriptor 2.
    pub stderr: Option<OwnedFd>,
}

/// Where the master end of the container's terminal goes when `process.terminal` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Console {
    /// No terminal.
    #[default]
    None,
    /// Sent over this unix socket with SCM_RIGHTS, as `--console-socket` asks.
    Socket(PathBuf),
    /// Handed back to the caller.
    Keep,
    /// Handed back to the caller, with the translation of line ends switched off (`\n` stays `\n`): for one that
    /// relays it to a terminal which translates by itself, or to a file.
    Relay,
}
