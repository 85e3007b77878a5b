//! Fields that concern the container as a whole: namespaces to make and to join, clocks, names, hooks, and the
//! configuration of somebody who is not root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, create, delete, quiet, state, until};
use harness::world::{binary, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");
const TIME: harness::host::Need = FileNeed("/proc/self/ns/time");

pub(crate) const CASES: &[Case] = cases!("container_fields":
    hostname_and_domainname [Root, BUSYBOX],
    time_offsets_of_both_clocks [Root, BUSYBOX, TIME],
    every_namespace_can_be_joined_by_path [Root, BUSYBOX, TIME, Program("nsenter")],
    a_path_of_another_kind_is_refused [Root, BUSYBOX],
    hooks_of_every_kind_have_a_time_limit [Root, BUSYBOX],
    a_hook_gets_its_arguments_and_environment [Root, BUSYBOX],
    sysctls_of_the_containers_namespaces [Root, BUSYBOX],
    seccomp_default_errno_and_architectures [Root, BUSYBOX],
    the_rootless_configuration_runs_for_a_user [Root, BUSYBOX, Program("setpriv")],
    the_default_root_is_the_users_own [Root, Program("setpriv")],
);

fn hostname_and_domainname() {
    let stage = Stage::new("hostname; cat /proc/sys/kernel/domainname", |config, _| {
        config["hostname"] = json!("box-1");
        config["domainname"] = json!("example.org");
    });
    let host = fs::read_to_string("/proc/sys/kernel/domainname").expect("readable");
    assert_eq!(stage.run("box").out, "box-1\nexample.org\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/domainname").expect("readable"), host);
    for field in ["hostname", "domainname"] {
        let stage = Stage::new("true", |config, _| {
            config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "uts");
            config.as_object_mut().expect("an object").remove("hostname");
            config[field] = json!("x");
        });
        let said = stage.run("box");
        let words = format!("{field}: unable to set {field} without a private UTS namespace");
        assert!(said.code == 1 && said.err.contains(&words), "{}", said.err);
    }
}

fn add_namespace(config: &mut Value, namespace: Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|n| n["type"] != namespace["type"]);
    namespaces.push(namespace);
}

fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{text:?}"))
}

fn time_offsets_of_both_clocks() {
    let show = "cat /proc/uptime /proc/self/timens_offsets";
    let stage = Stage::running("box", |config, _| {
        add_namespace(config, json!({ "type": "time" }));
        config["linux"]["timeOffsets"] =
            json!({ "monotonic": { "secs": 172_800, "nanosecs": 5 }, "boottime": { "secs": 86_400 } });
    });
    let exec = |command: &str| {
        ok(stage.world.runtime().args(["exec", "box", "sh", "-c", command]).stdin(Stdio::null()))
    };
    let before = uptime(&fs::read_to_string("/proc/uptime").expect("readable"));
    let seen = exec(show);
    let ahead = uptime(&seen) - before;
    assert!((86_400.0..86_410.0).contains(&ahead), "{ahead}: {seen}");
    let offsets: Vec<&str> = seen.lines().skip(1).flat_map(str::split_whitespace).collect();
    assert_eq!(offsets, ["monotonic", "172800", "5", "boottime", "86400", "0"]);
    for (offsets, words) in [
        (json!({ "realtime": { "secs": 1 } }), "linux.timeOffsets.realtime"),
        (json!({ "monotonic": { "secs": i64::MAX } }), "set time namespace"),
    ] {
        let stage = Stage::new("true", |config, _| {
            add_namespace(config, json!({ "type": "time" }));
            config["linux"]["timeOffsets"] = offsets.clone();
        });
        let said = stage.run("box");
        assert_eq!(said.code, 1, "{offsets}");
        assert!(
            said.err.contains(words)
                || words.starts_with("set") && said.err.contains("create time namespace"),
            "{}",
            said.err
        );
    }
}

fn every_namespace_can_be_joined_by_path() {
    let owner = Stage::running("owner", |config, _| {
        for kind in ["time", "cgroup"] {
            add_namespace(config, json!({ "type": kind }));
        }
    });
    let pid = state(&owner, "owner")["pid"].to_string();
    for (kind, file) in [
        ("network", "net"),
        ("uts", "uts"),
        ("ipc", "ipc"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ] {
        let path = format!("/proc/{pid}/ns/{file}");
        let stage = Stage::new(&format!("readlink /proc/self/ns/{file}"), |config, _| {
            config.as_object_mut().expect("an object").remove("hostname");
            add_namespace(config, json!({ "type": kind, "path": path }));
        });
        let said = stage.run("box");
        assert_eq!(said.out.trim_end(), ok(Command::new("readlink").arg(&path)), "{kind}: {}", said.err);
    }
    // A user namespace, and one of mounts, with what belongs to it.
    let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let owner = Stage::running("owner", |config, dir| {
        chown(dir.join("rootfs"), Some(100_000), Some(100_000)).expect("root may");
        add_namespace(config, json!({ "type": "user" }));
        config["linux"]["uidMappings"] = ids.clone();
        config["linux"]["gidMappings"] = ids.clone();
    });
    let pid = state(&owner, "owner")["pid"].to_string();
    let path = format!("/proc/{pid}/ns/user");
    let stage = Stage::new("readlink /proc/self/ns/user; cat /proc/self/uid_map; id -u", |config, dir| {
        chown(dir.join("rootfs"), Some(100_000), Some(100_000)).expect("root may");
        add_namespace(config, json!({ "type": "user", "path": path }));
    });
    let user = ok(Command::new("readlink").arg(&path));
    // More than once: the process is cloned by an intermediate one, and either may be the first to report.
    for _ in 0..20 {
        let said = stage.run("box");
        let words: Vec<&str> = said.out.split_whitespace().collect();
        assert_eq!(words, [user.as_str(), "0", "100000", "65536", "0"], "{}", said.err);
    }
}

fn a_path_of_another_kind_is_refused() {
    let before = Snapshot::take();
    for (kind, path, words) in [
        ("network", "/proc/self/ns/uts", "it is a namespace of another kind"),
        ("uts", "/etc/passwd", "it is no namespace"),
        ("ipc", "/no/such/file", "no such file or directory"),
    ] {
        let stage = Stage::new("true", |config, _| {
            config.as_object_mut().expect("an object").remove("hostname");
            add_namespace(config, json!({ "type": kind, "path": path }));
        });
        let said = stage.run("box");
        assert_eq!(said.code, 1, "{kind}");
        assert!(said.err.contains(words) && said.err.contains("linux.namespaces["), "{}", said.err);
    }
    assert_none_since(&before);
}

fn hooks_of_every_kind_have_a_time_limit() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let hook = json!({ "path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1 });
        let before = Snapshot::take();
        let stage = Stage::new("exec sleep 100", |config, _| config["hooks"] = json!({ kind: [hook] }));
        let words = format!("error running {kind} hook #0");
        let begin = Instant::now();
        let runtime = |args: &[&str]| {
            let mut command = stage.world.runtime();
            command.args(args).current_dir(&stage.dir);
            say(command.stdin(Stdio::null()).stdout(Stdio::null()))
        };
        let said = match kind {
            "startContainer" | "poststart" => {
                quiet(stage.world.runtime().args(["create", "box"]).current_dir(&stage.dir));
                runtime(&["start", "box"])
            }
            "poststop" => {
                create(&stage, "box");
                quiet(stage.world.runtime().args(["start", "box"]));
                runtime(&["delete", "--force", "box"])
            }
            _ => runtime(&["create", "box"]),
        };
        assert!(said.err.contains("hook ran past specified timeout of 1.0s"), "{kind}: {}", said.err);
        assert!(said.err.contains(&words), "{kind}: {}", said.err);
        assert_eq!(said.code, 1, "{kind}");
        assert!(begin.elapsed().as_secs() < 20, "{kind}");
        if matches!(kind, "startContainer" | "poststart") {
            until("its end", || state(&stage, "box")["status"] == "stopped");
            delete(&stage, "box");
        }
        fails(stage.world.runtime().args(["state", "box"]), 1, &["does not exist"]);
        assert_none_since(&before);
    }
}

fn a_hook_gets_its_arguments_and_environment() {
    let stage = Stage::new("cat /inside", |config, dir| {
        config["root"]["readonly"] = json!(false);
        config["process"]["env"] = json!(["PATH=/bin", "FROM=process"]);
        let outside = dir.join("rootfs/outside");
        let script =
            |file: &str| format!("echo \"$0 $1 $A $FROM $(cat | tr -dc '{{}}' | head -c1)\" > {file}");
        let hook = |file: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", script(file), "zero", "one"], "env": ["A=b", "PATH=/bin:/usr/bin"] }]);
        config["hooks"] = json!({
            "createRuntime": hook(&outside.display().to_string()),
            "startContainer": hook("/inside"),
        });
    });
    let said = stage.run("box");
    assert_eq!(said.out, "zero one b  {\n", "{}", said.err);
    let outside = fs::read_to_string(stage.rootfs().join("outside")).expect("the hook ran");
    assert_eq!(outside, "zero one b  {\n");
}

fn sysctls_of_the_containers_namespaces() {
    let show = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max";
    let before = ok(Command::new("sh").args(["-c", "cat /proc/sys/kernel/shmmni"]));
    let stage = Stage::new(show, |config, _| {
        config["linux"]["sysctl"] =
            json!({ "net.ipv4.ip_forward": "1", "kernel.shmmni": "77", "fs/mqueue/msg_max": "33" });
    });
    let said = stage.run("box");
    assert_eq!(said.out, "1\n77\n33\n", "{}", said.err);
    assert_eq!(ok(Command::new("sh").args(["-c", "cat /proc/sys/kernel/shmmni"])), before);
}

fn seccomp_default_errno_and_architectures() {
    let all = [
        "X86",
        "X86_64",
        "X32",
        "ARM",
        "AARCH64",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "RISCV64",
        "LOONGARCH64",
    ];
    let architectures: Vec<String> = all.iter().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    for (flags, action) in [
        (json!([]), "SCMP_ACT_ERRNO"),
        (json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]), "SCMP_ACT_ERRNO"),
        (
            json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
            "SCMP_ACT_ERRNO",
        ),
        (json!([]), "SCMP_ACT_LOG"),
    ] {
        let stage = Stage::new("mkdir /tmp/x; grep '^Seccomp:' /proc/self/status", |config, _| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "flags": flags,
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": action,
                               "errnoRet": if action == "SCMP_ACT_ERRNO" { json!(100) } else { Value::Null } }],
            });
            config["root"]["readonly"] = json!(false);
        });
        let said = stage.run("box");
        assert!(said.out.ends_with("Seccomp:\t2\n"), "{flags}: {}{}", said.out, said.err);
        assert_eq!(said.err.contains("Network is down"), action == "SCMP_ACT_ERRNO", "{flags}: {}", said.err);
    }
}

/// A command run by user 1000, in whose hands the bundle is.
fn as_user(stage: &Stage) -> Command {
    let world = stage.world.path();
    fs::set_permissions(world, fs::Permissions::from_mode(0o755)).expect("changed");
    ok(Command::new("chown").args(["-R", "1000:1000"]).arg(world));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps=-all"]);
    command.arg(binary("rcr-runtime")).arg("--root").arg(world.join("mine"));
    command.env("XDG_RUNTIME_DIR", world).stdin(Stdio::null());
    command
}

fn the_rootless_configuration_runs_for_a_user() {
    let stage = Stage::new("true", |_, _| ());
    fs::remove_file(stage.dir.join("config.json")).expect("there");
    let before = Snapshot::take();
    ok(as_user(&stage).args(["spec", "--rootless", "--bundle"]).arg(&stage.dir));
    let file = stage.dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
    assert_eq!(config["linux"]["uidMappings"], json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]));
    config["process"]["terminal"] = json!(false);
    config["process"]["rlimits"] = json!([]);
    config["process"]["args"] =
        json!(["sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '; hostname; ls /proc/1/ns | wc -l"]);
    fs::write(&file, config.to_string()).expect("writable");
    let said = say(as_user(&stage).args(["run", "--bundle"]).arg(&stage.dir).arg("mine"));
    assert!(said.out.starts_with("0\n 0 1000 1\n"), "{}{}", said.out, said.err);
    assert_none_since(&before);
    // A configuration for root says what it lacks.
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "user");
    config["linux"].as_object_mut().expect("an object").retain(|key, _| !key.ends_with("Mappings"));
    fs::write(&file, config.to_string()).expect("writable");
    fails(
        as_user(&stage).args(["run", "--bundle"]).arg(&stage.dir).arg("mine"),
        1,
        &["rootless container requires user namespaces", "spec --rootless"],
    );
    for value in ["true", "false", "auto", "1", "F", ""] {
        ok(as_user(&stage).args(["--rootless", value, "list"]));
    }
    fails(as_user(&stage).args(["--rootless=maybe", "list"]), 1, &["invalid --rootless value", "maybe"]);
}

fn the_default_root_is_the_users_own() {
    let stage = Stage::new("true", |_, _| ());
    let world = stage.world.path();
    fs::create_dir(world.join("xdg")).expect("writable");
    let mut list = as_user(&stage);
    let args: Vec<_> = list.get_args().map(ToOwned::to_owned).collect();
    list = Command::new("setpriv");
    list.args(&args[..args.len() - 2]).args(["list", "-q"]).env("XDG_RUNTIME_DIR", world.join("xdg"));
    ok(&mut list);
    let mode = fs::metadata(world.join("xdg/rcr-runtime")).expect("made").permissions().mode();
    assert_eq!(mode & 0o7777, 0o1700, "sticky, and nobody else's");
    // Root of the host stays with /run.
    let mut root = Command::new(binary("rcr-runtime"));
    root.args(["list", "-q"]).env("XDG_RUNTIME_DIR", world.join("other")).env("USER", "root");
    ok(&mut root);
    assert!(!world.join("other").exists());
    // A place that the user cannot write to is named.
    list.env("XDG_RUNTIME_DIR", "/proc/nowhere");
    fails(&mut list, 1, &["XDG_RUNTIME_DIR", "must be writable by the user"]);
}
