//! Containers as a user thinks of them: images pulled by name, run with flags, listed, inspected, removed.
//!
//! Owns the translation of an image's config and the user's flags into an OCI runtime spec, the record of each
//! container below ROOT/containers, its foreground life, and the cleaning up after processes that were killed.
//! Pulling, storing, starting and naming hosts belong to the crates it joins: `puller`, `store`, `runtime`, `network`.

mod archive;
mod attach;
mod bundle;
mod capabilities;
mod cdi;
mod change;
mod client;
mod commit;
mod connection;
mod content;
mod copy;
mod detach;
mod disk;
mod error;
mod exec;
mod fork;
mod health;
mod host;
mod ids;
mod image;
mod info;
mod inspect;
mod isolation;
mod joined;
mod joining;
mod keys;
mod leftover;
mod limits;
mod link;
mod list;
mod lock;
mod logs;
mod make;
mod monitor;
mod mount;
mod name;
mod name_server;
mod names;
mod networks;
mod oom;
pub mod options;
mod place;
mod plugins;
mod probe;
mod process;
mod pump;
mod record;
mod root;
mod run;
mod seccomp;
mod shm;
mod signals;
mod size;
mod spec;
mod start;
mod stop;
mod time;
mod top;
mod tree;
mod upkeep;
mod usage;
mod user;
mod userns;
mod volume;
mod volumes;

use std::path::PathBuf;

pub use archive::{ArchiveFormat, load, save, tag};
pub use bundle::bundle;
pub use cdi::{DeviceRequest, is_qualified as is_device_name};
pub use client::{AttachOptions, Attended};
pub use commit::{CommitOptions, commit};
pub use content::{Change, diff, export};
pub use copy::{CopyOptions, copy_in, copy_in_tar, copy_out, copy_out_tar};
pub use detach::{attach, create, rename, restart, run_detached, start, start_attached, startable};
pub use disk::{ContainerRoom, DiskUsage, ImageRoom, disk_usage};
pub use error::{Error, in_full};
pub use exec::{Executed, HOLD_TERMINAL, exec, hold_terminal};
pub use health::{HealthStatus, Healthcheck};
pub use ids::{IdRange, Ids};
pub use image::{images, pull, remove_image};
pub use info::{info, version};
pub use inspect::{Kind as ObjectKind, inspect};
pub use isolation::{Device, DeviceRule, Ipc, Isolation, Seccomp, Share};
pub use joining::{connect_network, disconnect_network};
pub use limits::Limits;
pub use list::{ps, remove};
pub use logs::{LogLine, LogsOptions, logs};
pub use monitor::{End, ended};
pub use name_server::{NAME_SERVER, serve_names};
pub use names::{Thing, names};
pub use network::Error as NetworkError;
pub use network::{
    ContainerLink, Dns, Driver, Exposed, Hostname, Join, Mode as NetworkMode, Network, NewNetwork,
    PortRequest, Protocol, Published, Subnet, parse_mac,
};
pub use networks::{
    NetworkUse, create_network, inspect_network, networks, ports, prune_networks, remove_network,
};
pub use oci::{Digest, Platform, Reference};
pub use options::{
    ExecOptions, LogOptions, Origin, PullOptions, PullPolicy, RemoveOptions, RestartPolicy, RunOptions,
    StreamName, Tmpfs, Ulimit, Volume,
};
pub use probe::check;
pub use puller::{Event, Source};
pub use run::run;
pub use runtime::cli::signal::number as signal_number;
pub use size::size;
pub use stop::{kill, pause, stop, unpause, wait};
pub use time::duration;
pub use top::{Processes, top};
pub use upkeep::{Finding, Problem, fsck, prune_containers, prune_images};
pub use usage::{Reading, Usage, usage};
pub use userns::Userns;
pub use volumes::{VolumeSummary, create_volume, inspect_volume, prune_volumes, remove_volume, volumes};

/// Where everything is kept, by absolute paths. Making one touches nothing.
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
    /// Its command has ended, with this exit code, and is going to be started again.
    Restarting(u8),
    /// Its command has ended, with this exit code.
    Exited(u8),
}

impl ContainerStatus {
    /// Whether there is a process of it.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting(_) => "restarting",
            Self::Exited(_) => "exited",
        }
    }
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
    /// What its health checks have found, if it has some and was started.
    pub health: Option<HealthStatus>,
    /// Process id of its first process as the host sees it, while it runs.
    pub pid: Option<i32>,
    /// What it is on.
    pub network: NetworkMode,
    /// Ports of the host that are passed on to it, while it runs.
    pub ports: Vec<Published>,
    /// Ports that image and `run` name, and those that are published.
    pub exposed: Vec<Exposed>,
    /// Sources of its mounts: host paths and volume names.
    pub mounts: Vec<String>,
    /// How many of them are volumes.
    pub volumes: usize,
    /// Labels of image and `run`.
    pub labels: Vec<(String, String)>,
}

/// How much room a container takes, in bytes of file content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerSize {
    /// What it has written.
    pub written: u64,
    /// Its image, which others may use too.
    pub image: u64,
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
