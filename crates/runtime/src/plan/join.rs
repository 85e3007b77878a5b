//! Plans of processes that join a container: `exec`, and the hooks that run in its namespaces.

use oci::runtime::{Hook, Process};
use sys::clone::namespace::{MOUNT, PID, USER};

use super::{Barrier, Open, Plan, Planner, Step, c_string, invalid};
use crate::args::Args;
use crate::host::Host;
use crate::{Error, Spec};

/// A process of a running (or created) container, whose namespaces a further process joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its id, as this process sees it.
    pub pid: i32,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// In the container's namespaces, before its root is entered, with the runtime's rights
    /// ([`Barrier::ContainerHooks`]).
    CreateContainer,
    /// In the container's root, as the container's user, between start and the user's program.
    StartContainer,
}

/// Plans a further `process` in the container that `spec` describes.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`], naming the JSON path of what can't be done.
pub fn exec(spec: &Spec, process: &Process, joined: Target, host: &Host, args: &Args) -> Result<Plan, Error> {
    let mut planner = Planner::new(spec, host, args)?;
    planner.join(joined, args.placed_by_systemd)?;
    planner.keyring(process)?;
    planner.terminal(process, false);
    planner.umask(process);
    planner.conduct(process)?;
    planner.apparmor(process)?;
    planner.steps.push(Step::Barrier(Barrier::Ready));
    planner.become_user(process)?;
    Ok(planner.finish())
}

/// Plans a hook that runs in the container's namespaces. It has no terminal, no limits and no pid file of its own: the
/// caller gives the streams and waits for it.
///
/// # Errors
/// As [`exec`].
pub fn hook(
    spec: &Spec,
    hook: &Hook,
    kind: HookKind,
    joined: Target,
    host: &Host,
    args: &Args,
) -> Result<Plan, Error> {
    if !hook.path().is_absolute() {
        return Err(invalid("hooks", format!("path {:?} is not absolute", hook.path())));
    }
    let own = spec.process().as_ref();
    let mut process = own.cloned().unwrap_or_default();
    let name = hook.path().to_string_lossy().into_owned();
    process.set_terminal(None).set_args(hook.args().clone().filter(|a| !a.is_empty()).or(Some(vec![name])));
    match (hook.env(), kind) {
        (Some(env), _) if !env.is_empty() => {
            process.set_env(Some(env.clone()));
        }
        // Not in the specification, but what every runtime does since runc did it.
        (_, HookKind::StartContainer) => {}
        (_, HookKind::CreateContainer) => {
            process.set_env(None);
        }
    }
    let mut planner = Planner::new(spec, host, args)?;
    planner.join(joined, false)?;
    planner.umask(&process);
    match kind {
        HookKind::StartContainer => {
            planner.conduct(&process)?;
            planner.steps.push(Step::Barrier(Barrier::Ready));
            planner.become_user(&process)?;
        }
        HookKind::CreateContainer => {
            let root = c_string("root.path", planner.root_path()?.as_os_str())?;
            planner.steps.push(Step::Close(3));
            planner.steps.push(Step::Directory(root));
            planner.environment(&process)?;
            planner.program(&process)?;
            planner.steps.push(Step::Exec);
        }
    }
    let inherits = kind == HookKind::StartContainer && hook.env().as_ref().is_none_or(Vec::is_empty);
    if !inherits {
        planner.steps.retain(|step| !matches!(step, Step::Home(_)));
    }
    let program = c_string("hooks", hook.path().as_os_str())?;
    for step in &mut planner.steps {
        if let Step::Find(candidates) = step {
            *candidates = vec![program.clone()];
        }
    }
    Ok(planner.finish())
}

impl Planner<'_> {
    /// Joins every namespace that the container does not share with the host. `placed`: somebody else moves the process
    /// into its cgroup.
    fn join(&mut self, joined: Target, placed: bool) -> Result<(), Error> {
        if placed {
            self.steps.push(Step::Barrier(Barrier::Cgroup));
        }
        self.steps.push(Step::Undumpable);
        self.steps.push(Step::Session);
        let kinds = self.namespaces.all();
        let user = kinds & USER;
        let join = |planner: &mut Self, kinds: u64| {
            let slot = planner.open(Open::Process(joined.pid));
            Step::JoinProcess(kinds, slot, joined.pid)
        };
        if user != 0 && self.host.euid != 0 {
            // Only the user namespace gives rights to the others, the pid namespace included, so a process of ours has
            // to be in it before the one that is wanted is cloned.
            let step = join(self, kinds);
            if !placed {
                self.plan.trampoline.push(Step::JoinCgroups);
            }
            self.plan.trampoline.push(step);
        } else {
            if !placed {
                self.steps.insert(0, Step::JoinCgroups);
            }
            if kinds & PID != 0 {
                self.plan.pid_namespace = Some(self.open(Open::Process(joined.pid)));
            }
            for kinds in [kinds & !(PID | USER), user] {
                if kinds != 0 {
                    let step = join(self, kinds);
                    self.steps.push(step);
                }
            }
        }
        if kinds & MOUNT == 0 {
            // The container is held by chroot(2) alone.
            let slot = self.open(Open::ProcessRoot(joined.pid));
            self.steps.push(Step::EnterRoot(slot, joined.pid));
        }
        if user != 0 {
            self.steps.push(Step::BecomeRoot);
        }
        self.joined = true;
        Ok(())
    }
}
