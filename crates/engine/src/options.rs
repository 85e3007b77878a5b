//! What a user asks of `run`, as plain values: nothing here has been looked up or defaulted from an image.

use std::net::IpAddr;
use std::path::PathBuf;

use network::{ContainerLink, Dns, Exposed, Hostname, Mode, PortRequest};
use oci::Platform;
use serde::{Deserialize, Serialize};

use crate::health::Healthcheck;
use crate::isolation::Isolation;
use crate::limits::Limits;

/// Everything `run` can be asked for. [`RunOptions::new`] has docker's defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunOptions {
    /// Name or ID of the image, or a source of one (`oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE`).
    pub image: String,
    /// Command and arguments after the image; empty takes the image's.
    pub command: Vec<String>,
    /// `--name`: letters, digits, `_`, `.` and `-`; `None` makes one up.
    pub name: Option<String>,
    /// `--rm`: remove the container and its anonymous volumes when it has ended.
    pub rm: bool,
    /// `-i`: the caller's standard input reaches the container.
    pub interactive: bool,
    /// `-t`: give the container a terminal.
    pub tty: bool,
    /// `-e` and `--env-file`, resolved: `KEY=VALUE` each, later ones win.
    pub env: Vec<String>,
    /// `-v`.
    pub volumes: Vec<Volume>,
    /// `--volumes-from`: `CONTAINER[:ro]`, whose binds and volumes this one gets too.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// `--tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
    /// `-w`: absolute path in the container, made if it is missing.
    pub workdir: Option<String>,
    /// `-u`: `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// `--hostname`; `None` is the short ID, or the host's own name with [`Mode::Host`].
    pub hostname: Option<Hostname>,
    /// `--entrypoint`: one word that replaces the image's Entrypoint and drops its Cmd; `Some("")` only drops both.
    pub entrypoint: Option<String>,
    /// `--read-only`: the root file system cannot be written.
    pub read_only: bool,
    /// `--network`.
    pub network: Mode,
    /// `-p`.
    #[serde(default)]
    pub ports: Vec<PortRequest>,
    /// `-P`: publish every port that the image or `expose` names.
    #[serde(default)]
    pub publish_all: bool,
    /// `--expose`.
    #[serde(default)]
    pub expose: Vec<Exposed>,
    /// `--dns`, `--dns-search`, `--dns-option`.
    #[serde(default)]
    pub dns: Dns,
    /// `--add-host`: names with their addresses, for `/etc/hosts`; without one the host's, as the container reaches it.
    #[serde(default)]
    pub extra_hosts: Vec<(Hostname, Option<IpAddr>)>,
    /// `--link`: other containers under names of this one's own.
    #[serde(default)]
    pub links: Vec<ContainerLink>,
    /// `--cap-add`: `NET_ADMIN`, `CAP_NET_ADMIN`, `ALL`; case does not matter.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, as `cap_add`.
    pub cap_drop: Vec<String>,
    /// `--privileged`.
    pub privileged: bool,
    /// `--memory` in bytes; 0 is no limit.
    pub memory: Option<u64>,
    /// `--cpus` in billionths of a processor; 0 is no limit.
    pub nano_cpus: Option<u64>,
    /// `--pids-limit`; 0 and below are no limit.
    pub pids_limit: Option<i64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// Limits besides those above.
    #[serde(default)]
    pub limits: Limits,
    /// Namespaces, devices, sysctls, security options.
    #[serde(default)]
    pub isolation: Isolation,
    /// `--init`: an init of rcr's own is process 1, forwards signals and reaps.
    pub init: bool,
    /// `--label`: kept with the container, shown by `inspect`.
    pub labels: Vec<(String, String)>,
    /// `--annotation`: kept and handed to the runtime as annotations of the spec.
    pub annotations: Vec<(String, String)>,
    /// When to pull.
    #[serde(skip)]
    pub pull: PullPolicy,
    /// `--platform`; `None` is the host's.
    #[serde(skip)]
    pub platform: Option<Platform>,
    /// `--tls-verify`, as [`PullOptions::tls_verify`].
    #[serde(skip)]
    pub tls_verify: Option<bool>,
    /// `--cidfile`: a new file that gets the container's ID.
    #[serde(skip)]
    pub cidfile: Option<PathBuf>,
    /// `-d`: it was made to run in the background.
    #[serde(default)]
    pub detach: bool,
    /// `-a`: which of the caller's streams are connected; empty is what `-i` says, and output.
    #[serde(default)]
    pub attach: Vec<StreamName>,
    /// `--restart`.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// `--health-…` and `--no-healthcheck`; what is not given is the image's.
    #[serde(default)]
    pub health: Option<Healthcheck>,
    /// `--stop-signal`: a name or number; `None` is the image's, or SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// `--stop-timeout` in seconds, after which `stop` kills; below 0 never. `None` is 10.
    #[serde(default)]
    pub stop_timeout: Option<i64>,
    /// `--log-driver` and `--log-opt`, for a detached one.
    #[serde(default)]
    pub log: LogOptions,
}

/// One of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// When a detached container that has ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When its exit code is not 0; at most so often, if that is not 0.
    OnFailure(u32),
    /// Always, until the user stops it.
    Always,
    /// As always; at boot it is not started if the user had stopped it.
    UnlessStopped,
}

impl RestartPolicy {
    /// docker's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }
}

/// What becomes of a detached container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// It is kept (`json-file`, not `none`).
    pub keep: bool,
    /// Bytes after which the file is rotated; 0 is never.
    pub max_size: u64,
    /// How many files there are at most.
    pub max_file: u32,
}

impl Default for LogOptions {
    /// 10 MiB, three times: a container that talks a lot does not fill the disk.
    fn default() -> Self {
        Self { keep: true, max_size: 10 << 20, max_file: 3 }
    }
}

/// What `pull` is asked for.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Name of the image, or a source of one.
    pub image: String,
    /// `--platform`; `None` is the host's.
    pub platform: Option<Platform>,
    /// `Some(false)`: certificates are not verified and plain http is allowed; `None`: as `registries.conf` says.
    pub tls_verify: Option<bool>,
    /// A directory of certificates for the registry (`--cert-dir`).
    pub cert_dir: Option<PathBuf>,
    /// A file of credentials (`--authfile`) that goes before the usual ones.
    pub auth_file: Option<PathBuf>,
}

/// What `exec` is asked for.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Name, ID or beginning of an ID.
    pub container: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// `-d`: do not wait for its end.
    pub detach: bool,
    /// `-i`: the caller's standard input reaches it.
    pub interactive: bool,
    /// `-t`: give it a terminal.
    pub tty: bool,
    /// `--detach-keys`: what is typed to leave it alone.
    pub detach_keys: Vec<u8>,
    /// `-e` and `--env-file`, resolved: `KEY=VALUE` each, on top of the container's.
    pub env: Vec<String>,
    /// `-w`: absolute path in the container; `None` is the container's own.
    pub workdir: Option<String>,
    /// `-u`: `USER[:GROUP]`, names or numbers; `None` is the container's own.
    pub user: Option<String>,
    /// `--privileged`: every capability that the caller has.
    pub privileged: bool,
}

/// What `rm` is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it if it runs; an unknown name is no error.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// When `run` pulls its image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time, also when it is here.
    Always,
    /// When it is not here.
    #[default]
    Missing,
    /// Never: not being here is an error.
    Never,
}

/// What a volume shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A path of the host; relative ones are taken from the working directory.
    Path(String),
    /// A volume by name, made at its first use.
    Named(String),
    /// A new volume without a name.
    Anonymous,
}

/// A bind mount or volume (`-v`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What is mounted.
    pub origin: Origin,
    /// Where, an absolute path in the container.
    pub target: String,
    /// Options as typed: `ro`, `rw`, propagation, `noexec`, `nocopy`, …; `norro`: read-only, but not what is mounted
    /// below it.
    pub options: Vec<String>,
    /// The path must be there (`--mount`); `-v` makes a directory.
    #[serde(default)]
    pub must_exist: bool,
}

/// A tmpfs in the container (`--tmpfs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where, an absolute path in the container.
    pub target: String,
    /// Mount options as typed, for instance `size=64m`; on top of `noexec,nosuid,nodev`.
    pub options: Vec<String>,
}

/// A resource limit (`--ulimit`); `u64::MAX` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Name in lower case without `RLIMIT_`, for instance `nofile`.
    pub name: String,
    /// The limit the kernel enforces.
    pub soft: u64,
    /// How far an unprivileged process may raise it.
    pub hard: u64,
}

impl RunOptions {
    /// A run of `image` with every option at docker's default.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            command: Vec::new(),
            name: None,
            rm: false,
            interactive: false,
            tty: false,
            env: Vec::new(),
            volumes: Vec::new(),
            volumes_from: Vec::new(),
            tmpfs: Vec::new(),
            workdir: None,
            user: None,
            hostname: None,
            entrypoint: None,
            read_only: false,
            network: Mode::default(),
            ports: Vec::new(),
            publish_all: false,
            expose: Vec::new(),
            dns: Dns::default(),
            extra_hosts: Vec::new(),
            links: Vec::new(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            memory: None,
            nano_cpus: None,
            pids_limit: None,
            ulimits: Vec::new(),
            limits: Limits::default(),
            isolation: Isolation::default(),
            init: false,
            labels: Vec::new(),
            annotations: Vec::new(),
            pull: PullPolicy::Missing,
            platform: None,
            tls_verify: None,
            cidfile: None,
            detach: false,
            attach: Vec::new(),
            restart: RestartPolicy::No,
            health: None,
            stop_signal: None,
            stop_timeout: None,
            log: LogOptions::default(),
        }
    }
}

impl PullOptions {
    /// A pull of `image` for the host's platform with the settings of the process's user.
    pub fn new(image: impl Into<String>) -> Self {
        Self { image: image.into(), platform: None, tls_verify: None, cert_dir: None, auth_file: None }
    }
}
