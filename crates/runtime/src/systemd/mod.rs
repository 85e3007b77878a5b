//! The systemd cgroup driver (`--systemd-cgroup`): the container's cgroup is a transient unit's.
//!
//! Owns the meaning of `linux.cgroupsPath` as `slice:prefix:name`, the properties of the unit and the conversation with
//! systemd. The files of the cgroup are written as without systemd ([`crate::cgroup`]), on top.
//!
//! **Who is in the unit.** A scope is started around the container's first process, which waits at
//! [`crate::plan::Barrier::Cgroup`] meanwhile. It can't be born there (`CLONE_INTO_CGROUP`): systemd makes the cgroup
//! only when it has a process for it, and a user may not write in the cgroup that is above both the session's and the
//! service manager's, while systemd may. A process that only holds the place would be one more to make and to end, and
//! would keep the scope alive when this program is killed; as it is, the child dies with its parent, the scope is empty
//! and systemd removes it.
//!
//! systemd 244 or newer is assumed, which is older than the oldest kernel.

pub(crate) mod annotation;
mod bus;
mod device;
#[cfg(test)]
mod fake;
mod literal;
mod manager;
mod marshal;
mod message;
mod place;
mod property;
mod text;
mod unit;
mod value;

pub(crate) use property::rounded;
pub(crate) use unit::{Draft, Started, Unit};
