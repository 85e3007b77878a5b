//! What the caller asked for, beside the spec: the command line's flags, or the engine's wishes.
//!
//! Values only; nothing here was looked up.

use std::path::PathBuf;

/// The caller's wishes for one container or one further process in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// The container's id; names its session keyring.
    pub id: String,
    /// The bundle directory, absolute; relative paths of the spec start here.
    pub bundle: PathBuf,
    /// Enter the root by MS_MOVE and chroot (for a root on a ramdisk, where pivot_root(2) cannot work).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after 2 stay open in the process, LISTEN_FDS's included.
    pub preserve_fds: u32,
    /// systemd's LISTEN_FDS: tells the process that so many of them are sockets (`LISTEN_PID=1` goes with it).
    pub listen_fds: u32,
    /// The root file system comes as a detached mount (`Request::rootfs`); `root.path` only says where to attach it.
    pub rootfs_given: bool,
    /// Where the container's cgroup is, if not where `linux.cgroupsPath` says (systemd chooses).
    pub cgroup: Option<crate::cgroup::CgroupPath>,
    /// systemd puts the process into its cgroup, while it waits at [`crate::plan::Barrier::Cgroup`].
    pub placed_by_systemd: bool,
    /// Stop before execve until a byte arrives in `Request::exec_fifo`.
    pub await_start: bool,
    /// Signal that the process gets when the thread that launched it dies.
    pub parent_death_signal: Option<i32>,
}
