//! `commit`: an image made of a container: its image's layers, what it changed as one more, and a config.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci::sink::{ImageSink, Layer, LayerSlot, SinkError};
use oci::{Digest, Reference};
use serde_json::{Value, json};
use store::{Image, Sink, Store, Tree};

use crate::content::{find, is_scaffold, scaffold, upper};
use crate::leftover::enter;
use crate::list::life;
use crate::lock::{Kind, Lock};
use crate::record::Record;
use crate::{ContainerStatus, Engine, Error, change, time};

/// What `commit` is asked for.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// Name or ID of the container.
    pub container: String,
    /// Name of the new image.
    pub name: Option<Reference>,
    /// `--author`.
    pub author: String,
    /// `--message`.
    pub message: String,
    /// `--change`: lines of a Dockerfile, for instance `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// Freeze the container meanwhile, if it runs.
    pub pause: bool,
}

/// How long another commit may have the container frozen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Media type of a layer that is not compressed.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Makes the image; tells its ID.
///
/// # Errors
/// There is no such container; a change that cannot be made; the disk is full. Nothing is left then.
pub fn commit(engine: &Engine, options: &CommitOptions) -> Result<Digest, Error> {
    enter(engine)?;
    let (record, image) = find(engine, &options.container)?;
    let mut config: Value = serde_json::from_slice(&image.raw_config)
        .map_err(|e| Error::Invalid(format!("config of image {}: {e}", image.id)))?;
    running_config(&mut config["config"], &record);
    for line in &options.changes {
        change::apply(&mut config["config"], line).map_err(Error::Invalid)?;
    }
    let store = Store::open(&engine.root)?;
    let frozen = if options.pause { freeze(engine, &record)? } else { None };
    let packed = pack(engine, &record);
    if let Some(lock) = frozen {
        recover(engine, &record.id, lock)?;
    }
    let (mut layer, diff_id, size) = packed?;
    finish_config(&mut config, &record, options, &diff_id)?;
    publish(&store, &image, &config, (&mut layer, diff_id, size), options.name.as_ref())
}

/// `None`: it does not run, or is frozen already. If this process is killed the next command thaws it.
fn freeze(engine: &Engine, record: &Record) -> Result<Option<Lock>, Error> {
    let what = format!("pause container {}", record.name);
    // Another commit of it is under way.
    let lock = Lock::wait_for(PATIENCE, || Lock::try_take(engine, &Kind::Frozen.of(&record.id)))?;
    let lock = lock.ok_or_else(|| Error::Busy(record.name.clone()))?;
    if life(engine, &record.id)?.status != ContainerStatus::Running {
        lock.finish()?;
        return Ok(None);
    }
    match runtime::lifecycle::pause(&engine.states(), &record.id) {
        Ok(()) => Ok(Some(lock)),
        Err(source) => {
            lock.finish()?;
            Err(Error::Runtime { what, source })
        }
    }
}

/// Thaws a container that a commit had frozen, which may have been killed since.
pub(crate) fn recover(engine: &Engine, id: &str, lock: Lock) -> Result<(), Error> {
    if life(engine, id)?.status == ContainerStatus::Paused {
        let what = format!("unpause container {}", crate::name::short(id));
        let resumed = runtime::lifecycle::resume(&engine.states(), id);
        resumed.map_err(|source| Error::Runtime { what, source })?;
    }
    lock.finish()
}

/// What the container changed, as a tar in a file without a name: whatever kills rcr, nothing is left of it.
fn pack(engine: &Engine, record: &Record) -> Result<(File, Digest, u64), Error> {
    let places = scaffold(record);
    let upper = upper(engine, record)?;
    let keep = |path: &[u8], stat: &nix::sys::stat::FileStat| {
        let is_file = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG;
        // Directories that were made for mounts are needed again; they do no harm.
        !(is_file && is_scaffold(&places, path, stat))
    };
    let file = store::pack(upper.as_fd(), Tree::Layer, &keep, temporary(engine)?)?;
    measure(file)
}

/// A file of no name on the store's file system.
pub(crate) fn temporary(engine: &Engine) -> Result<File, Error> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let made = nix::fcntl::open(&engine.root, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    made.map(File::from)
        .map_err(|e| Error::io(format!("make a temporary file in {:?}", engine.root))(e.into()))
}

/// Digest and length of a file that was just written; reading it begins at its start.
pub(crate) fn measure(mut file: File) -> Result<(File, Digest, u64), Error> {
    let fail = || Error::io("read a temporary file");
    file.rewind().map_err(fail())?;
    let (digest, length) = store::digest_of(&mut file).map_err(fail())?;
    file.rewind().map_err(fail())?;
    Ok((file, digest, length))
}

/// What the container runs becomes what the image runs.
fn running_config(config: &mut Value, record: &Record) {
    if !config.is_object() {
        *config = json!({});
    }
    let options = &record.options;
    for variable in &options.env {
        change::set_env(config, variable);
    }
    if options.entrypoint.is_some() {
        config["Entrypoint"] = json!(record.entrypoint);
    }
    if options.entrypoint.is_some() || !options.command.is_empty() {
        config["Cmd"] = json!(record.command);
    }
    if let Some(user) = &options.user {
        config["User"] = json!(user);
    }
    if options.workdir.is_some() {
        config["WorkingDir"] = json!(record.cwd);
    }
    if let Some(check) = record.health.as_ref().filter(|_| options.health.is_some()) {
        config["Healthcheck"] = json!(check);
    }
    for (key, value) in &options.labels {
        config["Labels"][key] = json!(value);
    }
}

fn finish_config(
    config: &mut Value,
    record: &Record,
    options: &CommitOptions,
    diff_id: &Digest,
) -> Result<(), Error> {
    let now = time::rfc3339(time::now());
    config["created"] = json!(now);
    if !options.author.is_empty() {
        config["author"] = json!(options.author);
    }
    let history = json!({
        "created": now,
        "created_by": record.command_line().join(" "),
        "author": options.author,
        "comment": options.message,
    });
    match &mut config["history"] {
        Value::Array(list) => list.push(history),
        other => *other = json!([history]),
    }
    match &mut config["rootfs"]["diff_ids"] {
        Value::Array(list) => list.push(json!(diff_id)),
        _ => return Err(Error::Invalid(format!("config of image {}: no rootfs.diff_ids", record.image_id))),
    }
    // Docker keeps these of the build that made the image.
    if let Value::Object(config) = config {
        config.remove("container");
        config.remove("container_config");
    }
    Ok(())
}

fn publish(
    store: &Store,
    base: &Image,
    config: &Value,
    (layer, diff_id, size): (&mut File, Digest, u64),
    name: Option<&Reference>,
) -> Result<Digest, Error> {
    let sink = store.sink()?;
    let text = sink.document(&base.manifest).map_err(failed)?.unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&text)
        .map_err(|e| Error::Invalid(format!("manifest {} of image {}: {e}", base.manifest, base.id)))?;
    let mut descriptors = manifest["layers"].as_array().cloned().unwrap_or_default();
    descriptors.push(json!({ "mediaType": LAYER, "digest": diff_id, "size": size }));
    let mut layers = Vec::new();
    for (index, (descriptor, diff_id)) in
        descriptors.iter().zip(config["rootfs"]["diff_ids"].as_array().into_iter().flatten()).enumerate()
    {
        let digest = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            text.parse::<Digest>().map_err(|e| Error::Invalid(format!("manifest {}: {e}", base.manifest)))
        };
        layers.push(Layer {
            index,
            digest: digest(&descriptor["digest"])?,
            size: descriptor["size"].as_u64().unwrap_or(0),
            media_type: descriptor["mediaType"].as_str().unwrap_or_default().to_owned(),
            diff_id: digest(diff_id)?,
        });
    }
    let config = config.to_string().into_bytes();
    let (id, config_size) = store::digest_of(config.as_slice()).map_err(Error::io("hash the config"))?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": id, "size": config_size },
        "layers": descriptors,
    });
    let manifest = manifest.to_string().into_bytes();
    let (digest, _) = store::digest_of(manifest.as_slice()).map_err(Error::io("hash the manifest"))?;
    sink.put_document(&id, &config).map_err(failed)?;
    sink.put_document(&digest, &manifest).map_err(failed)?;
    sink.begin(&layers).map_err(failed)?;
    for index in 0..layers.len() {
        send(&sink, index, layer)?;
    }
    sink.commit(&digest, &id).map_err(failed)?;
    if let Some(name) = name {
        store.tag(name, &id)?;
    }
    Ok(id)
}

/// The lower layers are there already; only the last one is asked for.
fn send(sink: &Sink, index: usize, file: &mut File) -> Result<(), Error> {
    let mut writer = loop {
        match sink.layer(index).map_err(failed)? {
            LayerSlot::Present => return Ok(()),
            LayerSlot::Fetch(writer) => break writer,
            LayerSlot::Busy => sleep(Duration::from_millis(20)),
        }
    };
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read the new layer"))? {
            0 => return writer.finish().map_err(failed),
            n => writer.write(&buffer[..n]).map_err(failed)?,
        }
    }
}

fn failed(error: SinkError) -> Error {
    Error::io("store the new image")(std::io::Error::other(error))
}
