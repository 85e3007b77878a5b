//! What the parent does while a container's init waits: cgroup, hooks, the seccomp listener, the record.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use oci::runtime::{Hooks, LinuxResources};

use super::create::Design;
use super::directory::Directory;
use super::hooks::{of_kind, pid_inside, run_inside, start_container};
use super::proc_stat::ProcStat;
use super::record::Record;
use crate::cgroup::Cgroup;
use crate::launch::At;
use crate::plan::{Barrier, HookKind};
use crate::{Error, ErrorKind, Spec, Status, hook, time};

/// Answers the barriers of a container's plan.
pub(crate) struct Barriers<'a> {
    pub(crate) design: &'a Design,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) directory: &'a Directory,
    pub(crate) record: &'a mut Record,
    pub(crate) devices_set: bool,
}

impl Barriers<'_> {
    pub(crate) fn answer(&mut self, at: &At<'_>) -> Result<(), Error> {
        match at.barrier {
            Barrier::IdMap | Barrier::NetDevices => Ok(()),
            Barrier::Cgroup => {
                self.resources().map_or(Ok(()), |resources| self.cgroup.limit(resources))?;
                self.design.plan.cgroup_owner.map_or(Ok(()), |uid| self.cgroup.give_to(uid))?;
                let own = self.record.resctrl.as_ref().is_some_and(|group| group.own);
                self.design.plan.resctrl.as_ref().map_or(Ok(()), |entry| entry.enter(own, at.pid))
            }
            Barrier::RuntimeHooks => {
                // nvidia's prestart hook adds device rules of its own: ours must be there before and never after.
                self.set_devices()?;
                let hooks = self.record.hooks.as_ref();
                let state = self.record.hook_state(Status::Creating, Some(at.pid));
                #[allow(deprecated)] // the specification's word for it; still in use by everybody
                hook::run_here("prestart", of_kind(hooks, Hooks::prestart), &state)?;
                hook::run_here("createRuntime", of_kind(hooks, Hooks::create_runtime), &state)
            }
            Barrier::ContainerHooks => {
                let hooks = of_kind(self.record.hooks.as_ref(), Hooks::create_container);
                let state = self.record.hook_state(Status::Creating, Some(pid_inside(at.pid)?));
                let Design { spec, host, args, .. } = self.design;
                run_inside(HookKind::CreateContainer, hooks, &state, spec, at.pid, host, args)
            }
            Barrier::SeccompFd => send_listener(self.record, &self.design.spec, at, Status::Creating),
            Barrier::Ready => {
                self.set_devices()?;
                self.record.init_process_pid = at.pid;
                self.record.init_process_start = ProcStat::read(at.pid)?.map_or(0, |stat| stat.start_time);
                self.record.created = time::now();
                self.record.write(self.directory)?;
                if self.design.args.await_start {
                    return Ok(());
                }
                let Design { spec, host, args, .. } = self.design;
                start_container(self.record, spec, host, args)
            }
        }
    }

    fn resources(&self) -> Option<&LinuxResources> {
        self.design.spec.linux().as_ref().and_then(|l| l.resources().as_ref())
    }

    /// The device rules come last, so that the mounts before them may use block devices that the container may not.
    fn set_devices(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.devices_set, true) {
            return Ok(());
        }
        self.cgroup.set_devices(&self.design.rules)
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
