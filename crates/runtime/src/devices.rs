//! Device nodes every container has, and the device rules of its cgroup.

use crate::Error;
use oci::runtime::{LinuxDevice, LinuxDeviceCgroup};

/// A device node of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Absolute path in the container.
    pub path: &'static str,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Character devices that a runtime supplies to every container, mode 0666, owned by root (config-linux.md,
/// "Default Devices").
pub const DEFAULT_NODES: [Node; 6] = [
    Node { path: "/dev/null", major: 1, minor: 3 },
    Node { path: "/dev/zero", major: 1, minor: 5 },
    Node { path: "/dev/full", major: 1, minor: 7 },
    Node { path: "/dev/random", major: 1, minor: 8 },
    Node { path: "/dev/urandom", major: 1, minor: 9 },
    Node { path: "/dev/tty", major: 5, minor: 0 },
];

/// Block, character, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every device.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// One rule; later rules win.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allowed or denied.
    pub allow: bool,
    /// What kind of device.
    pub kind: Kind,
    /// Major number, `None` = any.
    pub major: Option<u32>,
    /// Minor number, `None` = any.
    pub minor: Option<u32>,
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// mknod.
    pub mknod: bool,
}

/// The rules of `linux.resources.devices`, then those for `linux.devices`, then those every container has.
///
/// # Errors
/// A number out of range, an unknown type or access, named by its place in config.json.
pub fn rules(spec: &[LinuxDeviceCgroup], nodes: &[LinuxDevice]) -> Result<Vec<Rule>, Error> {
    let _ = (spec, nodes);
    todo!()
}
