//! Starting a container that is made: from its record and its image to a process. `run`, `start` and restarts share it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use network::Hostname;
use oci::image::Config;
use oci::runtime::{BoxBuilder, Spec};
use runtime::lifecycle::{self, CreateOptions, Created};
use runtime::{Console, Stdio};
use store::Image;
use sys::tty::Size;

use crate::connection::{self, Connection};
use crate::health::Health;
use crate::isolation::{Found, Ipc};
use crate::leftover::{cgroups_path, end_runtime};
use crate::link::{self, Links};
use crate::record::{Record, read_started, write_started};
use crate::root::Root;
use crate::spec::Ingredients;
use crate::user::{self, User};
use crate::userns::Users;
use crate::{Engine, Error, capabilities, host, make, place, shm, spec, time};

/// What the starting process gives to the container.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Its standard streams, if it gets no terminal.
    pub(crate) stdio: Stdio,
    /// Size of its terminal.
    pub(crate) size: Option<Size>,
    /// The signal it gets when the starting process dies.
    pub(crate) parent_death_signal: Option<i32>,
}

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) created: Created,
    /// Holds the host's ports.
    pub(crate) connection: Connection,
}

/// Starts the command of a container that does not run, whose lock the caller holds. On error nothing runs, and the
/// container is what it was.
pub(crate) fn start(
    engine: &Engine,
    record: &Record,
    image: &Image,
    rootfs: OwnedFd,
    given: Given,
) -> Result<Running, Error> {
    let dir = engine.container(&record.id);
    let started = bring_up(engine, record, &dir, image, rootfs, given);
    if started.is_err() {
        // The first error is the one to tell; what cannot be undone now is for the next command.
        let _ = end_runtime(engine, &record.id);
        let _ = connection::end(engine, &record.id, &dir);
    }
    started
}

fn bring_up(
    engine: &Engine,
    record: &Record,
    dir: &Path,
    image: &Image,
    rootfs: OwnedFd,
    given: Given,
) -> Result<Running, Error> {
    let root = Root(rootfs.as_fd());
    let (passwd, group) = (root.read("/etc/passwd")?, root.read("/etc/group")?);
    let mut user = user::resolve(&record.user, &passwd, &group).map_err(Error::Invalid)?;
    user.join(&record.options.isolation.groups, &group).map_err(Error::Invalid)?;
    let isolation = &record.options.isolation;
    let mut found = isolation.find(engine)?;
    found.users = Users::open(engine, record)?;
    let rootfs = match &found.users {
        None => rootfs,
        Some(users) => {
            users.check(&user)?;
            if !record.options.tty {
                users.own_pipes(&given.stdio)?;
            }
            drop(rootfs);
            make::stack_for(dir, image, users)?
        }
    };
    let connection = Connection::prepare(engine, &record.id, dir, &record.options, image)?;
    let links = link::find(engine, record, &connection.joined)?;
    write_files(record, dir, &connection, &links, found.users.as_ref())?;
    if isolation.ipc == Ipc::Shareable {
        let root = found.users.as_ref().map(Users::root);
        found.shm = Some(shm::make(engine, &record.id, isolation.shm_size, root)?);
    }
    let mut spec = describe(record, dir, image, &user, &connection, &found, &links)?;
    if let Some(process) = spec.process_mut().as_mut().filter(|_| record.options.tty) {
        let size = given.size;
        let size = size.map(|size| BoxBuilder::default().height(size.rows).width(size.columns).build());
        process.set_console_size(size.and_then(Result::ok));
    }
    if spec.hooks().is_some() {
        // Hooks find the container's root by it: their state names the bundle (config.md, "State").
        write_config(dir, &spec)?;
    }
    Health::forget(dir)?;
    let connect = |pid| connection.connect(engine, &record.id, pid).map_err(lifecycle::ConnectError::from);
    let created = lifecycle::run(CreateOptions {
        root: &engine.states(),
        id: &record.id,
        bundle: dir,
        spec: Some(spec),
        rootfs: Some(rootfs),
        stdio: given.stdio,
        console: if record.options.tty { Console::Keep } else { Console::None },
        pid_file: None,
        pidfd_socket: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        listen_fds: 0,
        notify_socket: false,
        parent_death_signal: given.parent_death_signal,
        systemd_cgroup: false,
        rootless: None,
        connect: (!connection.is_empty()).then_some(lifecycle::Connect(&connect)),
    })
    .map_err(|source| Error::start("start container", record.command.first(), source))?;
    if read_started(dir).is_some() {
        link::renew(engine, record, &connection.joined);
    }
    write_started(dir, time::now())?;
    Ok(Running { created, connection })
}

/// Refuses what [`start`] would refuse of the record's options.
pub(crate) fn check(record: &Record, dir: &Path, image: &Image) -> Result<(), Error> {
    let nobody = user::resolve("0:0", b"", b"").map_err(Error::Invalid)?;
    describe(record, dir, image, &nobody, &Connection::default(), &Found::default(), &Links::default())
        .map(drop)
}

fn describe(
    record: &Record,
    dir: &Path,
    image: &Image,
    user: &User,
    connection: &Connection,
    found: &Found,
    links: &Links,
) -> Result<Spec, Error> {
    let options = &record.options;
    let config: Config = image.config.config().clone().unwrap_or_default();
    let init = options.init.then(|| dir.join("init"));
    let wants_all = capabilities::wants_all(&options.cap_add, options.privileged);
    spec::spec(&Ingredients {
        image: &config,
        options,
        user,
        hostname: &record.hostname,
        points: &record.points,
        files: Some(connection.shared.as_ref().map_or(dir, |shared| &shared.dir)),
        network: connection.namespace(),
        init: init.as_deref(),
        cgroups_path: Some(cgroups_path(record)),
        all_capabilities: if wants_all { host::bounding_capabilities()? } else { 0 },
        devices: &if options.privileged { host::devices() } else { Vec::new() },
        found,
        linked: &links.env,
        kernel: host::kernel_version(),
    })
    .map_err(Error::Invalid)
}

fn write_config(dir: &Path, spec: &Spec) -> Result<(), Error> {
    let path = dir.join("config.json");
    let json = serde_json::to_vec(spec).map_err(|source| Error::Damaged { path: path.clone(), source })?;
    place::write_anew(&path, &json, 0o600)
}

/// The files that are bound over the image's own. They are new for each start, because addresses may be.
fn write_files(
    record: &Record,
    dir: &Path,
    connection: &Connection,
    links: &Links,
    users: Option<&Users>,
) -> Result<(), Error> {
    if connection.shared.is_some() {
        // It sees those of whose network it shares.
        return Ok(());
    }
    let hostname: Hostname = record.hostname.parse().map_err(|e| Error::Invalid(format!("{e}")))?;
    let joined = &connection.joined;
    let (hosts, resolv_conf) = connection::files(&record.options, &hostname, joined)?;
    if !joined.attachments.is_empty()
        && !network::names_a_server(&resolv_conf)
        && network::names_a_server(&host::etc("resolv.conf"))
    {
        tracing::warn!(
            "the container has no name server: the host's listen on loopback only, which is not reached from its network; \
             give it one with --dns"
        );
    }
    place::write_anew(&dir.join("hosts"), (hosts + &links.hosts).as_bytes(), 0o644)?;
    place::write_anew(&dir.join("resolv.conf"), resolv_conf.as_bytes(), 0o644)?;
    place::write_anew(&dir.join("hostname"), format!("{hostname}\n").as_bytes(), 0o644)?;
    ["hosts", "resolv.conf", "hostname"]
        .iter()
        .try_for_each(|name| users.map_or(Ok(()), |users| users.own(&dir.join(name))))
}
