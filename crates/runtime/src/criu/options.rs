//! What criu is asked to do, from what the caller wishes and what the container is. Pure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sys::clone::namespace;

use super::external::{External, Key};
use super::rpc::{Opt, Options};

/// Name of criu's log of a checkpoint, in the work directory.
pub(crate) const DUMP_LOG: &str = "dump.log";

/// Name of criu's log of a restore, in the work directory.
pub(crate) const RESTORE_LOG: &str = "restore.log";

/// Where the additional configuration of criu is that runc has it read, unless an annotation says otherwise.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

/// The annotation that names another one, or by being empty none.
pub(crate) const CONFIG_ANNOTATION: &str = "org.criu.config";

/// Everything but the debug messages (criu's `-v4`).
const LOG_LEVEL: i32 = 4;

/// What criu does with cgroups (criu.org/CGroups).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Nothing.
    Ignore = 0,
    /// Makes those that are missing, and sets the properties of what it made.
    Soft = 3,
    /// Makes those that are missing, and sets all properties.
    Full = 4,
    /// Fails if one is there already.
    Strict = 5,
    /// Whatever criu does by itself.
    #[default]
    Default = 6,
}

/// What the caller of a checkpoint or a restore wishes: the flags of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Directory of criu's images.
    pub images: PathBuf,
    /// Directory of criu's log and other files; `None` is that of the images.
    pub work: Option<PathBuf>,
    /// Directory of the images of an earlier pre-dump, relative to that of the images.
    pub parent: Option<PathBuf>,
    /// The container goes on after the checkpoint.
    pub leave_running: bool,
    /// Keep established TCP connections.
    pub tcp_established: bool,
    /// Pass over TCP connections that are just being made.
    pub tcp_skip_in_flight: bool,
    /// Link files back that have no name any more.
    pub link_remap: bool,
    /// Let unix sockets be connected to processes outside.
    pub external_unix_sockets: bool,
    /// Let the session leader be outside.
    pub shell_job: bool,
    /// Keep file locks.
    pub file_locks: bool,
    /// Only the memory; the container goes on, and a checkpoint later takes what has changed.
    pub pre_dump: bool,
    /// Remove from earlier images what later ones have (punches holes into them).
    pub auto_dedup: bool,
    /// Move the memory when it is needed (userfaultfd(2)).
    pub lazy_pages: bool,
    /// Where `\0` is written when pages can be had ([`Wishes::lazy_pages`]).
    pub status_fd: Option<i32>,
    /// Address and port of a page server.
    pub page_server: Option<(String, u16)>,
    /// What to do with cgroups.
    pub cgroups: CgroupsMode,
    /// Restore into this LSM profile, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// Restore mounts that have a context with this one.
    pub lsm_mount_context: Option<String>,
}

/// Descriptors of this process that criu opens again through /proc/PID/fd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) images: i32,
    pub(crate) work: Option<i32>,
}

/// A container that is about to be dumped.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    /// Its init.
    pub(crate) pid: i32,
    pub(crate) rootfs: &'a Path,
    /// The directory whose freezer holds its processes.
    pub(crate) freezer: Option<&'a Path>,
    pub(crate) config: Option<&'a str>,
    /// Mounts that are not its own.
    pub(crate) mounts: &'a [Key],
    /// Namespaces that are not its own: criu's word for the kind, and the inode number.
    pub(crate) namespaces: &'a [(&'static str, u64)],
}

/// What the request for a dump, or for a pre-dump, says.
pub(crate) fn dump(wishes: &Wishes, places: Places, container: &Running<'_>) -> Options {
    let mut options = common(wishes, places, DUMP_LOG, container.config);
    empty_network(&mut options);
    options.text(Opt::Root, container.rootfs);
    options.number(Opt::Pid, container.pid);
    options.switch(Opt::LeaveRunning, wishes.leave_running);
    options.switch(Opt::TcpSkipInFlight, wishes.tcp_skip_in_flight);
    options.switch(Opt::LinkRemap, wishes.link_remap);
    for (kind, inode) in container.namespaces {
        options.text(Opt::External, format!("{kind}[{inode}]:{}", namespace_key(kind)));
    }
    if let Some(freezer) = container.freezer {
        options.text(Opt::FreezeCgroup, freezer);
    }
    if let Some((address, port)) = &wishes.page_server {
        options.numbered(Opt::PageServer, address, *port);
    }
    if let Some(parent) = &wishes.parent {
        options.text(Opt::ParentImg, parent);
        options.switch(Opt::TrackMem, true);
    }
    // Mounts are not dumped yet.
    if !wishes.pre_dump {
        for key in container.mounts {
            options.pair(Opt::ExtMnt, &key.mountpoint, &key.name);
        }
    }
    options
}

/// A container that is about to be restored.
#[derive(Debug)]
pub(crate) struct Stopped<'a> {
    /// Where its root file system is mounted for criu.
    pub(crate) root: &'a Path,
    pub(crate) config: Option<&'a str>,
    /// Mounts that are not its own.
    pub(crate) mounts: &'a [External],
    /// Namespaces to join: criu's word for the kind, and the file.
    pub(crate) joined: &'a [(&'static str, PathBuf)],
    /// Descriptors of criu's that stand for what the images call by these names.
    pub(crate) inherited: &'a [(String, i32)],
    /// Its network namespace is a shared one where no packet passes since the dump.
    pub(crate) network_locked: bool,
    /// The cgroup of each controller.
    pub(crate) cgroups: &'a [(String, String)],
}

/// What the request for a restore says.
pub(crate) fn restore(wishes: &Wishes, places: Places, container: &Stopped<'_>) -> Options {
    let mut options = common(wishes, places, RESTORE_LOG, container.config);
    // A network without properties is locked before connections are restored. One that the dump has locked stays so
    // for ever if it is locked again: criu's rules are there twice then, and it takes them away once.
    if !container.network_locked {
        empty_network(&mut options);
    }
    options.text(Opt::Root, container.root);
    options.switch(Opt::EvasiveDevices, true);
    // The init becomes a child of this process instead of criu's.
    options.switch(Opt::RstSibling, true);
    if let Some(profile) = &wishes.lsm_profile {
        options.text(Opt::LsmProfile, profile);
    }
    if let Some(context) = &wishes.lsm_mount_context {
        options.text(Opt::LsmMountContext, context);
    }
    for (kind, file) in container.joined {
        options.pair(Opt::JoinNs, *kind, file);
    }
    for (key, number) in container.inherited {
        options.numbered(Opt::InheritFd, key, *number);
    }
    for mount in container.mounts {
        options.pair(Opt::ExtMnt, &mount.name, &mount.source);
    }
    for (controller, path) in container.cgroups {
        options.pair(Opt::CgRoot, controller, path);
    }
    options
}

/// Devices and addresses are somebody else's: a hook's, or whoever's who made the namespace.
fn empty_network(options: &mut Options) {
    options.number(Opt::EmptyNs, namespace::NET.cast_signed());
}

fn common(wishes: &Wishes, places: Places, log: &str, config: Option<&str>) -> Options {
    let mut options = Options::default();
    options.number(Opt::ImagesDirFd, places.images);
    if let Some(work) = places.work {
        options.number(Opt::WorkDirFd, work);
    }
    options.number(Opt::LogLevel, LOG_LEVEL);
    options.text(Opt::LogFile, log);
    match config {
        None => options.text(Opt::ConfigFile, CONFIG_FILE),
        Some("") => {}
        Some(file) => options.text(Opt::ConfigFile, OsString::from(file)),
    }
    options.switch(Opt::NotifyScripts, true);
    options.switch(Opt::ManageCgroups, true);
    options.number(Opt::ManageCgroupsMode, wishes.cgroups as i32);
    options.switch(Opt::OrphanPtsMaster, true);
    options.switch(Opt::TcpEstablished, wishes.tcp_established);
    options.switch(Opt::ExtUnixSk, wishes.external_unix_sockets);
    options.switch(Opt::ShellJob, wishes.shell_job);
    options.switch(Opt::FileLocks, wishes.file_locks);
    options.switch(Opt::AutoDedup, wishes.auto_dedup);
    options.switch(Opt::LazyPages, wishes.lazy_pages);
    options
}

/// The name under which an image refers to a namespace that is not the container's own; runc's.
pub(crate) fn namespace_key(kind: &str) -> String {
    let mut chars = kind.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    format!("extRoot{}{}NS", first.map(String::from).unwrap_or_default(), chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_runcs_names() {
        assert_eq!(namespace_key("net"), "extRootNetNS");
        assert_eq!(namespace_key("pid"), "extRootPidNS");
    }
}
