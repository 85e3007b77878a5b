//! exec: one more process inside a container.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci::runtime::Process;

use super::barrier::send_listener;
use super::create::{CONFIG, announce, kill_and_reap, log_plan};
use super::directory::Directory;
use super::kill::open_init;
use super::record::Record;
use super::{Created, ExecOptions, oom};
use crate::args::Args;
use crate::cgroup::Cgroup;
use crate::host::Host;
use crate::launch::{At, Request, launch};
use crate::plan::{self, Barrier, Target};
use crate::systemd::Unit;
use crate::{Error, ErrorKind, Spec, Status, spec};

/// The `process` of the container's configuration, from which an exec usually differs in a few fields.
///
/// # Errors
/// [`ErrorKind::NotFound`].
pub fn process(root: &Path, id: &str) -> Result<Process, Error> {
    let spec = read_spec(&Directory::open(root, id)?)?;
    spec.process()
        .clone()
        .ok_or_else(|| Error::new("process property must not be empty").kind(ErrorKind::Invalid))
}

/// Starts one more process inside a running or created container. Returns when its program has been executed.
///
/// # Errors
/// [`ErrorKind::State`] when the container is stopped or paused; [`ErrorKind::CommandNotFound`] and
/// [`ErrorKind::CommandNotExecutable`] for the command.
pub fn exec(options: ExecOptions<'_>) -> Result<Created, Error> {
    let directory = Directory::open(options.root, options.id)?;
    let record = Record::read(&directory)?;
    let refuse = |why: &str| Err(Error::new(why).kind(ErrorKind::State));
    match record.status(&directory)? {
        Status::Creating | Status::Stopped => return refuse("cannot exec in a stopped container"),
        Status::Paused if !options.ignore_paused => {
            return refuse("cannot exec in a paused container (use --ignore-paused to override)");
        }
        _ => {}
    }
    // While this is open and the process lives, its number is nobody else's.
    let init = open_init(&record)?;
    let spec = read_spec(&directory)?;
    let host = Host::detect()?;
    let cgroup = match options.cgroups.is_empty() {
        true => Cgroup::open_for_exec(&record.cgroup_paths, Pid::from_raw(record.init_process_pid))?,
        false => record.cgroup()?.below(&options.cgroups)?,
    };
    let attach = attach(&record, &cgroup, &host);
    let args = Args {
        id: record.id.clone(),
        bundle: PathBuf::from(&record.bundle),
        no_new_keyring: false,
        placed_by_systemd: attach.is_some(),
        preserve_fds: options.preserve_fds,
        parent_death_signal: options.parent_death_signal,
        ..Args::default()
    };
    let target = Target { pid: record.init_process_pid };
    let plan = plan::exec(&spec, &options.process, target, &host, &args)?;
    log_plan(&plan);
    let oom_kills = oom::kills(&record.cgroup_paths);
    let request = Request {
        plan: &plan,
        rootfs: None,
        cgroup: if attach.is_some() { None } else { cgroup.v2_dir() },
        v1_tasks: cgroup.v1_tasks()?,
        exec_fifo: None,
        kept: Vec::new(),
        stdio: options.stdio,
        console: options.console,
    };
    let launched = launch(request, &mut |at| {
        answer(&at, &record, &spec, init.as_fd())?;
        match (at.barrier, &attach) {
            (Barrier::Cgroup, Some((unit, below))) => unit.attach(below, at.pid),
            _ => Ok(()),
        }
    });
    let launched = launched.map_err(|e| match oom::kills(&record.cgroup_paths) > oom_kills {
        true => Error::new("possibly OOM-killed").because(e),
        false => Error::new("unable to start container process").because(e),
    })?;
    let created =
        Created { pid: launched.pid, pidfd: launched.pidfd, console: launched.console, notify: None };
    if let Err(e) = announce(&created, options.pid_file, options.pidfd_socket) {
        kill_and_reap(created.pidfd.as_fd());
        return Err(e);
    }
    Ok(created)
}

/// The unit that systemd has to move a new process into, and the path below it; `None`: this process may do it itself. A
/// user's session and the units of the user's service manager have nothing in common that the user could write.
fn attach<'a>(record: &'a Record, cgroup: &Cgroup, host: &Host) -> Option<(&'a Unit, PathBuf)> {
    let unit = record.unit.as_ref().filter(|unit| unit.user)?;
    let own = host.cgroups.unified()?.own.as_deref();
    if own.is_some_and(|own| cgroup.takes_children_of(own)) {
        return None;
    }
    let (paths, root) = (cgroup.paths(), record.cgroup_paths.get("")?);
    Some((unit, paths.get("")?.strip_prefix(root).ok()?.to_owned()))
}

fn read_spec(directory: &Directory) -> Result<Spec, Error> {
    let json = directory.read(CONFIG)?.ok_or_else(super::directory::no_such_container)?;
    spec::parse(&json)
}

fn answer(at: &At<'_>, record: &Record, spec: &Spec, init: BorrowedFd<'_>) -> Result<(), Error> {
    match at.barrier {
        Barrier::Cgroup => {
            // The namespaces have been opened by now: they were this container's if its init still lives.
            sys::pidfd::signal(init, 0)
                .map_err(|e| Error::new("container not running").kind(ErrorKind::State).because(e))?;
            record.resctrl.as_ref().map_or(Ok(()), |group| group.follow(at.pid))
        }
        Barrier::SeccompFd => send_listener(record, spec, at, Status::Running),
        _ => Ok(()),
    }
}
