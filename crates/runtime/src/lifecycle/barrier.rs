//! What the parent does while a container's init waits: cgroup, hooks, the seccomp listener, the record.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::unistd::Pid;
use oci::runtime::{Hooks, LinuxResources};

use super::Connect;
use super::create::Design;
use super::directory::Directory;
use super::hooks::{of_kind, pid_inside, run_inside, start_container};
use super::proc_stat::ProcStat;
use super::record::Record;
use crate::cgroup::{Cgroup, Mode};
use crate::launch::At;
use crate::plan::{Barrier, HookKind};
use crate::systemd::{Draft, Started};
use crate::{Error, ErrorKind, Spec, Status, hook, systemd, time};

/// Answers the barriers of a container's plan.
pub(crate) struct Barriers<'a> {
    pub(crate) design: &'a Design,
    /// Empty until systemd has made it, if systemd makes it.
    pub(crate) cgroup: &'a OnceCell<Cgroup>,
    pub(crate) directory: &'a Directory,
    pub(crate) record: &'a mut Record,
    /// The unit, when systemd has started it.
    pub(crate) unit: Option<Started<'a>>,
    pub(crate) devices_set: bool,
    pub(crate) connect: Option<Connect<'a>>,
}

impl<'a> Barriers<'a> {
    pub(crate) fn answer(&mut self, at: &At<'_>) -> Result<(), Error> {
        match at.barrier {
            Barrier::IdMap | Barrier::NetDevices => Ok(()),
            Barrier::Cgroup => {
                self.enter_cgroup(at.pid)?;
                self.connect(at.pid)
            }
            Barrier::RuntimeHooks => self.runtime_hooks(at.pid),
            Barrier::ContainerHooks => {
                let hooks = of_kind(self.record.hooks.as_ref(), Hooks::create_container);
                let state = self.record.hook_state(Status::Creating, Some(pid_inside(at.pid)?));
                let Design { spec, host, args, .. } = self.design;
                run_inside(HookKind::CreateContainer, hooks, &state, spec, at.pid, host, args)
            }
            Barrier::SeccompFd => send_listener(self.record, &self.design.spec, at, Status::Creating),
            Barrier::Ready => {
                self.ready(at.pid)?;
                if self.design.args.await_start {
                    return Ok(());
                }
                let Design { spec, host, args, .. } = self.design;
                start_container(self.record, spec, host, args)
            }
        }
    }

    fn connect(&self, pid: i32) -> Result<(), Error> {
        let Some(Connect(connect)) = self.connect else { return Ok(()) };
        connect(pid).map_err(|e| Error::new("connect the container's network").because(e))
    }

    fn cgroup(&self) -> Result<&'a Cgroup, Error> {
        self.cgroup.get().ok_or_else(|| Error::new("the container has no cgroup yet"))
    }

    /// Sets the limits of cgroup and resctrl group; with systemd, makes the cgroup first, around the process that waits.
    pub(crate) fn enter_cgroup(&mut self, pid: i32) -> Result<(), Error> {
        match &self.design.draft {
            None => self.resources().map_or(Ok(()), |resources| self.cgroup()?.limit(resources))?,
            Some(draft) => self.start_unit(draft, pid)?,
        }
        self.design.plan.cgroup_owner.map_or(Ok(()), |uid| self.cgroup()?.give_to(uid))?;
        let own = self.record.resctrl.as_ref().is_some_and(|group| group.own);
        self.design.plan.resctrl.as_ref().map_or(Ok(()), |entry| entry.enter(own, pid))
    }

    /// Has systemd start the unit around the process, then does in its cgroup what systemd does not.
    fn start_unit(&mut self, draft: &'a Draft, pid: i32) -> Result<(), Error> {
        let resources = self.resources().map(systemd::rounded);
        let hierarchies = &self.design.host.cgroups;
        let mut unit = draft.start(pid, resources.as_ref(), hierarchies)?;
        let settled = Cgroup::adopt(hierarchies, &draft.path, draft.unit.user).and_then(|cgroup| {
            self.record.cgroup_paths = cgroup.paths();
            // From here on a failure is cleared away by the one who asked for the container.
            let cgroup = self.cgroup.get_or_init(|| cgroup);
            cgroup.join(Pid::from_raw(pid), !unit.takes_no_processes())?;
            resources.as_ref().map_or(Ok(()), |resources| cgroup.limit(resources))
        });
        if settled.is_err() && self.cgroup.get().is_none() {
            // The first error is the one to tell.
            let _ = unit.stop();
        }
        self.unit = Some(unit);
        settled
    }

    fn resources(&self) -> Option<&'a LinuxResources> {
        self.design.spec.linux().as_ref().and_then(|l| l.resources().as_ref())
    }

    /// The hooks of the runtime's namespaces, for an init that is being made.
    pub(crate) fn runtime_hooks(&mut self, pid: i32) -> Result<(), Error> {
        // nvidia's prestart hook adds device rules of its own: ours must be there before and never after.
        self.set_devices(pid)?;
        let hooks = self.record.hooks.as_ref();
        let state = self.record.hook_state(Status::Creating, Some(pid));
        #[allow(deprecated)] // the specification's word for it; still in use by everybody
        hook::run_here("prestart", of_kind(hooks, Hooks::prestart), &state)?;
        hook::run_here("createRuntime", of_kind(hooks, Hooks::create_runtime), &state)
    }

    /// Records an init that is ready to run.
    pub(crate) fn ready(&mut self, pid: i32) -> Result<(), Error> {
        self.set_devices(pid)?;
        self.record.init_process_pid = pid;
        self.record.init_process_start = ProcStat::read(pid)?.map_or(0, |stat| stat.start_time);
        self.record.created = time::now();
        self.record.write(self.directory)
    }

    /// The device rules come last, so that the mounts before them may use block devices that the container may not.
    fn set_devices(&mut self, pid: i32) -> Result<(), Error> {
        if std::mem::replace(&mut self.devices_set, true) {
            return Ok(());
        }
        if let Some(unit) = &mut self.unit {
            unit.set_devices(&self.design.plan.device_rules)?;
            if self.design.host.cgroups.mode() != Mode::V2 {
                // A slice whose units had no device rules gets a devices cgroup of its own then, and systemd moves the
                // processes of all its units up there.
                self.cgroup()?.join(Pid::from_raw(pid), true)?;
            }
            // With the rules systemd writes all its files again, in its own words: a period without a quota is lost.
            let resources = self.resources().map(systemd::rounded);
            resources.as_ref().map_or(Ok(()), |resources| self.cgroup()?.limit(resources))?;
        }
        self.cgroup()?.set_devices(&self.design.plan.device_rules)
    }
}

/// Hands the seccomp listener of a process to the agent at `linux.seccomp.listenerPath`, with the state that
/// config-linux.md describes ("The Container Process State").
pub(crate) fn send_listener(record: &Record, spec: &Spec, at: &At<'_>, status: Status) -> Result<(), Error> {
    let seccomp = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let path = seccomp.and_then(|s| s.listener_path().as_ref());
    let listener: Option<BorrowedFd<'_>> = at.seccomp.as_ref().map(AsFd::as_fd);
    let (Some(seccomp), Some(path), Some(listener)) = (seccomp, path, listener) else {
        return Err(Error::new("linux.seccomp.listenerPath is not set").kind(ErrorKind::Invalid));
    };
    let init = if record.init_process_pid == 0 { at.pid } else { record.init_process_pid };
    let message = serde_json::json!({
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": at.pid,
        "metadata": seccomp.listener_metadata().as_deref().unwrap_or_default(),
        "state": record.hook_state(status, Some(init)),
    });
    let fail = |what: &str| {
        let message = format!("{what} seccomp agent (linux.seccomp.listenerPath {path:?})");
        |e: std::io::Error| Error::new(message).because(e)
    };
    let socket = UnixStream::connect(path).map_err(fail("failed to connect with"))?;
    let message = message.to_string();
    sys::message::send(socket.as_fd(), message.as_bytes(), Some(listener))
        .map_err(fail("send the listener to"))
}
