//! One bundle under rcr-runtime, runc and crun: what the process sees must be the same, line by line. A difference
//! that is right stands in [`KNOWN`] with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::bundle::Bundle;
use harness::host::Need::{Path as File, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::ok;
use harness::{Case, cases};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = cases!("bundle":
    default_spec_as_under_runc [Root, File("/bin/busybox"), Program("runc")],
    default_spec_as_under_crun [Root, File("/bin/busybox"), Program("crun")],
    dockers_kind_of_config_as_under_runc [Root, File("/bin/busybox"), Program("runc")],
    dockers_kind_of_config_as_under_crun [Root, File("/bin/busybox"), Program("crun")],
    every_mount_option_as_under_runc [Root, File("/bin/busybox"), Program("runc")],
    a_user_namespace_as_under_runc [Root, File("/bin/busybox"), Program("runc")],
    resources_reach_the_same_cgroup_files_as_under_runc [Root, File("/bin/busybox"), Program("runc")],
);

/// A difference that is meant: (peer, section, text in the line, why ours is right).
const KNOWN: &[(&str, &str, &str, &str)] = &[
    (
        "runc",
        "mountinfo",
        " /sys/fs/cgroup r",
        "asked for read-only; runc 1.1 leaves the tmpfs of the hierarchies writable",
    ),
    (
        "runc",
        "mountinfo",
        " /proc/acpi ro",
        "a mask is an empty tmpfs that can hold nothing, as in runc 1.5; 1.1 sets no limit",
    ),
    ("runc", "mountinfo", " /sys/firmware ro", "a mask, as above"),
    (
        "runc",
        "mountinfo",
        "/bundle/rootfs / r",
        "private unless asked otherwise, as in runc 1.5; 1.1 makes it a slave where the host's mounts are shared",
    ),
    (
        "runc",
        "dev",
        "drwxrwxrwt 0 ",
        "in a user namespace /dev/mqueue is the container root's with its group; under runc the group is unmapped",
    ),
    (
        "crun",
        "mountinfo",
        " /sys/fs/cgroup r",
        "asked for read-only; crun leaves the tmpfs of the hierarchies writable",
    ),
    ("crun", "mountinfo", " /sys ro", "asked for read-only: the super block is too, as under runc"),
    ("crun", "mountinfo", " /proc/acpi ro", "crun masks with a tmpfs of size=0k, which is no limit at all"),
    ("crun", "mountinfo", " /sys/firmware ro", "a mask, as above"),
    (
        "crun",
        "mountinfo",
        "/null /proc/",
        "files are masked with the container's /dev/null, as under runc, not the host's",
    ),
    ("crun", "dev", "-> /proc/kcore", "crun links /dev/core to a file that is masked"),
    ("crun", "dev", " 1, 3 null", "crun gives /dev/null to the user; it stays root's, as under runc"),
];

/// What the process prints; `== NAME` starts a section.
const PROBE: &str = r#"
section() { echo "== $1"; }
section mountinfo; cut -d' ' -f4- /proc/self/mountinfo
section status; grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Umask):' /proc/self/status; grep NSpid /proc/1/status | cut -f3-
section limits; cat /proc/self/limits
section env; env | sort
section fds; for fd in /proc/self/fd/*; do [ -e "$fd" ] && echo "${fd##*/}"; done
section cwd; pwd
section hostname; hostname
section oom; cat /proc/self/oom_score_adj
section dev; ls -ln /dev | tr -s ' ' | cut -d' ' -f1,3-6,10-
section cgroup; cut -d: -f2- /proc/self/cgroup
section masked; for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do [ -s $f ] && echo "$f readable"; done; ls /proc/acpi /sys/firmware 2>/dev/null | wc -l
section readonly; for f in /proc/sys/kernel/domainname /proc/sysrq-trigger; do (echo x > $f) 2>/dev/null && echo "$f writable"; done
section session; cut -d' ' -f6,7 /proc/self/stat
section sysctl; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax 2>/dev/null
section links; ip -o link 2>/dev/null | cut -d' ' -f2,3
"#;

/// A bundle whose process prints the probe.
fn bundle(adjust: impl FnOnce(&mut Value)) -> Bundle {
    Bundle::new(PROBE, |config, _| {
        // Without a path runc and rcr-runtime go below their own cgroup, crun to the top.
        config["linux"]["cgroupsPath"] = json!("/rcr-compare");
        // Debian's crun refuses versions that are newer than itself.
        config["ociVersion"] = json!("1.0.2");
        adjust(config);
    })
}

type Sections = BTreeMap<String, Vec<String>>;

fn observe(bundle: &Bundle, name: &str, command: Command, id: &str) -> Sections {
    let said = bundle.run_under(command, id);
    assert_eq!(said.code, 0, "{name}: {}", said.err);
    assert_eq!(said.err, "", "{name} printed to standard error");
    let (mut sections, mut current) = (Sections::new(), String::new());
    for line in said.out.lines() {
        match line.strip_prefix("== ") {
            Some(section) => current = section.to_owned(),
            // What names the container or this run differs by nature.
            None => sections.entry(current.clone()).or_default().push(line.replace(id, "ID")),
        }
    }
    assert!(sections.len() > 8, "{name} printed too little: {}", said.out);
    sections
}

fn peer(bundle: &Bundle, name: &str) -> Command {
    let mut command = Command::new(name);
    if name == "crun" {
        // crun refuses a hybrid host whose v2 hierarchy holds a controller; in this mount namespace it seems to hold none.
        command = Command::new("unshare");
        let hide = "f=/sys/fs/cgroup/unified/cgroup.controllers; [ ! -e $f ] || mount --bind \"$0\" $f; exec crun \"$@\"";
        let empty = bundle.world.path().join("no-controllers");
        fs::write(&empty, "").expect("writable");
        command.args(["--mount", "sh", "-euc", hide]).arg(empty);
    }
    command.arg("--root").arg(bundle.world.path().join(name));
    command
}

/// Runs the bundle under both and compares.
fn compare(bundle: &Bundle, name: &'static str) {
    let before = Snapshot::take();
    let ours = observe(bundle, "rcr-runtime", bundle.world.runtime(), "rcr-compare");
    assert_none_since(&before);
    let theirs = observe(bundle, name, peer(bundle, name), "rcr-compare");
    let mut differences = String::new();
    for (section, lines) in &ours {
        let empty = Vec::new();
        let others = theirs.get(section).unwrap_or(&empty);
        let known = |line: &str| {
            KNOWN.iter().any(|(p, s, text, _)| *p == name && s == section && line.contains(text))
        };
        for line in lines.iter().filter(|l| !others.contains(l) && !known(l)) {
            differences += &format!("\n{section}: only rcr-runtime: {line}");
        }
        for line in others.iter().filter(|l| !lines.contains(l) && !known(l)) {
            differences += &format!("\n{section}: only {name}: {line}");
        }
        if lines.len() != others.len() && !lines.iter().chain(others).any(|l| known(l)) {
            differences += &format!("\n{section}: {} lines, {name} has {}", lines.len(), others.len());
        }
    }
    assert!(differences.is_empty(), "the container is not the same:{differences}");
}

fn default_spec_as_under_runc() {
    compare(&bundle(|_| ()), "runc");
}

fn default_spec_as_under_crun() {
    compare(&bundle(|_| ()), "crun");
}

fn docker_like(config: &mut Value) {
    let caps = json!(["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"]);
    config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    config["process"]["noNewPrivileges"] = json!(false);
    config["process"]["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [10, 20], "umask": 0o27 });
    config["process"]["env"] = json!(["PATH=/bin", "A=1", "EMPTY=", "TERM=xterm"]);
    config["process"]["oomScoreAdj"] = json!(300);
    config["process"]["cwd"] = json!("/tmp");
    config["root"]["readonly"] = json!(true);
    config["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_unprivileged_port_start": "0", "kernel.msgmax": "4096" });
    config["linux"]["devices"] = json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 5, "gid": 6 }]);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": ["keyctl", "add_key", "no_such_syscall"], "action": "SCMP_ACT_ERRNO" },
                     { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] }],
    });
}

fn dockers_kind_of_config_as_under_runc() {
    compare(&bundle(docker_like), "runc");
}

fn dockers_kind_of_config_as_under_crun() {
    compare(&bundle(docker_like), "crun");
}

fn every_mount_option_as_under_runc() {
    let mut b = bundle(|_| ());
    let from = b.dir.join("source");
    fs::create_dir(&from).expect("writable");
    fs::write(from.join("file"), "x").expect("writable");
    let options: &[&[&str]] = &[
        &["rbind", "rw"],
        &["bind", "ro"],
        &["rbind", "ro", "nosuid", "nodev", "noexec"],
        &["bind", "noatime"],
        &["bind", "relatime"],
        &["bind", "strictatime"],
        &["bind", "nodiratime"],
        &["rbind", "rprivate"],
        &["rbind", "rslave"],
        &["rbind", "rshared"],
        &["bind", "unbindable"],
        &["bind", "ro", "rprivate"],
        &["rbind", "rro"],
        &["rbind", "rnosuid", "rnodev", "rnoexec"],
        &["bind", "nosymfollow"],
        &["bind", "ro", "rw"],
        &["bind", "noexec", "exec"],
    ];
    let mut mounts = Vec::new();
    for (n, options) in options.iter().enumerate() {
        mounts.push(json!({ "destination": format!("/m/bind{n}"), "type": "bind", "source": from, "options": options }));
    }
    mounts.push(json!({ "destination": "/m/file", "type": "none", "source": from.join("file"), "options": ["bind", "ro"] }));
    let tmpfs: &[&[&str]] = &[
        &["size=64k", "mode=0711"],
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
        &["ro", "uid=5", "gid=6"],
        &["noexec", "nodev", "noatime", "sync", "dirsync"],
        &["nr_inodes=100", "lazytime"],
    ];
    for (n, options) in tmpfs.iter().enumerate() {
        mounts.push(json!({ "destination": format!("/m/tmpfs{n}"), "type": "tmpfs", "source": "tmpfs", "options": options }));
    }
    b.adjust(|config, _| config["mounts"].as_array_mut().expect("mounts").extend(mounts));
    compare(&b, "runc");
}

fn a_user_namespace_as_under_runc() {
    let b = bundle(|config| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    ok(Command::new("chown").args(["-R", "100000:100000"]).arg(b.dir.join("rootfs")));
    ok(Command::new("chmod").arg("755").arg(b.world.path()));
    compare(&b, "runc");
}

fn resources_reach_the_same_cgroup_files_as_under_runc() {
    let b = bundle(|config| {
        config["linux"]["cgroupsPath"] = json!("/rcr-compare-cgroup");
        config["process"]["args"] = json!(["sleep", "60"]);
        config["linux"]["resources"] = json!({
            "memory": { "limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728, "swappiness": 10 },
            "cpu": { "shares": 512, "quota": 25_000, "period": 50_000, "cpus": "0-1", "mems": "0" },
            "pids": { "limit": 77 },
            "blockIO": { "throttleReadBpsDevice": [{ "major": 254, "minor": 0, "rate": 1_048_576 }] },
            "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }],
        });
    });
    let read = |command: &dyn Fn() -> Command| -> Sections {
        let run = |args: &[&str]| {
            ok(command().args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
        };
        run(&["create", "--bundle", &b.dir.to_string_lossy(), "rcr-compare"]);
        run(&["start", "rcr-compare"]);
        let found = cgroup_files("rcr-compare-cgroup");
        run(&["delete", "--force", "rcr-compare"]);
        found
    };
    let before = Snapshot::take();
    let mut ours = read(&|| b.world.runtime());
    assert_none_since(&before);
    let mut theirs = read(&|| peer(&b, "runc"));
    assert!(ours.len() > 5, "cgroups were made: {ours:?}");
    // cpu.shares as cpu.weight is another curve since runc 1.3.2; what it gives is in "unified".
    for files in [&mut ours, &mut theirs] {
        files.retain(|path, _| !path.contains("/cpu.weight"));
    }
    assert_eq!(ours, theirs);
}

/// The settings (not the measurements) in every directory of that name below /sys/fs/cgroup.
fn cgroup_files(name: &str) -> Sections {
    let mut found = Sections::new();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path());
    for dir in
        hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|d| d.join(name)).filter(|d| d.is_dir())
    {
        for entry in fs::read_dir(&dir).expect("a cgroup").flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let setting = [
                "limit",
                "max",
                "shares",
                "quota",
                "period",
                "cpus",
                "mems",
                "list",
                "throttle",
                "swappiness",
                "weight",
            ];
            let measured = [
                "usage",
                "failcnt",
                "stat",
                "effective",
                "peak",
                "io_service",
                "io_serviced",
                "events",
                "numa",
                "kmem",
                "memsw.max",
                "serial",
            ];
            if setting.iter().any(|s| file.contains(s)) && !measured.iter().any(|s| file.contains(s)) {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                found.insert(entry.path().display().to_string(), text.lines().map(str::to_owned).collect());
            }
        }
    }
    found
}
