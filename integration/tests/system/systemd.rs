//! `--systemd-cgroup`: containers in transient units of systemd, the system's and a user's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::host::Need::{Path as FileNeed, Program, PureCgroup2, Root, Systemd};
use harness::host::missing;
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::until;
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

mod stage;

use stage::{Stage, is_forgotten, properties, quiet, show};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");
/// A user with id 1000, and what makes a message bus for users.
const USER: harness::host::Need = FileNeed("/home/user");
const USER_BUS: harness::host::Need = FileNeed("/usr/lib/systemd/user/dbus.socket");

pub(crate) const CASES: &[Case] = cases!("systemd":
    without_systemd_the_driver_says_so [Root, BUSYBOX],
    limits_are_systemds_and_the_files [Root, BUSYBOX, Systemd, PureCgroup2],
    what_systemd_has_no_words_for_is_in_the_files [Root, BUSYBOX, Systemd, PureCgroup2],
    unified_files_are_properties_too [Root, BUSYBOX, Systemd, PureCgroup2],
    updates_reach_both_or_neither [Root, BUSYBOX, Systemd, PureCgroup2],
    devices_survive_a_daemon_reload [Root, BUSYBOX, Systemd, FileNeed("/dev/fuse")],
    slices_nest_and_names_are_as_runcs [Root, BUSYBOX, Systemd],
    annotations_are_properties [Root, BUSYBOX, Systemd],
    a_unit_that_lives_is_left_alone [Root, BUSYBOX, Systemd],
    failed_units_are_replaced_and_removed [Root, BUSYBOX, Systemd],
    every_command_works_on_a_unit [Root, BUSYBOX, Systemd],
    a_writable_cgroup_is_its_roots [Root, BUSYBOX, Systemd, PureCgroup2],
    a_create_that_fails_leaves_no_unit [Root, BUSYBOX, Systemd],
    a_killed_create_leaves_no_unit [Root, BUSYBOX, Systemd],
    a_users_service_manager_does_the_same [Root, BUSYBOX, Systemd, PureCgroup2, USER, USER_BUS],
    podman_uses_it [Root, BUSYBOX, Systemd, PureCgroup2, Program("podman")],
);

fn units() -> String {
    let mut list = Command::new("systemctl");
    ok(list.args(["list-units", "--all", "--plain", "--no-legend", "rcrtest-*"]))
}

fn without_systemd_the_driver_says_so() {
    let stage = Stage::new("true", |_, _| ());
    let before = Snapshot::take();
    // Where there is one, it is hidden.
    let hide = "mkdir -p /run/systemd/system; mount -t tmpfs none /run/systemd && exec \"$0\" \"$@\"";
    let start = stage.start("box");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    match Path::new("/run/systemd/system").exists() {
        true => command.arg(hide),
        false => command.arg("exec \"$0\" \"$@\""),
    };
    command.arg(start.get_program()).args(start.get_args());
    fails(&mut command, 1, &["systemd not running on this host, cannot use systemd cgroups manager"]);
    for (path, words) in [
        // Quotes are escaped in the log.
        (
            "/a/b",
            r#"expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead"#,
        ),
        ("a:b:c", "invalid slice name: a"),
    ] {
        let stage = Stage::new("true", |config, _| config["linux"]["cgroupsPath"] = json!(path));
        fails(&mut stage.start("box"), 1, &[words]);
    }
    drop(stage);
    assert_none_since(&before);
}

fn limits_are_systemds_and_the_files() {
    let before = Snapshot::take();
    let stage = Stage::running(|config, _| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 100_663_296},
            "cpu": {"shares": 1024, "quota": 50_500, "period": 100_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 42},
        });
    });
    let unit = stage.unit.as_str();
    let want = [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryAccounting", "yes"),
        ("CPUAccounting", "yes"),
        ("IOAccounting", "yes"),
        ("TasksAccounting", "yes"),
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemorySwapMax", "33554432"),
        ("CPUWeight", "100"),
        ("CPUQuotaPerSecUSec", "510ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "42"),
        ("NeedDaemonReload", "no"),
    ];
    let names = want.map(|(name, _)| name);
    let want: BTreeMap<_, _> = want.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    let files = || {
        let names =
            ["memory.max", "memory.low", "cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.mems", "pids.max"];
        names.map(|name| stage.file(name))
    };
    let content = ["67108864", "33554432", "51000 100000", "100", "0", "0", "42"];
    assert_eq!(properties(unit, &names), want);
    assert_eq!(files(), content);
    assert_eq!(stage.file("cgroup.procs"), stage.pid("box").to_string());
    // systemd writes everything anew, and it is the same.
    ok(Command::new("systemctl").arg("daemon-reload"));
    assert_eq!(properties(unit, &names), want);
    assert_eq!(files(), content);
    stage.delete("box");
    until("the end of the unit", || is_forgotten(unit));
    drop(stage);
    assert_none_since(&before);
}

fn what_systemd_has_no_words_for_is_in_the_files() {
    let stage = Stage::running(|config, _| {
        config["linux"]["resources"]["cpu"] = json!({ "period": 1_000_000 });
    });
    assert_eq!(stage.file("cpu.max"), "max 1000000");
}

fn unified_files_are_properties_too() {
    let stage = Stage::running(|config, _| {
        config["linux"]["resources"] = json!({"unified": {
            "memory.max": "41943040", "memory.min": "131072", "memory.low": "524288", "memory.high": "20971520",
            "pids.max": "99", "cpu.max": "4000 10000", "cpu.weight": "42", "cpuset.cpus": "0",
        }});
    });
    let want = [
        ("MemoryMax", "41943040"),
        ("MemoryMin", "131072"),
        ("MemoryLow", "524288"),
        ("MemoryHigh", "20971520"),
        ("TasksMax", "99"),
        ("CPUQuotaPerSecUSec", "400ms"),
        ("CPUQuotaPeriodUSec", "10ms"),
        ("CPUWeight", "42"),
        ("AllowedCPUs", "0"),
    ];
    for (name, value) in want {
        assert_eq!(show(&stage.unit, name), value, "{name}");
    }
    assert_eq!([stage.file("cpu.max"), stage.file("memory.min")], ["4000 10000", "131072"]);
}

fn updates_reach_both_or_neither() {
    let stage = Stage::running(|config, _| {
        config["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 42}});
    });
    let update = |flags: &[&str]| say(stage.runtime().arg("update").args(flags).arg("box"));
    let said =
        update(&["--memory", "100M", "--pids-limit", "43", "--cpu-share", "200", "--cpu-quota", "30500"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let now = || {
        let names = ["MemoryMax", "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec"];
        let shown = names.map(|name| show(&stage.unit, name));
        let files = ["memory.max", "pids.max", "cpu.weight", "cpu.max"];
        (shown, files.map(|name| stage.file(name)))
    };
    let want = (
        ["104857600", "43", "29", "310ms"].map(str::to_owned),
        ["104857600", "43", "29", "31000 100000"].map(str::to_owned),
    );
    assert_eq!(now(), want);
    ok(Command::new("systemctl").arg("daemon-reload"));
    assert_eq!(now(), want);
    // The kernel has no such burst; what systemd was told before is taken back.
    let said = update(&["--pids-limit", "50", "--cpu-burst", "99999999999"]);
    assert_ne!(said.code, 0);
    assert_eq!(now(), want);
    // An idle group has no weight, and a weight ends idleness.
    for (flags, warning) in [
        (&["--cpu-idle", "1"][..], ""),
        (&["--cpu-idle", "1", "--cpu-share", "200"], "unable to apply both cpu.weight and cpu.idle"),
    ] {
        let said = update(flags);
        assert!(said.code == 0 && said.err.contains(warning), "{}", said.err);
        let is = (stage.file("cpu.idle"), show(&stage.unit, "CPUWeight"));
        assert_eq!(is, ("1".to_owned(), "idle".to_owned()));
    }
    let said = update(&["--cpu-share", "200"]);
    assert_eq!((said.code, stage.file("cpu.idle").as_str()), (0, "0"), "{}", said.err);
}

fn devices_survive_a_daemon_reload() {
    for allowed in [true, false] {
        let stage = Stage::running(|config, _| {
            let deny = json!({"allow": false, "access": "rwm"});
            let fuse = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"});
            let rules = if allowed { vec![deny, fuse] } else { vec![deny] };
            config["linux"]["devices"] = json!([
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
                {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11},
            ]);
            config["linux"]["resources"] = json!({"devices": rules});
        });
        let check = |when: &str| {
            let said = stage.exec("exec 3<>/dev/fuse");
            assert_eq!(said.code == 0, allowed, "{when}: {}", said.err);
            let said = stage.exec("exec 3</dev/kmsg");
            assert!(said.err.contains("not permitted"), "{when}: {said:?}");
            let said = stage.exec("head -c 4 /dev/zero | wc -c; echo x >/dev/null");
            assert_eq!((said.code, said.out.trim()), (0, "4"), "{when}: {}", said.err);
            assert_eq!(show(&stage.unit, "DevicePolicy"), "strict", "{when}");
        };
        check("at first");
        ok(Command::new("systemctl").arg("daemon-reload"));
        check("after a reload");
        let said = say(stage.runtime().args(["update", "--pids-limit", "50", "box"]));
        assert_eq!(said.code, 0, "{}", said.err);
        check("after an update");
    }
}

fn slices_nest_and_names_are_as_runcs() {
    let before = Snapshot::take();
    let id = format!("rcrtest-{}", std::process::id());
    for (path, unit, slice, place) in [
        (json!(null), format!("runc-{id}.scope"), "system.slice", "/system.slice"),
        (json!("-.slice:rcrtest:root"), "rcrtest-root.scope".to_owned(), "-.slice", ""),
        (
            json!("rcrtest-a-b.slice:rcrtest:deep"),
            "rcrtest-deep.scope".to_owned(),
            "rcrtest-a-b.slice",
            "/rcrtest.slice/rcrtest-a.slice/rcrtest-a-b.slice",
        ),
        (json!(":rcrtest:rcrtest.slice"), "rcrtest.slice".to_owned(), "-.slice", ""),
    ] {
        let stage = Stage::new("sleep 1000", |config, _| config["linux"]["cgroupsPath"] = path);
        quiet(&mut stage.start(&id));
        assert_eq!(show(&unit, "ControlGroup"), format!("{place}/{unit}"));
        assert_eq!(show(&unit, "Slice"), slice);
        let own = fs::read_to_string(format!("/proc/{}/cgroup", stage.pid(&id))).expect("its cgroups");
        for line in own.lines().filter(|line| !line.ends_with(":/")) {
            assert!(line.ends_with(&format!(":{place}/{unit}")), "{own}");
        }
        stage.delete(&id);
        until("the end of the unit", || is_forgotten(&unit));
        // Slices stay, as slices do.
        say(Command::new("systemctl").args(["stop", "rcrtest.slice"]).stderr(Stdio::null()));
        drop(stage);
        // In the hierarchies of v1 that systemd does not manage, empty slices stay, as runc's do: another container may just be
        // making its cgroup there.
        if missing(PureCgroup2).is_none() {
            assert_none_since(&before);
        }
    }
}

fn annotations_are_properties() {
    let stage = Stage::running(|config, _| {
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 123456789",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.RuntimeMaxSec": "3600",
            "org.systemd.property.Description": "\"in place of ours\"",
        });
    });
    let want = [
        ("TimeoutStopUSec", "2min 3.456789s"),
        ("CollectMode", "inactive-or-failed"),
        ("RuntimeMaxUSec", "1h"),
        ("Description", "in place of ours"),
    ];
    for (name, value) in want {
        assert_eq!(show(&stage.unit, name), value, "{name}");
    }
    for (name, value, words) in [
        ("X", "1", "annotation org.systemd.property.X name incorrect: too short"),
        (
            "Bad.Name",
            "1",
            "annotation org.systemd.property.Bad.Name name incorrect: contains non-alphabetic character",
        ),
        ("CollectMode", "inactive", "annotation org.systemd.property.CollectMode=inactive value parse error"),
        ("NoSuchThing", "true", "Cannot set property NoSuchThing, or unknown property"),
        ("Slice", "'rcrtest-other.slice'", "instead of"),
    ] {
        let stage = Stage::new("sleep 1000", |config, _| {
            config["annotations"] = json!({ format!("org.systemd.property.{name}"): value });
        });
        fails(&mut stage.start("box"), 1, &[words]);
        until("the end of the unit", || is_forgotten(&stage.unit));
    }
    say(Command::new("systemctl").args(["stop", "rcrtest.slice"]));
}

fn a_unit_that_lives_is_left_alone() {
    let stage = Stage::new("sleep 1000", |_, _| ());
    let mut other = Command::new("systemd-run");
    ok(other.args(["--quiet", "--collect", "--unit", &stage.unit.replace(".scope", ""), "true"]));
    quiet(&mut stage.start("box"));
    fails(&mut stage.start("again"), 1, &["container's cgroup is not empty: 1 process(es) found"]);
    // Even if its cgroup does not show it: systemd says so.
    let elsewhere = Stage::new("sleep 1000", |config, _| {
        config["linux"]["cgroupsPath"] = json!(format!(
            "rcrtest.slice:rcrtest:{}",
            stage.unit.trim_start_matches("rcrtest-").trim_end_matches(".scope")
        ));
    });
    fails(&mut elsewhere.start("again"), 1, &["unable to start unit", "UnitExists"]);
    assert_eq!(show(&stage.unit, "ActiveState"), "active");
    assert_eq!(stage.state("box")["status"], "running");
    say(Command::new("systemctl").args(["stop", "rcrtest.slice"]));
}

fn failed_units_are_replaced_and_removed() {
    let stage = Stage::new("trap '' TERM; sleep 1000", |config, _| {
        config["annotations"] = json!({
            "org.systemd.property.RuntimeMaxSec": "1",
            "org.systemd.property.TimeoutStopSec": "1",
        });
    });
    for round in 0..2 {
        // The second finds the unit of the first, failed.
        let id = format!("box{round}");
        quiet(&mut stage.start(&id));
        until("the end of its time", || stage.state(&id)["status"] == "stopped");
        until("the unit's failure", || show(&stage.unit, "ActiveState") == "failed");
    }
    quiet(stage.runtime().args(["delete", "box1"]));
    until("the end of the unit", || is_forgotten(&stage.unit));
    quiet(stage.runtime().args(["delete", "box0"]));
}

fn every_command_works_on_a_unit() {
    let before = Snapshot::take();
    let stage = Stage::running(|config, _| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "pid");
    });
    let text = fs::read_to_string(stage.bundle.world.path().join("state/box/state.json")).expect("a state");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(record["unit"], json!({"name": stage.unit, "user": false}));
    quiet(stage.runtime().args(["exec", "-d", "box", "sleep", "1000"]));
    let pids: Vec<i64> =
        serde_json::from_str(&ok(stage.runtime().args(["ps", "-f", "json", "box"]))).expect("JSON");
    assert_eq!(pids.len(), 2);
    assert_eq!(stage.file("cgroup.procs").lines().count(), 2);
    quiet(stage.runtime().args(["pause", "box"]));
    assert_eq!(stage.state("box")["status"], "paused");
    quiet(stage.runtime().args(["resume", "box"]));
    assert_eq!(ok(stage.runtime().args(["list", "-q"])), "box");
    let stats: Value =
        serde_json::from_str(&ok(stage.runtime().args(["events", "--stats", "box"]))).expect("JSON");
    assert_eq!(stats["data"]["pids"]["current"], 2);
    // Without a pid namespace the second process outlives the first, and not the container.
    ok(Command::new("kill").args(["-KILL", &stage.pid("box").to_string()]));
    until("its end", || stage.state("box")["status"] == "stopped");
    quiet(stage.runtime().args(["delete", "box"]));
    until("the end of the unit", || is_forgotten(&stage.unit));
    // A frozen one can be removed.
    quiet(&mut stage.start("box"));
    quiet(stage.runtime().args(["pause", "box"]));
    stage.delete("box");
    until("the end of the unit", || is_forgotten(&stage.unit));
    drop(stage);
    assert_none_since(&before);
}

fn a_writable_cgroup_is_its_roots() {
    for (option, owner) in [("rw", 100_000), ("ro", 0)] {
        let stage = Stage::running(|config, dir| {
            config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            let cgroup = mounts.iter_mut().find(|m| m["type"] == "cgroup").expect("a cgroup mount");
            cgroup["options"] = json!(["nosuid", "noexec", "nodev", option]);
            ok(Command::new("chown").arg("-R").arg("100000:100000").arg(dir.join("rootfs")));
            ok(Command::new("chmod").arg("-R").arg("a+rX").arg(dir.parent().expect("a world")));
        });
        let dir = stage.directory();
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            assert_eq!(fs::metadata(dir.join(file)).expect("its owner").uid(), owner, "{option} {file}");
        }
        // What limits it stays root's.
        assert_eq!(fs::metadata(dir.join("memory.max")).expect("its owner").uid(), 0);
        let said = stage.exec("mkdir /sys/fs/cgroup/sub");
        assert_eq!(said.code == 0, option == "rw", "{}", said.err);
        stage.delete("box");
        until("the end of the unit", || is_forgotten(&stage.unit));
    }
}

fn a_create_that_fails_leaves_no_unit() {
    let before = Snapshot::take();
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 4] = [
        ("no such file", |c| c["process"]["args"] = json!(["/no/such/program"])),
        ("prestart", |c| c["hooks"] = json!({"prestart": [{"path": "/bin/false"}]})),
        ("no such device", |c| {
            let nowhere = json!([{"major": 999, "minor": 999, "rate": 1}]);
            c["linux"]["resources"] = json!({"blockIO": {"throttleReadBpsDevice": nowhere}});
        }),
        // Killed at some moment, so the words differ.
        ("", |c| c["linux"]["resources"] = json!({"memory": {"limit": 4096}})),
    ];
    for (words, change) in changes {
        let stage = Stage::new("sleep 1000", |config, _| change(config));
        fails(&mut stage.start("box"), 1, &[words]);
        until("the end of the unit", || is_forgotten(&stage.unit));
        assert_eq!(ok(stage.runtime().args(["list", "-q"])), "");
        drop(stage);
        assert_none_since(&before);
    }
    assert_eq!(units(), "");
}

fn a_killed_create_leaves_no_unit() {
    let stage = Stage::new("sleep 1000", |_, _| ());
    let before = Snapshot::take();
    let full = Instant::now();
    quiet(&mut stage.start("box"));
    let full = full.elapsed();
    stage.delete("box");
    let rounds = 20;
    for round in 0..rounds {
        let mut starting = stage.start("box");
        let mut starting = starting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(full * round / rounds);
        starting.kill().expect("killable");
        starting.wait().expect("waitable");
        stage.delete("box");
        until("the end of the unit", || is_forgotten(&stage.unit));
        assert_none_since(&before);
    }
    assert_eq!(units(), "");
}

fn a_users_service_manager_does_the_same() {
    ok(Command::new("systemctl").args(["start", "user@1000.service"]));
    let mut stage = Stage::new("sleep 1000", |config, dir| {
        config["linux"]["cgroupsPath"] = json!("rcrtest-a.slice:rcrtest:user");
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "network");
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 42}});
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        // The host's network comes with the host's sysfs.
        mounts.retain(|m| m["type"] != "sysfs" && m["type"] != "cgroup");
        for mount in mounts.iter_mut().filter(|m| m["type"] == "devpts") {
            mount["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
        }
        ok(Command::new("chown").arg("-R").arg("1000:1000").arg(dir.parent().expect("a world")));
    });
    stage.unit = "rcrtest-user.scope".to_owned();
    stage.uid = 1000;
    let user_show = |property: &str| {
        let mut show = Command::new("systemctl");
        show.args(["--user", "show", "--value", "--property", property, &stage.unit]);
        ok(show.uid(1000).gid(1000).env("XDG_RUNTIME_DIR", "/run/user/1000"))
    };
    let own = "/user.slice/user-1000.slice/user@1000.service";
    let place = format!("{own}/rcrtest.slice/rcrtest-a.slice/{}", stage.unit);
    for _ in 0..2 {
        quiet(&mut stage.start("box"));
        assert_eq!(user_show("ControlGroup"), place);
        let want = [("MemoryMax", "67108864"), ("TasksMax", "42"), ("Slice", "rcrtest-a.slice")];
        for (name, value) in want {
            assert_eq!(user_show(name), value, "{name}");
        }
        let dir = PathBuf::from(format!("/sys/fs/cgroup{place}"));
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect(name).trim().to_owned();
        assert_eq!([read("memory.max"), read("pids.max")], ["67108864", "42"]);
        // This process may not write in the cgroup above both, so systemd moves the new one.
        quiet(stage.runtime().args(["exec", "-d", "box", "sleep", "1000"]));
        assert_eq!(read("cgroup.procs").lines().count(), 2);
        quiet(stage.runtime().args(["update", "--pids-limit", "50", "box"]));
        assert_eq!((read("pids.max").as_str(), user_show("TasksMax").as_str()), ("50", "50"));
        stage.delete("box");
        until("the end of the cgroup", || !dir.exists());
        until("the end of the unit", || user_show("LoadState") == "not-found");
    }
    // Without the way to a bus it says what is missing.
    let mut command = stage.start("box");
    command.env_remove("XDG_RUNTIME_DIR");
    fails(&mut command, 1, &["could not detect DBUS_SESSION_BUS_ADDRESS from the environment"]);
    // Root of a user namespace is an ordinary user to the bus outside.
    stage.bundle.adjust(|config, _| {
        let cgroup = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]});
        config["mounts"].as_array_mut().expect("mounts").push(cgroup);
    });
    let plan = stage.runtime();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(plan.get_program()).args(plan.get_args());
    command.arg("plan").arg(&stage.bundle.dir).uid(1000).gid(1000).env("XDG_RUNTIME_DIR", "/run/user/1000");
    let plan = ok(&mut command);
    assert!(plan.contains("wait for the parent: cgroup"), "{plan}");
    assert!(plan.contains(&format!("else bind /sys/fs/cgroup{place}")), "{plan}");
    drop(stage);
    ok(Command::new("systemctl").args(["stop", "user@1000.service"]));
}

fn podman_uses_it() {
    let stage = Stage::new("true", |_, _| ());
    let world = stage.bundle.world.path();
    let runtime = stage.bundle.world.runtime();
    let podman = || {
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(world.join("store")).arg("--runroot").arg(world.join("run"));
        podman.args(["--cgroup-manager", "systemd", "--events-backend", "none", "--storage-driver", "vfs"]);
        podman.arg("--runtime").arg(runtime.get_program());
        podman
    };
    let root = stage.bundle.rootfs();
    let mut run = podman();
    run.args(["run", "--rm", "--network", "none", "--memory", "64m", "--pids-limit", "55", "--rootfs"])
        .arg(&root);
    let said = say(run.args(["sh", "-c", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max"]));
    assert_eq!((said.code, said.out.trim()), (0, "67108864\n55"), "{}", said.err);
    quiet(
        podman()
            .args(["run", "-d", "--name", "box", "--network", "none", "--rootfs"])
            .arg(&root)
            .args(["sleep", "1000"]),
    );
    let id = ok(podman().args(["inspect", "--format", "{{.Id}}", "box"]));
    let unit = format!("libpod-{id}.scope");
    assert_eq!(show(&unit, "Slice"), "machine.slice");
    assert_eq!(ok(podman().args(["exec", "box", "echo", "hello"])), "hello");
    quiet(podman().args(["update", "--memory", "32m", "box"]));
    assert_eq!(show(&unit, "MemoryMax"), "33554432");
    quiet(podman().args(["rm", "--force", "--time", "0", "box"]));
    until("the end of the unit", || is_forgotten(&unit));
}
