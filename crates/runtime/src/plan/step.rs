//! The steps of a plan, as values: everything a step needs is in it (paths as C strings, flags as numbers), so that the
//! child can carry it out without allocating. How each reads is in `display`.

use std::ffi::CString;

use sys::mount::SetAttr;
use sys::process::{Capabilities, Scheduling};

use super::Tree;

/// A point where the new process waits for the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Answered by the launcher: uid_map, gid_map, setgroups ([`super::Plan::id_maps`]).
    IdMap,
    /// The process exists and is in its cgroups, or about to join them: apply the limits. The caller is asked at once.
    /// A step waits for this only where systemd puts the process into its cgroup; else [`Barrier::Ready`] comes after it.
    Cgroup,
    /// Answered by the launcher: network devices are moved into the process's namespace ([`super::Plan::net_devices`]).
    NetDevices,
    /// prestart and createRuntime hooks: mounts are made, the root is not entered yet.
    RuntimeHooks,
    /// createContainer hooks: the same moment; run them with [`super::hook`].
    ContainerHooks,
    /// The seccomp listener is to be handed on.
    SeccompFd,
    /// All is set up but the user's identity and the execve: record the state. The launcher sets the limits
    /// ([`super::Plan::limits`]) before.
    Ready,
}

/// Where something is opened by the parent, before the clone: an index into [`super::Plan::opens`].
pub type Slot = usize;

/// A place inside the root file system, made if it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Clean absolute path in the container.
    pub path: CString,
    /// What is allowed where procfs is concerned.
    pub proc: OnProc,
    /// The last component must not be a symbolic link (CVE-2023-27561, CVE-2026-41579).
    pub no_link: bool,
}

/// Whether a mount may cover procfs (CVE-2019-16884: a fake /proc takes LSM labels and sysctls).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnProc {
    /// The target must not lie on procfs, wherever links led.
    Refuse,
    /// The target is one of the files lxcfs replaces, or the mount is itself a procfs.
    Allow,
    /// The target is /proc: what is bound there must be procfs.
    Only,
}

/// A change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// One of `sys::mount::propagation`.
    pub kind: u64,
    /// For all mounts below, too.
    pub recursive: bool,
}

/// A new file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Type, for instance `tmpfs`.
    pub fstype: CString,
    /// What /proc/mounts shows as device.
    pub source: CString,
    /// Options of the file system: key, and value if it has one.
    pub options: Vec<(CString, Option<CString>)>,
    /// Attributes of the mount (`sys::mount::attr`).
    pub attr: u64,
    /// Changes of propagation, after attaching.
    pub propagation: Vec<Propagation>,
    /// Where.
    pub target: Place,
    /// Give the root of the file system the mode of the directory it covers, unless an option sets it.
    pub keep_mode: bool,
    /// Copy what the target holds into the file system first.
    pub copy_up: bool,
    /// If the kernel refuses (EPERM, EBUSY): bind this instead.
    pub instead: Option<CString>,
    /// mount(2)'s flags and data, to be used because an option is too long for fsconfig(2).
    pub long: Option<(u64, CString)>,
}

/// What a bind mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, as the child sees it before it enters the root.
    Path(CString),
    /// The first path or, where nothing is there, the second.
    Either(CString, CString),
    /// A detached mount that the parent opened ([`super::Open`]); the path is for messages.
    Opened(Slot, CString),
    /// A clean absolute path inside the root, with what has been mounted there by now. Links stay inside.
    Inside(CString),
    /// The same, opened by the parent when the child gets there: the child lacks the rights.
    InsideByParent(Box<Tree>),
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// What.
    pub source: Source,
    /// With everything mounted below.
    pub recursive: bool,
    /// Exactly these attributes for the top mount; `None` keeps the source's.
    pub attr: Option<BindAttr>,
    /// Attributes for all mounts of it.
    pub recursive_attr: Option<SetAttr>,
    /// Changes of propagation, after attaching.
    pub propagation: Vec<Propagation>,
    /// Where.
    pub target: Place,
}

/// Attributes for a bind mount. The kernel may hold the source's locked (user_namespaces(7)): then all others are
/// kept, and only an attribute that was named to be cleared is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindAttr {
    /// To set.
    pub set: u64,
    /// Named to be cleared.
    pub clear: u64,
    /// Access times are among them; otherwise they stay the source's.
    pub times: bool,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Where it is attached, in the container's mount namespace, until it becomes `/`.
    pub path: CString,
    /// Whence it comes.
    pub source: RootSource,
    /// Mounts of the host below it come into the container (a slave); otherwise it is private.
    pub slave: bool,
}

/// Whence the root file system comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootSource {
    /// A bind of the path itself.
    Path,
    /// A detached mount that the parent opened: the child's user namespace may not see the path.
    Opened(Slot),
    /// [`crate::launch::Request::rootfs`].
    Given,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Clean absolute path in the container.
    pub path: CString,
    /// Type and permission bits, as mknod(2) takes them.
    pub mode: u32,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Owner and group.
    pub owner: (u32, u32),
    /// Bind the host's node of the same path instead of making one, as a user namespace demands.
    pub bind: Option<Source>,
}

/// What the process is at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// setgroups(2) may be denied in this user namespace; then having no groups to set is enough.
    pub groups_optional: bool,
}

/// The pseudo terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Rows and columns, if the spec gives them.
    pub size: Option<(u16, u16)>,
    /// Also bind it to /dev/console.
    pub console: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Wait for the parent.
    Barrier(Barrier),
    /// Take the mounts that the parent opens in this process's mount namespace ([`super::Open::Late`]).
    TakeTrees(Vec<Slot>),
    /// Let nobody look into this process, through /proc/PID or ptrace(2), who has no rights outside of the container
    /// (CVE-2016-9962). execve(2) ends it.
    Undumpable,
    /// Join the v1 cgroups (into that of v2 it was cloned).
    JoinCgroups,
    /// setsid(2).
    Session,
    /// Join the namespace of this kind that the parent opened; the path is for messages.
    Join(u64, Slot, CString),
    /// Join several namespaces of the process whose pidfd the parent opened.
    JoinProcess(u64, Slot, i32),
    /// Enter the root directory of the process whose root the parent opened (it has no mount namespace of its own).
    EnterRoot(Slot, i32),
    /// Become user and group 0 of the user namespace; drop all groups if allowed.
    BecomeRoot,
    /// Join the session keyring of this name, and add to its permissions.
    Keyring(CString, u32),
    /// Switch `lo` on.
    Loopback,
    /// Make a time namespace with these offsets (the text of /proc/self/timens_offsets) and enter it.
    TimeOffsets(CString),
    /// Make namespaces of these kinds and enter them. A cgroup namespace has the cgroup of this moment as its root; the
    /// root of an ipc namespace's message queues belongs to the user of this moment.
    Create(u64),
    /// Open procfs for the writes to come: an own instance that no mount of the container covers, or the host's where
    /// the kernel allows no own one.
    Proc {
        /// An own instance.
        own: bool,
    },
    /// Change the propagation of all mounts, so that nothing gets back to the host.
    Propagate(Propagation),
    /// Change the propagation of the mount that the root lies on: the first of these that is a mount point.
    PropagateParent(Propagation, Vec<CString>),
    /// Attach the root file system.
    Root(Root),
    /// Make a place where a directory is going to be mounted, as mounting there would.
    MountPoint(Place),
    /// Mount a new file system.
    Mount(Box<Mount>),
    /// Bind a file or directory.
    Bind(Box<Bind>),
    /// Change attributes and options of what is mounted at a place (`remount`).
    Remount(Box<Mount>),
    /// Make a device node.
    Device(Device),
    /// Make a symbolic link: target and place; replace what is there or leave it.
    Link {
        /// What the link says.
        to: CString,
        /// Where it is.
        at: CString,
        /// Replace a file that is there.
        replace: bool,
    },
    /// Make the root file system `/` and let go of the old one.
    PivotRoot {
        /// The old mounts may propagate to the host: make them slaves before letting go.
        shared: bool,
    },
    /// The same with MS_MOVE and chroot(2).
    MoveRoot {
        /// Mount points of procfs and sysfs of the host to unmount before, lest they stay reachable.
        cover: Vec<CString>,
    },
    /// Unmount what was attached at this path, with all below it.
    Detach(CString),
    /// Only chroot(2).
    Chroot,
    /// Change the propagation of the new root.
    RootPropagation(Propagation),
    /// Standard streams that are the host's /dev/null become the container's.
    ReopenNull,
    /// Make a directory and those above it.
    MakeDirectory(CString),
    /// Make a pseudo terminal the controlling terminal and the standard streams.
    Terminal(Terminal),
    /// Make the mount at this path read-only.
    ReadOnlyMount(CString),
    /// Make the root mount read-only.
    ReadOnlyRoot,
    /// umask(2).
    Umask(u32),
    /// sethostname(2).
    HostName(CString),
    /// setdomainname(2).
    DomainName(CString),
    /// Write a sysctl: path below /proc/sys, and value.
    Sysctl(CString, CString),
    /// Bind a path on itself, read-only; nothing if it does not exist.
    ReadOnlyPath(CString),
    /// Hide a path under /dev/null or an empty directory; nothing if it does not exist.
    Mask(CString),
    /// The next execve enters this AppArmor profile.
    AppArmor(CString),
    /// The next execve gets this SELinux label.
    SelinuxLabel(CString),
    /// Keys made from now on get this SELinux label.
    SelinuxKeyLabel(CString),
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
    /// sched_setattr(2).
    Scheduling(Scheduling),
    /// ioprio_set(2).
    IoPriority(i32),
    /// personality(2).
    Personality(u64),
    /// set_mempolicy(2): mode and nodes.
    MemoryPolicy(i32, Vec<u64>),
    /// sched_setaffinity(2).
    Affinity(Vec<u64>),
    /// sched_setaffinity(2) to all CPUs, of which the cgroup's cpuset leaves those it has.
    EveryCpu,
    /// Load the seccomp filter.
    Seccomp,
    /// Close descriptors from this one on, but the two that this process itself still needs.
    Close(u32),
    /// Close descriptors from this one on at execve.
    CloseOnExec(u32),
    /// Keep the descriptors that the caller gave ([`crate::launch::Request::kept`]) open at execve.
    Keep,
    /// Give the standard streams to this user, as far as that is possible.
    StdioOwner(u32),
    /// Look up HOME of this user in /etc/passwd.
    Home(u32),
    /// chdir(2). A permission error is left for the second try, as the user.
    Directory(CString),
    /// chdir(2) again if the first try lacked permission.
    DirectoryAsUser(CString),
    /// Refuse a working directory that lies outside the root (CVE-2024-21626).
    CheckDirectory,
    /// Drop all capabilities but these from the bounding set.
    Bounding(u64),
    /// setgroups, setgid, setuid, keeping the permitted capabilities until the next capset.
    Become(Identity),
    /// capset(2).
    Capabilities(Capabilities),
    /// Set the ambient capabilities.
    Ambient(u64),
    /// PR_SET_PDEATHSIG.
    DeathSignal(i32),
    /// Find the program: the first of these that may be executed.
    Find(Vec<CString>),
    /// Wait for the byte in the exec FIFO.
    AwaitStart,
    /// execve(2).
    Exec,
}
