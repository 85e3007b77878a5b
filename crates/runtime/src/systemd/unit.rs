//! A container's unit: what is remembered of it, and what is to become one.

use std::fs;
use std::path::{Path, PathBuf};

use nix::libc::pid_t;
use oci::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use super::manager::{Manager, session_user};
use super::place::{Place, is_slice};
use super::property::{self, Property};
use super::value::Value;
use super::{annotation, device};
use crate::cgroup::{CgroupPath, Hierarchies, Hierarchy, Mode, Version, settings};
use crate::devices::Rule;
use crate::host::Host;
use crate::{Error, ErrorKind};

/// What state.json knows of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// `runc-ID.scope`
    pub(crate) name: String,
    /// It belongs to the service manager of the user, not the system's.
    pub(crate) user: bool,
}

impl Unit {
    /// Stops it, with whatever process is left in it, and has systemd forget it. That it is gone is no error.
    ///
    /// # Errors
    /// No way to systemd; it took too long.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        Manager::connect(self.user)?.stop(&self.name)
    }

    /// Moves a process into the unit's cgroup, or into `below`, a path from there. For whoever may not write the files of
    /// the cgroup that the process comes from.
    ///
    /// # Errors
    /// systemd's refusal.
    pub(crate) fn attach(&self, below: &Path, pid: pid_t) -> Result<(), Error> {
        let below = Path::new("/").join(below);
        let below = below.to_str().ok_or_else(|| Error::new(format!("{below:?} is not UTF-8")))?;
        Manager::connect(self.user)?.attach(&self.name, below, pid)
    }

    /// Tells systemd of other limits, then has `files` written. If they are refused, systemd gets its old values back.
    ///
    /// systemd comes first, because it also undoes what stands in the way: a weight ends `cpu.idle`.
    ///
    /// # Errors
    /// A value that can't be meant; systemd's refusal; that of `files`.
    pub(crate) fn change(
        &self,
        resources: &LinuxResources,
        version: Version,
        files: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let settings = settings(resources, version)?;
        let mut manager = Manager::connect(self.user)?;
        let properties = property::of(&settings, &mut || manager.version())?;
        if properties.is_empty() {
            return files();
        }
        log(&self.name, &properties);
        let before = manager.get(&self.name, &properties)?;
        manager.set(&self.name, properties)?;
        files().inspect_err(|_| {
            if let Err(e) = manager.set(&self.name, before) {
                tracing::warn!("the old properties could not be put back: {e:#}");
            }
        })
    }
}

/// A unit that is still to be started.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) unit: Unit,
    /// Where its cgroup will be.
    pub(crate) path: CgroupPath,
    slice: String,
    properties: Vec<Property>,
    mode: Mode,
}

/// A unit that was started, and the connection by which that was done.
#[derive(Debug)]
pub(crate) struct Started<'a> {
    draft: &'a Draft,
    manager: Manager,
}

impl Draft {
    /// From the configuration. `rootless`: the service manager of the user is meant; `None` decides from who calls.
    ///
    /// # Errors
    /// No systemd; a `linux.cgroupsPath` or an annotation that can't be meant ([`ErrorKind::Invalid`]).
    pub(crate) fn new(spec: &Spec, id: &str, rootless: Option<bool>, host: &Host) -> Result<Draft, Error> {
        let invalid = |message: &str| Error::new(message).kind(ErrorKind::Invalid);
        let properties = spec.annotations().as_ref().map_or(Ok(Vec::new()), annotation::properties)?;
        let user = rootless.unwrap_or_else(|| is_ordinary_user(host));
        let linux = spec.linux().as_ref();
        let place = Place::new(linux.and_then(|l| l.cgroups_path().as_deref()), id, user)?;
        // sd_booted(3)
        if !fs::symlink_metadata("/run/systemd/system").is_ok_and(|m| m.is_dir()) {
            return Err(Error::new("systemd not running on this host, cannot use systemd cgroups manager"));
        }
        let mode = host.cgroups.mode();
        if user && mode != Mode::V2 {
            return Err(invalid("cannot use rootless systemd cgroups manager on cgroup v1"));
        }
        let own = if user { Manager::connect(true)?.control_group()? } else { String::new() };
        let cgroup = Path::new("/").join(own.trim_start_matches('/')).join(&place.cgroup);
        Ok(Draft {
            unit: Unit { name: place.unit, user },
            path: CgroupPath::new(Some(&cgroup), id)?,
            slice: place.slice,
            properties,
            mode,
        })
    }

    /// Starts the unit around a process and waits until the process is in its cgroup. A slice has no processes: then the
    /// caller moves it.
    ///
    /// # Errors
    /// What [`Manager::start`] says; the process is elsewhere. Nothing is left then.
    pub(crate) fn start(
        &self,
        pid: pid_t,
        resources: Option<&LinuxResources>,
        cgroups: &Hierarchies,
    ) -> Result<Started<'_>, Error> {
        let mut manager = Manager::connect(self.unit.user)?;
        let mut properties = self.frame(pid);
        properties.extend(self.properties.iter().cloned());
        if let Some(resources) = resources {
            let settings = settings(resources, version(self.mode))?;
            let mut asked = || manager.version();
            let limits = property::of(&settings, &mut asked)?;
            properties.extend(limits);
            properties.extend(property::oom_policy(&settings, &mut asked)?);
        }
        log(&self.unit.name, &properties);
        manager.start(&self.unit.name, properties)?;
        let mut started = Started { draft: self, manager };
        match self.check_place(pid, cgroups) {
            Ok(()) => Ok(started),
            Err(e) => {
                // The first error is the one to tell.
                let _ = started.manager.stop(&self.unit.name);
                Err(e)
            }
        }
    }

    /// The properties that do not depend on limits.
    fn frame(&self, pid: pid_t) -> Vec<Property> {
        let name = &self.unit.name;
        let mut out =
            vec![Property::new("Description", format!("container {}", container_name(name)).as_str())];
        if is_slice(name) {
            let wants = vec![self.slice.as_str().into()];
            out.push(Property::new("Wants", Value::Array("s".to_owned(), wants)));
        } else {
            let pids = vec![Value::Uint32(pid.unsigned_abs())];
            out.push(Property::new("Slice", self.slice.as_str()));
            out.push(Property::new("Delegate", true));
            out.push(Property::new("PIDs", Value::Array("u".to_owned(), pids)));
        }
        // Stats need the controllers, limit or not.
        let io = if self.mode == Mode::V2 { "IOAccounting" } else { "BlockIOAccounting" };
        for accounting in ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"] {
            out.push(Property::new(accounting, true));
        }
        // The container outlives the shutdown's order of units no longer than its slice.
        out.push(Property::new("DefaultDependencies", false));
        out
    }

    /// Limits are written to where the process was thought to be: that must be so. An annotation may have changed it.
    fn check_place(&self, pid: pid_t, cgroups: &Hierarchies) -> Result<(), Error> {
        if is_slice(&self.unit.name) {
            return Ok(());
        }
        let unknown = || Error::new("systemd's own cgroup hierarchy is not mounted");
        let hierarchy = if self.mode == Mode::V2 { cgroups.unified() } else { cgroups.v1("name=systemd") };
        let hierarchy = hierarchy.ok_or_else(unknown)?;
        let wanted = self.path.within(hierarchy, self.mode);
        let place = place_of(pid, hierarchy)?;
        if place.is_none() || place != wanted {
            let (place, wanted) = (place.unwrap_or_default(), wanted.unwrap_or_default());
            return Err(Error::new(format!(
                "systemd has put process {pid} of unit {:?} into {place:?} instead of {wanted:?}",
                self.unit.name
            )));
        }
        Ok(())
    }
}

impl Started<'_> {
    /// Gives systemd the device rules. A user's service manager could do nothing with them.
    ///
    /// # Errors
    /// systemd's refusal.
    pub(crate) fn set_devices(&mut self, rules: &[Rule]) -> Result<(), Error> {
        if self.draft.unit.user {
            return Ok(());
        }
        let properties = device::properties(rules, version(self.draft.mode));
        log(&self.draft.unit.name, &properties);
        self.manager.set(&self.draft.unit.name, properties)
    }

    /// Takes it back.
    ///
    /// # Errors
    /// As [`Unit::stop`].
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.manager.stop(&self.draft.unit.name)
    }

    /// Whether processes are put into the unit by the caller, because it is a slice.
    pub(crate) fn takes_no_processes(&self) -> bool {
        is_slice(&self.draft.unit.name)
    }
}

/// Whose service manager is meant, where nobody says: the system's for root of the host, and for root in a user
/// namespace that has a systemd of its own.
fn is_ordinary_user(host: &Host) -> bool {
    if host.euid != 0 || !host.in_user_namespace {
        return host.euid != 0;
    }
    // podman's root, for instance, is an ordinary user to its session's bus, which is outside.
    session_user().is_ok_and(|uid| uid != 0)
}

/// The directory of a process in a hierarchy.
fn place_of(pid: pid_t, hierarchy: &Hierarchy) -> Result<Option<PathBuf>, Error> {
    let file = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&file).map_err(|e| Error::new(format!("read {file:?}")).because(e))?;
    let names = hierarchy.controllers.join(",");
    let line = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        (fields.next()? == names).then(|| fields.next()).flatten()
    });
    Ok(line.and_then(|inside| hierarchy.dir(Path::new(inside))))
}

fn version(mode: Mode) -> Version {
    if mode == Mode::V2 { Version::V2 } else { Version::V1 }
}

/// `runc-ID.scope` without what is the same for all.
fn container_name(unit: &str) -> &str {
    let stem = unit.strip_suffix(".scope").unwrap_or(unit);
    stem.split_once('-').map_or(stem, |(_, name)| name)
}

fn log(unit: &str, properties: &[Property]) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        properties.iter().for_each(|p| tracing::debug!("unit {unit}: {}={}", p.name, p.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(unit: &str, mode: Mode) -> Draft {
        Draft {
            unit: Unit { name: unit.to_owned(), user: false },
            path: CgroupPath::Absolute(PathBuf::from("system.slice").join(unit)),
            slice: "system.slice".to_owned(),
            properties: Vec::new(),
            mode,
        }
    }

    fn frame(unit: &str, mode: Mode) -> Vec<String> {
        draft(unit, mode).frame(42).iter().map(|p| format!("{}={}", p.name, p.value)).collect()
    }

    #[test]
    fn scopes_take_the_process_and_slices_a_wish() {
        let scope = frame("runc-web-1.scope", Mode::V2);
        let want = [
            "Description=\"container web-1\"",
            "Slice=\"system.slice\"",
            "Delegate=true",
            "PIDs=[42]",
            "MemoryAccounting=true",
            "CPUAccounting=true",
            "IOAccounting=true",
            "TasksAccounting=true",
            "DefaultDependencies=false",
        ];
        assert_eq!(scope, want);
        let slice = frame("x-y.slice", Mode::V1);
        assert_eq!(slice[1], "Wants=[\"system.slice\"]");
        assert!(slice.contains(&"BlockIOAccounting=true".to_owned()));
        assert!(!slice.iter().any(|p| p.starts_with("PIDs") || p.starts_with("Delegate")), "{slice:?}");
    }

    #[test]
    fn a_process_is_found_where_it_is() {
        let cgroups = Hierarchies::detect().unwrap();
        let own = cgroups.iter().next().unwrap();
        let pid = pid_t::try_from(std::process::id()).unwrap();
        assert_eq!(place_of(pid, own).unwrap(), own.own);
    }
}
