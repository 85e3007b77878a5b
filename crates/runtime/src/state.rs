//! What a container is right now, as the `state` command prints it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a container is in its life. Never stored: derived from its process, its exec fifo and its freezer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is still at work (only hooks ever see this).
    Creating,
    /// Waiting for `start`.
    Created,
    /// The user's process runs.
    Running,
    /// The cgroup is frozen.
    Paused,
    /// The process has exited.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The state of a container: the OCI state, and what runc adds to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of the runtime specification that config.json was written for.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Process id of its init as the host sees it; 0 when stopped.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// Absolute path of the bundle directory.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// When it was created: RFC 3339 in UTC with nanoseconds.
    pub created: String,
    /// Annotations of config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// User name (or `#uid`) that owns the state directory; empty except in `list`.
    pub owner: String,
}
