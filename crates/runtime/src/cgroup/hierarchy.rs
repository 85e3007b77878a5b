//! The cgroup hierarchies of this host, from /proc/self/mountinfo and /proc/self/cgroup.

use crate::Error;
use std::path::{Path, PathBuf};

/// Which of the two kernel interfaces a hierarchy speaks (cgroups(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy of its own for a few controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

/// How the host mounts its hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only v1 hierarchies.
    V1,
    /// v1 hierarchies, and the unified one beside them.
    Hybrid,
    /// Only the unified hierarchy.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Interface.
    pub version: Version,
    /// What it controls: `["cpu", "cpuacct"]`, `["name=systemd"]`; empty for v2, whose controllers differ by
    /// directory (`cgroup.controllers`).
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The caller's own cgroup, as a directory below `mountpoint`; `None` if it lies outside of what is mounted.
    pub own: Option<PathBuf>,
}

/// All mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
}

impl Hierarchies {
    /// What the calling process sees.
    ///
    /// # Errors
    /// /proc can't be read, or no cgroup hierarchy is mounted.
    pub fn detect() -> Result<Hierarchies, Error> {
        todo!()
    }

    /// The same from the text of /proc/PID/mountinfo and /proc/PID/cgroup.
    ///
    /// # Errors
    /// No cgroup hierarchy is mounted.
    pub fn parse(mountinfo: &str, own: &str) -> Result<Hierarchies, Error> {
        let _ = (mountinfo, own);
        todo!()
    }

    /// How the host mounts them.
    pub fn mode(&self) -> Mode {
        todo!()
    }

    /// In the order of their mounting.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.list.iter()
    }

    /// The unified hierarchy.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.list.iter().find(|h| h.version == Version::V2)
    }

    /// The v1 hierarchy with `controller` (`memory`, `name=systemd`).
    pub fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.list.iter().find(|h| h.version == Version::V1 && h.controllers.iter().any(|c| c == controller))
    }
}

impl Hierarchy {
    /// The path that this directory below [`Hierarchy::mountpoint`] has from there (`/a/b`).
    pub fn inside<'a>(&self, dir: &'a Path) -> Option<&'a Path> {
        dir.strip_prefix(&self.mountpoint).ok()
    }
}
