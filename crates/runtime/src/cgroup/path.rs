//! Where a container's cgroup shall be: `linux.cgroupsPath`, or the container's id.

use crate::Error;
use std::path::{Path, PathBuf};

/// A checked `linux.cgroupsPath`: no `..`, never outside of the hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupPath {
    /// Below the mount point of each hierarchy.
    Absolute(PathBuf),
    /// Below the caller's own cgroup (on pure v2 beside it, because a cgroup with processes can't have
    /// controllers in its children).
    Relative(PathBuf),
}

impl CgroupPath {
    /// From `linux.cgroupsPath`; without one the container's `id`.
    ///
    /// # Errors
    /// The path has a `..`, a NUL, or nothing but slashes.
    pub fn new(cgroups_path: Option<&Path>, id: &str) -> Result<CgroupPath, Error> {
        let _ = (cgroups_path, id);
        todo!()
    }
}
