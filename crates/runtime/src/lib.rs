//! From a bundle (config.json and a root file system) to a running container, and the life of that container.
//!
//! Owns the meaning of the OCI runtime specification on Linux. Knows nothing of images, registries or networks:
//! what it starts is described completely by a spec and by [`lifecycle::CreateOptions`].

pub mod cgroup;
pub mod devices;
mod error;
pub mod features;
pub mod lifecycle;
pub mod seccomp;
pub mod spec_default;
mod state;
mod stdio;

pub use error::{Error, ErrorKind};
pub use oci::runtime::Spec;
pub use state::{State, Status};
pub use stdio::{Console, Stdio};
