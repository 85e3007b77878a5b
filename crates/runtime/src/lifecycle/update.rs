//! update: other limits for a container that exists.

use std::path::Path;

use oci::runtime::{Linux, LinuxResources};

use super::create::CONFIG;
use super::directory::{Directory, no_such_container};
use super::record::Record;
use crate::cgroup::Version;
use crate::resources::{self, Change};
use crate::{Error, ErrorKind, Status, spec, systemd};

/// Changes the limits of a container to those of `given`; what is not given stays. Device rules are not changed.
///
/// On error nothing is changed.
///
/// # Errors
/// [`ErrorKind::State`] unless it is created, running or paused; [`ErrorKind::Invalid`] for a value that can't be
/// meant; a controller that is not there, or the kernel's refusal.
pub fn update(root: &Path, id: &str, given: &LinuxResources) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = Record::read(&directory)?;
    if matches!(record.status(&directory)?, Status::Creating | Status::Stopped) {
        return Err(Error::new("container not running").kind(ErrorKind::State));
    }
    // Not the container's own lock: `start` holds that while hooks run, and a hook may want to change limits.
    let _lock = directory.lock_updates()?;
    resources::warn_of_ignored(given);
    let mut spec = spec::parse(&directory.read(CONFIG)?.ok_or_else(no_such_container)?)?;
    let mut linux = match spec.linux().clone() {
        Some(linux) => linux,
        // `Linux::default()` is not empty.
        None => {
            serde_json::from_str::<Linux>("{}").map_err(|e| Error::new("make an empty linux").because(e))?
        }
    };
    let stored = linux.resources().clone().unwrap_or_default();
    let change = resources::merge(&stored, given);
    apply(&record, &change)?;
    linux.set_resources(Some(change.whole));
    spec.set_linux(Some(linux));
    let config = serde_json::to_vec(&spec).map_err(|e| Error::new("write config.json").because(e))?;
    directory.write(CONFIG, &config)
}

/// Makes a change of resources hold for the container's cgroup, all of it or nothing.
fn apply(record: &Record, change: &Change) -> Result<(), Error> {
    let cgroup = record.cgroup()?;
    let Some(unit) = &record.unit else { return cgroup.change(&change.write) };
    let resources = systemd::rounded(&change.write);
    // systemd writes the file as soon as it knows the limit.
    cgroup.check_memory(&resources)?;
    let version = if record.cgroup_paths.keys().eq([""]) { Version::V2 } else { Version::V1 };
    unit.change(&resources, version, || cgroup.change(&resources))
}
