//! From `linux.namespaces`, the id maps and the time offsets to clone flags and joins.

use std::ffi::CString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxIdMapping, LinuxNamespaceType};
use sys::clone::namespace::{CGROUP, IPC, MOUNT, NET, PID, TIME, USER, UTS};

use super::{Barrier, IdMap, IdMaps, Open, Planner, Range, Step, c_string, invalid};
use crate::{Error, Spec};

/// The namespaces of a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Namespaces {
    /// Kinds to create.
    pub(super) new: u64,
    /// Kinds to join: kind, index in `linux.namespaces`, path.
    pub(super) join: Vec<(u64, usize, PathBuf)>,
}

impl Namespaces {
    pub(super) fn of(spec: &Spec) -> Result<Namespaces, Error> {
        let mut found = Namespaces::default();
        let list = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        for (index, namespace) in list.into_iter().flatten().enumerate() {
            let kind = match namespace.typ() {
                LinuxNamespaceType::Mount => MOUNT,
                LinuxNamespaceType::Cgroup => CGROUP,
                LinuxNamespaceType::Uts => UTS,
                LinuxNamespaceType::Ipc => IPC,
                LinuxNamespaceType::User => USER,
                LinuxNamespaceType::Pid => PID,
                LinuxNamespaceType::Network => NET,
                LinuxNamespaceType::Time => TIME,
            };
            if found.has(kind) {
                return Err(invalid(
                    format!("linux.namespaces[{index}]"),
                    format!("duplicated {}", name(kind)),
                ));
            }
            match namespace.path().as_deref().filter(|p| !p.as_os_str().is_empty()) {
                None => found.new |= kind,
                Some(path) if path.is_absolute() => found.join.push((kind, index, path.to_owned())),
                Some(path) => {
                    return Err(invalid(
                        format!("linux.namespaces[{index}].path"),
                        format!("{path:?} is not absolute"),
                    ));
                }
            }
        }
        Ok(found)
    }

    /// Whether the container does not share this kind with the caller.
    pub(super) fn has(&self, kind: u64) -> bool {
        self.new & kind != 0 || self.joined(kind).is_some()
    }

    pub(super) fn joined(&self, kind: u64) -> Option<&Path> {
        self.join.iter().find(|(k, ..)| *k == kind).map(|(.., path)| path.as_path())
    }

    pub(super) fn all(&self) -> u64 {
        self.join.iter().fold(self.new, |sum, (kind, ..)| sum | kind)
    }
}

/// The name of a kind of namespace, as the spec has it.
pub(super) fn name(kind: u64) -> &'static str {
    match kind {
        MOUNT => "mount",
        CGROUP => "cgroup",
        UTS => "uts",
        IPC => "ipc",
        USER => "user",
        PID => "pid",
        NET => "network",
        TIME => "time",
        _ => "unknown",
    }
}

/// The names of several kinds, in the order in which the kernel makes them.
pub(super) fn names(kinds: u64) -> String {
    let order = [USER, MOUNT, UTS, IPC, PID, CGROUP, NET, TIME];
    let names: Vec<_> = order.iter().filter(|kind| kinds & **kind != 0).map(|kind| name(*kind)).collect();
    names.join(", ")
}

pub(super) fn ranges(mappings: &[LinuxIdMapping]) -> Vec<Range> {
    mappings
        .iter()
        .map(|m| Range { inside: m.container_id(), outside: m.host_id(), size: m.size() })
        .collect()
}

impl Planner<'_> {
    /// Without privileges everything hangs on a user namespace.
    pub(super) fn check_rootless(&self) -> Result<(), Error> {
        if self.host.euid == 0 || self.namespaces.has(USER) {
            return Ok(());
        }
        let why = "rootless container requires user namespaces (`rcr-runtime spec --rootless` writes such a config)";
        Err(invalid("linux.namespaces", why))
    }

    /// Clone flags, joins and id maps.
    ///
    /// setns(2) wants CAP_SYS_ADMIN both in the user namespace that owns the target and in the caller's own. Root
    /// therefore joins a user namespace last, when it has used its rights; anybody else first, to get rights at all.
    /// What is created has to belong to the user namespace, so that is created by the same clone3(2), or joined by an
    /// intermediate process, which then clones. Before root makes one, such a process joins what is to be joined.
    pub(super) fn enter_namespaces(&mut self) -> Result<(), Error> {
        let by_user = self.namespaces.joined(USER).is_some();
        // The cgroup namespace's root is the cgroup at the time it is made; offsets can't be set once a process is in;
        // the message queues of an ipc namespace belong to who made it, which shall be the container's root.
        let mut late = CGROUP;
        if self.time_offsets()?.is_some() {
            late |= TIME;
        }
        if self.namespaces.has(USER) {
            late |= IPC;
        }
        self.plan.clone_flags = self.namespaces.new & !late;
        // In a new user namespace a process has no rights over namespaces that are there already, as runc knows too.
        let from_new =
            self.namespaces.new & USER != 0 && !self.namespaces.join.is_empty() && self.host.euid == 0;
        let trampoline = (by_user || from_new) && self.plan.clone_flags != 0;
        let mut joins = Vec::new();
        for (kind, index, path) in self.namespaces.join.clone() {
            let path = c_string(&format!("linux.namespaces[{index}].path"), path.as_os_str())?;
            let slot = self.open(Open::Namespace { kind, path: path.clone(), index, foreign: false });
            if kind == PID && !trampoline {
                self.plan.pid_namespace = Some(slot);
            } else {
                joins.push(Step::Join(kind, slot, path));
            }
        }
        let user_first = self.host.euid != 0;
        joins.sort_by_key(|step| matches!(step, Step::Join(USER, ..)) != user_first);
        if trampoline {
            // The intermediate process takes its child along.
            self.steps.retain(|step| *step != Step::JoinCgroups);
            self.plan.trampoline =
                if self.args.placed_by_systemd { Vec::new() } else { vec![Step::JoinCgroups] };
            self.plan.trampoline.extend(joins);
        } else {
            self.steps.extend(joins);
        }
        if self.namespaces.new & USER != 0 {
            self.plan.id_maps = Some(self.id_maps()?);
            self.steps.push(Step::Barrier(Barrier::IdMap));
        } else if !by_user {
            self.refuse_id_maps()?;
        }
        // The process is still the caller's own user here, so that a user's service manager may move it, and the cgroup
        // namespace does not exist yet.
        if self.args.placed_by_systemd {
            self.steps.push(Step::Barrier(Barrier::Cgroup));
        }
        // Before the ids change, which takes the process the access to its own /proc/self.
        if let Some(offsets) = self.time_offsets()? {
            self.steps.push(Step::TimeOffsets(offsets));
        }
        if self.namespaces.has(USER) {
            self.steps.push(Step::BecomeRoot);
        }
        let late = self.namespaces.new & (CGROUP | if self.namespaces.has(USER) { IPC } else { 0 });
        if late != 0 {
            self.steps.push(Step::Create(late));
        }
        if self.namespaces.joined(PID).is_some() || !self.namespaces.has(PID) {
            self.steps.push(Step::Undumpable);
        }
        Ok(())
    }

    fn refuse_id_maps(&self) -> Result<(), Error> {
        let linux = self.spec.linux().as_ref();
        let some = |list: Option<&Vec<LinuxIdMapping>>| list.is_some_and(|l| !l.is_empty());
        for (at, list) in [
            ("linux.uidMappings", linux.and_then(|l| l.uid_mappings().as_ref())),
            ("linux.gidMappings", linux.and_then(|l| l.gid_mappings().as_ref())),
        ] {
            if some(list) {
                let why = "user namespace mappings specified, but user namespace isn't enabled in the config";
                return Err(invalid(at, why));
            }
        }
        Ok(())
    }

    fn id_maps(&self) -> Result<IdMaps, Error> {
        let linux = self.spec.linux().as_ref();
        let uid = ranges(linux.and_then(|l| l.uid_mappings().as_deref()).unwrap_or_default());
        let gid = ranges(linux.and_then(|l| l.gid_mappings().as_deref()).unwrap_or_default());
        for (at, list) in [("linux.uidMappings", &uid), ("linux.gidMappings", &gid)] {
            if list.is_empty() {
                let why =
                    "user namespaces enabled, but no namespace path to join nor mappings to apply specified";
                return Err(invalid(at, why));
            }
            for (index, range) in list.iter().enumerate() {
                let fits = |first: u32| first.checked_add(range.size.saturating_sub(1)).is_some();
                if range.size == 0 || !fits(range.inside) || !fits(range.outside) {
                    return Err(invalid(
                        format!("{at}[{index}].size"),
                        format!("{} does not fit", range.size),
                    ));
                }
            }
        }
        for (at, list) in [("linux.uidMappings", &uid), ("linux.gidMappings", &gid)] {
            if !list.iter().any(|range| range.inside == 0) {
                return Err(invalid(at, "no mapping for container root (containerID 0)"));
            }
        }
        let own = |list: &[Range], id: u32| matches!(list, [one] if one.size == 1 && one.outside == id);
        let only_own = own(&uid, self.host.euid) && own(&gid, self.host.egid);
        let privileged = self.host.euid == 0;
        Ok(IdMaps {
            map: IdMap { uid, gid },
            helpers: !privileged && !only_own,
            deny_setgroups: !privileged && only_own,
        })
    }

    /// Whether setgroups(2) may be denied to the process.
    pub(super) fn groups_may_be_denied(&self) -> bool {
        self.namespaces.joined(USER).is_some() || self.namespaces.has(USER) && self.host.euid != 0
    }

    /// The text for /proc/self/timens_offsets.
    fn time_offsets(&self) -> Result<Option<CString>, Error> {
        let offsets = self.spec.linux().as_ref().and_then(|l| l.time_offsets().as_ref());
        let Some(offsets) = offsets.filter(|o| !o.is_empty()) else { return Ok(None) };
        if self.namespaces.joined(TIME).is_some() {
            let why = "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one";
            return Err(invalid("linux.timeOffsets", why));
        }
        if !self.namespaces.has(TIME) {
            let why = "time namespace offsets specified, but time namespace isn't enabled in the config";
            return Err(invalid("linux.timeOffsets", why));
        }
        let mut clocks: Vec<_> = offsets.iter().collect();
        clocks.sort_by_key(|(clock, _)| *clock);
        let mut text = String::new();
        for (clock, offset) in clocks {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                return Err(invalid(format!("linux.timeOffsets.{clock}"), "is not monotonic or boottime"));
            }
            let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            writeln!(text, "{clock} {secs} {nanosecs}").expect("writing to a string does not fail");
        }
        Ok(Some(c_string("linux.timeOffsets", text)?))
    }
}
