//! Containers as a user thinks of them: images pulled by name, run with flags, listed, inspected, removed.
//!
//! Owns the translation of an image's config and the user's flags into an OCI runtime spec, the record of each
//! container below ROOT/containers, its foreground life, and the cleaning up after processes that were killed.
//! Pulling, storing, starting and naming hosts belong to the crates it joins: `puller`, `store`, `runtime`, `network`.

mod error;
pub mod options;
mod upkeep;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

pub use error::Error;
pub use network::{Hostname, Mode as NetworkMode};
pub use oci::{Digest, Platform, Reference};
pub use options::{Origin, PullOptions, PullPolicy, RemoveOptions, RunOptions, Tmpfs, Ulimit, Volume};
pub use puller::Event;
pub use upkeep::{Finding, Problem, PruneOptions, Pruned, fsck, prune};

/// Where everything is kept. Making one touches nothing.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Images and containers; survives a reboot. `/var/lib/rcr` for root.
    pub root: PathBuf,
    /// State of running containers, on a tmpfs. `/run/rcr` for root.
    pub runroot: PathBuf,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code, or 128+N of the signal that killed it.
    pub code: u8,
    /// The kernel killed a process of it for want of memory.
    pub oom_killed: bool,
}

/// An image that a pull has just brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Image ID: digest of the config.
    pub id: Digest,
    /// Digest of the index or manifest that the name stood for.
    pub digest: Option<Digest>,
    /// Names it got.
    pub names: Vec<Reference>,
}

/// A row of `images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// Image ID: digest of the config.
    pub id: Digest,
    /// Its names, sorted; none when all went to newer images.
    pub names: Vec<Reference>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// When it was built, RFC 3339 as the config has it.
    pub created: Option<String>,
    /// Size of its layers, unpacked, in bytes.
    pub size: u64,
    /// What it runs on.
    pub platform: Platform,
    /// Labels of its config.
    pub labels: Vec<(String, String)>,
}

/// What `rmi` took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedImage {
    /// A name; the image may live on under others.
    Untagged(Reference),
    /// The image itself.
    Deleted(Digest),
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStatus {
    /// Made, its command does not run yet.
    Created,
    /// Its command runs.
    Running,
    /// Frozen.
    Paused,
    /// Its command has ended, with this exit code.
    Exited(u8),
}

/// A row of `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as it was named at `run`.
    pub image: String,
    /// ID of the image.
    pub image_id: Digest,
    /// Command line, entrypoint included.
    pub command: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When its command started, in seconds since 1970.
    pub started: Option<i64>,
    /// When its command ended, in seconds since 1970.
    pub finished: Option<i64>,
    /// Where it is in its life.
    pub status: ContainerStatus,
    /// Process id of its first process as the host sees it, while it runs.
    pub pid: Option<i32>,
    /// `none` or `host`.
    pub network: NetworkMode,
    /// Sources of its mounts: host paths and volume names.
    pub mounts: Vec<String>,
    /// Labels of image and `run`.
    pub labels: Vec<(String, String)>,
}

/// What `version` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Version of rcr.
    pub version: &'static str,
    /// Version of the runtime-spec that it implements.
    pub runtime_spec: &'static str,
    /// For instance `linux/amd64`.
    pub platform: Platform,
    /// Release of the running kernel.
    pub kernel: String,
}

/// What `info` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Where images and containers are.
    pub root: PathBuf,
    /// Where running containers' state is.
    pub runroot: PathBuf,
    /// How many images.
    pub images: usize,
    /// How many containers run.
    pub running: usize,
    /// How many are paused.
    pub paused: usize,
    /// How many are not running.
    pub stopped: usize,
    /// File system type below root, for instance `ext4`.
    pub file_system: String,
    /// `v1`, `v2` or `hybrid`.
    pub cgroups: String,
    /// Release of the running kernel.
    pub kernel: String,
    /// `PRETTY_NAME` of the host's os-release.
    pub operating_system: String,
    /// The host's name.
    pub name: String,
    /// The host's platform.
    pub platform: Platform,
    /// Processors that rcr may use.
    pub cpus: usize,
    /// Memory of the host, in bytes.
    pub memory: u64,
    /// Not run by root.
    pub rootless: bool,
}

/// Fetches an image and gives it its names. `events` is called from several threads. Once `cancel` is set the pull
/// ends within a second, with [`Error::Pull`].
///
/// # Errors
/// Whatever the registry, the network, the image or the store is to blame for.
pub fn pull(
    engine: &Engine,
    options: &PullOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<PulledImage, Error> {
    let _ = (engine, options, events, cancel);
    Err(Error::Invalid("pull: not there yet".into()))
}

/// All images, newest first.
///
/// # Errors
/// The store cannot be read.
pub fn images(engine: &Engine) -> Result<Vec<ImageSummary>, Error> {
    let _ = engine;
    Err(Error::Invalid("images: not there yet".into()))
}

/// Removes a name, or with its ID an image and, with `force`, all its names.
///
/// # Errors
/// [`Error::NoSuchImage`], [`Error::ImageInUse`].
pub fn remove_image(engine: &Engine, image: &str, force: bool) -> Result<Vec<RemovedImage>, Error> {
    let _ = (engine, force);
    Err(Error::NoSuchImage(image.into()))
}

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
    let _ = (engine, options, events, cancel);
    Err(Error::Invalid("run: not there yet".into()))
}

/// Running containers, or `all`; newest first.
///
/// # Errors
/// The records cannot be read.
pub fn ps(engine: &Engine, all: bool) -> Result<Vec<ContainerSummary>, Error> {
    let _ = (engine, all);
    Err(Error::Invalid("ps: not there yet".into()))
}

/// Removes a container by name, ID or the beginning of an ID, and returns its ID.
///
/// # Errors
/// [`Error::NoSuchContainer`], [`Error::Running`].
pub fn remove(engine: &Engine, container: &str, options: RemoveOptions) -> Result<String, Error> {
    let _ = (engine, options);
    Err(Error::NoSuchContainer(container.into()))
}

/// Everything about a container, else an image, in the shape of `docker inspect` (one element of its array).
///
/// # Errors
/// [`Error::NoSuchObject`].
pub fn inspect(engine: &Engine, name: &str) -> Result<serde_json::Value, Error> {
    let _ = engine;
    Err(Error::NoSuchObject(name.into()))
}

/// Writes DIR/rootfs, a full copy of the image's root, and DIR/config.json, which runs its command.
///
/// # Errors
/// DIR is not empty; the image is not here; the disk is full. Nothing is left in DIR then.
pub fn bundle(engine: &Engine, image: &str, dir: &std::path::Path) -> Result<(), Error> {
    let _ = (engine, dir);
    Err(Error::NoSuchImage(image.into()))
}

/// Versions of rcr and of what it implements.
pub fn version() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION"),
        runtime_spec: "1.3.0",
        platform: Platform::host(),
        kernel: String::new(),
    }
}

/// What rcr knows about the host and its own store.
///
/// # Errors
/// The store or the records cannot be read.
pub fn info(engine: &Engine) -> Result<Info, Error> {
    let _ = engine;
    Err(Error::Invalid("info: not there yet".into()))
}
