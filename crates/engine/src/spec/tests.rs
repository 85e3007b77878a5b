//! Golden specs: `golden/NAME.json` is what comes of the ingredients of that name. After a wanted change,
//! `RCR_BLESS=1 cargo test -p rcr-engine golden` writes them anew, and the diff is reviewed.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::isolation::{DeviceRule, Ipc, Isolation, Share};
use crate::limits::Limits;
use crate::options::{Origin, Tmpfs, Ulimit, Volume};

fn image(config: Value) -> Config {
    serde_json::from_value(config).unwrap()
}

/// The spec as JSON, sets sorted, without what is another crate's (the seccomp profile).
fn written(image: &Config, options: &RunOptions, init: Option<&Path>, devices: &[LinuxDevice]) -> Value {
    let mut count = 0;
    let points = crate::mount::points(
        options,
        Vec::new(),
        image.volumes().as_deref().unwrap_or_default(),
        Path::new("/store/volumes"),
        Path::new("/home/me"),
        || {
            count += 1;
            format!("anonymous{count}")
        },
    )
    .unwrap();
    let user = User { uid: 1000, gid: 1001, groups: vec![1001, 10], home: "/home/alice".into() };
    let ingredients = Ingredients {
        image,
        options,
        user: &user,
        hostname: "9f86d081884c",
        points: &points,
        files: Some(Path::new("/store/containers/9f")),
        network: None,
        init,
        cgroups_path: Some(PathBuf::from("/rcr-9f")),
        all_capabilities: (1 << 41) - 1,
        devices,
        found: &Found::default(),
        linked: &[],
        kernel: (6, 1),
    };
    let mut value = serde_json::to_value(spec(&ingredients).unwrap()).unwrap();
    let seccomp = value["linux"].as_object_mut().unwrap().remove("seccomp");
    assert_eq!(seccomp.is_none(), options.privileged, "a seccomp profile unless privileged");
    for set in ["bounding", "effective", "permitted"] {
        let list = value["process"]["capabilities"][set].as_array_mut().unwrap();
        list.sort_by_key(ToString::to_string);
    }
    value
}

fn golden(name: &str, value: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("RCR_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    let line = text.lines().zip(want.lines()).position(|(a, b)| a != b);
    assert!(text == want, "golden/{name}.json differs from line {:?} on; made:\n{text}", line.map(|n| n + 1));
}

#[test]
fn golden_plain() {
    let image =
        image(json!({ "Entrypoint": ["/entry"], "Cmd": ["cmd"], "Env": ["A=1"], "WorkingDir": "/app" }));
    golden("plain", &written(&image, &RunOptions::new("x"), None, &[]));
}

#[test]
fn golden_every_flag() {
    let image = image(
        json!({ "Cmd": ["cmd"], "Env": ["A=1", "PATH=/bin"], "Volumes": { "/data": {}, "/cache": {} } }),
    );
    let mut options = RunOptions::new("x");
    options.command = vec!["sh".into(), "-c".into(), "true".into()];
    options.tty = true;
    options.env = vec!["A=2".into(), "B=3".into()];
    options.volumes = vec![Volume {
        origin: Origin::Path("/srv".into()),
        target: "/data".into(),
        options: vec!["ro".into()],
        must_exist: false,
    }];
    options.tmpfs = vec![
        Tmpfs { target: "/tmp".into(), options: vec!["size=64m".into()] },
        Tmpfs { target: "/dev/shm".into(), options: vec!["size=1g".into()] },
    ];
    options.workdir = Some("/w".into());
    options.read_only = true;
    options.network = Mode::Host;
    options.cap_add = vec!["NET_ADMIN".into()];
    options.cap_drop = vec!["ALL".into()];
    options.memory = Some(64 << 20);
    options.nano_cpus = Some(1_500_000_000);
    options.pids_limit = Some(100);
    options.ulimits = vec![Ulimit { name: "nofile".into(), soft: 1024, hard: u64::MAX }];
    options.annotations = vec![("org.example.key".into(), "value".into())];
    golden("every-flag", &written(&image, &options, Some(Path::new("/store/containers/9f/init")), &[]));
}

#[test]
fn golden_privileged() {
    let mut options = RunOptions::new("x");
    options.command = vec!["sh".into()];
    options.privileged = true;
    let mut device = LinuxDevice::default();
    device.set_path("/dev/fuse".into()).set_major(10).set_minor(229).set_file_mode(Some(0o666));
    device.set_typ(oci::runtime::LinuxDeviceType::C);
    golden("privileged", &written(&Config::default(), &options, None, &[device]));
}

/// docker's flags of limits, namespaces, devices and security that came after `golden_every_flag`.
#[test]
fn golden_limits_and_isolation() {
    let mut options = RunOptions::new("x");
    options.command = vec!["sh".into()];
    options.memory = Some(64 << 20);
    options.limits = Limits {
        cpu_shares: Some(512),
        cpu_period: Some(50_000),
        cpu_quota: Some(25_000),
        cpuset_cpus: Some("0-1".into()),
        cpuset_mems: Some("0".into()),
        memory_swap: Some(96 << 20),
        memory_reservation: Some(32 << 20),
        memory_swappiness: Some(7),
        oom_kill_disable: true,
        oom_score_adj: Some(123),
        blkio_weight: Some(300),
    };
    options.isolation = Isolation {
        pid: Share::Host,
        ipc: Ipc::Host,
        uts_host: true,
        cgroup_host: true,
        shm_size: Some(1 << 20),
        device_rules: vec![DeviceRule { kind: 'c', major: Some(10), minor: None, access: "rwm".into() }],
        sysctls: vec![("net.ipv4.ip_forward".into(), "1".into())],
        time_offsets: vec![("boottime".into(), 86_400, 5)],
        no_new_privileges: true,
        apparmor: Some("mine".into()),
        system_paths: true,
        ..Isolation::default()
    };
    golden("limits-and-isolation", &written(&Config::default(), &options, None, &[]));
}

/// Who mounts on /dev or on a file that rcr would bind gets just that (docker's rule).
#[test]
fn user_mounts_replace_the_usual_ones() {
    let mut options = RunOptions::new("x");
    options.command = vec!["sh".into()];
    let bind = |source: &str, target: &str| Volume {
        origin: Origin::Path(source.into()),
        target: target.into(),
        options: vec![],
        must_exist: false,
    };
    options.volumes = vec![bind("/dev", "/dev"), bind("/my/hosts", "/etc/hosts")];
    let spec = written(&Config::default(), &options, None, &[]);
    let targets: Vec<&str> =
        spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    assert_eq!(
        targets,
        ["/proc", "/sys", "/sys/fs/cgroup", "/etc/resolv.conf", "/etc/hostname", "/dev", "/etc/hosts"]
    );
}

#[test]
fn limits_that_cannot_be_meant() {
    let mut options = RunOptions::new("x");
    options.memory = Some(4);
    assert!(resources(&options, &[]).unwrap_err().contains("at least 6291456 (6m)"));
    options.memory = Some(u64::MAX);
    assert!(resources(&options, &[]).unwrap_err().contains("too large"));
    options.memory = Some(0);
    options.pids_limit = Some(-1);
    options.nano_cpus = Some(0);
    let none = resources(&options, &[]).unwrap();
    assert!(none.memory().is_none() && none.pids().is_none() && none.cpu().is_none());
}
