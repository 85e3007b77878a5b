//! Making a container: from an image and what the user asks for to a directory and a record. Nothing runs yet.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use network::Hostname;
use store::{Image, Overlay, Store};

use crate::health::{self, Healthcheck};
use crate::leftover::destroy;
use crate::lock::Lock;
use crate::options::RunOptions;
use crate::record::Record;
use crate::root::Root;
use crate::userns::{self, Users};
use crate::{
    Engine, Error, NetworkMode, connection, host, image, link, mount, name, place, process, time, volume,
};

/// A container that is whole and does not run.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) record: Record,
    /// Its root, a detached mount.
    pub(crate) rootfs: OwnedFd,
    pub(crate) lock: Lock,
}

/// Makes a container. On error nothing is left of it.
pub(crate) fn make(
    engine: &Engine,
    options: &RunOptions,
    image: &Image,
    store: &Store,
) -> Result<Made, Error> {
    let (id, lock) = new_container(engine)?;
    let mut record = None;
    let made = store
        .pin(&id, &image.id)
        .map_err(Error::from)
        .and_then(|()| fill(engine, &id, options, image, &mut record));
    match (made, record) {
        (Ok(rootfs), Some(record)) => Ok(Made { record, rootfs, lock }),
        (made, record) => {
            // The first error is the one to tell; what cannot be undone now is for the next command.
            let _ = destroy(engine, &id, record.as_ref(), true, store, lock);
            Err(made.err().unwrap_or(Error::NoSuchContainer(id)))
        }
    }
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

/// Everything but the directory itself. `made` is there from when a name and volumes are claimed, so that they can be
/// given back.
fn fill(
    engine: &Engine,
    id: &str,
    options: &RunOptions,
    image: &Image,
    made: &mut Option<Record>,
) -> Result<OwnedFd, Error> {
    let dir = engine.container(id);
    make_layers(&dir, image)?;
    let rootfs = stack(&dir, image)?;
    let record = made.insert(describe(engine, id, options, image)?);
    let choosing = userns::choose(engine, record, Root(rootfs.as_fd()))?;
    volume::claim(engine, &dir, record)?;
    drop(choosing);
    for point in &record.points {
        volume::prepare(engine, id, Root(rootfs.as_fd()), point)?;
    }
    if let Some(path) = &options.cidfile {
        write_id(path, id)?;
    }
    if options.init {
        place::write_new(&dir.join("init"), sys::init::ELF, 0o555)?;
    }
    Ok(rootfs)
}

/// `--cidfile`.
fn write_id(path: &Path, id: &str) -> Result<(), Error> {
    match place::write_new(path, id.as_bytes(), 0o644) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::Invalid(format!(
                "the file {path:?} exists: maybe its container runs; remove it or take another --cidfile"
            )))
        }
        result => result,
    }
}

/// Takes back what [`make`] made, for a container that could not be started.
pub(crate) fn unmake(engine: &Engine, record: &Record, store: &Store, lock: Lock) {
    // The first error is the one to tell; what cannot be undone now is for the next command.
    let _ = destroy(engine, &record.id, Some(record), true, store, lock);
    let _ = record.options.cidfile.as_ref().map(|path| place::remove_file(path));
}

/// The writable half of the container's root.
fn make_layers(dir: &Path, image: &Image) -> Result<(), Error> {
    let (upper, empty) = (dir.join("upper"), dir.join("empty"));
    let top = match image.layers.last() {
        Some(top) => top,
        None => {
            place::make_dir(&empty, 0o755)?;
            &empty
        }
    };
    place::make_dir(&dir.join("work"), 0o700)?;
    // The runtime attaches the root here, in the container's mount namespace alone.
    place::make_dir(&dir.join("rootfs"), 0o700)?;
    place::make_dir(&upper, 0o700)?;
    // The upper directory is what the container sees as its root directory.
    place::copy_attributes(top, &upper)
}

/// The container's root: the image's layers with its writable directory on top.
pub(crate) fn stack(dir: &Path, image: &Image) -> Result<OwnedFd, Error> {
    stack_by(dir, image, store::overlay)
}

/// The same, for a container with a user namespace.
pub(crate) fn stack_for(dir: &Path, image: &Image, users: &Users) -> Result<OwnedFd, Error> {
    stack_by(dir, image, |what| store::mapped_overlay(what, users.owners()))
}

fn stack_by(
    dir: &Path,
    image: &Image,
    overlay: impl Fn(&Overlay<'_>) -> Result<OwnedFd, store::Error>,
) -> Result<OwnedFd, Error> {
    let (upper, work, empty) = (dir.join("upper"), dir.join("work"), dir.join("empty"));
    let mut lower: Vec<&Path> = image.layers.iter().map(PathBuf::as_path).collect();
    if lower.is_empty() {
        lower.push(&empty);
    }
    Ok(overlay(&Overlay { lower: &lower, upper: Some((&upper, &work)), source: "rcr" })?)
}

/// What there is to know about the container, from its options and its image.
fn describe(engine: &Engine, id: &str, options: &RunOptions, image: &Image) -> Result<Record, Error> {
    let config = image.config.config().clone().unwrap_or_default();
    let wanted = options.user.as_ref().or(config.user().as_ref()).map_or("", String::as_str);
    let hostname = hostname(engine, id, options)?;
    let cwd = std::env::current_dir().unwrap_or_default();
    let mut names = Vec::new();
    names.resize_with(config.volumes().iter().flatten().count() + options.volumes.len(), name::new_id);
    let mut names = names.into_iter().collect::<Result<Vec<_>, _>>()?;
    let points = mount::points(
        options,
        volume::from_others(engine, options)?,
        config.volumes().as_deref().unwrap_or_default(),
        &engine.volumes(),
        &cwd,
        || names.pop().unwrap_or_default(),
    )
    .map_err(Error::Invalid)?;
    let mut labels = image::labels(image);
    labels.retain(|(key, _)| !options.labels.iter().any(|(other, _)| other == key));
    labels.extend(options.labels.iter().cloned());
    let (entrypoint, command) = process::command(&config, options).map_err(Error::Invalid)?;
    let cwd = process::workdir(&config, options).map_err(Error::Invalid)?;
    Ok(Record {
        name: name::claim(engine, options.name.as_deref(), id)?,
        id: id.to_owned(),
        created: time::now(),
        image_id: image.id.clone(),
        options: RunOptions { links: link::claim(engine, options)?, ..options.clone() },
        entrypoint,
        command,
        env: process::environment(&config, options, hostname.as_str(), &[], None),
        cwd,
        user: wanted.to_owned(),
        hostname: hostname.as_str().to_owned(),
        stop_signal: config.stop_signal().clone(),
        labels,
        exposed: connection::exposed_ports(options, image),
        points,
        health: Healthcheck::merge(options.health.as_ref(), image),
        shell: health::shell_of(image),
        ids: None,
    })
}

/// The user's choice; that of the container whose network it shares; else with the host's network or UTS namespace the
/// host's own name, if it is a valid one.
fn hostname(engine: &Engine, id: &str, options: &RunOptions) -> Result<Hostname, Error> {
    if options.isolation.uts_host && options.hostname.is_some() {
        let why = "--hostname and --uts host exclude each other: the name would be the host's";
        return Err(Error::Invalid(why.to_owned()));
    }
    if let NetworkMode::Container(other) = &options.network {
        let record = Record::read(&engine.container(&name::resolve(engine, other)?))?;
        let record = record.ok_or_else(|| Error::NoSuchContainer(other.clone()))?;
        return record.hostname.parse().map_err(|e| Error::Invalid(format!("{e}")));
    }
    let of_host = || {
        host::nodename()
            .parse()
            .ok()
            .filter(|_| options.network == NetworkMode::Host || options.isolation.uts_host)
    };
    match options.hostname.clone().or_else(of_host) {
        Some(name) => Ok(name),
        None => name::short(id).parse().map_err(|e| Error::Invalid(format!("{e}"))),
    }
}
