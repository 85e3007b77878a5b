//! One container in the foreground, from its making to its end.
//!
//! Nothing here starts a thread, and nothing is synced to disk.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use network::Hostname;
use nix::libc;
use oci::runtime::{BoxBuilder, Spec};
use runtime::lifecycle::{self, CreateOptions, Created};
use runtime::{Console, ErrorKind, Stdio};
use store::{Image, Overlay, Store};
use sys::wait::Ended;

use crate::attach::{self, Attached};
use crate::connection::{self, Connection, Shared};
use crate::leftover::{cgroups_path, destroy, end_runtime, enter};
use crate::lock::Lock;
use crate::options::RunOptions;
use crate::record::{Exit, Record, write_started};
use crate::root::Root;
use crate::signals::Signals;
use crate::spec::Ingredients;
use crate::{
    Engine, Error, Event, ExitStatus, NetworkMode, capabilities, host, image, mount, name, oom, place,
    process, spec, time, user, volume,
};

/// Runs a container in the foreground and returns when it has ended and been cleaned up.
///
/// The caller must be single-threaded: signals are blocked while the container runs (and forwarded to it), and
/// nothing else may reap children.
///
/// # Errors
/// The container never ran; see [`Error::exit_code`]. Nothing is left of it.
pub fn run(
    engine: &Engine,
    options: &RunOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<ExitStatus, Error> {
    // First of all, because it begins the program anew: the container must not get at its file (CVE-2019-5736).
    let what = "protect rcr's program file from the container".to_owned();
    runtime::seal::seal().map_err(|source| Error::Runtime { what, source })?;
    enter(engine)?;
    if options.tty {
        attach::check_terminal(options.interactive)?;
    }
    let store = Store::open(&engine.root)?;
    let (image, unpinned) = image::obtain(&store, options, events, cancel)?;
    let signals = Signals::block()?;
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Interrupted(libc::SIGINT));
    }
    let (id, lock) = new_container(engine)?;
    let mut making = Making { engine, dir: engine.container(&id), id, options, record: None };
    let running = store.pin(&making.id, &image.id).map_err(Error::from).and_then(|()| {
        drop(unpinned);
        making.bring_up(&image, &signals)
    });
    let running = match running {
        Ok(running) => running,
        Err(error) => {
            // The first error is the one to tell; what cannot be undone now is for the next command.
            let _ = end_runtime(engine, &making.id);
            let _ = connection::end(engine, &making.id, &making.dir);
            let _ = destroy(engine, &making.id, making.record.as_ref(), true, &store, lock);
            return Err(error);
        }
    };
    let status = see_through(running, &signals).map(|code| {
        let oom_killed = (options.memory.is_some() || code == 137) && oom::happened(&making.id);
        ExitStatus { code, oom_killed }
    });
    let ended =
        end_runtime(engine, &making.id).and_then(|()| connection::end(engine, &making.id, &making.dir));
    let status = status?;
    if options.rm {
        ended?;
        destroy(engine, &making.id, making.record.as_ref(), true, &store, lock)?;
    } else {
        Exit {
            finished: time::now(),
            code: status.code,
            oom_killed: status.oom_killed,
            error: String::new(),
        }
        .write(&making.dir)?;
        ended?;
        lock.finish()?;
    }
    Ok(status)
}

/// A directory that is nobody else's, and the lock on it.
fn new_container(engine: &Engine) -> Result<(String, Lock), Error> {
    loop {
        let id = name::new_id()?;
        if let Some(lock) = Lock::try_take(engine, &id)? {
            place::make_dir(&engine.container(&id), 0o700)?;
            return Ok((id, lock));
        }
    }
}

/// A container that runs.
struct Running {
    created: Created,
    attached: Attached,
    /// Holds the host's ports.
    _connection: Connection,
}

/// Serves the container until its first process has ended; answers the exit code.
fn see_through(mut running: Running, signals: &Signals) -> Result<u8, Error> {
    let pidfd = running.created.pidfd.as_fd();
    let served = running.attached.serve(pidfd, signals);
    if served.is_err() {
        // It has ended already if this fails.
        let _ = sys::pidfd::signal(pidfd, libc::SIGKILL);
    }
    let code = match sys::wait::wait(pidfd).map_err(Error::io("wait for the container"))? {
        Ended::Exited(code) => code,
        Ended::Killed(signal) => 128 + signal,
    };
    served.map(|()| u8::try_from(code).unwrap_or(u8::MAX))
}

/// A container on its way. `record` is there from when it claims a name and volumes, so that they can be given back.
struct Making<'a> {
    engine: &'a Engine,
    id: String,
    dir: PathBuf,
    options: &'a RunOptions,
    record: Option<Record>,
}

impl Making<'_> {
    fn bring_up(&mut self, image: &Image, signals: &Signals) -> Result<Running, Error> {
        let rootfs = self.stack(image)?;
        let root = Root(rootfs.as_fd());
        let connection = Connection::prepare(
            self.engine,
            &self.id,
            &self.dir,
            self.options,
            &image.config.config().clone().unwrap_or_default(),
        )?;
        let (record, spec) = self.describe(image, root, &connection)?;
        record.write(&self.dir)?;
        let record = self.record.insert(record);
        for point in &record.points {
            volume::prepare(self.engine, &self.dir, root, point)?;
        }
        if let Some(signal) = signals.end_wanted() {
            return Err(Error::Interrupted(signal));
        }
        self.start(spec, rootfs, connection)
    }

    /// The container's root: the image's layers with a writable directory on top.
    fn stack(&self, image: &Image) -> Result<OwnedFd, Error> {
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        let mut lower: Vec<&Path> = image.layers.iter().map(PathBuf::as_path).collect();
        let empty = self.dir.join("empty");
        if lower.is_empty() {
            place::make_dir(&empty, 0o755)?;
            lower.push(&empty);
        }
        place::make_dir(&work, 0o700)?;
        // The runtime attaches the root here, in the container's mount namespace alone.
        place::make_dir(&self.dir.join("rootfs"), 0o700)?;
        place::make_dir(&upper, 0o700)?;
        // The upper directory is what the container sees as its root directory.
        place::copy_attributes(lower[lower.len() - 1], &upper)?;
        Ok(store::overlay(&Overlay { lower: &lower, upper: Some((&upper, &work)), source: "rcr" })?)
    }

    /// All that depends on the image's files and on the host, and the spec that comes of it.
    fn describe(
        &self,
        image: &Image,
        root: Root<'_>,
        connection: &Connection,
    ) -> Result<(Record, Spec), Error> {
        let options = self.options;
        let config = image.config.config().clone().unwrap_or_default();
        let wanted = options.user.as_ref().or(config.user().as_ref()).map_or("", String::as_str);
        let (passwd, group) = (root.read("/etc/passwd")?, root.read("/etc/group")?);
        let user = user::resolve(wanted, &passwd, &group).map_err(Error::Invalid)?;
        let hostname = self.hostname()?;
        self.write_files(&hostname, connection)?;
        let cwd = std::env::current_dir().unwrap_or_default();
        let mut names = Vec::new();
        names.resize_with(config.volumes().iter().flatten().count() + options.volumes.len(), name::new_id);
        let mut names = names.into_iter().collect::<Result<Vec<_>, _>>()?;
        let points = mount::points(
            options,
            config.volumes().as_deref().unwrap_or_default(),
            &self.engine.volumes(),
            &cwd,
            || names.pop().unwrap_or_default(),
        )
        .map_err(Error::Invalid)?;
        let init = options.init.then(|| self.dir.join("init"));
        if let Some(path) = &init {
            place::write_new(path, sys::init::ELF, 0o555)?;
        }
        let wants_all = capabilities::wants_all(&options.cap_add, options.privileged);
        let spec = spec::spec(&Ingredients {
            image: &config,
            options,
            user: &user,
            hostname: hostname.as_str(),
            points: &points,
            files: Some(connection.shared.as_ref().map_or(&self.dir, |shared| &shared.dir)),
            network: connection.shared.as_ref().map(Shared::path),
            init: init.as_deref(),
            cgroups_path: Some(cgroups_path(&self.id)),
            all_capabilities: if wants_all { host::bounding_capabilities()? } else { 0 },
            devices: &if options.privileged { host::devices() } else { Vec::new() },
        })
        .map_err(Error::Invalid)?;
        let mut labels = image::labels(image);
        labels.retain(|(key, _)| !options.labels.iter().any(|(other, _)| other == key));
        labels.extend(options.labels.iter().cloned());
        let (entrypoint, command) = process::command(&config, options).map_err(Error::Invalid)?;
        let record = Record {
            name: name::claim(self.engine, options.name.as_deref(), &self.id)?,
            id: self.id.clone(),
            created: time::now(),
            image_id: image.id.clone(),
            options: options.clone(),
            entrypoint,
            command,
            env: process::environment(&config, options, hostname.as_str(), &user.home),
            cwd: process::workdir(&config, options).map_err(Error::Invalid)?,
            user: wanted.to_owned(),
            hostname: hostname.as_str().to_owned(),
            stop_signal: config.stop_signal().clone(),
            labels,
            points,
        };
        Ok((record, spec))
    }

    /// The user's choice; else with the host's network the host's own name, if it is a valid one.
    fn hostname(&self) -> Result<Hostname, Error> {
        if let NetworkMode::Container(other) = &self.options.network {
            let id = name::resolve(self.engine, other)?;
            let record = Record::read(&self.engine.container(&id))?;
            let record = record.ok_or_else(|| Error::NoSuchContainer(other.clone()))?;
            return record.hostname.parse().map_err(|e| Error::Invalid(format!("{e}")));
        }
        let of_host = || host::nodename().parse().ok().filter(|_| self.options.network == NetworkMode::Host);
        match self.options.hostname.clone().or_else(of_host) {
            Some(name) => Ok(name),
            None => name::short(&self.id).parse().map_err(|e| Error::Invalid(format!("{e}"))),
        }
    }

    /// The files that are bound over the image's own.
    fn write_files(&self, hostname: &Hostname, connection: &Connection) -> Result<(), Error> {
        if connection.shared.is_some() {
            // Both see the other one's.
            return Ok(());
        }
        let (hosts, resolv_conf) = connection::files(self.options, hostname, &connection.joined.attachments)?;
        place::write_new(&self.dir.join("hosts"), hosts.as_bytes(), 0o644)?;
        place::write_new(&self.dir.join("resolv.conf"), resolv_conf.as_bytes(), 0o644)?;
        place::write_new(&self.dir.join("hostname"), format!("{hostname}\n").as_bytes(), 0o644)
    }

    fn start(&self, mut spec: Spec, rootfs: OwnedFd, connection: Connection) -> Result<Running, Error> {
        let tty = self.options.tty;
        let (stdio, attached) = match tty {
            true => (Stdio::default(), Attached::default()),
            false => attach::streams(self.options.interactive)?,
        };
        if let Some(process) = spec.process_mut().as_mut().filter(|_| tty) {
            let size = attach::terminal_size();
            let size = size.map(|size| BoxBuilder::default().height(size.rows).width(size.columns).build());
            process.set_console_size(size.and_then(Result::ok));
        }
        let connect =
            |pid| connection.connect(self.engine, &self.id, pid).map_err(lifecycle::ConnectError::from);
        let mut created = lifecycle::run(CreateOptions {
            root: &self.engine.states(),
            id: &self.id,
            bundle: &self.dir,
            spec: Some(spec),
            rootfs: Some(rootfs),
            stdio,
            console: if tty { Console::Keep } else { Console::None },
            pid_file: None,
            pidfd_socket: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            listen_fds: 0,
            notify_socket: false,
            // Whatever kills rcr takes the container with it.
            parent_death_signal: Some(libc::SIGKILL),
            systemd_cgroup: false,
            rootless: None,
            connect: (!connection.is_empty()).then_some(lifecycle::Connect(&connect)),
        })
        .map_err(|source| self.start_error(source))?;
        write_started(&self.dir, time::now())?;
        let attached = match created.console.take() {
            Some(master) => Attached::terminal(master, self.options.interactive)?,
            None => attached,
        };
        Ok(Running { created, attached, _connection: connection })
    }

    /// What the runtime's refusal means to who typed the command.
    fn start_error(&self, source: runtime::Error) -> Error {
        let command =
            self.record.as_ref().and_then(|record| record.command.first()).map_or("", String::as_str);
        match source.what() {
            ErrorKind::CommandNotFound => Error::CommandNotFound {
                message: format!("command {command:?} not found in the container"),
                source,
            },
            ErrorKind::CommandNotExecutable => Error::CommandNotExecutable {
                message: format!("command {command:?} cannot be executed"),
                source,
            },
            _ => Error::Runtime { what: "start container".to_owned(), source },
        }
    }
}
