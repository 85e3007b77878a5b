//! From a bundle (config.json and a root file system) to a running container, and the life of that container.
//!
//! Owns the meaning of the OCI runtime specification on Linux. Knows nothing of images, registries or networks:
//! what it starts is described completely by a spec and by [`lifecycle::CreateOptions`].

pub mod args;
pub mod cgroup;
mod child;
pub mod cli;
pub mod criu;
pub mod devices;
mod drive;
mod error;
pub mod features;
mod hook;
pub mod host;
mod idmap;
mod late;
pub mod launch;
pub mod lifecycle;
mod net_device;
pub mod plan;
mod prepare;
pub mod resctrl;
pub mod resources;
pub mod seal;
pub mod seccomp;
pub mod spec;
pub mod spec_default;
mod state;
pub mod stats;
mod stdio;
mod systemd;
mod time;

pub use error::{Error, ErrorKind};
pub use oci::runtime::Spec;
pub use state::{State, Status};
pub use stdio::{Console, Stdio};
