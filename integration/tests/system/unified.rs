//! cgroup v2 as the only hierarchy, as nearly every host has it: each limit in its file and in its effect, device rules
//! that change, and containers that manage cgroups of their own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::host::Need::{Path as FileNeed, PureCgroup2, Root, Systemd};
use harness::stage::{Stage, create, delete, quiet, state, until};
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use runtime::cgroup::{Cgroup, CgroupPath, Hierarchies};
use runtime::devices::{Access, Kind, Rule};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");
const PERL: harness::host::Need = FileNeed("/usr/bin/perl");

pub(crate) const CASES: &[Case] = cases!("unified":
    every_limit_is_in_its_file [Root, BUSYBOX, PureCgroup2, FileNeed("/dev/vda")],
    what_uses_too_much_memory_is_killed [Root, BUSYBOX, PureCgroup2],
    processes_are_counted [Root, BUSYBOX, PureCgroup2],
    a_cgroup_that_forks_is_killed_as_one [Root, BUSYBOX, PureCgroup2],
    device_rules_change_without_a_gap [Root, PERL, PureCgroup2],
    a_program_of_somebody_else_is_replaced_too [Root, PureCgroup2],
    an_init_system_manages_its_cgroup [Root, BUSYBOX, PureCgroup2],
    a_mapped_root_owns_its_cgroup [Root, BUSYBOX, PureCgroup2],
    a_mapped_root_owns_the_cgroup_that_systemd_made [Root, BUSYBOX, PureCgroup2, Systemd],
    a_cgroup_is_seen_from_where_the_namespace_begins [Root, BUSYBOX, PureCgroup2],
    processes_above_leave_no_memory_to_limit [Root, BUSYBOX, PureCgroup2],
    what_no_controller_does_is_refused [Root, BUSYBOX, PureCgroup2],
);

/// The cgroup that a container's init is in.
fn cgroup_of(stage: &Stage, id: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", state(stage, id)["pid"])).expect("a process");
    let inside = text.trim_end().strip_prefix("0::/").expect("cgroup v2").to_owned();
    Path::new("/sys/fs/cgroup").join(inside)
}

fn read(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim_end().to_owned()
}

/// The number behind `key` in a file of such lines.
fn count(dir: &Path, file: &str, key: &str) -> u64 {
    let text = read(dir, file);
    let number = text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no {key:?} in {text}"))
}

/// Runs a command in the container and gives its output.
fn exec(stage: &Stage, id: &str, script: &str) -> String {
    ok(stage.world.runtime().args(["exec", id, "sh", "-c", script]).stdin(Stdio::null()))
}

fn every_limit_is_in_its_file() {
    let disk = fs::metadata("/dev/vda").expect("a disk").rdev();
    let (major, minor) = (libc::major(disk), libc::minor(disk));
    let rate = |n: u64| json!([{"major": major, "minor": minor, "rate": n}]);
    let stage = Stage::running("box", |config, _| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728},
            "cpu": {"shares": 512, "quota": 25_000, "period": 50_000, "burst": 1000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 77},
            "blockIO": {"throttleReadBpsDevice": rate(1_048_576), "throttleWriteIOPSDevice": rate(70)},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            "unified": {"memory.high": "50331648", "cgroup.max.depth": "3", "memory.oom.group": "1"},
        });
    });
    let dir = cgroup_of(&stage, "box");
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.swap.max", "67108864"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
        ("cpu.weight", "59"),
        ("cpu.max", "25000 50000"),
        ("cpu.max.burst", "1000"),
        ("cpuset.cpus", "0"),
        ("cpuset.cpus.effective", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "77"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("cgroup.max.depth", "3"),
    ] {
        assert_eq!(read(&dir, file), value, "{file}");
    }
    assert_eq!(read(&dir, "io.max"), format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=70"));
    assert_eq!(exec(&stage, "box", "grep Cpus_allowed_list /proc/self/status"), "Cpus_allowed_list:\t0");
    delete(&stage, "box");
    assert!(!dir.exists());
}

fn what_uses_too_much_memory_is_killed() {
    let limited = |config: &mut Value, _: &Path| {
        config["linux"]["resources"]["memory"] = json!({"limit": 20_971_520, "swap": 20_971_520});
    };
    const GREEDY: &str = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";
    assert_eq!(Stage::new(&format!("exec {GREEDY}"), limited).run("box").code, 137);
    // The init survives, and so does the count.
    let stage = Stage::running("box", limited);
    let said = say(stage.world.runtime().args(["exec", "box", "sh", "-c", GREEDY]).stdin(Stdio::null()));
    assert_eq!(said.code, 137, "{}", said.err);
    assert!(count(&cgroup_of(&stage, "box"), "memory.events", "oom_kill ") >= 1);
    assert_eq!(state(&stage, "box")["status"], "running");
    delete(&stage, "box");
    // Too little for the runtime's own part is said as such.
    let stage = Stage::new("true", |config, _| {
        config["linux"]["resources"]["memory"] = json!({"limit": 4096, "swap": 4096});
    });
    let said = stage.run("box");
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(said.err.contains("OOM-killed (memory limit too low?)"), "{}", said.err);
}

fn processes_are_counted() {
    let stage =
        Stage::new("i=0; while [ $i -lt 20 ]; do sleep 100 & i=$((i+1)); done; echo done", |config, _| {
            config["linux"]["resources"]["pids"] = json!({"limit": 8})
        });
    let said = stage.run("box");
    assert!(said.err.contains("can't fork"), "{}{}", said.out, said.err);
}

fn a_cgroup_that_forks_is_killed_as_one() {
    // Each child forks as soon as it runs; no pid namespace ends them with their init.
    let stage = Stage::new("f() { while :; do f & sleep 0.01; done; }; f & f & sleep 1000", |config, _| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "pid");
        config["linux"]["resources"]["pids"] = json!({"limit": 60});
        config["mounts"].as_array_mut().expect("mounts").retain(|m| m["destination"] != "/proc");
    });
    create(&stage, "box");
    quiet(stage.world.runtime().args(["start", "box"]));
    let dir = cgroup_of(&stage, "box");
    until("many processes", || count(&dir, "pids.events", "max ") > 0);
    quiet(stage.world.runtime().args(["kill", "box", "KILL"]));
    until("their end", || count(&dir, "cgroup.events", "populated ") == 0);
    delete(&stage, "box");
    assert!(!dir.exists());
}

/// A cgroup of the runtime's library with nobody in it.
fn empty_cgroup(name: &str) -> (Cgroup, PathBuf) {
    let path = CgroupPath::new(Some(Path::new(name)), "box").expect("a path");
    let cgroup =
        Cgroup::create(&Hierarchies::detect().expect("hierarchies"), &path, false).expect("a cgroup");
    (cgroup, Path::new("/sys/fs/cgroup").join(name.trim_start_matches('/')))
}

/// Device rules that allow reading these devices of major number 1.
fn allowing(minors: &[u32]) -> Vec<Rule> {
    let rule = |minor: &u32| Rule {
        allow: true,
        kind: Kind::Char,
        major: Some(1),
        minor: Some(*minor),
        access: Access::READ,
    };
    minors.iter().map(rule).collect()
}

fn device_rules_change_without_a_gap() {
    // zero is allowed at every moment, kmsg at none; full and null take turns.
    let (cgroup, dir) = empty_cgroup(&format!("/rcr-gap-{}", std::process::id()));
    cgroup.set_devices(&allowing(&[5, 3])).expect("rules");
    let script = "open(P, '>', '/sys/fs/cgroup' . $ARGV[0] . '/cgroup.procs') && print(P $$) && close(P) or die $!; \
        $| = 1; print qq(joined\\n); \
        while (1) { open(A, '<', '/dev/zero') or print qq(lost\\n); open(B, '<', '/dev/kmsg') and print qq(open\\n); $n++ % 1000 or print qq(.\\n) }";
    let mut prober = Command::new("/usr/bin/perl")
        .args(["-e", script])
        .arg(dir.strip_prefix("/sys/fs/cgroup").map(|p| format!("/{}", p.display())).expect("below"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("perl");
    let mut lines = BufReader::new(prober.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "joined");
    let handle = File::open(&dir).expect("a cgroup");
    let mut ids = BTreeSet::new();
    for round in 0..300 {
        let rules = allowing(if round % 2 == 0 { &[5, 7] } else { &[5, 3] });
        cgroup.set_devices(&rules).expect("rules");
        let attached = sys::bpf::attached(&handle).expect("a list");
        assert_eq!(attached.len(), 1, "one program takes the other's place");
        ids.extend(attached);
    }
    assert!(ids.len() > 250, "each is a new one: {}", ids.len());
    prober.kill().expect("it runs");
    prober.wait().expect("an end");
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    cgroup.remove().expect("gone");
    assert!(said.len() > 1, "it asked all the while");
    let wrong: Vec<_> = said.iter().filter(|l| l.as_str() != ".").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn a_program_of_somebody_else_is_replaced_too() {
    // As systemd leaves one in a unit that it delegates; two of them even.
    let (cgroup, dir) = empty_cgroup(&format!("/rcr-others-{}", std::process::id()));
    let handle = File::open(&dir).expect("a cgroup");
    let everything = [sys::bpf::Instruction::set32(sys::bpf::Register::R0, 1), sys::bpf::Instruction::exit()];
    for _ in 0..2 {
        let program = sys::bpf::load_device_program(&everything).expect("a program");
        sys::bpf::attach(&handle, &program, None).expect("attached");
    }
    assert_eq!(sys::bpf::attached(&handle).expect("a list").len(), 2);
    cgroup.set_devices(&allowing(&[5])).expect("rules");
    assert_eq!(sys::bpf::attached(&handle).expect("a list").len(), 1);
    let open =
        format!("echo 0 > {}/cgroup.procs; head -c1 /dev/zero | wc -c; head -c1 /dev/kmsg", dir.display());
    let said = say(Command::new("sh").args(["-c", &open]));
    cgroup.remove().expect("gone");
    assert_eq!(said.out, "1\n", "{}", said.err);
    assert!(said.err.contains("Operation not permitted"), "{}", said.err);
}

fn writable_cgroups(config: &mut Value) {
    for mount in config["mounts"].as_array_mut().expect("mounts") {
        if mount["destination"] == "/sys/fs/cgroup" {
            mount["options"].as_array_mut().expect("options").retain(|o| o != "ro");
        }
    }
}

/// What systemd does first in a container: its own processes go to a leaf, so that controllers can be handed out.
const INIT: &str = "cd /sys/fs/cgroup && mkdir init.scope && echo 0 > init.scope/cgroup.procs && \
    echo '+memory +pids' > cgroup.subtree_control && mkdir svc && echo 5 > svc/pids.max && touch /tmp/ready; \
    exec sleep 1000";

fn an_init_system_manages_its_cgroup() {
    let stage = Stage::running("box", |config, _| {
        writable_cgroups(config);
        config["process"]["args"] = json!(["sh", "-c", INIT]);
        config["root"]["readonly"] = json!(false);
        config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
    });
    until("init", || stage.rootfs().join("tmp/ready").exists());
    let leaf = cgroup_of(&stage, "box");
    assert!(leaf.ends_with("init.scope"), "{leaf:?}");
    let dir = leaf.parent().expect("its cgroup");
    assert_eq!(read(dir, "svc/pids.max"), "5");
    // The container's own directory takes no process any more: exec goes where init went.
    assert_eq!(exec(&stage, "box", "cat /proc/self/cgroup"), "0::/init.scope");
    // Its limits are not its own to raise: nsdelegate.
    assert_eq!(
        exec(&stage, "box", "echo max 2>/dev/null > /sys/fs/cgroup/memory.max || echo refused"),
        "refused"
    );
    assert_eq!(read(dir, "memory.max"), "67108864");
    let sub = ok(stage
        .world
        .runtime()
        .args(["exec", "--cgroup", "/svc", "box", "cat", "/proc/self/cgroup"])
        .stdin(Stdio::null()));
    assert_eq!(sub, "0::/svc");
    fails(
        stage.world.runtime().args(["exec", "--cgroup", "/", "box", "true"]).stdin(Stdio::null()),
        255,
        &["error adding pid of a new process to cgroups", &*dir.to_string_lossy(), "busy"],
    );
    quiet(stage.world.runtime().args(["pause", "box"]));
    assert_eq!(count(&leaf, "cgroup.events", "frozen "), 1);
    quiet(stage.world.runtime().args(["resume", "box"]));
    let processes: Vec<Value> =
        serde_json::from_str(&ok(stage.world.runtime().args(["ps", "-f", "json", "box"]))).expect("JSON");
    assert_eq!(processes, [state(&stage, "box")["pid"].clone()], "those below count");
    let dir = dir.to_owned();
    delete(&stage, "box");
    assert!(!dir.exists());
}

fn a_mapped_root_owns_the_cgroup_that_systemd_made() {
    let stage =
        Stage::new("stat -c %u /sys/fs/cgroup; mkdir /sys/fs/cgroup/below && echo made", |config, _| {
            mapped_root(config);
            writable_cgroups(config);
            config["linux"]["cgroupsPath"] = json!(format!("system.slice:rcr:{}", std::process::id()));
        });
    ok(Command::new("chown").args(["-R", "100000:100000"]).arg(stage.rootfs()));
    ok(Command::new("chmod").arg("755").arg(stage.world.path()));
    let mut run = stage.world.runtime();
    run.args(["--systemd-cgroup", "run", "--bundle"]).arg(&stage.dir).arg("box").stdin(Stdio::null());
    assert_eq!(ok(&mut run), "0\nmade");
}

fn mapped_root(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

fn a_mapped_root_owns_its_cgroup() {
    // config-linux.md, "Cgroup ownership".
    let owner = |writable: bool, namespace: bool| {
        let stage = Stage::new("sleep 1000", |config, _| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            namespaces.retain(|n| namespace || n["type"] != "cgroup");
            mapped_root(config);
            if writable {
                writable_cgroups(config);
            }
        });
        ok(Command::new("chown").args(["-R", "100000:100000"]).arg(stage.rootfs()));
        ok(Command::new("chmod").arg("755").arg(stage.world.path()));
        create(&stage, "box");
        quiet(stage.world.runtime().args(["start", "box"]));
        let dir = cgroup_of(&stage, "box");
        let uid = |file: &str| fs::metadata(dir.join(file)).expect("a file").uid();
        let owners =
            ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.max", "cgroup.freeze"]
                .map(uid);
        let made = say(stage
            .world
            .runtime()
            .args(["exec", "box", "mkdir", "/sys/fs/cgroup/below"])
            .stdin(Stdio::null()));
        delete(&stage, "box");
        assert!(!dir.exists());
        (owners, made.code == 0)
    };
    assert_eq!(owner(true, true), ([100_000, 100_000, 100_000, 100_000, 0, 0], true));
    assert_eq!(owner(false, true), ([0; 6], false));
    assert_eq!(owner(true, false), ([0; 6], false));
}

fn a_cgroup_is_seen_from_where_the_namespace_begins() {
    for namespace in [true, false] {
        let stage = Stage::running("box", |config, _| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            namespaces.retain(|n| namespace || n["type"] != "cgroup");
        });
        let dir = cgroup_of(&stage, "box");
        let whole = dir.strip_prefix("/sys/fs/cgroup").expect("below").display().to_string();
        let seen = if namespace { "0::/".to_owned() } else { format!("0::/{whole}") };
        assert_eq!(
            exec(&stage, "box", "cat /proc/1/cgroup; cat /proc/self/cgroup"),
            format!("{seen}\n{seen}")
        );
        // The files below the mount are those of the same cgroup.
        let below = if namespace { String::new() } else { format!("/{whole}") };
        assert_eq!(exec(&stage, "box", &format!("cat /sys/fs/cgroup{below}/cgroup.procs | head -n1")), "1");
        let said = say(stage
            .world
            .runtime()
            .args(["exec", "box", "mkdir", &format!("/sys/fs/cgroup{below}/x")])
            .stdin(Stdio::null()));
        assert!(said.code != 0 && said.err.contains("Read-only"), "{}", said.err);
        delete(&stage, "box");
    }
}

fn processes_above_leave_no_memory_to_limit() {
    // cgroups(7), "no internal processes": with a process in it, a cgroup hands out threaded controllers only.
    let name = format!("rcr-above-{}", std::process::id());
    let above = Path::new("/sys/fs/cgroup").join(&name);
    fs::create_dir(&above).expect("a cgroup");
    let mut sleeper = Command::new("sleep").arg("1000").spawn().expect("sleep");
    File::create(above.join("cgroup.procs"))
        .and_then(|mut f| f.write_all(sleeper.id().to_string().as_bytes()))
        .expect("joined");
    let below = |resources: Value| {
        Stage::new("cat /proc/self/cgroup", |config, _| {
            config["linux"]["cgroupsPath"] = json!(format!("/{name}/box"));
            config["linux"]["resources"] = resources;
        })
    };
    let memory = below(json!({"memory": {"limit": 67_108_864}})).run("box");
    let left = above.join("box").exists();
    let none = below(json!({})).run("box");
    let pids = below(json!({"pids": {"limit": 20}})).run("box");
    sleeper.kill().expect("it runs");
    sleeper.wait().expect("an end");
    fs::remove_dir(&above).expect("empty");
    assert_eq!(memory.code, 1, "{}", memory.out);
    assert!(memory.err.contains("domain controllers") && memory.err.contains(&name), "{}", memory.err);
    assert!(!left, "a failed create left its cgroup");
    assert_eq!((none.code, none.out.as_str()), (0, "0::/\n"), "{}", none.err);
    assert_eq!((pids.code, pids.out.as_str()), (0, "0::/\n"), "{}", pids.err);
}

fn what_no_controller_does_is_refused() {
    for (resources, words) in [
        (json!({"unified": {"nope.max": "1"}}), &["nope"][..]),
        (json!({"unified": {"memory.nope": "1"}}), &["memory.nope"]),
        (json!({"network": {"classID": 7}}), &["net_cls"]),
        (json!({"memory": {"limit": 1_048_576, "swap": 1000}}), &["memory.swap"]),
        (json!({"cpu": {"cpus": "999"}}), &["cpuset.cpus"]),
    ] {
        let stage = Stage::new("true", |config, _| config["linux"]["resources"] = resources);
        let mut run = stage.world.runtime();
        fails(run.arg("run").arg("--bundle").arg(&stage.dir).arg("box").stdin(Stdio::null()), 1, words);
    }
}
