//! Writing limits: which hierarchy has the controller, and in which order the kernel takes the values.

use super::dir::{Dir, is};
use super::{Cgroup, Missing, Setting, Version, devices_v1, devices_v2, settings};
use crate::devices::Rule;
use crate::{Error, ErrorKind};
use nix::errno::Errno;
use nix::unistd::geteuid;
use oci::runtime::LinuxResources;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// What to write for some `linux.resources`, as this host has the controllers.
pub(crate) struct Files {
    /// In the hierarchies of v1, in order.
    pub v1: Vec<Setting>,
    /// In the unified hierarchy, in order.
    pub v2: Vec<Setting>,
    /// The controllers that only the unified hierarchy can have, by their names in v1. Where all are in it: none is listed.
    pub elsewhere: BTreeSet<String>,
    /// What is left out, for the log.
    pub warnings: Vec<String>,
}

/// The files to write for `resources`, on a host whose v1 hierarchies have the controllers that `has_v1` says.
///
/// # Errors
/// A value that can't be meant, named by its place in config.json.
pub(crate) fn files(
    resources: &LinuxResources,
    only_v2: bool,
    has_v1: impl Fn(&str) -> bool,
) -> Result<Files, Error> {
    let mut files =
        Files { v1: Vec::new(), v2: Vec::new(), elsewhere: BTreeSet::new(), warnings: Vec::new() };
    if only_v2 {
        files.v2 = settings(resources, Version::V2)?;
    } else {
        // On a hybrid host each controller is in one of the two worlds (cgroups(7)).
        let (v1, elsewhere): (Vec<_>, Vec<_>) =
            settings(resources, Version::V1)?.into_iter().partition(|s| has_v1(&s.controller));
        files.v1 = v1;
        files.elsewhere = elsewhere.into_iter().map(|s| s.controller).collect();
        if !files.elsewhere.is_empty() {
            let unified = settings(&only(resources, &files.elsewhere), Version::V2)?;
            for name in files.elsewhere.iter().map(|controller| in_v2(controller)) {
                files.v2.extend(unified.iter().filter(|s| s.controller == name).cloned());
            }
        }
    }
    for list in [&mut files.v1, &mut files.v2] {
        leave_out_weight_of_idle(list, &mut files.warnings);
    }
    Ok(files)
}

/// The kernel refuses a weight for a cgroup that is idle (EINVAL).
fn leave_out_weight_of_idle(list: &mut Vec<Setting>, warnings: &mut Vec<String>) {
    if list.iter().rev().find(|s| s.file == "cpu.idle").is_none_or(|s| s.value.trim() != "1") {
        return;
    }
    list.retain(|setting| {
        let weight = matches!(setting.file.as_str(), "cpu.weight" | "cpu.weight.nice" | "cpu.shares");
        if weight {
            let (file, value) = (&setting.file, &setting.value);
            warnings.push(format!("unable to apply both {file} and cpu.idle, ignoring {file} {value}"));
        }
        !weight
    });
}

/// What v2 calls a controller of v1's.
fn in_v2(controller: &str) -> &str {
    if controller == "blkio" { "io" } else { controller }
}

impl Cgroup {
    /// Writes all limits of `resources` (device rules excepted) where their controllers are mounted.
    ///
    /// # Errors
    /// An invalid value, a controller that is not there, or the kernel's refusal.
    pub fn limit(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.apply(&self.settings(resources)?)
    }

    /// The files to write for `resources`, of v1 and v2 as this host has the controllers. Those of v2 are switched on.
    pub(super) fn settings(&self, resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
        let only_v2 = self.dirs.iter().all(|dir| dir.version == Version::V2);
        let files = files(resources, only_v2, |controller| self.v1(controller).is_some())?;
        for warning in files.warnings {
            tracing::warn!("{warning}");
        }
        for controller in &files.elsewhere {
            let available = match self.unified() {
                Some(dir) => dir.enable(in_v2(controller)).map_err(|e| unavailable(controller).because(e))?,
                None => false,
            };
            if !available {
                return Err(unavailable(controller));
            }
        }
        Ok([files.v1, files.v2].concat())
    }

    /// Replaces the device rules, with never a moment that allows more than the old and the new set together. An
    /// empty list denies all devices.
    ///
    /// # Errors
    /// The kernel's refusal; no controller for devices.
    pub fn set_devices(&self, rules: &[Rule]) -> Result<(), Error> {
        let result = match (self.v1("devices"), self.unified()) {
            (Some(dir), _) => devices_v1::replace(dir, rules),
            (None, Some(dir)) => devices_v2::replace(dir, rules),
            (None, None) => Err(Error::new("cannot set device rules: no devices cgroup is mounted")),
        };
        // Both kernel interfaces are for the initial user namespace's root alone. What a rootless container could
        // do to a device, its user can do without it.
        let rootless = || self.tolerate || !geteuid().is_root() || in_user_namespace();
        match result {
            Err(e) if e.what() != ErrorKind::Invalid && rootless() => Ok(()),
            result => result,
        }
    }

    /// Writes `settings` in order.
    ///
    /// # Errors
    /// A controller that is not there, or the kernel's refusal.
    pub fn apply(&self, settings: &[Setting]) -> Result<(), Error> {
        // Some values are only valid beside others: memory ≤ memory+swap, quota and burst against period. What the
        // kernel finds invalid is tried again when the rest is in place, so any order of old and new values works.
        let mut again = Vec::new();
        for setting in settings {
            match self.put(setting)? {
                Err(e) if is(&e, Errno::EINVAL) && settings.len() > 1 => again.push(setting),
                Err(e) => return Err(self.refused(setting, e)),
                Ok(()) => {}
            }
        }
        for setting in again {
            self.put(setting)?.map_err(|e| self.refused(setting, e))?;
        }
        Ok(())
    }

    /// Writes one setting. The outer error: its controller is not there at all.
    fn put(&self, setting: &Setting) -> Result<io::Result<()>, Error> {
        let Some(dir) = self.dir_of(setting) else { return Err(unavailable(&setting.controller)) };
        let result = match dir.write(&setting.file, &setting.value) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => match &setting.missing {
                Missing::Ignore => Ok(()),
                Missing::Write { file, value } => dir.write(file, value),
                Missing::Fail => Err(e),
            },
            result => result,
        };
        if let Err(e) = &result
            && e.kind() == io::ErrorKind::NotFound
            && dir.lacks(&setting.controller)
        {
            return Err(dir.threaded().unwrap_or_else(|| unavailable(&setting.controller)));
        }
        Ok(result)
    }

    pub(super) fn dir_of(&self, setting: &Setting) -> Option<&Dir> {
        self.v1(&setting.controller).or_else(|| self.unified())
    }

    fn refused(&self, setting: &Setting, cause: io::Error) -> Error {
        let dir = self.dir_of(setting);
        // runc's words for the one limit that the kernel refuses instead of enforcing it.
        if let Some(dir) = dir
            && is(&cause, Errno::EBUSY)
            && setting.file == "memory.limit_in_bytes"
        {
            let read = |file: &str| dir.read(file).unwrap_or_default().trim().to_owned();
            let (usage, peak) = (read("memory.usage_in_bytes"), read("memory.max_usage_in_bytes"));
            let limit = &setting.value;
            return Error::new(format!(
                "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
            ));
        }
        let path = dir.map_or(PathBuf::new(), |dir| dir.path.join(&setting.file));
        let why = match cause.kind() {
            io::ErrorKind::NotFound => ": this kernel has no such limit",
            io::ErrorKind::ResourceBusy => ": lower than what is in use",
            _ => "",
        };
        Error::new(format!("write {:?} to {path:?}{why}", setting.value)).because(cause)
    }
}

/// Whether this process's user ids are not the machine's (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let identity = |map: &str| map.split_whitespace().eq(["0", "0", "4294967295"]);
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !identity(&map))
}

/// The text that podman and runc's tests look for.
fn unavailable(controller: &str) -> Error {
    Error::new(format!("cannot set {controller} limit: container could not join or create cgroup"))
}

/// The part of `resources` that belongs to these controllers (in v1's names).
fn only(resources: &LinuxResources, controllers: &BTreeSet<String>) -> LinuxResources {
    let mut part = LinuxResources::default();
    for controller in controllers {
        match controller.as_str() {
            "memory" => part.set_memory(*resources.memory()),
            "cpu" | "cpuset" => part.set_cpu(resources.cpu().clone()),
            "pids" => part.set_pids(*resources.pids()),
            "blkio" => part.set_block_io(resources.block_io().clone()),
            "hugetlb" => part.set_hugepage_limits(resources.hugepage_limits().clone()),
            "rdma" => part.set_rdma(resources.rdma().clone()),
            _ => &mut part,
        };
    }
    part
}

impl Dir {
    /// Switches all controllers on that the directories above have to give, so that this one has their files.
    /// What can't be switched on shows as a missing file when it is needed.
    pub(super) fn enable_all(&self) {
        for above in self.above() {
            let read = |file: &str| std::fs::read_to_string(above.join(file)).unwrap_or_default();
            let (available, enabled) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
            let enabled: BTreeSet<&str> = enabled.split_whitespace().collect();
            let missing: Vec<String> = available
                .split_whitespace()
                .filter(|c| !enabled.contains(c))
                .map(|c| format!("+{c}"))
                .collect();
            let file = above.join("cgroup.subtree_control");
            if !missing.is_empty() && std::fs::write(&file, missing.join(" ")).is_err() {
                // One that can't be had must not keep the others away.
                missing.iter().for_each(|c| drop(std::fs::write(&file, c)));
            }
        }
        // Below a threaded cgroup a new one takes no process until it is threaded too.
        if self.read("cgroup.type").is_ok_and(|t| t.trim() == "domain invalid") {
            drop(self.write("cgroup.type", "threaded"));
        }
    }

    /// Switches one controller on in all directories above. False: the hierarchy does not have it.
    fn enable(&self, controller: &str) -> Result<bool, Error> {
        for above in self.above() {
            let file = above.join("cgroup.controllers");
            let text = std::fs::read_to_string(&file)
                .map_err(|e| Error::new(format!("read {file:?}")).because(e))?;
            if !text.split_whitespace().any(|c| c == controller) {
                return Ok(false);
            }
            let (file, value) = (above.join("cgroup.subtree_control"), format!("+{controller}"));
            std::fs::write(&file, &value)
                .map_err(|e| Error::new(format!("write {value:?} to {file:?}")).because(e))?;
        }
        Ok(!self.lacks(controller))
    }

    /// The directories from the mount point to the parent.
    fn above(&self) -> Vec<&Path> {
        let Some(mountpoint) = &self.mountpoint else { return Vec::new() };
        let mut above: Vec<&Path> =
            self.path.ancestors().skip(1).take_while(|p| p.starts_with(mountpoint)).collect();
        above.reverse();
        above
    }

    /// Why this v2 directory can't have the controllers of whole processes (cgroups(7), "Thread mode"), if that is so.
    fn threaded(&self) -> Option<Error> {
        let kind = self.read("cgroup.type").ok().filter(|kind| kind.contains("threaded"))?;
        Some(Error::new(format!(
            "cannot enter cgroupv2 {:?} with domain controllers -- it is in {} mode, because there are processes in {:?}",
            self.path,
            kind.trim(),
            self.path.parent().unwrap_or(&self.path)
        )))
    }

    /// Whether this v2 directory is without `controller`; its core files (`cgroup.*`) are always there.
    pub(super) fn lacks(&self, controller: &str) -> bool {
        self.version == Version::V2
            && controller != "cgroup"
            && !self
                .read("cgroup.controllers")
                .unwrap_or_default()
                .split_whitespace()
                .any(|c| c == controller)
    }
}
