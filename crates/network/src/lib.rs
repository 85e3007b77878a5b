//! The network of containers: which mode one has, and the three files that name hosts inside it.
//!
//! Owns the contents of `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` and what a valid host name is. Does no
//! I/O: the caller reads the host's files and writes the container's.

mod files;
mod hostname;
mod mode;

pub use files::{hosts, resolv_conf};
pub use hostname::{Hostname, ParseHostnameError};
pub use mode::{Mode, ParseModeError};
