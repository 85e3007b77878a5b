//! The plan of a launch: every step of it, in order, as values.
//!
//! [`create`], [`exec`] and [`hook`] are pure: spec, host facts and arguments in, plan or refusal out. A spec is valid
//! when it can be planned. `Display` of [`Plan`] is the dry run and the golden files; `Display` of [`Step`] is what an
//! error or the debug log says about it.

mod capability;
mod conduct;
mod criu;
mod device;
mod display;
#[cfg(test)]
pub(crate) mod golden;
mod identity;
mod join;
mod mount;
mod namespace;
mod net_device;
mod option;
mod resctrl;
mod root;
mod step;
mod sysctl;

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use oci::runtime::LinuxSeccomp;

pub use capability::capability_number;
pub(crate) use criu::{criu, criu_in};
pub use join::{HookKind, Target, exec, hook};
pub use option::known as known_mount_options;
pub use step::{
    Barrier, Bind, BindAttr, Device, Identity, Mount, OnProc, Place, Propagation, Root, RootSource, Slot,
    Source, Step, Terminal,
};

use crate::args::Args;
use crate::cgroup::{self, CgroupPath, Mode};
use crate::devices::{self, Rule};
use crate::host::Host;
use crate::resctrl::Entry;
use crate::{Error, ErrorKind, Spec};
use namespace::Namespaces;
pub use sys::userns::{IdMap, Range};

/// What a launch does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What was asked for and is left out, for the log.
    pub warnings: Vec<String>,
    /// What the parent opens before the clone; steps refer to it by index.
    pub opens: Vec<Open>,
    /// CPUs that the process starts on (the parent moves there for the clone, and back).
    pub start_on: Option<Vec<u64>>,
    /// A pid namespace to be cloned into (the parent's setns(2) around the clone, and back).
    pub pid_namespace: Option<Slot>,
    /// Namespaces to create, `CLONE_NEW*`.
    pub clone_flags: u64,
    /// What an intermediate process does before it clones the real one (CLONE_PARENT); empty: there is none.
    pub trampoline: Vec<Step>,
    /// The id maps that the parent writes at [`Barrier::IdMap`].
    pub id_maps: Option<IdMaps>,
    /// The user, as the host counts, whom the container's v2 cgroup is given to.
    pub cgroup_owner: Option<u32>,
    /// The limits, by the files that the parent writes into the cgroups at [`Barrier::Cgroup`].
    pub cgroup_files: Vec<cgroup::Setting>,
    /// The rules about devices, which it sets there last.
    pub device_rules: Vec<Rule>,
    /// oom_score_adj, written by the parent.
    pub oom_score_adj: Option<i32>,
    /// Limits, set by the parent at [`Barrier::Ready`] (it may raise what a user namespace's root may not).
    pub limits: Vec<Limit>,
    /// Network devices that the parent moves at [`Barrier::NetDevices`].
    pub net_devices: Vec<NetDevice>,
    /// The resctrl group that the parent puts the process into, at [`Barrier::Cgroup`].
    pub resctrl: Option<Entry>,
    /// What the new process does, in order; the last is the execve.
    pub steps: Vec<Step>,
    /// The filter that [`Step::Seccomp`] loads.
    pub seccomp: Option<LinuxSeccomp>,
    /// SELinux label of the mounts that mask directories.
    pub mount_label: Option<CString>,
    /// The program's arguments.
    pub args: Vec<CString>,
    /// The program's environment.
    pub env: Vec<CString>,
}

/// Something the parent opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// A namespace.
    Namespace {
        /// Its kind.
        kind: u64,
        /// Where it is.
        path: CString,
        /// Which of `linux.namespaces`.
        index: usize,
        /// It must not be the caller's own: sysctls will be written there.
        foreign: bool,
    },
    /// A pidfd of this process.
    Process(i32),
    /// The root directory of this process.
    ProcessRoot(i32),
    /// A detached copy of a mount.
    Tree(Tree),
    /// The same, made in the new process's mount namespace, and taken by [`Step::TakeTrees`]: there the attributes of
    /// mounts are held against a user namespace's root (mount_namespaces(7)), and so they are for the copy.
    Late(Tree),
}

/// A detached copy of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Of what is at this path.
    pub path: CString,
    /// With everything mounted below.
    pub recursive: bool,
    /// Its propagation becomes what it would be in the child's copy of the mount namespace.
    pub propagation: Option<Propagation>,
    /// Owners are shown through these maps; for everything mounted below too, if true.
    pub id_maps: Option<(IdMapping, bool)>,
}

/// How an id-mapped mount shows owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMapping {
    /// By these maps.
    Ranges(IdMap),
    /// As the user namespace at this path has it.
    Namespace(CString),
}

/// Id maps, and how they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// The maps.
    pub map: IdMap,
    /// By newuidmap(1) and newgidmap(1), which know what /etc/subuid grants; else directly.
    pub helpers: bool,
    /// Deny setgroups(2) first, without which the kernel takes no gid_map from an unprivileged process.
    pub deny_setgroups: bool,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Name, for messages.
    pub name: &'static str,
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// A network device of the host that the container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container, if that is another; `%d` in it stands for the lowest number that is free.
    pub new_name: Option<String>,
}

/// Plans a container's init process.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`], naming the JSON path of what can't be done.
pub fn create(spec: &Spec, host: &Host, args: &Args) -> Result<Plan, Error> {
    let process = spec.process().as_ref().ok_or_else(|| invalid("process", "must be set"))?;
    let mut planner = Planner::new(spec, host, args)?;
    planner.check_rootless()?;
    if !args.placed_by_systemd {
        planner.steps.push(Step::JoinCgroups);
    }
    planner.steps.push(Step::Session);
    // Again at the end: becoming the user clears it.
    planner.steps.extend(args.parent_death_signal.map(Step::DeathSignal));
    planner.enter_namespaces()?;
    if host.cgroups.mode() == Mode::V2 {
        planner.plan.cgroup_owner = cgroup::owner(spec).filter(|uid| *uid != host.euid);
    }
    planner.resources()?;
    let entered = planner.steps.len();
    planner.keyring(process)?;
    if planner.namespaces.new & sys::clone::namespace::NET != 0 {
        planner.steps.push(Step::Loopback);
    }
    planner.net_devices()?;
    planner.resctrl()?;
    planner.begin_root()?;
    planner.mounts()?;
    planner.devices()?;
    planner.hooks();
    planner.enter_root(process)?;
    planner.terminal(process, true);
    planner.finish_root(process)?;
    planner.names()?;
    planner.apparmor(process)?;
    planner.sysctls()?;
    planner.protect_paths()?;
    planner.conduct(process)?;
    if !planner.steps.contains(&Step::Undumpable) {
        // An exec may come while this process waits for its start.
        planner.steps.push(Step::Undumpable);
    }
    planner.steps.push(Step::Barrier(Barrier::Ready));
    planner.become_user(process)?;
    let late: Vec<Slot> = (0..planner.plan.opens.len())
        .filter(|slot| matches!(planner.plan.opens[*slot], Open::Late(_)))
        .collect();
    if !late.is_empty() {
        planner.steps.insert(entered, Step::TakeTrees(late));
    }
    Ok(planner.finish())
}

/// A plan in the making.
struct Planner<'a> {
    spec: &'a Spec,
    host: &'a Host,
    args: &'a Args,
    namespaces: Namespaces,
    plan: Plan,
    steps: Vec<Step>,
    /// tmpfs that were asked for read-only.
    read_only_later: Vec<CString>,
    mount_label: Option<String>,
    /// What happens to the propagation of the child's mounts, and so to trees opened by the parent.
    tree_propagation: Option<Propagation>,
    /// The process joins a container; its namespaces exist.
    joined: bool,
}

impl<'a> Planner<'a> {
    fn new(spec: &'a Spec, host: &'a Host, args: &'a Args) -> Result<Planner<'a>, Error> {
        let linux = spec.linux().as_ref();
        let mount_label = linux.and_then(|l| l.mount_label().clone()).filter(|label| !label.is_empty());
        Ok(Planner {
            spec,
            host,
            args,
            namespaces: Namespaces::of(spec)?,
            plan: Plan::default(),
            steps: Vec::with_capacity(96),
            read_only_later: Vec::new(),
            mount_label,
            tree_propagation: None,
            joined: false,
        })
    }

    /// Has the parent open something.
    fn open(&mut self, open: Open) -> Slot {
        self.plan.opens.push(open);
        self.plan.opens.len() - 1
    }

    /// Whether the parent opens mount sources for the child: it has the right to, and the child may lack it.
    fn parent_opens(&self) -> bool {
        self.namespaces.has(sys::clone::namespace::USER) && self.host.euid == 0
    }

    /// Has the parent open a mount.
    fn open_tree(&mut self, tree: Tree) -> Slot {
        let held = self.namespaces.new & sys::clone::namespace::MOUNT != 0 && self.parent_opens();
        self.open(if held { Open::Late(tree) } else { Open::Tree(tree) })
    }

    fn resources(&mut self) -> Result<(), Error> {
        let resources = self.spec.linux().as_ref().and_then(|l| l.resources().as_ref());
        let devices = resources.and_then(|r| r.devices().as_deref());
        self.plan.device_rules = devices::rules(devices.unwrap_or_default())?;
        if let Some(resources) = resources {
            let cgroups = &self.host.cgroups;
            let has_v1 = |controller: &str| cgroups.v1(controller).is_some();
            let files = cgroup::files(resources, cgroups.mode() == Mode::V2, has_v1)?;
            self.plan.cgroup_files = [files.v1, files.v2].concat();
        }
        Ok(())
    }

    fn new_cgroup_namespace(&self) -> bool {
        self.namespaces.new & sys::clone::namespace::CGROUP != 0
    }

    fn cgroup_path(&self, at: &str) -> Result<CgroupPath, Error> {
        let given = self.spec.linux().as_ref().and_then(|l| l.cgroups_path().as_deref());
        match &self.args.cgroup {
            Some(path) => Ok(path.clone()),
            None => CgroupPath::new(given, &self.args.id)
                .map_err(|e| invalid(at, "needs a cgroup path").because(e)),
        }
    }

    fn hooks(&mut self) {
        let Some(hooks) = self.spec.hooks() else { return };
        let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|l| !l.is_empty());
        #[allow(deprecated)] // prestart: every client of runc still writes it
        let runtime = some(hooks.prestart()) || some(hooks.create_runtime());
        if runtime {
            self.steps.push(Step::Barrier(Barrier::RuntimeHooks));
        }
        if some(hooks.create_container()) {
            self.steps.push(Step::Barrier(Barrier::ContainerHooks));
        }
    }

    fn finish(self) -> Plan {
        Plan { steps: self.steps, ..self.plan }
    }
}

/// A refusal: the JSON path, and why.
fn invalid(at: impl fmt::Display, why: impl fmt::Display) -> Error {
    Error::new(format!("{at}: {why}")).kind(ErrorKind::Invalid)
}

/// A string for the kernel; one with a NUL would be cut short.
fn c_string(at: &str, text: impl AsRef<OsStr>) -> Result<CString, Error> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| invalid(at, "contains a NUL"))
}
