//! create and run: from a bundle to a process that waits for its start, or runs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, geteuid};
use oci::runtime::{Hook, Hooks, LinuxNamespaceType};

use super::directory::Directory;
use super::proc_stat::ProcStat;
use super::record::Record;
use super::{CreateOptions, Created, pid_file};
use crate::args::Args;
use crate::cgroup::{Cgroup, CgroupPath, Hierarchies, Version};
use crate::host::Host;
use crate::launch::{At, Request, launch};
use crate::plan::{self, Barrier, Plan, Target};
use crate::{Error, ErrorKind, Spec, Status, devices, hook, spec, time};

/// Name of the copy of the configuration in the state directory; `exec` and startContainer hooks go by it.
pub(crate) const CONFIG: &str = "config.json";

/// Creates a container up to the point where [`super::start`] lets the user's process run.
///
/// On error nothing is left: no process, cgroup or state directory.
///
/// # Errors
/// A bad id or configuration ([`ErrorKind::Invalid`]), an id in use ([`ErrorKind::Exists`]), and whatever the kernel
/// refuses.
pub fn create(options: CreateOptions<'_>) -> Result<Created, Error> {
    bring_up(options, true)
}

/// Creates a container and starts its process at once: [`create`] and [`super::start`] in one, without the waiting
/// between them. Returns when the user's program has been executed.
///
/// # Errors
/// As [`create`] and [`super::start`]; nothing is left.
pub fn run(options: CreateOptions<'_>) -> Result<Created, Error> {
    bring_up(options, false)
}

fn bring_up(mut options: CreateOptions<'_>, await_start: bool) -> Result<Created, Error> {
    let bundle = std::fs::canonicalize(options.bundle)
        .map_err(|e| Error::new(format!("find bundle {:?}", options.bundle)).because(e))?;
    let spec = match options.spec.take() {
        Some(spec) => spec,
        None => spec::load(&bundle.join("config.json"))?,
    };
    if options.systemd_cgroup {
        let message =
            "--systemd-cgroup: the systemd cgroup driver is not available yet (use the cgroupfs driver)";
        return Err(Error::new(message).kind(ErrorKind::Invalid));
    }
    let args = Args {
        id: options.id.to_owned(),
        bundle: bundle.clone(),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds,
        listen_fds: options.listen_fds,
        rootfs_given: options.rootfs.is_some(),
        await_start,
        parent_death_signal: options.parent_death_signal,
    };
    super::id::check_id(options.id)?;
    let host = Host::detect()?;
    let plan = plan::create(&spec, &host, &args)?;
    let cgroup_path = spec.linux().as_ref().and_then(|l| l.cgroups_path().clone());
    let cgroup_path = CgroupPath::new(cgroup_path.as_deref(), options.id)?;

    // From here on there is something to take back.
    let directory = Directory::create(options.root, options.id)?;
    // A delete meanwhile can tell this from what a killed create left behind.
    let _lock = directory.lock()?;
    let mut record = new_record(&options, &spec, &bundle)?;
    let result = build(options, &spec, &plan, &host, &args, &cgroup_path, &directory, &mut record);
    if result.is_err() {
        // The first error is the one to tell; what cannot be removed is found by `list` and `delete`.
        let _ = directory.remove();
        if let Some(poststop) = record.hooks.as_ref().and_then(|h| h.poststop().as_deref()) {
            let _ = hook::run_here("poststop", poststop, &record.hook_state(Status::Stopped, None));
        }
    }
    result
}

fn new_record(options: &CreateOptions<'_>, spec: &Spec, bundle: &Path) -> Result<Record, Error> {
    let utf8 = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| Error::new(format!("path {path:?} is not UTF-8")))
    };
    let root = spec.root().as_ref().map_or(Path::new(""), |root| root.path());
    let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
    Ok(Record {
        oci_version: spec.version().clone(),
        id: options.id.to_owned(),
        init_process_pid: 0,
        init_process_start: 0,
        created: time::now(),
        bundle: utf8(bundle.to_owned())?,
        rootfs: utf8(bundle.join(root))?,
        annotations: spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        cgroup_paths: BTreeMap::new(),
        own_pid_namespace: namespaces
            .iter()
            .any(|n| n.typ() == LinuxNamespaceType::Pid && n.path().is_none()),
        hooks: spec.hooks().clone(),
    })
}

#[allow(clippy::too_many_arguments)] // all of them are what the caller just made
fn build(
    options: CreateOptions<'_>,
    spec: &Spec,
    plan: &Plan,
    host: &Host,
    args: &Args,
    cgroup_path: &CgroupPath,
    directory: &Directory,
    record: &mut Record,
) -> Result<Created, Error> {
    let config = serde_json::to_vec(spec).map_err(|e| Error::new("write config.json").because(e))?;
    directory.write(CONFIG, &config)?;
    let tolerate = options.rootless.unwrap_or_else(|| !geteuid().is_root());
    let hierarchies = Hierarchies::detect()?;
    // Stored before they are made, so that `delete` finds them whenever this process is killed.
    record.cgroup_paths = planned(&hierarchies, cgroup_path);
    record.write(directory)?;
    let cgroup = Cgroup::create(&hierarchies, cgroup_path, tolerate)?;
    record.cgroup_paths = cgroup.paths();
    let result = start_init(options, spec, plan, host, args, &cgroup, directory, record);
    if result.is_err() {
        // Also what the container started: without a pid namespace of its own it outlives its init.
        let _ = cgroup.kill_all(nix::libc::SIGKILL);
        let _ = cgroup.remove();
    }
    result
}

/// Where [`Cgroup::create`] is going to make directories.
fn planned(hierarchies: &Hierarchies, path: &CgroupPath) -> BTreeMap<String, PathBuf> {
    let mut paths = BTreeMap::new();
    for hierarchy in hierarchies.iter() {
        let Some(dir) = path.within(hierarchy, hierarchies.mode()) else { continue };
        if hierarchy.version == Version::V2 {
            paths.insert(String::new(), dir.clone());
        }
        for controller in &hierarchy.controllers {
            paths.insert(controller.clone(), dir.clone());
        }
    }
    paths
}

#[allow(clippy::too_many_arguments)]
fn start_init(
    options: CreateOptions<'_>,
    spec: &Spec,
    plan: &Plan,
    host: &Host,
    args: &Args,
    cgroup: &Cgroup,
    directory: &Directory,
    record: &mut Record,
) -> Result<Created, Error> {
    let fifo = if args.await_start { Some(directory.make_fifo()?) } else { None };
    let request = Request {
        plan,
        rootfs: options.rootfs,
        cgroup: cgroup.v2_dir(),
        exec_fifo: fifo.as_ref().map(AsFd::as_fd),
        stdio: options.stdio,
        console: options.console,
    };
    let mut barriers = Barriers { spec, host, args, cgroup, directory, record, devices_set: false };
    let launched = launch(request, &mut |at| barriers.answer(&at))?;
    let created = Created { pid: launched.pid, pidfd: launched.pidfd, console: launched.console };
    let rest = finish(&created, options.pid_file, options.pidfd_socket, args.await_start, record);
    if let Err(e) = rest {
        kill_and_reap(created.pidfd.as_fd());
        return Err(e);
    }
    Ok(created)
}

fn finish(
    created: &Created,
    pid_file: Option<&Path>,
    pidfd_socket: Option<&Path>,
    await_start: bool,
    record: &mut Record,
) -> Result<(), Error> {
    if let Some(socket) = pidfd_socket {
        send_pidfd(socket, created.pidfd.as_fd())?;
    }
    if let Some(path) = pid_file {
        pid_file::write(path, created.pid)?;
    }
    if !await_start && let Some(poststart) = hooks_of(record.hooks.as_ref(), Hooks::poststart) {
        hook::run_here("poststart", poststart, &record.hook_state(Status::Running, Some(created.pid)))?;
    }
    Ok(())
}

/// Answers the barriers of a container's plan.
struct Barriers<'a> {
    spec: &'a Spec,
    host: &'a Host,
    args: &'a Args,
    cgroup: &'a Cgroup,
    directory: &'a Directory,
    record: &'a mut Record,
    devices_set: bool,
}

impl Barriers<'_> {
    fn answer(&mut self, at: &At<'_>) -> Result<(), Error> {
        match at.barrier {
            Barrier::IdMap => Ok(()),
            Barrier::Cgroup => {
                let in_v2 = self.cgroup.v2_dir().is_some();
                self.cgroup.join(Pid::from_raw(at.pid), in_v2)?;
                match self.resources() {
                    Some(resources) => self.cgroup.limit(resources),
                    None => Ok(()),
                }
            }
            Barrier::RuntimeHooks => {
                // nvidia's prestart hook adds device rules of its own: ours must be there before and never after.
                self.set_devices()?;
                let hooks = self.record.hooks.as_ref();
                let state = self.record.hook_state(Status::Creating, Some(at.pid));
                #[allow(deprecated)] // still in use by everybody
                let prestart = hooks_of(hooks, Hooks::prestart);
                hook::run_here("prestart", prestart.unwrap_or_default(), &state)?;
                let create_runtime = hooks_of(hooks, Hooks::create_runtime);
                hook::run_here("createRuntime", create_runtime.unwrap_or_default(), &state)
            }
            Barrier::ContainerHooks => {
                let hooks = hooks_of(self.record.hooks.as_ref(), Hooks::create_container).unwrap_or_default();
                let state = self.record.hook_state(Status::Creating, Some(pid_inside(at.pid)?));
                run_inside("createContainer", hooks, &state, self.spec, at.pid, self.host, self.args)
            }
            Barrier::SeccompFd => self.send_listener(at),
            Barrier::Ready => {
                self.set_devices()?;
                self.record.init_process_pid = at.pid;
                self.record.init_process_start = ProcStat::read(at.pid)?.map_or(0, |stat| stat.start_time);
                self.record.created = time::now();
                self.record.write(self.directory)?;
                if self.args.await_start {
                    return Ok(());
                }
                start_container_hooks(self.record, self.spec, self.host, self.args)
            }
        }
    }

    fn resources(&self) -> Option<&oci::runtime::LinuxResources> {
        self.spec.linux().as_ref().and_then(|l| l.resources().as_ref())
    }

    /// The device rules come last, so that the mounts before them may use block devices that the container may not.
    fn set_devices(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.devices_set, true) {
            return Ok(());
        }
        let rules = self.resources().and_then(|r| r.devices().as_deref()).unwrap_or_default();
        self.cgroup.set_devices(&devices::rules(rules)?)
    }

    /// Hands the seccomp listener to the agent at `linux.seccomp.listenerPath`, with the state that config-linux.md
    /// describes ("The Container Process State").
    fn send_listener(&self, at: &At<'_>) -> Result<(), Error> {
        let seccomp = self.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        let path = seccomp.and_then(|s| s.listener_path().as_ref());
        let (Some(path), Some(listener)) = (path, &at.seccomp) else {
            return Err(Error::new("linux.seccomp.listenerPath is not set").kind(ErrorKind::Invalid));
        };
        send_listener(
            self.record,
            seccomp.and_then(|s| s.listener_metadata().as_deref()),
            at.pid,
            path,
            listener.as_fd(),
        )
    }
}

/// Sends a seccomp listener and the state of the process it belongs to.
pub(crate) fn send_listener(
    record: &Record,
    metadata: Option<&str>,
    pid: i32,
    path: &Path,
    listener: BorrowedFd<'_>,
) -> Result<(), Error> {
    let message = serde_json::json!({
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata.unwrap_or_default(),
        "state": record.hook_state(Status::Creating, Some(pid)),
    });
    let fail = |e| {
        Error::new(format!("send the seccomp listener to linux.seccomp.listenerPath {path:?}")).because(e)
    };
    let socket = UnixStream::connect(path).map_err(fail)?;
    sys::message::send(socket.as_fd(), message.to_string().as_bytes(), Some(listener)).map_err(fail)
}

/// The hooks of one kind.
pub(crate) fn hooks_of(hooks: Option<&Hooks>, kind: fn(&Hooks) -> &Option<Vec<Hook>>) -> Option<&[Hook]> {
    hooks.and_then(|hooks| kind(hooks).as_deref())
}

/// Runs the startContainer hooks inside the container, just before its process.
pub(crate) fn start_container_hooks(
    record: &Record,
    spec: &Spec,
    host: &Host,
    args: &Args,
) -> Result<(), Error> {
    let hooks = hooks_of(record.hooks.as_ref(), Hooks::start_container).unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    let state = record.hook_state(Status::Created, Some(pid_inside(record.init_process_pid)?));
    // Not in the specification, but what runc always did: without an environment of their own they get the process's.
    let env = spec.process().as_ref().and_then(|p| p.env().clone());
    let hooks: Vec<Hook> = hooks
        .iter()
        .cloned()
        .map(|mut hook| {
            if hook.env().as_ref().is_none_or(Vec::is_empty) {
                hook.set_env(env.clone());
            }
            hook
        })
        .collect();
    run_inside("startContainer", &hooks, &state, spec, record.init_process_pid, host, args)
}

fn run_inside(
    kind: &str,
    hooks: &[Hook],
    state: &hook::HookState<'_>,
    spec: &Spec,
    pid: i32,
    host: &Host,
    args: &Args,
) -> Result<(), Error> {
    hook::run_each(kind, hooks, state, &mut |hook, stdio| {
        let plan = plan::hook(spec, hook, Target { pid }, host, args)?;
        let request = Request {
            plan: &plan,
            rootfs: None,
            cgroup: None,
            exec_fifo: None,
            stdio,
            console: crate::Console::None,
        };
        Ok(launch(request, &mut |_| Ok(()))?.pidfd)
    })
}

/// The number that a process has in its innermost pid namespace: the last of `NSpid` in proc_pid_status(5).
fn pid_inside(pid: i32) -> Result<i32, Error> {
    let path = format!("/proc/{pid}/status");
    let status =
        std::fs::read_to_string(&path).map_err(|e| Error::new(format!("read {path:?}")).because(e))?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers
        .and_then(|numbers| numbers.split_ascii_whitespace().next_back())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::new(format!("read {path:?}: no NSpid")))
}

/// Sends a pidfd over a unix socket, as `--pidfd-socket` asks.
pub(crate) fn send_pidfd(socket: &Path, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    let fail = |e| Error::new(format!("send a pidfd to {socket:?}")).because(e);
    let stream = UnixStream::connect(socket).map_err(fail)?;
    sys::message::send(stream.as_fd(), b"pidfd", Some(pidfd)).map_err(fail)
}

/// Ends a child that must not go on.
pub(crate) fn kill_and_reap(pidfd: BorrowedFd<'_>) {
    // Both fail only for a process that is gone already.
    let _ = sys::pidfd::signal(pidfd, nix::libc::SIGKILL);
    let _ = waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED);
}
