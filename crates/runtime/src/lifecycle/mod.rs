//! The operations on a container, as the `rcr-runtime` commands and the engine call them.
//!
//! Every function takes the state root (one directory per container below it) and a container id. None of them
//! starts a thread, prints, or keeps a handle between calls: what is known about a container is its state directory.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci::runtime::{Process, Spec};

use crate::{Console, Error, State, Stdio};

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
    /// How many descriptors after 2 the process keeps.
    pub preserve_fds: u32,
    /// Signal for the process when the calling thread dies.
    pub parent_death_signal: Option<i32>,
    /// `linux.cgroupsPath` is `slice:prefix:name`, to be made by systemd.
    pub systemd_cgroup: bool,
    /// Ignore cgroup permission errors; `None` decides from the user and user namespace.
    pub rootless: Option<bool>,
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
    /// Sub-cgroups to start in: (controller or "" for all, path below the container's cgroup).
    pub cgroups: Vec<(String, String)>,
    /// Also exec when the container is paused.
    pub ignore_paused: bool,
}

/// Creates a container up to the point where [`start`] lets the user's process run.
///
/// On error nothing is left: no process, cgroup or state directory.
///
/// # Errors
/// A bad id or configuration ([`crate::ErrorKind::Invalid`]), an id in use ([`crate::ErrorKind::Exists`]), and whatever the kernel refuses.
pub fn create(options: CreateOptions<'_>) -> Result<Created, Error> {
    Err(Error::new(format!("create {:?}: not there yet", options.id)))
}

/// Lets a created container's process run, then runs the poststart hooks.
///
/// # Errors
/// [`crate::ErrorKind::State`] unless it is created; a process that dies before it runs; a failed hook.
pub fn start(_root: &Path, id: &str) -> Result<(), Error> {
    Err(Error::new(format!("start {id:?}: not there yet")))
}

/// The state of a container.
///
/// # Errors
/// [`crate::ErrorKind::NotFound`]; a damaged state directory.
pub fn state(_root: &Path, id: &str) -> Result<State, Error> {
    Err(Error::new(format!("state {id:?}: not there yet")))
}

/// Sends a signal to the container's init; with `all`, a container that is not running is no error.
///
/// SIGKILL to a container without an own pid namespace goes to every process of its cgroup.
///
/// # Errors
/// [`crate::ErrorKind::State`] when it is not running.
pub fn kill(_root: &Path, id: &str, signal: i32, _all: bool) -> Result<(), Error> {
    Err(Error::new(format!("kill {id:?} {signal}: not there yet")))
}

/// Removes a stopped or created container: processes, cgroup, state directory; then runs the poststop hooks.
/// With `force` a running one is killed first and an unknown one is no error.
///
/// # Errors
/// [`crate::ErrorKind::State`] when it runs and `force` is not given.
pub fn delete(_root: &Path, id: &str, _force: bool) -> Result<(), Error> {
    Err(Error::new(format!("delete {id:?}: not there yet")))
}

/// Every container below `root`: its id, and its state or why that cannot be told.
///
/// # Errors
/// `root` cannot be read; that it does not exist is an error of kind [`crate::ErrorKind::NotFound`].
pub fn list(root: &Path) -> Result<Vec<(String, Result<State, Error>)>, Error> {
    Err(Error::new(format!("list {root:?}: not there yet")))
}

/// The `process` of the container's configuration, from which an exec usually differs in a few fields.
///
/// # Errors
/// [`crate::ErrorKind::NotFound`].
pub fn process(_root: &Path, id: &str) -> Result<Process, Error> {
    Err(Error::new(format!("process {id:?}: not there yet")))
}

/// Starts one more process inside a running or created container.
///
/// # Errors
/// [`crate::ErrorKind::State`] when the container is stopped or paused; [`crate::ErrorKind::CommandNotFound`] and
/// [`crate::ErrorKind::CommandNotExecutable`] for the command.
pub fn exec(options: ExecOptions<'_>) -> Result<Created, Error> {
    Err(Error::new(format!("exec {:?}: not there yet", options.id)))
}

/// Freezes every process of the container.
///
/// # Errors
/// [`crate::ErrorKind::State`] unless it is created or running.
pub fn pause(_root: &Path, id: &str) -> Result<(), Error> {
    Err(Error::new(format!("pause {id:?}: not there yet")))
}

/// Thaws a paused container.
///
/// # Errors
/// [`crate::ErrorKind::State`] unless it is paused.
pub fn resume(_root: &Path, id: &str) -> Result<(), Error> {
    Err(Error::new(format!("resume {id:?}: not there yet")))
}

/// Process ids (as the host sees them) of every process in the container's cgroup.
///
/// # Errors
/// [`crate::ErrorKind::NotFound`]; the cgroup cannot be read.
pub fn processes(_root: &Path, id: &str) -> Result<Vec<i32>, Error> {
    Err(Error::new(format!("ps {id:?}: not there yet")))
}
