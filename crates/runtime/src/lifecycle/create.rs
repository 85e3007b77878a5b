//! create and run: from a bundle to a process that waits for its start, or runs.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use oci::runtime::{Hooks, LinuxNamespaceType};

use super::barrier::Barriers;
use super::directory::Directory;
use super::hooks::of_kind;
use super::notify::{self, Notify};
use super::record::Record;
use super::shared_root::SharedRoot;
use super::{CreateOptions, Created, oom, pid_file};
use crate::args::Args;
use crate::cgroup::{Cgroup, CgroupPath, Hierarchies, Version};
use crate::host::Host;
use crate::launch::{Request, launch};
use crate::plan::{self, Plan};
use crate::resctrl::{Entry, Group};
use crate::systemd::{Draft, Unit};
use crate::{Error, Spec, Status, hook, resources, spec, time};

/// Name of the copy of the configuration in the state directory; `exec` and startContainer hooks go by it.
pub(crate) const CONFIG: &str = "config.json";

/// Creates a container up to the point where [`super::start`] lets the user's process run.
///
/// On error nothing is left: no process, cgroup or state directory.
///
/// # Errors
/// A bad id or configuration ([`crate::ErrorKind::Invalid`]), an id in use ([`crate::ErrorKind::Exists`]), and whatever the kernel
/// refuses.
pub fn create(options: CreateOptions<'_>) -> Result<Created, Error> {
    bring_up(options, true, start_init)
}

/// Creates a container and starts its process at once: [`create`] and [`super::start`] in one, without the waiting
/// between them. Returns when the user's program has been executed.
///
/// # Errors
/// As [`create`] and [`super::start`]; nothing is left.
pub fn run(options: CreateOptions<'_>) -> Result<Created, Error> {
    bring_up(options, false, start_init)
}

/// All that is known of a container before anything is made.
#[derive(Debug)]
pub(crate) struct Design {
    pub(crate) spec: Spec,
    pub(crate) args: Args,
    pub(crate) host: Host,
    /// The unit that systemd shall start around it.
    pub(crate) draft: Option<Draft>,
    pub(crate) cgroup_path: CgroupPath,
    pub(crate) plan: Plan,
}

impl Design {
    fn new(options: &mut CreateOptions<'_>, await_start: bool) -> Result<Design, Error> {
        super::id::check_id(options.id)?;
        let bundle = std::fs::canonicalize(options.bundle)
            .map_err(|e| Error::new(format!("find bundle {:?}", options.bundle)).because(e))?;
        let spec = match options.spec.take() {
            Some(spec) => spec,
            None => spec::load(&bundle.join("config.json"))?,
        };
        let mut spec = spec;
        if options.notify_socket {
            notify::add_to(&mut spec, options.root, options.id);
        }
        let mut args = Args {
            id: options.id.to_owned(),
            bundle,
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
            preserve_fds: options.preserve_fds,
            listen_fds: options.listen_fds,
            rootfs_given: options.rootfs.is_some(),
            cgroup: None,
            placed_by_systemd: options.systemd_cgroup,
            await_start,
            parent_death_signal: options.parent_death_signal,
        };
        let mut host = Host::detect()?;
        host.detect_for(&spec, args.no_pivot)?;
        let linux = spec.linux().as_ref();
        let draft = match options.systemd_cgroup {
            true => Some(Draft::new(&spec, options.id, options.rootless, &host)?),
            false => None,
        };
        let cgroup_path = match &draft {
            Some(draft) => draft.path.clone(),
            None => CgroupPath::new(linux.and_then(|l| l.cgroups_path().as_deref()), options.id)?,
        };
        args.cgroup = draft.as_ref().map(|draft| draft.path.clone());
        let plan = plan::create(&spec, &host, &args)?;
        log_plan(&plan);
        let resources = linux.and_then(|l| l.resources().as_ref());
        resources.inspect(|r| resources::warn_of_ignored(r));
        Ok(Design { spec, args, host, draft, cgroup_path, plan })
    }

    fn record(&self) -> Result<Record, Error> {
        let spec = &self.spec;
        let bundle = &self.args.bundle;
        let utf8 = |path: PathBuf| {
            path.into_os_string()
                .into_string()
                .map_err(|path| Error::new(format!("path {path:?} is not UTF-8")))
        };
        let root = spec.root().as_ref().map_or(Path::new(""), |root| root.path());
        let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
        Ok(Record {
            oci_version: spec.version().clone(),
            id: self.args.id.clone(),
            init_process_pid: 0,
            init_process_start: 0,
            created: time::now(),
            bundle: utf8(bundle.clone())?,
            rootfs: utf8(bundle.join(root))?,
            annotations: spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            cgroup_paths: BTreeMap::new(),
            unit: self.draft.as_ref().map(|draft| draft.unit.clone()),
            resctrl: self.plan.resctrl.as_ref().map(Entry::claim),
            own_pid_namespace: namespaces
                .iter()
                .any(|n| n.typ() == LinuxNamespaceType::Pid && n.path().is_none()),
            hooks: spec.hooks().clone(),
        })
    }
}

/// Makes a container's state directory and cgroup, and has `start` make its init. On error nothing is left.
pub(crate) fn bring_up<'a>(
    mut options: CreateOptions<'a>,
    await_start: bool,
    start: impl FnOnce(
        CreateOptions<'a>,
        &Design,
        &OnceCell<Cgroup>,
        &Directory,
        &mut Record,
    ) -> Result<Created, Error>,
) -> Result<Created, Error> {
    let design = Design::new(&mut options, await_start)?;
    let mut record = design.record()?;
    // From here on there is something to take back.
    let directory = Directory::create(options.root, options.id)?;
    // A delete meanwhile can tell this from what a killed create left behind.
    let _lock = directory.lock()?;
    let result = build(options, &design, &directory, &mut record, start);
    if result.is_err() {
        // The first error is the one to tell; what cannot be removed is found by `list` and `delete`.
        let _ = directory.remove();
        let poststop = of_kind(record.hooks.as_ref(), Hooks::poststop);
        let _ = hook::run_here("poststop", poststop, &record.hook_state(Status::Stopped, None));
    }
    result
}

fn build<'a>(
    options: CreateOptions<'a>,
    design: &Design,
    directory: &Directory,
    record: &mut Record,
    start: impl FnOnce(
        CreateOptions<'a>,
        &Design,
        &OnceCell<Cgroup>,
        &Directory,
        &mut Record,
    ) -> Result<Created, Error>,
) -> Result<Created, Error> {
    let config = serde_json::to_vec(&design.spec).map_err(|e| Error::new("write config.json").because(e))?;
    directory.write(CONFIG, &config)?;
    if options.notify_socket {
        notify::make_directory(directory)?;
    }
    let host = &design.host;
    let rootless = options.rootless.unwrap_or(host.euid != 0 || host.in_user_namespace);
    // Who names a cgroup wants that one.
    let named = design.spec.linux().as_ref().is_some_and(|l| l.cgroups_path().is_some());
    let tolerate = rootless && !named;
    let hierarchies = &design.host.cgroups;
    // Stored before they are made, so that `delete` finds them whenever this process is killed.
    record.cgroup_paths = planned(hierarchies, &design.cgroup_path);
    record.write(directory)?;
    let cgroup = OnceCell::new();
    match &design.draft {
        None => {
            let made = Cgroup::create(hierarchies, &design.cgroup_path, tolerate)?;
            record.cgroup_paths = made.paths();
            cgroup.get_or_init(|| made);
        }
        Some(_) => Cgroup::open(&record.cgroup_paths)?.check_empty()?,
    }
    let shared_root = SharedRoot::of(&design.spec, &record.rootfs);
    let result = start(options, design, &cgroup, directory, record);
    result.map_err(|e| {
        shared_root.iter().for_each(SharedRoot::undo);
        // Without one, systemd did not start the unit, or stopped it again.
        let Some(cgroup) = cgroup.get() else { return e };
        let oom = oom::kills(&record.cgroup_paths) > 0;
        // Also what the container started: without a pid namespace of its own it outlives its init.
        let _ = cgroup.kill_all(nix::libc::SIGKILL);
        let _ = record.unit.as_ref().map(Unit::stop);
        let _ = cgroup.remove();
        let _ = record.resctrl.as_ref().map(Group::remove);
        if oom { Error::new("container init was OOM-killed (memory limit too low?)").because(e) } else { e }
    })
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

fn start_init(
    options: CreateOptions<'_>,
    design: &Design,
    cgroup: &OnceCell<Cgroup>,
    directory: &Directory,
    record: &mut Record,
) -> Result<Created, Error> {
    let fifo = if design.args.await_start { Some(directory.make_fifo()?) } else { None };
    let notify = options.notify_socket && !design.args.await_start;
    let notify = if notify { Some(Notify::open(directory)?) } else { None };
    let request = Request {
        plan: &design.plan,
        rootfs: options.rootfs,
        cgroup: cgroup.get().and_then(Cgroup::v2_dir),
        v1_tasks: cgroup.get().map_or(Ok(Vec::new()), Cgroup::v1_tasks)?,
        exec_fifo: fifo.as_ref().map(AsFd::as_fd),
        kept: Vec::new(),
        stdio: options.stdio,
        console: options.console,
    };
    let connect = options.connect;
    let mut barriers =
        Barriers { design, cgroup, directory, record, unit: None, devices_set: false, connect };
    let launched = launch(request, &mut |at| barriers.answer(&at))
        .map_err(|e| Error::new("unable to start container process").because(e))?;
    let created = Created { pid: launched.pid, pidfd: launched.pidfd, console: launched.console, notify };
    if let Err(e) = announce(&created, options.pid_file, options.pidfd_socket)
        .and_then(|()| if design.args.await_start { Ok(()) } else { super::start::poststart(record) })
    {
        kill_and_reap(created.pidfd.as_fd());
        return Err(e);
    }
    Ok(created)
}

/// Tells the caller's pid file and pidfd socket of a new process.
pub(crate) fn announce(
    created: &Created,
    pid_file: Option<&Path>,
    socket: Option<&Path>,
) -> Result<(), Error> {
    if let Some(socket) = socket {
        let fail = |e| Error::new(format!("send a pidfd to {socket:?}")).because(e);
        let stream = UnixStream::connect(socket).map_err(fail)?;
        sys::message::send(stream.as_fd(), b"pidfd", Some(created.pidfd.as_fd())).map_err(fail)?;
    }
    pid_file.map_or(Ok(()), |path| pid_file::write(path, created.pid))
}

/// Puts a plan into the debug log, a line for each step.
pub(crate) fn log_plan(plan: &Plan) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        plan.to_string().lines().for_each(|line| tracing::debug!("{line}"));
    }
}

/// Ends a child that must not go on.
pub(crate) fn kill_and_reap(pidfd: BorrowedFd<'_>) {
    // Both fail only for a process that is gone already.
    let _ = sys::pidfd::signal(pidfd, nix::libc::SIGKILL);
    let _ = sys::wait::wait(pidfd);
}
