//! update: other limits for a container that exists.

use std::path::Path;

use oci::runtime::{Linux, LinuxResources};

use super::create::CONFIG;
use super::directory::{Directory, no_such_container};
use super::record::Record;
use crate::cgroup::Version;
use crate::resctrl::{Resctrl, Shares};
use crate::resources::{self, Change};
use crate::{Error, ErrorKind, Status, spec, systemd};

/// Changes the limits of a container to those of `given`, and its resctrl group's shares to `shares`; what is not given
/// stays. Device rules are not changed.
///
/// On error nothing is changed.
///
/// # Errors
/// [`ErrorKind::State`] unless it is created, running or paused; [`ErrorKind::Invalid`] for a value that can't be
/// meant; a controller that is not there, or the kernel's refusal.
pub fn update(root: &Path, id: &str, given: &LinuxResources, shares: Shares<'_>) -> Result<(), Error> {
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
    let before = set_shares(&record, &mut linux, shares)?;
    if let Err(e) = apply(&record, &change) {
        // It took these a moment ago.
        let _ = record.resctrl.as_ref().map(|group| group.set(&before));
        return Err(e);
    }
    linux.set_resources(Some(change.whole));
    spec.set_linux(Some(linux));
    let config = serde_json::to_vec(&spec).map_err(|e| Error::new("write config.json").because(e))?;
    directory.write(CONFIG, &config)
}

/// Gives the container's resctrl group other shares, and returns those it had.
fn set_shares(record: &Record, linux: &mut Linux, shares: Shares<'_>) -> Result<Vec<String>, Error> {
    let lines: Vec<String> = shares.l3.into_iter().chain(shares.bandwidth).map(str::to_owned).collect();
    if lines.is_empty() {
        return Ok(lines);
    }
    shares.check(Resctrl::detect()?.as_ref())?;
    let (Some(group), Some(rdt)) = (&record.resctrl, linux.intel_rdt_mut()) else {
        let why = "updating a non-existent Intel RDT configuration is not supported";
        return Err(Error::new(why).kind(ErrorKind::Invalid));
    };
    let before = group.shares(&lines)?;
    group.set(&lines)?;
    if let Some(line) = shares.l3 {
        rdt.set_l3_cache_schema(Some(line.to_owned()));
    }
    if let Some(line) = shares.bandwidth {
        rdt.set_mem_bw_schema(Some(line.to_owned()));
    }
    Ok(before)
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
