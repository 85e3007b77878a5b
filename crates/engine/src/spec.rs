//! From an image's config and a user's flags to an OCI runtime spec, as docker would write it.
//!
//! Pure: whatever depends on the host or on files in the image comes in as a value.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use network::Mode;
use oci::image::Config;
use oci::runtime::{
    Linux, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources, Mount, Root,
    Spec,
};

use crate::isolation::{Found, FoundDevice, Ipc, Seccomp, Share};
use crate::mount::{ID_MAPPED, Point, mount};
use crate::options::RunOptions;
use crate::user::User;
use crate::userns::{Userns, Users};
use crate::{capabilities, cdi, process, seccomp};

/// Everything a spec is made of.
#[derive(Debug)]
pub(crate) struct Ingredients<'a> {
    /// The part of the image's config that says how to run it.
    pub(crate) image: &'a Config,
    /// The user's wishes.
    pub(crate) options: &'a RunOptions,
    /// Whom the process runs as.
    pub(crate) user: &'a User,
    /// The container's host name.
    pub(crate) hostname: &'a str,
    /// Volumes, binds and tmpfs, in order.
    pub(crate) points: &'a [Point],
    /// Directory with `hosts`, `hostname` and `resolv.conf` for the container.
    pub(crate) files: Option<&'a Path>,
    /// The network namespace of another container.
    pub(crate) network: Option<PathBuf>,
    /// The init to run as process 1.
    pub(crate) init: Option<&'a Path>,
    /// Below the mount points of the cgroup hierarchies; `None` leaves it to the runtime.
    pub(crate) cgroups_path: Option<PathBuf>,
    /// The caller's own capabilities, as a mask.
    pub(crate) all_capabilities: u64,
    /// The host's devices, for `--privileged`.
    pub(crate) devices: &'a [LinuxDevice],
    /// What the host and other containers have for this one.
    pub(crate) found: &'a Found,
    /// Variables about the containers that it has linked.
    pub(crate) linked: &'a [String],
    /// Version of the kernel, for seccomp profiles that ask for it.
    pub(crate) kernel: (u32, u32),
}

/// Where `--init` appears in the container: on the tmpfs that the runtime makes, so that the image's root gets no
/// mount point for it; in the root where the user mounts something on /dev, which may be the host's.
const INIT: [&str; 2] = ["/dev/init", "/.rcr-init"];

/// Least memory that docker takes; below it somebody has forgotten the unit.
const MIN_MEMORY: u64 = 6 << 20;
/// Length of the time slice that `--cpus` is a share of, in µs; the kernel's default.
const CPU_PERIOD: u64 = 100_000;

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The spec.
///
/// # Errors
/// The flag or the field of the image's config that cannot be used.
pub(crate) fn spec(from: &Ingredients<'_>) -> Result<Spec, String> {
    let options = from.options;
    let (entrypoint, command) = process::command(from.image, options)?;
    let init = from.init.map(|_| vec![init_place(from).to_owned(), "--".to_owned()]).unwrap_or_default();
    let args = [init, entrypoint, command].concat();
    let mask =
        capabilities::choose(&options.cap_add, &options.cap_drop, options.privileged, from.all_capabilities)?;
    let capabilities = capabilities::names(mask);
    let env = process::environment(from.image, options, from.hostname, from.linked, Some(&from.user.home));
    let cwd = process::workdir(from.image, options)?;
    let process = process::process(args, env, &cwd, from.user, &capabilities, options)?;

    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(options.read_only));
    let isolation = &options.isolation;
    isolation.check_userns(&options.network, from.kernel)?;
    check_id_mapped(from)?;
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(isolation.namespaces(
            from.found,
            options.network == Mode::Host,
            from.network.clone(),
        )))
        .set_time_offsets(isolation.offsets())
        .set_resources(Some(resources(options, &isolation.device_rules(from.found))?))
        .set_cgroups_path(from.cgroups_path.clone())
        .set_devices(Some(devices(from)).filter(|devices| !devices.is_empty()));
    if let Some(users) = from.found.users.as_ref().filter(|users| !users.joined) {
        let (uid, gid) = users.mappings();
        linux.set_uid_mappings(Some(uid)).set_gid_mappings(Some(gid));
    }
    let mut sysctls = HashMap::new();
    if options.network.is_own() {
        // As docker has it since 20.10: low ports and ping need no privilege where the network is the container's.
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        let last = from.found.users.as_ref().map_or(i32::MAX.unsigned_abs(), Users::last_group);
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
    }
    sysctls.extend(isolation.sysctls.iter().cloned());
    linux.set_sysctl(Some(sysctls).filter(|all| !all.is_empty()));
    let strings = |paths: &[&str]| Some(paths.iter().map(|p| (*p).to_owned()).collect());
    if options.privileged || isolation.system_paths {
        linux.set_masked_paths(None).set_readonly_paths(None);
    } else {
        linux.set_masked_paths(strings(&MASKED)).set_readonly_paths(strings(&READ_ONLY));
    }
    linux.set_seccomp(match &isolation.seccomp {
        Seccomp::Default if options.privileged => None,
        Seccomp::Default => Some(runtime::seccomp::default_profile(&capabilities)),
        Seccomp::Unconfined => None,
        Seccomp::Profile(given) => Some(seccomp::profile(given, &capabilities, from.kernel)?),
    });

    // The user's only: an image must not reach what annotations switch in runtimes (CVE-2023-6476).
    let annotations: HashMap<_, _> = options.annotations.iter().cloned().collect();
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned())
        .set_hostname(Some(from.hostname.to_owned()).filter(|_| !isolation.uts_host))
        .set_root(Some(root))
        .set_process(Some(process))
        .set_mounts(Some(mounts(from)))
        .set_annotations(Some(annotations).filter(|all| !all.is_empty()))
        .set_linux(Some(linux));
    cdi::apply(&from.found.edits, &mut spec);
    Ok(spec)
}

fn init_place(from: &Ingredients<'_>) -> &'static str {
    INIT[usize::from(from.points.iter().any(|point| point.target == "/dev"))]
}

/// The host's for `--privileged`, and those of `--device`; what is asked for twice is there once. Nobody makes devices in a
/// user namespace: there those of `--device` are bound ([`mounts`]).
fn devices(from: &Ingredients<'_>) -> Vec<LinuxDevice> {
    let mut all = from.devices.to_vec();
    for device in from.found.devices.iter().map(|found| &found.node) {
        all.retain(|other| other.path() != device.path());
        if from.found.users.is_none() {
            all.push(device.clone());
        }
    }
    all
}

/// /dev/shm: the container's own, the host's, one that containers share, or none.
fn shared_memory(from: &Ingredients<'_>, options: &[&str]) -> Option<Mount> {
    let isolation = &from.options.isolation;
    Some(match (&isolation.ipc, &from.found.shm) {
        (Ipc::None, _) => return None,
        (Ipc::Host, _) => mount("/dev/shm", "bind", Path::new("/dev/shm"), &["rbind", "rprivate"]),
        (_, Some(shared)) => {
            mount("/dev/shm", "bind", shared, &["bind", "rprivate", "nosuid", "noexec", "nodev"])
        }
        (_, None) => {
            let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            if let (Some(bytes), Some(size)) = (isolation.shm_size, options.last_mut()) {
                *size = format!("size={bytes}");
            }
            mount("/dev/shm", "tmpfs", Path::new("shm"), &options)
        }
    })
}

/// What the root of a user namespace may not mount, because the namespace that it shows is not its own: it sees what the
/// host sees there, as with podman. `None`: it may.
fn foreign(from: &Ingredients<'_>, target: &str) -> Option<Option<Mount>> {
    let (isolation, network) = (&from.options.isolation, &from.options.network);
    let bind = |access| {
        Some(mount(
            target,
            "bind",
            Path::new(target),
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", access],
        ))
    };
    match target {
        "/proc" if isolation.pid == Share::Host => Some(bind("rw")),
        "/sys" if !isolation.owns_network(network) => {
            Some(bind(if from.options.privileged { "rw" } else { "rro" }))
        }
        "/dev/mqueue" if isolation.ipc == Ipc::Host => Some(bind("rw").filter(|_| from.found.host_queues)),
        _ => None,
    }
}

/// Binds by the container's ids mean something only where it has ids of its own.
fn check_id_mapped(from: &Ingredients<'_>) -> Result<(), String> {
    let wanted = from.points.iter().find(|point| point.options.iter().any(|option| option == ID_MAPPED));
    match wanted.filter(|_| from.options.isolation.userns == Userns::Host) {
        Some(point) => Err(format!(
            "option {ID_MAPPED} of the volume on {:?} wants a user namespace: add --userns auto, or leave it out",
            point.target
        )),
        None => Ok(()),
    }
}

fn resources(options: &RunOptions, rules: &[LinuxDeviceCgroup]) -> Result<LinuxResources, String> {
    let mut resources = LinuxResources::default();
    let mut devices = LinuxDeviceCgroup::default();
    devices.set_allow(options.privileged).set_access(Some("rwm".to_owned()));
    let rules = rules.iter().filter(|_| !options.privileged).cloned();
    resources.set_devices(Some(std::iter::once(devices).chain(rules).collect()));
    if let Some(limit) = options.memory.filter(|bytes| *bytes > 0) {
        if limit < MIN_MEMORY {
            return Err(format!(
                "memory limit of {limit} bytes is too small: wants at least {MIN_MEMORY} (6m)"
            ));
        }
        let bytes = |n: u64| i64::try_from(n).map_err(|_| format!("memory limit of {n} bytes is too large"));
        let mut memory = LinuxMemory::default();
        // Docker's default: as much swap as memory.
        memory.set_limit(Some(bytes(limit)?)).set_swap(Some(bytes(limit.saturating_mul(2))?));
        resources.set_memory(Some(memory));
    }
    if let Some(nano) = options.nano_cpus.filter(|nano| *nano > 0) {
        let quota = u128::from(nano) * u128::from(CPU_PERIOD) / 1_000_000_000;
        let quota =
            i64::try_from(quota).map_err(|_| "more processors than the kernel can count".to_owned())?;
        let mut cpu = LinuxCpu::default();
        cpu.set_period(Some(CPU_PERIOD)).set_quota(Some(quota));
        resources.set_cpu(Some(cpu));
    }
    if let Some(limit) = options.pids_limit.filter(|limit| *limit > 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    options.limits.apply(options.memory, &mut resources)?;
    Ok(resources)
}

/// Docker's mounts, then those of files, then the user's, then init.
fn mounts(from: &Ingredients<'_>) -> Vec<Mount> {
    let sys = if from.options.privileged { "rw" } else { "ro" };
    let own: [(&str, &str, &[&str]); 7] = [
        ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        ("/sys/fs/cgroup", "cgroup", &[sys, "nosuid", "noexec", "nodev"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ];
    let taken = |target: &str| from.points.iter().any(|point| point.target == target);
    let mut all = Vec::new();
    for (target, kind, options) in own {
        // Who mounts on /dev means all of it.
        if taken(target) || target.starts_with("/dev/") && taken("/dev") {
            continue;
        }
        if target == "/dev/shm" {
            all.extend(shared_memory(from, options));
            continue;
        }
        match (&from.found.users, foreign(from, target)) {
            (Some(_), Some(shown)) => all.extend(shown),
            (Some(users), None) if !users.has_group(5) => {
                // The group of terminals, if it is one.
                let options: Vec<&str> = options.iter().copied().filter(|o| *o != "gid=5").collect();
                all.push(mount(target, kind, Path::new(kind), &options));
            }
            _ => all.push(mount(target, kind, Path::new(kind), options)),
        }
    }
    if from.found.users.is_some() {
        let target = |found: &FoundDevice| found.node.path().to_string_lossy().into_owned();
        let bound = from.found.devices.iter();
        all.extend(
            bound.map(|found| mount(&target(found), "bind", &found.source, &["bind", "rprivate", "nosuid"])),
        );
    }
    for name in ["resolv.conf", "hostname", "hosts"] {
        let target = format!("/etc/{name}");
        if let Some(files) = from.files.filter(|_| !taken(&target)) {
            all.push(mount(&target, "bind", &files.join(name), &["rbind", "rprivate"]));
        }
    }
    all.extend(from.points.iter().map(|point| point.to_spec(from.found.users.is_some())));
    if let Some(init) = from.init {
        all.push(mount(init_place(from), "bind", init, &["bind", "rprivate", "ro"]));
    }
    all
}

#[cfg(test)]
mod tests;
