//! Every directory of spec-fixtures holds a config.json and the plan.txt that it gives; setting.json says what differs
//! from the usual host and arguments. `UPDATE_GOLDEN=1 cargo test -p rcr-runtime golden` writes the plans anew.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::cgroup::Hierarchies;
use crate::resctrl::Resctrl;
use oci::runtime::{Capability, Hook, Process};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Setting {
    euid: u32,
    egid: u32,
    apparmor: bool,
    selinux: bool,
    missing_capabilities: Vec<Capability>,
    pseudo_mounts: Vec<PathBuf>,
    resctrl: bool,
    cgroups: String,
    args: ArgSetting,
    exec: Option<Process>,
    hook: Option<Hook>,
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ArgSetting {
    no_pivot: bool,
    no_new_keyring: bool,
    preserve_fds: u32,
    listen_fds: u32,
    rootfs_given: bool,
    /// Where systemd will put it.
    systemd_cgroup: Option<PathBuf>,
    await_start: bool,
    parent_death_signal: Option<i32>,
}

fn hierarchies(kind: &str) -> Hierarchies {
    let (mounts, own) = match kind {
        "v2" => ("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/user.slice/session\n"),
        // All controllers in one hierarchy, which is enough to see what goes where.
        "v1" => (
            "30 24 0:26 / /sys/fs/cgroup/all rw - cgroup cgroup \
             rw,cpuset,cpu,cpuacct,blkio,memory,devices,freezer,net_cls,net_prio,hugetlb,pids,rdma\n",
            "1:cpuset,cpu,cpuacct,blkio,memory,devices,freezer,net_cls,net_prio,hugetlb,pids,rdma:/own\n",
        ),
        _ => (
            "30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "3:name=systemd:/own\n2:memory:/own\n1:cpu,cpuacct:/own\n0::/own\n",
        ),
    };
    Hierarchies::parse(mounts, own).unwrap()
}

fn plan(spec: &Spec, setting: Setting) -> Result<Plan, Error> {
    let known = (1 << 41) - 1;
    let missing = setting.missing_capabilities.iter().fold(0, |set, c| set | 1 << capability_number(*c));
    let host = Host {
        euid: setting.euid,
        egid: setting.egid,
        in_user_namespace: false,
        capabilities: known & !missing,
        known_capabilities: known,
        apparmor: setting.apparmor,
        selinux: setting.selinux,
        kcore: true,
        pseudo_mounts: setting.pseudo_mounts,
        resctrl: setting.resctrl.then(|| Resctrl {
            root: "/sys/fs/resctrl".into(),
            l3: true,
            bandwidth: true,
        }),
        cgroups: hierarchies(&setting.cgroups),
    };
    let placed_by_systemd = setting.args.systemd_cgroup.is_some();
    let args = Args {
        id: "web".to_owned(),
        bundle: PathBuf::from("/bundle"),
        no_pivot: setting.args.no_pivot,
        no_new_keyring: setting.args.no_new_keyring,
        preserve_fds: setting.args.preserve_fds,
        listen_fds: setting.args.listen_fds,
        rootfs_given: setting.args.rootfs_given,
        cgroup: setting.args.systemd_cgroup.map(|path| CgroupPath::new(Some(&path), "web").unwrap()),
        placed_by_systemd,
        await_start: setting.args.await_start,
        parent_death_signal: setting.args.parent_death_signal,
    };
    let target = Target { pid: 77 };
    match (setting.exec, setting.hook) {
        (Some(process), _) => exec(spec, &process, target, &host, &args),
        (None, Some(hook_)) => {
            let kind = match setting.kind.as_str() {
                "createContainer" => HookKind::CreateContainer,
                _ => HookKind::StartContainer,
            };
            hook(spec, &hook_, kind, target, &host, &args)
        }
        (None, None) => create(spec, &host, &args),
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec-fixtures")
}

/// The fixtures that have a file of this name.
pub(crate) fn fixtures_with(file: &str) -> Vec<PathBuf> {
    let mut names: Vec<_> = std::fs::read_dir(fixtures()).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names.retain(|dir| dir.join(file).exists());
    names
}

/// The configuration of a fixture, and its plan.
pub(crate) fn made_by(dir: &Path) -> (Spec, Plan) {
    let spec = crate::spec::load(&dir.join("config.json")).unwrap();
    let setting = match std::fs::read(dir.join("setting.json")) {
        Ok(json) => serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{dir:?}: {e}")),
        Err(_) => Setting::default(),
    };
    let plan = plan(&spec, setting).unwrap_or_else(|e| panic!("{dir:?}: {e:#}"));
    (spec, plan)
}

#[test]
fn golden_plans() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for dir in fixtures_with("config.json") {
        count += 1;
        let got = made_by(&dir).1.to_string();
        let path = dir.join("plan.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &got).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != got {
            wrong.push(format!("{}:\n{got}", path.display()));
        }
    }
    assert!(count > 20, "only {count} fixtures found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What can't be planned is refused with its place in config.json.
#[test]
fn refusals_name_the_place() {
    let base: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("default/config.json")).unwrap()).unwrap();
    let cases: &[(&str, &str, &str)] = &[
        ("/process", "null", "process: must be set"),
        ("/process/args", "[]", "process.args: must not be empty"),
        ("/process/args", r#"["a\u0000b"]"#, "process.args[0]: contains a NUL"),
        ("/process/cwd", r#""x""#, "process.cwd: Cwd must be an absolute path"),
        ("/process/env", r#"["A"]"#, "process.env[0]: invalid environment variable: missing '='"),
        ("/process/env", r#"["=A"]"#, "process.env[0]: invalid environment variable: name cannot be empty"),
        ("/process/oomScoreAdj", "1001", "process.oomScoreAdj: 1001 is not between"),
        ("/process/apparmorProfile", r#""x""#, "process.apparmorProfile: "),
        ("/process/selinuxLabel", r#""x""#, "process.selinuxLabel: "),
        (
            "/process/rlimits",
            r#"[{"type":"RLIMIT_CPU","soft":1,"hard":1},{"type":"RLIMIT_CPU","soft":1,"hard":1}]"#,
            "process.rlimits[1].type: duplicated RLIMIT_CPU",
        ),
        ("/process/ioPriority", r#"{"class":"IOPRIO_CLASS_BE","priority":8}"#, "process.ioPriority.priority"),
        ("/process/scheduler", r#"{"policy":"SCHED_OTHER","nice":20}"#, "process.scheduler.nice: "),
        ("/process/scheduler", r#"{"policy":"SCHED_OTHER","priority":1}"#, "process.scheduler.priority: "),
        ("/root", "null", "root: must be specified"),
        ("/linux/namespaces", r#"[{"type":"pid"},{"type":"pid"}]"#, "linux.namespaces[1]: duplicated pid"),
        (
            "/linux/namespaces",
            r#"[{"type":"pid","path":"x"}]"#,
            "linux.namespaces[0].path: \"x\" is not absolute",
        ),
        ("/linux/namespaces", r#"[{"type":"mount"}]"#, "hostname: unable to set hostname without"),
        (
            "/linux/uidMappings",
            r#"[{"containerID":0,"hostID":1,"size":1}]"#,
            "linux.uidMappings: user namespace mappings specified",
        ),
        (
            "/linux/timeOffsets",
            r#"{"monotonic":{"secs":1}}"#,
            "linux.timeOffsets: time namespace offsets specified",
        ),
        ("/linux/rootfsPropagation", r#""odd""#, "linux.rootfsPropagation: \"odd\" is not supported"),
        ("/linux/maskedPaths", r#"["proc"]"#, "linux.maskedPaths[0]: \"proc\" is not absolute"),
        ("/linux/readonlyPaths", r#"["/x/.."]"#, "linux.readonlyPaths[0]: is the root"),
        ("/linux/sysctl", r#"{"kernel.core_pattern":"|/x"}"#, "is not in a separate kernel namespace"),
        ("/linux/sysctl", r#"{"net/../kernel/core_pattern":"|/x"}"#, "is not a sysctl"),
        ("/linux/sysctl", r#"{"kernel.hostname":"x"}"#, "conflicts with the OCI \"hostname\" field"),
        ("/linux/sysctl", r#"{"user.max_user_namespaces":"1"}"#, "not allowed in host user namespace"),
        (
            "/linux/devices",
            r#"[{"path":"/dev/x","type":"c","major":4096,"minor":0}]"#,
            "linux.devices[0].major: 4096 is out of range",
        ),
        (
            "/linux/devices",
            r#"[{"path":"/dev/x","type":"c","major":1,"minor":-1}]"#,
            "linux.devices[0].minor: -1 is out of range",
        ),
        (
            "/linux/devices",
            r#"[{"path":"/dev/x","type":"c","major":1,"minor":1,"fileMode":2097151}]"#,
            "linux.devices[0].fileMode",
        ),
        ("/linux/devices", r#"[{"path":"x","type":"c","major":1,"minor":1}]"#, "linux.devices[0].path"),
        ("/linux/cgroupsPath", r#""/a/../b""#, "mounts[6]: needs a cgroup path"),
        ("/mounts/1", r#"{"destination":"/","type":"tmpfs"}"#, "mounts[1].destination: a mount on the root"),
        (
            "/mounts/1",
            r#"{"destination":"/x/..","type":"tmpfs"}"#,
            "mounts[1].destination: a mount on the root",
        ),
        ("/mounts/1", r#"{"destination":"/proc/self/attr","type":"tmpfs"}"#, "because it is inside /proc"),
        (
            "/mounts/1",
            r#"{"destination":"/sys/../proc/x","type":"bind","source":"/"}"#,
            "because it is inside /proc",
        ),
        ("/mounts/1", r#"{"destination":"/proc","type":"tmpfs"}"#, "because it is not of type proc"),
        ("/mounts/1", r#"{"destination":"/proc","type":"sysfs"}"#, "because it is not of type proc"),
        ("/mounts/1", r#"{"destination":"/x"}"#, "mounts[1].type: must be set"),
        ("/mounts/1", r#"{"destination":"/x","type":"bind"}"#, "mounts[1].source: must be set"),
        (
            "/mounts/1",
            r#"{"destination":"/x","type":"bind","source":"/y","options":["size=1"]}"#,
            "mounts[1].options: bind mounts cannot",
        ),
        ("/linux/netDevices", r#"{"a/b":{}}"#, "linux.netDevices.a/b: invalid network device name \"a/b\""),
        ("/linux/netDevices", r#"{"..":{}}"#, "linux.netDevices...: invalid network device name"),
        ("/linux/netDevices", r#"{"eth%d":{}}"#, "linux.netDevices.eth%d: invalid network device name"),
        (
            "/linux/netDevices",
            r#"{"sixteen-letters-":{}}"#,
            "invalid network device name \"sixteen-letters-\"",
        ),
        ("/linux/netDevices", r#"{"e":{"name":"x y"}}"#, "linux.netDevices.e: invalid network device name"),
        ("/linux/netDevices", r#"{"e":{"name":"x%d%d"}}"#, "linux.netDevices.e: invalid network device name"),
        ("/linux/netDevices", r#"{"lo":{}}"#, "linux.netDevices.lo: the loopback device cannot be moved"),
        (
            "/linux/netDevices",
            r#"{"a":{"name":"x"},"b":{"name":"x"}}"#,
            "linux.netDevices.b: \"x\" is the name of \"a\" in the container too",
        ),
        (
            "/linux",
            r#"{"namespaces":[{"type":"mount"},{"type":"pid"},{"type":"uts"}],"netDevices":{"e":{}}}"#,
            "linux.netDevices: unable to move network devices without a private NET namespace",
        ),
        (
            "/linux/intelRdt",
            "{}",
            "linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled",
        ),
        // RT-18: a closID is one name below the mount point.
        ("/linux/intelRdt", r#"{"closID":".."}"#, "linux.intelRdt.closID: invalid intelRdt.ClosID \"..\""),
        ("/linux/intelRdt", r#"{"closID":"."}"#, "invalid intelRdt.ClosID"),
        ("/linux/intelRdt", r#"{"closID":"../../x"}"#, "invalid intelRdt.ClosID"),
        ("/linux/intelRdt", r#"{"closID":"a/b"}"#, "invalid intelRdt.ClosID"),
        ("/linux/intelRdt", r#"{"closID":"/x"}"#, "invalid intelRdt.ClosID"),
        ("/linux/intelRdt", r#"{"schemata":["L3:0=f\nMB:0=1"]}"#, "is more than a line"),
        (
            "/linux/memoryPolicy",
            r#"{"mode":"MPOL_LOCAL","nodes":"0-1"}"#,
            "linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 2",
        ),
        (
            "/linux/memoryPolicy",
            r#"{"mode":"MPOL_BIND"}"#,
            "linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0",
        ),
        ("/linux/memoryPolicy", r#"{"mode":"MPOL_BIND","nodes":"3-1"}"#, "invalid memory policy nodes"),
        ("/process/execCPUAffinity", r#"{"initial":"9999"}"#, "process.execCPUAffinity.initial: "),
        (
            "/process/scheduler",
            r#"{"policy":"SCHED_RR","runtime":1}"#,
            "process.scheduler: runtime/deadline/period can only be specified for SchedDeadline policy",
        ),
        ("/process/scheduler", r#"{"policy":"SCHED_RR","priority":-1}"#, "process.scheduler.priority: "),
        (
            "/mounts/1",
            r#"{"destination":"/x","type":"tmpfs","options":["idmap"]}"#,
            "mounts[1]: id-mapped mounts are only",
        ),
        (
            "/mounts/1",
            r#"{"destination":"/x","type":"bind","source":"/y","options":["idmap"]}"#,
            "must have both uid and gid",
        ),
    ];
    for (pointer, value, wanted) in cases {
        let mut json = base.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let value = serde_json::from_str(value).unwrap();
        match json.pointer_mut(parent).unwrap() {
            serde_json::Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            parent => parent[key] = value,
        }
        let spec =
            crate::spec::parse(json.to_string().as_bytes()).unwrap_or_else(|e| panic!("{pointer}: {e:#}"));
        let error = plan(&spec, Setting::default()).expect_err(pointer);
        assert_eq!(error.what(), ErrorKind::Invalid, "{pointer}");
        assert!(error.to_string().contains(wanted), "{pointer}: {error:#}");
    }
}

#[test]
fn rootless_refusals() {
    let load = |name: &str| crate::spec::load(&fixtures().join(name).join("config.json")).unwrap();
    let rootless = || Setting { euid: 1000, egid: 1000, ..Setting::default() };
    let error = plan(&load("default"), rootless()).unwrap_err();
    assert!(error.to_string().contains("rootless container requires user namespaces"), "{error:#}");
    let mut spec = load("rootless");
    spec.process_mut().as_mut().unwrap().user_mut().set_additional_gids(Some(vec![5]));
    let error = plan(&spec, rootless()).unwrap_err();
    assert!(error.to_string().starts_with("process.user.additionalGids: setgroups is denied"), "{error:#}");
    let error = plan(&load("idmap"), rootless()).unwrap_err();
    assert!(error.to_string().contains("not supported for rootless containers"), "{error:#}");
    let mut spec = load("linux.netDevices");
    let mut user = oci::runtime::LinuxNamespace::default();
    user.set_typ(oci::runtime::LinuxNamespaceType::User);
    spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap().push(user);
    let error = plan(&spec, rootless()).unwrap_err();
    assert!(error.to_string().contains("no namespace path to join nor mappings"), "{error:#}");
    let ids = load("rootless").linux().as_ref().unwrap().uid_mappings().clone();
    spec.linux_mut().as_mut().unwrap().set_uid_mappings(ids.clone()).set_gid_mappings(ids);
    let error = plan(&spec, rootless()).unwrap_err();
    let wanted = "linux.netDevices: network devices are not supported for rootless containers";
    assert_eq!(error.to_string(), wanted);
}
