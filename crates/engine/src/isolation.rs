//! What a container shares with the host or with another container, and what holds it in: namespaces, devices,
//! sysctls, groups, security options.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use network::Mode;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode as Permissions;
use oci::runtime::{
    LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset,
};
use serde::{Deserialize, Serialize};

use crate::cdi::{self, DeviceRequest, Edits};
use crate::list::life;
use crate::userns::{self, Userns, Users};
use crate::{Engine, Error, host, name, shm};

/// The user's wishes. The default is docker's, but for the cgroup namespace, which is always the container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// `--pid`.
    pub pid: Share,
    /// `--ipc`.
    pub ipc: Ipc,
    /// `--uts host`: host name and domain name are the host's.
    pub uts_host: bool,
    /// `--userns`.
    pub userns: Userns,
    /// `--cgroupns host`.
    pub cgroup_host: bool,
    /// `--cgroup-parent`: an absolute path.
    pub cgroup_parent: Option<String>,
    /// `--shm-size` in bytes; 64 MiB if not given.
    pub shm_size: Option<u64>,
    /// `--device`.
    pub devices: Vec<Device>,
    /// `--device` by name, and `--gpus`.
    pub device_requests: Vec<DeviceRequest>,
    /// `--cdi-spec-dir`: where those names are looked up, by absolute paths; none are the usual places.
    pub cdi_dirs: Vec<PathBuf>,
    /// `--device-cgroup-rule`.
    pub device_rules: Vec<DeviceRule>,
    /// `--sysctl`.
    pub sysctls: Vec<(String, String)>,
    /// `--group-add`: names or numbers.
    pub groups: Vec<String>,
    /// `--time-offset`: seconds and nanoseconds that `boottime` and `monotonic` are ahead.
    pub time_offsets: Vec<(String, i64, u32)>,
    /// `--security-opt` as typed, for `inspect`.
    pub security_options: Vec<String>,
    /// The process can get no privileges that it has not.
    pub no_new_privileges: bool,
    /// Name of an AppArmor profile.
    pub apparmor: Option<String>,
    /// Nothing of /proc and /sys is hidden or read-only.
    pub system_paths: bool,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
}

/// Whose namespace it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another container, by name or ID.
    Container(String),
}

/// Whose System V objects, message queues and /dev/shm it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipc {
    /// Its own.
    #[default]
    Private,
    /// Its own, and other containers may have them too.
    Shareable,
    /// Its own, without a /dev/shm.
    None,
    /// The host's.
    Host,
    /// Those of another container, by name or ID, which is shareable.
    Container(String),
}

/// A device of the host, or a directory of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

/// Devices that may be used, whether there are nodes of them or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a`, `b` or `c`.
    pub kind: char,
    /// `None`: all.
    pub major: Option<u32>,
    /// `None`: all.
    pub minor: Option<u32>,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// As docker by default.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile, in docker's format or the runtime spec's.
    Profile(serde_json::Value),
}

/// A device of the host for the container.
#[derive(Debug)]
pub(crate) struct FoundDevice {
    /// By its path in the container.
    pub(crate) node: LinuxDevice,
    /// Its path on the host.
    pub(crate) source: PathBuf,
    /// What may be done with it.
    pub(crate) access: String,
}

/// What the host and other containers have for this one, found at its start.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Path of the namespace to join.
    pub(crate) pid: Option<PathBuf>,
    /// The same.
    pub(crate) ipc: Option<PathBuf>,
    /// Where the /dev/shm that it shares is mounted on the host.
    pub(crate) shm: Option<PathBuf>,
    /// The nodes that `--device` names.
    pub(crate) devices: Vec<FoundDevice>,
    /// What devices by name change in the spec.
    pub(crate) edits: Vec<Edits>,
    /// The user namespace, if it is not the host's.
    pub(crate) users: Option<Users>,
    /// The host has message queues to be shown.
    pub(crate) host_queues: bool,
}

impl Isolation {
    /// Looks for devices and for the containers whose namespaces are to be joined.
    pub(crate) fn find(&self, engine: &Engine) -> Result<Found, Error> {
        let pid = match &self.pid {
            Share::Container(name) => Some(namespace_of(engine, name, "pid")?),
            Share::Private | Share::Host => None,
        };
        let host_queues = Path::new("/dev/mqueue").is_dir();
        let mut found = Found { pid, host_queues, ..Found::default() };
        if let Ipc::Container(name) = &self.ipc {
            found.shm = Some(shm::of_other(engine, name)?);
            found.ipc = Some(namespace_of(engine, name, "ipc")?);
        }
        for device in &self.devices {
            let nodes = host::devices_at(Path::new(&device.source), Path::new(&device.target))?;
            found.devices.extend(nodes.into_iter().map(|node| {
                let rest = node.path().strip_prefix(&device.target).unwrap_or(Path::new(""));
                let source = Path::new(&device.source);
                let source = if rest.as_os_str().is_empty() { source.to_owned() } else { source.join(rest) };
                FoundDevice { node, source, access: device.access.clone() }
            }));
        }
        found.edits = cdi::resolve(&self.device_requests, &self.cdi_dirs)?;
        Ok(found)
    }

    /// Refuses what cannot be had together with a user namespace of its own.
    ///
    /// # Errors
    /// The two flags, and the way out.
    pub(crate) fn check_userns(&self, network: &Mode, kernel: (u32, u32)) -> Result<(), String> {
        userns::check(&self.userns, kernel)?;
        if self.userns == Userns::Host {
            return Ok(());
        }
        if let Mode::Cni(_) = network {
            return Err("--userns and --network cni:NAME exclude each other: a network namespace that plugins connect belongs \
                        to the host's user namespace; take a network of rcr's own"
                .to_owned());
        }
        // Who mounts /proc or message queues has to be root where they belong to.
        let others = [
            ("pid", if let Share::Container(name) = &self.pid { Some(name) } else { None }),
            ("ipc", if let Ipc::Container(name) = &self.ipc { Some(name) } else { None }),
        ];
        for (flag, name) in others.into_iter().filter_map(|(flag, name)| Some((flag, name?))) {
            if self.userns != Userns::Container(name.clone()) {
                return Err(format!(
                    "--{flag} container:{name} wants the user namespace of that container too: add --userns \
                     container:{name}, or leave out --userns"
                ));
            }
        }
        Ok(())
    }

    /// Whether a network namespace of this mode belongs to the container's user namespace.
    pub(crate) fn owns_network(&self, network: &Mode) -> bool {
        match (network, &self.userns) {
            (_, Userns::Host) => true,
            (Mode::Container(name), Userns::Container(other)) => name == other,
            (mode, _) => mode.is_own(),
        }
    }

    /// The namespaces of a container whose network is its own, the host's, or that of `network`.
    pub(crate) fn namespaces(
        &self,
        found: &Found,
        host_network: bool,
        network: Option<PathBuf>,
    ) -> Vec<LinuxNamespace> {
        use LinuxNamespaceType as Kind;
        use LinuxNamespaceType::{Cgroup, Mount, Network, Pid, Time, Uts};
        let users = found.users.as_ref().filter(|users| users.joined).map(Users::path);
        let kinds = [
            (Pid, self.pid != Share::Host, &found.pid),
            (Kind::Ipc, self.ipc != Ipc::Host, &found.ipc),
            (Uts, !self.uts_host, &None),
            (Mount, true, &None),
            (Cgroup, !self.cgroup_host, &None),
            (Network, !host_network, &network),
            (Time, !self.time_offsets.is_empty(), &None),
            (Kind::User, found.users.is_some(), &users),
        ];
        let own = kinds.into_iter().filter(|(_, own, _)| *own);
        own.map(|(kind, _, path)| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind).set_path(path.clone());
            namespace
        })
        .collect()
    }

    /// Offsets of the clocks, as the spec has them.
    pub(crate) fn offsets(&self) -> Option<HashMap<String, LinuxTimeOffset>> {
        let offset = |(clock, seconds, nanos): &(String, i64, u32)| {
            let mut offset = LinuxTimeOffset::default();
            offset.set_secs(Some(*seconds)).set_nanosecs(Some(*nanos));
            (clock.clone(), offset)
        };
        let all: HashMap<_, _> = self.time_offsets.iter().map(offset).collect();
        Some(all).filter(|all| !all.is_empty())
    }

    /// What the device cgroup lets through besides what every container may use.
    pub(crate) fn device_rules(&self, found: &Found) -> Vec<LinuxDeviceCgroup> {
        let rule = |kind, major, minor, access: &str| {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(true).set_typ(Some(kind)).set_major(major).set_minor(minor);
            rule.set_access(Some(access.to_owned()));
            rule
        };
        let of_devices = found
            .devices
            .iter()
            .map(|found| (&found.node, &found.access))
            .map(|(node, access)| rule(node.typ(), Some(node.major()), Some(node.minor()), access));
        let of_rules = self.device_rules.iter().map(|wanted| {
            let kind = match wanted.kind {
                'b' => LinuxDeviceType::B,
                'c' => LinuxDeviceType::C,
                _ => LinuxDeviceType::A,
            };
            rule(kind, wanted.major.map(i64::from), wanted.minor.map(i64::from), &wanted.access)
        });
        of_devices.chain(of_rules).collect()
    }
}

/// The root directory of a process.
pub(crate) fn root_of(pid: i32) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_str(), flags, Permissions::empty())
        .map_err(|e| Error::io(format!("open {path:?}"))(e.into()))
}

/// The namespace of a running container.
fn namespace_of(engine: &Engine, container: &str, kind: &str) -> Result<PathBuf, Error> {
    let id = name::resolve(engine, container)?;
    match life(engine, &id)?.pid {
        Some(pid) => Ok(PathBuf::from(format!("/proc/{pid}/ns/{kind}"))),
        None => Err(Error::Invalid(format!(
            "cannot join the {kind} namespace of container {container}: it does not run; start it first"
        ))),
    }
}
