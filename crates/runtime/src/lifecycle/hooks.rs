//! The hooks that run in the container's namespaces: createContainer and startContainer.

use oci::runtime::{Hook, Hooks};

use super::record::Record;
use crate::args::Args;
use crate::hook::{HookState, run_each};
use crate::host::Host;
use crate::launch::{Request, launch};
use crate::plan::{self, HookKind, Target};
use crate::{Console, Error, Spec, Status};

/// The hooks of one kind.
pub(crate) fn of_kind(hooks: Option<&Hooks>, kind: fn(&Hooks) -> &Option<Vec<Hook>>) -> &[Hook] {
    hooks.and_then(|hooks| kind(hooks).as_deref()).unwrap_or_default()
}

/// Runs the startContainer hooks inside the container, just before its process.
pub(crate) fn start_container(record: &Record, spec: &Spec, host: &Host, args: &Args) -> Result<(), Error> {
    let hooks = of_kind(record.hooks.as_ref(), Hooks::start_container);
    if hooks.is_empty() {
        return Ok(());
    }
    let state = record.hook_state(Status::Created, Some(pid_inside(record.init_process_pid)?));
    run_inside(HookKind::StartContainer, hooks, &state, spec, record.init_process_pid, host, args)
}

/// Runs hooks in the namespaces of process `pid`.
pub(crate) fn run_inside(
    kind: HookKind,
    hooks: &[Hook],
    state: &HookState<'_>,
    spec: &Spec,
    pid: i32,
    host: &Host,
    args: &Args,
) -> Result<(), Error> {
    let name = match kind {
        HookKind::CreateContainer => "createContainer",
        HookKind::StartContainer => "startContainer",
    };
    run_each(name, hooks, state, &mut |hook, stdio| {
        let plan = plan::hook(spec, hook, kind, Target { pid }, host, args)?;
        let request = Request {
            plan: &plan,
            rootfs: None,
            cgroup: None,
            v1_tasks: Vec::new(),
            exec_fifo: None,
            kept: Vec::new(),
            stdio,
            console: Console::None,
        };
        Ok(launch(request, &mut |_| Ok(()))?.pidfd)
    })
}

/// The number that a process has in its innermost pid namespace: the last of `NSpid` in proc_pid_status(5).
pub(crate) fn pid_inside(pid: i32) -> Result<i32, Error> {
    let path = format!("/proc/{pid}/status");
    let status =
        std::fs::read_to_string(&path).map_err(|e| Error::new(format!("read {path:?}")).because(e))?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers
        .and_then(|numbers| numbers.split_ascii_whitespace().next_back())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::new(format!("read {path:?}: no NSpid")))
}
