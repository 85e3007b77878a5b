//! The operations on a container, as the `rcr-runtime` commands and the engine call them.
//!
//! Every function takes the state root (one directory per container below it) and a container id. None of them
//! starts a thread, prints, or keeps a handle between calls: what is known about a container is its state directory.

mod barrier;
mod checkpoint;
mod create;
mod delete;
mod directory;
mod events;
mod exec;
mod hooks;
mod id;
mod kill;
mod list;
mod notify;
mod oom;
mod pause;
mod pid_file;
mod proc_stat;
mod record;
mod restore;
mod shared_root;
mod start;
mod update;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci::runtime::{Process, Spec};

pub use checkpoint::checkpoint;
pub use create::{create, run};
pub use delete::delete;
pub use events::{Event, events, stats};
pub use exec::{exec, process};
pub use kill::{init, kill};
pub use list::{Listed, list, state};
pub use notify::Notify;
pub use pause::{pause, processes, resume};
pub use restore::restore;
pub use start::start;
pub use update::update;

use crate::{Console, Stdio};

/// What [`create`] is asked for.
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// Directory of all containers' state directories, on a tmpfs.
    pub root: &'a Path,
    /// The container's id: letters, digits, `_`, `+`, `-` and `.`.
    pub id: &'a str,
    /// The bundle directory.
    pub bundle: &'a Path,
    /// The parsed configuration; `None` reads `config.json` of the bundle.
    pub spec: Option<Spec>,
    /// A detached mount to use as the root file system instead of `root.path`; attached only in the container's
    /// own mount namespace.
    pub rootfs: Option<OwnedFd>,
    /// The process's standard streams.
    pub stdio: Stdio,
    /// What happens to the terminal, when the spec asks for one.
    pub console: Console,
    /// File to write the process id to, atomically.
    pub pid_file: Option<&'a Path>,
    /// Unix socket to send a pidfd of the process to.
    pub pidfd_socket: Option<&'a Path>,
    /// Enter the root with MS_MOVE and chroot instead of pivot_root (for a root on a ramdisk).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after 2 the process keeps, those of `listen_fds` included.
    pub preserve_fds: u32,
    /// How many of them are systemd's sockets (`LISTEN_FDS`).
    pub listen_fds: u32,
    /// Signal for the process when the calling thread dies.
    pub parent_death_signal: Option<i32>,
    /// `linux.cgroupsPath` is `slice:prefix:name`, to be made by systemd.
    pub systemd_cgroup: bool,
    /// Give the container a socket for sd_notify(3), see [`Notify`].
    pub notify_socket: bool,
    /// Ignore cgroup permission errors; `None` decides from the user and user namespace.
    pub rootless: Option<bool>,
    /// Connects the new network namespace of the process with this id, while the process sets up its mounts. When it fails
    /// nothing is left of the container.
    pub connect: Option<Connect<'a>>,
}

/// See [`CreateOptions::connect`].
pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// See [`CreateOptions::connect`].
#[derive(Clone, Copy)]
pub struct Connect<'a>(pub &'a dyn Fn(i32) -> Result<(), ConnectError>);

impl std::fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connect")
    }
}

impl<'a> CreateOptions<'a> {
    /// What `create --bundle BUNDLE ID` asks for: everything else as usual. Set what differs.
    pub fn new(root: &'a Path, id: &'a str, bundle: &'a Path) -> CreateOptions<'a> {
        CreateOptions {
            root,
            id,
            bundle,
            spec: None,
            rootfs: None,
            stdio: Stdio::default(),
            console: Console::None,
            pid_file: None,
            pidfd_socket: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            listen_fds: 0,
            parent_death_signal: None,
            systemd_cgroup: false,
            notify_socket: false,
            rootless: None,
            connect: None,
        }
    }
}

/// A process that was just created: a container's init or one more inside it.
#[derive(Debug)]
pub struct Created {
    /// Process id as the caller sees it. The caller is its parent.
    pub pid: i32,
    /// A pidfd of the process.
    pub pidfd: OwnedFd,
    /// Master end of the terminal, with [`Console::Keep`].
    pub console: Option<OwnedFd>,
    /// The container's notify socket, from [`run`] with `notify_socket`.
    pub notify: Option<Notify>,
}

/// What [`exec`] is asked for.
#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// Directory of all containers' state directories.
    pub root: &'a Path,
    /// The container's id.
    pub id: &'a str,
    /// The process to start; see [`process`] for the container's own as a starting point.
    pub process: Process,
    /// The process's standard streams.
    pub stdio: Stdio,
    /// What happens to the terminal, when `process.terminal` is set.
    pub console: Console,
    /// File to write the process id to, atomically.
    pub pid_file: Option<&'a Path>,
    /// Unix socket to send a pidfd of the process to.
    pub pidfd_socket: Option<&'a Path>,
    /// How many descriptors after 2 the process keeps.
    pub preserve_fds: u32,
    /// Signal for the process when the calling thread dies.
    pub parent_death_signal: Option<i32>,
    /// Sub-cgroups to start in: controller, or "" for all, to a path below the container's cgroup.
    pub cgroups: BTreeMap<String, String>,
    /// Also exec when the container is paused.
    pub ignore_paused: bool,
}

impl<'a> ExecOptions<'a> {
    /// Runs `process` in container `id` with everything else as usual. Set what differs.
    pub fn new(root: &'a Path, id: &'a str, process: Process) -> ExecOptions<'a> {
        ExecOptions {
            root,
            id,
            process,
            stdio: Stdio::default(),
            console: Console::None,
            pid_file: None,
            pidfd_socket: None,
            preserve_fds: 0,
            parent_death_signal: None,
            cgroups: BTreeMap::new(),
            ignore_paused: false,
        }
    }
}
