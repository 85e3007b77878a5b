//! What a plan depends on beside spec and arguments: read once from /proc, /sys and this process.

use crate::Error;

/// Facts about this host and this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
}

impl Host {
    /// Reads the facts of this host.
    ///
    /// # Errors
    /// /proc is not there or not readable.
    pub fn detect() -> Result<Host, Error> {
        Ok(Host { euid: nix::unistd::geteuid().as_raw(), egid: nix::unistd::getegid().as_raw() })
    }
}
