//! Control groups: where they are mounted, the container's own, and what is written into them.
//!
//! [`Hierarchies`] is what this host mounts, [`CgroupPath`] what the configuration asks for, [`settings`] the two
//! pure tables from resources to files, [`Cgroup`] the directories that exist. Device rules are
//! [`crate::devices`]; mounting cgroups *inside* the container is the plan's.

mod change;
mod delegate;
mod devices_v1;
mod devices_v2;
mod dir;
mod group;
mod hierarchy;
mod limit;
mod oom;
mod options;
mod path;
mod processes;
mod remove;
mod setting;
mod stats;
mod v1;
mod v2;

pub(crate) use delegate::owner;
pub(crate) use devices_v1::Policy;
pub use group::Cgroup;
pub use hierarchy::{Hierarchies, Hierarchy, Mode, Version};
pub(crate) use limit::files;
pub use oom::OomWatch;
pub(crate) use options::MountOptions;
pub use path::CgroupPath;
pub use setting::{Missing, Setting, settings};
