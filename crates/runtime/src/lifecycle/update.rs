//! update: other limits for a container that exists.

use std::path::Path;

use oci::runtime::{Linux, LinuxResources};

use super::create::CONFIG;
use super::directory::{Directory, no_such_container};
use super::record::Record;
use crate::cgroup::Version;
use crate::resctrl::{Group, Resctrl};
use crate::resources::{self, Change};
use crate::{Error, ErrorKind, Status, spec, systemd};

/// What shall be different.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Wanted {
    /// Limits of the cgroup; what is not given stays.
    pub resources: LinuxResources,
    /// Shares of the level 3 cache for the resctrl group, a line of its `schemata`: `L3:0=ff`.
    pub l3_cache_schema: Option<String>,
    /// Shares of memory bandwidth, a line too: `MB:0=50`.
    pub mem_bw_schema: Option<String>,
}

/// Changes the limits of a container. Device rules are not changed.
///
/// On error nothing is changed.
///
/// # Errors
/// [`ErrorKind::State`] unless it is created, running or paused; [`ErrorKind::Invalid`] for a value that can't be
/// meant; a controller or resctrl group that is not there, or the kernel's refusal.
pub fn update(root: &Path, id: &str, wanted: &Wanted) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = Record::read(&directory)?;
    if matches!(record.status(&directory)?, Status::Creating | Status::Stopped) {
        return Err(Error::new("container not running").kind(ErrorKind::State));
    }
    // Not the container's own lock: `start` holds that while hooks run, and a hook may want to change limits.
    let _lock = directory.lock_updates()?;
    resources::warn_of_ignored(&wanted.resources);
    let mut spec = spec::parse(&directory.read(CONFIG)?.ok_or_else(no_such_container)?)?;
    let mut linux = match spec.linux().clone() {
        Some(linux) => linux,
        // `Linux::default()` is not empty.
        None => {
            serde_json::from_str::<Linux>("{}").map_err(|e| Error::new("make an empty linux").because(e))?
        }
    };
    let stored = linux.resources().clone().unwrap_or_default();
    let change = resources::merge(&stored, &wanted.resources);
    let shares = shares(&record, wanted)?;
    apply(&record, &change).inspect_err(|_| {
        if let Some((group, old)) = &shares
            && let Err(e) = group.set(old)
        {
            tracing::warn!("the old schemata could not be put back: {e:#}");
        }
    })?;
    linux.set_resources(Some(change.whole));
    if let Some(rdt) = linux.intel_rdt_mut() {
        let keep = |new: &Option<String>, old: &Option<String>| new.clone().or(old.clone());
        let l3 = keep(&wanted.l3_cache_schema, rdt.l3_cache_schema());
        let bandwidth = keep(&wanted.mem_bw_schema, rdt.mem_bw_schema());
        rdt.set_l3_cache_schema(l3).set_mem_bw_schema(bandwidth);
    }
    spec.set_linux(Some(linux));
    let config = serde_json::to_vec(&spec).map_err(|e| Error::new("write config.json").because(e))?;
    directory.write(CONFIG, &config)
}

/// Gives the container's resctrl group its new shares. The group and the lines that undo it; `None`: none are wanted.
fn shares<'a>(record: &'a Record, wanted: &Wanted) -> Result<Option<(&'a Group, Vec<String>)>, Error> {
    let lines: Vec<String> =
        wanted.l3_cache_schema.iter().chain(&wanted.mem_bw_schema).map(Clone::clone).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let invalid = |message: String| Error::new(message).kind(ErrorKind::Invalid);
    let resctrl = Resctrl::detect()?.unwrap_or_default();
    if wanted.l3_cache_schema.is_some() && !resctrl.l3 {
        return Err(invalid("Intel RDT/CAT: l3 cache schema is not enabled".to_owned()));
    }
    if wanted.mem_bw_schema.is_some() && !resctrl.bandwidth {
        return Err(invalid("Intel RDT/MBA: memory bandwidth schema is not enabled".to_owned()));
    }
    // The kernel reads a line each.
    if let Some(line) = lines.iter().find(|line| line.contains(['\n', '\0'])) {
        return Err(invalid(format!("schema {line:?} is more than a line")));
    }
    let Some(group) = &record.resctrl else {
        return Err(invalid("updating a non-existent Intel RDT configuration is not supported".to_owned()));
    };
    Ok(Some((group, group.replace(&lines)?)))
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
