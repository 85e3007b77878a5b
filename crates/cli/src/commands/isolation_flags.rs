//! Flags of `run` and `create` about namespaces, devices and security.

use std::path::{Component, Path, PathBuf};

use engine::{DeviceRequest, DeviceRule, IdRange, Ids, Ipc, Isolation, Seccomp, Share, Userns};

use crate::error::Error;
use crate::value::{device, gpus, label, offset, size, userns};

/// What the container shares, gets and must not do.
#[derive(Debug, clap::Args)]
pub(crate) struct IsolationFlags {
    /// Whose processes it sees: host, or container:NAME
    #[arg(long, value_name = "MODE", value_parser = pid)]
    pid: Option<Share>,
    /// Whose shared memory it has: private (the default), shareable, container:NAME of such a one, host; none for no /dev/shm
    #[arg(long, value_name = "MODE", value_parser = ipc)]
    ipc: Option<Ipc>,
    /// host: have the host's name
    #[arg(long, value_name = "MODE", value_parser = uts)]
    uts: Option<bool>,
    /// Whose ids it has: host (the default), auto[:size=N] for ids that no other container has, private, container:NAME, ns:PATH
    #[arg(long, value_name = "MODE", value_parser = userns::parse)]
    userns: Option<userns::Mode>,
    /// Give it a user namespace with these users: N ids from CONTAINER on are those from HOST on
    #[arg(long, value_name = "CONTAINER:HOST[:N]", value_parser = userns::map)]
    uidmap: Vec<IdRange>,
    /// The same for groups; one of the two alone counts for both
    #[arg(long, value_name = "CONTAINER:HOST[:N]", value_parser = userns::map)]
    gidmap: Vec<IdRange>,
    /// Give it a user namespace with the ids of this name in /etc/subuid
    #[arg(long, value_name = "NAME")]
    subuidname: Option<String>,
    /// The same for groups, in /etc/subgid
    #[arg(long, value_name = "NAME")]
    subgidname: Option<String>,
    /// private or host: which cgroups it sees
    #[arg(long, value_name = "MODE", value_parser = cgroupns)]
    cgroupns: Option<bool>,
    /// Put its cgroups below this one of the host, which is made if it is missing, and stays
    #[arg(long, value_name = "PATH", value_parser = cgroup_parent)]
    cgroup_parent: Option<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    shm_size: Option<u64>,
    /// Give it a device of the host, a directory of them, or a device by its name in /etc/cdi and /var/run/cdi, for instance
    /// nvidia.com/gpu=0
    #[arg(long, value_name = "SRC[:DST[:ACCESS]]", value_parser = device::parse)]
    device: Vec<device::Wanted>,
    /// Look for names of devices in this directory instead
    #[arg(long, value_name = "DIR", value_parser = directory)]
    cdi_spec_dir: Vec<PathBuf>,
    /// Give it GPUs that CDI knows as nvidia.com/gpu: all, a number of them, or device=0 and the like
    #[arg(long, value_name = "GPUS", value_parser = gpus::parse)]
    gpus: Vec<DeviceRequest>,
    /// Let it use devices that it makes nodes of itself, for instance 'c 189:* rmw'
    #[arg(long, value_name = "RULE", value_parser = device::rule)]
    device_cgroup_rule: Vec<DeviceRule>,
    /// Set a sysctl of a namespace it has of its own
    #[arg(long, value_name = "KEY=VALUE", value_parser = label::parse)]
    sysctl: Vec<(String, String)>,
    /// Add a group to its user, by name or number
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, label=disable, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Set its clocks ahead: boottime=SECONDS,monotonic=SECONDS
    #[arg(long, value_name = "OFFSETS", value_parser = offset::parse)]
    time_offset: Vec<Vec<offset::Offset>>,
    #[arg(long, hide = true, value_name = "RUNTIME", value_parser = runtime)]
    runtime: Option<String>,
}

fn share(text: &str) -> Option<Share> {
    match text {
        "host" => Some(Share::Host),
        _ => {
            text.strip_prefix("container:").filter(|n| !n.is_empty()).map(|n| Share::Container(n.to_owned()))
        }
    }
}

fn pid(text: &str) -> Result<Share, String> {
    share(text).ok_or_else(|| "wants host or container:NAME".to_owned())
}

fn ipc(text: &str) -> Result<Ipc, String> {
    match text {
        "private" => Ok(Ipc::Private),
        "shareable" => Ok(Ipc::Shareable),
        "none" => Ok(Ipc::None),
        "host" => Ok(Ipc::Host),
        _ => match text.strip_prefix("container:").filter(|name| !name.is_empty()) {
            Some(name) => Ok(Ipc::Container(name.to_owned())),
            None => Err("wants private, shareable, none, host or container:NAME".to_owned()),
        },
    }
}

fn uts(text: &str) -> Result<bool, String> {
    if text == "host" { Ok(true) } else { Err("wants host".to_owned()) }
}

fn cgroupns(text: &str) -> Result<bool, String> {
    match text {
        "host" => Ok(true),
        "private" => Ok(false),
        _ => Err("wants private or host".to_owned()),
    }
}

/// Below the mount point of each hierarchy, wherever rcr itself is: as docker takes a relative path from the host's init.
fn cgroup_parent(text: &str) -> Result<String, String> {
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("wants the path of a cgroup without \"..\", for instance /batch".to_owned());
    }
    Ok(Path::new("/").join(path).display().to_string())
}

/// The container may be started again from elsewhere.
fn directory(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|_| "wants a directory, for instance /etc/cdi".to_owned())
}

fn runtime(text: &str) -> Result<String, String> {
    match text {
        "rcr" | "rcr-runtime" => Ok(text.to_owned()),
        _ => Err(
            "is not supported: rcr is its own runtime; write a bundle for another one (rcr bundle IMAGE DIR)"
                .to_owned(),
        ),
    }
}

impl IsolationFlags {
    /// What the engine is asked for.
    pub(crate) fn isolation(self) -> Result<Isolation, Error> {
        let userns = choose(
            self.userns,
            Ids { uid: self.uidmap, gid: self.gidmap },
            self.subuidname.as_ref(),
            self.subgidname.as_ref(),
        );
        let userns = userns.map_err(|why| Error::Usage(format!("{why}; see 'rcr run --help'")))?;
        let mut isolation = Isolation {
            pid: self.pid.unwrap_or_default(),
            ipc: self.ipc.unwrap_or_default(),
            uts_host: self.uts.unwrap_or_default(),
            userns,
            cgroup_host: self.cgroupns.unwrap_or_default(),
            cgroup_parent: self.cgroup_parent,
            shm_size: self.shm_size.filter(|bytes| *bytes > 0),
            cdi_dirs: self.cdi_spec_dir,
            device_requests: self.gpus,
            device_rules: self.device_cgroup_rule,
            sysctls: self.sysctl,
            groups: self.group_add,
            time_offsets: self.time_offset.into_iter().flatten().collect(),
            ..Isolation::default()
        };
        for wanted in self.device {
            match wanted {
                device::Wanted::Nodes(device) => isolation.devices.push(device),
                device::Wanted::Named(request) => isolation.device_requests.push(request),
            }
        }
        for option in self.security_opt {
            secure(&mut isolation, &option).map_err(|why| {
                Error::Usage(format!("--security-opt {option:?}: {why}; see 'rcr run --help'"))
            })?;
            isolation.security_options.push(option);
        }
        Ok(isolation)
    }
}

/// From the flags about ids to what is meant, by podman's rules.
fn choose(
    mode: Option<userns::Mode>,
    mut ids: Ids,
    users: Option<&String>,
    groups: Option<&String>,
) -> Result<Userns, String> {
    let by_maps = !(ids.uid.is_empty() && ids.gid.is_empty());
    let by_names = users.or(groups).is_some();
    if by_maps && by_names {
        return Err(
            "conflicting options: --uidmap, --gidmap and --subuidname, --subgidname; leave out either"
                .to_owned(),
        );
    }
    match mode {
        Some(userns::Mode::Whole(_)) if by_maps || by_names => {
            let flag = if by_maps { "--uidmap and --gidmap" } else { "--subuidname and --subgidname" };
            Err(format!("conflicting options: {flag} are for --userns private; leave out either"))
        }
        Some(userns::Mode::Whole(whole)) => Ok(whole),
        _ if by_names => {
            let [users, groups] =
                [users.or(groups), groups.or(users)].map(|name| name.cloned().unwrap_or_default());
            Ok(Userns::SubIds { users, groups })
        }
        _ if by_maps => {
            if ids.uid.is_empty() {
                ids.uid.clone_from(&ids.gid);
            }
            if ids.gid.is_empty() {
                ids.gid.clone_from(&ids.uid);
            }
            Ok(Userns::Private(ids))
        }
        Some(userns::Mode::Private) => Ok(Userns::Auto { size: None, forced: Ids::default() }),
        None => Ok(Userns::Host),
    }
}

/// Docker takes a colon for the `=` too.
fn secure(isolation: &mut Isolation, option: &str) -> Result<(), String> {
    let at = option.find(['=', ':']);
    let (key, value) = at.map_or((option, None), |at| (&option[..at], Some(&option[at + 1..])));
    match (key, value) {
        ("no-new-privileges", None | Some("true")) => isolation.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => isolation.no_new_privileges = false,
        ("no-new-privileges", Some(_)) => return Err("wants true or false".to_owned()),
        ("systempaths", Some("unconfined")) => isolation.system_paths = true,
        ("apparmor", Some("unconfined")) => isolation.apparmor = None,
        ("apparmor", Some(profile)) if !profile.is_empty() => isolation.apparmor = Some(profile.to_owned()),
        ("label", Some("disable")) => {}
        ("label", _) => return Err("SELinux labels are not supported; label=disable is".to_owned()),
        ("seccomp", Some("unconfined")) => isolation.seccomp = Seccomp::Unconfined,
        ("seccomp", Some("builtin" | "default")) => isolation.seccomp = Seccomp::Default,
        ("seccomp", Some(path)) if !path.is_empty() => {
            let bytes = std::fs::read(path).map_err(|e| format!("read {path:?}: {e}"))?;
            let profile = serde_json::from_slice(&bytes).map_err(|e| format!("{path:?} is no JSON: {e}"))?;
            isolation.seccomp = Seccomp::Profile(profile);
        }
        _ => {
            let wants = "seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, label=disable, systempaths=unconfined";
            return Err(format!("wants one of {wants}"));
        }
    }
    Ok(())
}
