//! `update`: the kernel's files after it, on cgroup v1 and v2, and what is remembered for the next one.

use std::fs;
use std::process::{Command, Stdio};

use harness::cgroup::Cgroup;
use harness::disk::LoopDevice;
use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::stage::{Stage, create, delete, quiet, state, until};
use harness::world::{Said, fails, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("update":
    each_flag_changes_its_file_and_nothing_else [Root, BUSYBOX],
    memory_and_swap_are_changed_in_an_order_that_works [Root, BUSYBOX],
    quota_and_period_remember_each_other [Root, BUSYBOX],
    a_file_or_standard_input_says_the_same_as_flags [Root, BUSYBOX],
    a_refused_update_changes_nothing [Root, BUSYBOX],
    what_cannot_be_meant_is_refused [Root, BUSYBOX],
    the_container_feels_its_new_limits [Root, BUSYBOX],
    a_paused_container_is_updated_and_stays_paused [Root, BUSYBOX],
    a_created_container_is_updated [Root, BUSYBOX],
    a_hook_may_update_its_container [Root, BUSYBOX],
    devices_are_throttled_one_by_one [Root, BUSYBOX, Program("losetup")],
    updates_at_the_same_time_are_all_remembered [Root, BUSYBOX],
);

/// A running container with limits of its own.
fn limited() -> (Stage, Cgroup) {
    let stage = Stage::running("box", |config, _| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 33_554_432, "reservation": 25_165_824},
            "cpu": {"shares": 100, "quota": 500_000, "period": 1_000_000, "cpus": "0"},
            "pids": {"limit": 20},
        });
    });
    let cgroup = Cgroup::of(&stage);
    (stage, cgroup)
}

fn update(stage: &Stage, args: &[&str]) -> Command {
    let mut command = stage.world.runtime();
    command.arg("update").args(args).arg("box").stdin(Stdio::null());
    command
}

fn update_from(stage: &Stage, resources: &Value) -> Said {
    let file = stage.world.path().join("resources.json");
    fs::write(&file, resources.to_string()).expect("writable");
    let input = fs::File::open(&file).expect("readable");
    say(stage.world.runtime().args(["update", "--resources=-", "box"]).stdin(input))
}

/// The resources that the next command sees.
fn stored(stage: &Stage) -> Value {
    let file = stage.world.path().join("state/box/config.json");
    let config: Value = serde_json::from_slice(&fs::read(file).expect("readable")).expect("JSON");
    config["linux"]["resources"].clone()
}

/// The limits of [`limited`] by v1's name, as v1 would write them.
fn limits(cgroup: &Cgroup) -> Vec<(&'static str, String)> {
    let quota = cgroup.read("cpu.max");
    let (quota, period) = match quota.split_once(' ') {
        Some((quota, period)) => (quota.replace("max", "-1"), period.to_owned()),
        None => (cgroup.read("cpu.cfs_quota_us"), cgroup.read("cpu.cfs_period_us")),
    };
    vec![
        ("memory", unlimited(cgroup.either(["memory.limit_in_bytes", "memory.max"]))),
        ("reservation", unlimited(cgroup.either(["memory.soft_limit_in_bytes", "memory.low"]))),
        ("pids", cgroup.read("pids.max")),
        ("cpus", cgroup.read("cpuset.cpus")),
        ("shares", cgroup.either(["cpu.shares", "cpu.weight"])),
        ("quota", quota),
        ("period", period),
        ("burst", cgroup.either(["cpu.cfs_burst_us", "cpu.max.burst"])),
        ("idle", cgroup.read("cpu.idle")),
    ]
}

/// v1 has a number for it, just below 2^63.
fn unlimited(value: String) -> String {
    match value.parse::<u64>() {
        Ok(n) if n > 1 << 62 => "max".to_owned(),
        _ => value,
    }
}

fn each_flag_changes_its_file_and_nothing_else() {
    let (stage, cgroup) = limited();
    let v2 = cgroup.is_v2("cpu");
    let weight = |v1: &'static str, v2_value: &'static str| if v2 { v2_value } else { v1 };
    let mut now = limits(&cgroup);
    let first = [
        ("memory", "33554432"),
        ("reservation", "25165824"),
        ("pids", "20"),
        ("cpus", "0"),
        ("shares", weight("100", "17")),
        ("quota", "500000"),
        ("period", "1000000"),
        ("burst", "0"),
        ("idle", "0"),
    ];
    assert_eq!(now, first.map(|(name, value)| (name, value.to_owned())));
    let steps: &[(&[&str], &str, &str)] = &[
        (&["--memory", "67108864"], "memory", "67108864"),
        (&["--memory=50M"], "memory", "52428800"),
        (&["--memory-reservation", "32m"], "reservation", "33554432"),
        (&["--pids-limit", "10"], "pids", "10"),
        (&["--pids-limit", "-1"], "pids", "max"),
        (&["--pids-limit", "0"], "pids", "1"),
        (&["--cpuset-cpus", "0-1"], "cpus", "0-1"),
        (&["--cpu-share", "200"], "shares", weight("200", "29")),
        (&["--cpu-period", "900000"], "period", "900000"),
        (&["--cpu-quota", "600000"], "quota", "600000"),
        (&["--cpu-burst", "1000"], "burst", "1000"),
        (&["--cpu-burst", "0"], "burst", "0"),
        (&["--cpu-quota", "-1"], "quota", "-1"),
        (&["--kernel-memory", "1m", "--kernel-memory-tcp=-1"], "idle", "0"),
        (&["--memory-reservation", "-1"], "reservation", "max"),
        (&["--memory", "-1"], "memory", "max"),
    ];
    for (args, name, value) in steps {
        let said = say(&mut update(&stage, args));
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
        for (n, v) in &mut now {
            if n == name {
                *v = (*value).to_owned();
            }
        }
        assert_eq!(limits(&cgroup), now, "after {args:?}");
    }
    let said = say(&mut update(&stage, &["--kernel-memory", "1m"]));
    assert!(said.err.contains("level=warning msg=\"Kernel memory settings are ignored"), "{}", said.err);
    // Idle takes the weight away with it, which is the kernel's doing.
    for idle in ["1", "0"] {
        quiet(&mut update(&stage, &["--cpu-idle", idle]));
        assert_eq!(cgroup.read("cpu.idle"), idle);
    }
    if let Some(file) =
        ["blkio.weight", "blkio.bfq.weight", "io.bfq.weight"].iter().find(|f| cgroup.find(f).is_some())
    {
        quiet(&mut update(&stage, &["--blkio-weight", "300"]));
        assert!(["300", "default 300"].contains(&cgroup.read(file).as_str()), "{}", cgroup.read(file));
    }
    if cgroup.find("cpuset.mems").is_some() {
        quiet(&mut update(&stage, &["--cpuset-mems", "0"]));
        assert_eq!(cgroup.read("cpuset.mems"), "0");
    }
    // Limits that are not updated are those of the container's configuration still.
    let want = json!({"limit": -1, "reservation": -1, "checkBeforeUpdate": false});
    let mut memory = stored(&stage)["memory"].clone();
    memory["checkBeforeUpdate"] = json!(false);
    assert_eq!(memory, want);
    assert_eq!(stored(&stage)["cpu"]["shares"], 200);
}

fn memory_and_swap_are_changed_in_an_order_that_works() {
    let (stage, cgroup) = limited();
    let v2 = cgroup.is_v2("memory");
    let m = |n: u64| n << 20;
    // Both up, both down, up again, and without an end: each pair is refused in one of the two orders.
    for (memory, swap) in [(30, 50), (60, 80), (20, 30), (200, 300), (10, 10)] {
        quiet(&mut update(&stage, &[&format!("--memory={memory}M"), &format!("--memory-swap={swap}M")]));
        assert_eq!(cgroup.either(["memory.limit_in_bytes", "memory.max"]), m(memory).to_string());
        let file = cgroup.either(["memory.memsw.limit_in_bytes", "memory.swap.max"]);
        // v2 counts swap alone.
        assert_eq!(file, if v2 { m(swap - memory) } else { m(swap) }.to_string(), "{memory} {swap}");
    }
    quiet(&mut update(&stage, &["--memory-swap", "40M"]));
    let file = cgroup.either(["memory.memsw.limit_in_bytes", "memory.swap.max"]);
    assert_eq!(file, if v2 { m(30) } else { m(40) }.to_string());
    quiet(&mut update(&stage, &["--memory-swap", "-1"]));
    assert_eq!(unlimited(cgroup.either(["memory.memsw.limit_in_bytes", "memory.swap.max"])), "max");
    quiet(&mut update(&stage, &["--memory=20M", "--memory-swap=30M"]));
    quiet(&mut update(&stage, &["--memory", "-1"]));
    assert_eq!(unlimited(cgroup.either(["memory.limit_in_bytes", "memory.max"])), "max");
    assert_eq!(unlimited(cgroup.either(["memory.memsw.limit_in_bytes", "memory.swap.max"])), "max");
    fails(
        &mut update(&stage, &["--memory=20M", "--memory-swap=10M"]),
        1,
        &["memory+swap limit should be >= memory limit"],
    );
}

fn quota_and_period_remember_each_other() {
    let (stage, cgroup) = limited();
    let ratio = || {
        let limits = limits(&cgroup);
        let value = |name: &str| limits.iter().find(|(n, _)| *n == name).expect("there").1.clone();
        (value("quota"), value("period"))
    };
    for (args, quota, period) in [
        (&["--cpu-period", "900000"][..], "500000", "900000"),
        // An update of something else in between forgets nothing.
        (&["--pids-limit", "30"], "500000", "900000"),
        (&["--cpu-quota", "600000"], "600000", "900000"),
        (&["--cpu-period", "10000", "--cpu-quota", "3000"], "3000", "10000"),
        (&["--cpu-quota", "-1"], "-1", "10000"),
        (&["--cpu-period", "50000"], "-1", "50000"),
        (&["--cpu-quota", "5000"], "5000", "50000"),
    ] {
        quiet(&mut update(&stage, args));
        assert_eq!(ratio(), (quota.to_owned(), period.to_owned()), "{args:?}");
    }
}

fn a_file_or_standard_input_says_the_same_as_flags() {
    let (stage, cgroup) = limited();
    let resources = json!({
        "memory": {"limit": 50_331_648}, "cpu": {"shares": 300, "quota": 100_000, "period": 200_000}, "pids": {"limit": 44},
    });
    let said = update_from(&stage, &resources);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(cgroup.read("pids.max"), "44");
    assert_eq!(cgroup.either(["memory.limit_in_bytes", "memory.max"]), "50331648");
    assert_eq!(cgroup.read("cpuset.cpus"), "0");
    // Go's readers don't mind the case of names, and the other flags are ignored.
    let file = stage.world.path().join("resources.json");
    fs::write(&file, r#"{"PIDS": {"Limit": 45}, "cpu": null}"#).expect("writable");
    quiet(stage.world.runtime().args(["update", "--pids-limit=9", "-r"]).arg(&file).arg("box"));
    assert_eq!(cgroup.read("pids.max"), "45");
    assert_eq!(stored(&stage)["pids"], json!({"limit": 45}));
    // Says nothing, changes nothing.
    assert_eq!(update_from(&stage, &json!({"pids": {}})).code, 0);
    assert_eq!(cgroup.read("pids.max"), "45");
    // Device rules are the runtime's and its hooks' own.
    let said =
        update_from(&stage, &json!({"devices": [{"allow": true, "access": "rwm"}], "pids": {"limit": 46}}));
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(stored(&stage)["devices"], Value::Null);
    if cgroup.is_v2("memory") {
        assert_eq!(update_from(&stage, &json!({"unified": {"memory.high": "40000000"}})).code, 0);
        assert_eq!(cgroup.read("memory.high"), (40_000_000 / 4096 * 4096).to_string());
        assert_eq!(stored(&stage)["unified"], json!({"memory.high": "40000000"}));
    } else {
        let said = update_from(&stage, &json!({"unified": {"memory.high": "40000000"}}));
        assert_eq!(said.code, 1);
        assert!(said.err.contains("cannot use unified on cgroup v1"), "{}", said.err);
    }
}

fn a_refused_update_changes_nothing() {
    let (stage, cgroup) = limited();
    let (before, before_stored) = (limits(&cgroup), stored(&stage));
    // The kernel refuses one of many, early or late in the order of writing.
    for bad in [
        json!({"cpu": {"cpus": "999", "shares": 300, "quota": 7000, "period": 9000}}),
        json!({"cpu": {"cpus": "0-1", "shares": 300, "quota": 1, "period": 9000}}),
        json!({"cpu": {"shares": 300, "idle": 7}}),
    ] {
        let mut resources = bad.clone();
        resources["memory"] = json!({"limit": 100_663_296, "swap": 134_217_728, "reservation": 1_048_576});
        resources["pids"] = json!({"limit": 77});
        let said = update_from(&stage, &resources);
        assert_eq!(said.code, 1, "{bad}");
        assert!(said.err.contains("to \\\"/sys/fs/cgroup"), "names the file: {}", said.err);
        assert_eq!(limits(&cgroup), before, "{bad}: {}", said.err);
        assert_eq!(stored(&stage), before_stored);
        assert!(!said.err.contains("could not be put back"), "{}", said.err);
    }
    // Lower than what is used: v1 refuses by itself, v2 if it is asked to look.
    let said = update_from(&stage, &json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}));
    assert_eq!(said.code, 1);
    let words =
        ["unable to set memory limit to 4096 (current usage: ", "rejecting memory limit 4096 <= usage "];
    assert!(said.err.contains(words[usize::from(cgroup.is_v2("memory"))]), "{}", said.err);
    assert_eq!(limits(&cgroup), before);
    assert_eq!(state(&stage, "box")["status"], "running");
}

fn what_cannot_be_meant_is_refused() {
    let (stage, cgroup) = limited();
    let before = limits(&cgroup);
    for (args, words) in [
        (&["--memory", "lots"][..], "invalid value for memory: invalid size: 'lots'"),
        (&["--memory", "5x"], "invalid value for memory: invalid suffix: 'x'"),
        (&["--cpu-period", "-1"], "invalid value for cpu-period: strconv.ParseUint: parsing"),
        (&["--cpu-idle", "x"], "invalid value for cpu-idle: strconv.ParseInt: parsing"),
        (&["--pids-limit", "x"], "for flag -pids-limit: strconv.ParseInt: parsing"),
        (&["--blkio-weight", "5"], "linux.resources.blockIO.weight: 5 is out of range 10-1000"),
        (&["--resources", "/no/such/file"], "/no/such/file"),
        (&["--l3-cache-schema", "L3:0=f"], "Intel RDT"),
        (&["--mem-bw-schema", "MB:0=20"], "Intel RDT"),
        (&["--no-such-flag", "1"], "flag provided but not defined: -no-such-flag"),
    ] {
        fails(&mut update(&stage, args), 1, &[words]);
    }
    for (json, words) in [("{", "EOF"), (r#"{"cpu": {"shares": "x"}}"#, "resources.cpu.shares")] {
        fs::write(stage.world.path().join("bad.json"), json).expect("writable");
        let file = stage.world.path().join("bad.json").display().to_string();
        fails(&mut update(&stage, &["-r", &file]), 1, &[words]);
    }
    assert_eq!(limits(&cgroup), before);
    fails(stage.world.runtime().args(["update", "--memory=1g", "nobody"]), 1, &["container does not exist"]);
    fails(stage.world.runtime().args(["update", "--memory=1g"]), 1, &["requires exactly 1 argument"]);
    quiet(stage.world.runtime().args(["kill", "box", "KILL"]));
    until("its end", || state(&stage, "box")["status"] == "stopped");
    fails(&mut update(&stage, &["--pids-limit", "5"]), 1, &["container not running"]);
}

fn the_container_feels_its_new_limits() {
    let (stage, cgroup) = limited();
    let exec = |script: &str| {
        say(stage.world.runtime().args(["exec", "box", "sh", "-c", script]).stdin(Stdio::null()))
    };
    // Processors.
    assert_eq!(exec("grep Cpus_allowed_list /proc/self/status").out, "Cpus_allowed_list:\t0\n");
    quiet(&mut update(&stage, &["--cpuset-cpus", "1"]));
    assert_eq!(exec("grep Cpus_allowed_list /proc/self/status").out, "Cpus_allowed_list:\t1\n");
    // Tasks.
    let forks = "i=0; while [ $i -lt 8 ]; do sleep 1 & i=$((i+1)); done 2>/dev/null; echo done";
    assert_eq!(exec(forks).out, "done\n");
    quiet(&mut update(&stage, &["--pids-limit", "4"]));
    let said = exec(forks);
    assert_ne!(said.out, "done\n", "more than four: {}", said.err);
    quiet(&mut update(&stage, &["--pids-limit", "100"]));
    // Memory: what was enough is too little now. The container's own process lives on.
    let hog = "x=$(head -c 12000000 /dev/zero | tr '\\0' x); echo ${#x}";
    assert_eq!(exec(hog).out, "12000000\n");
    quiet(&mut update(&stage, &["--memory=8M", "--memory-swap=8M"]));
    let said = exec(hog);
    assert_ne!(said.code, 0, "{}", said.out);
    assert_eq!(state(&stage, "box")["status"], "running");
    // Processor time.
    quiet(&mut update(&stage, &["--cpu-quota", "5000", "--cpu-period", "100000"]));
    let throttled = || {
        let text = cgroup.read("cpu.stat");
        text.lines().find_map(|l| l.strip_prefix("nr_throttled ")?.parse::<u64>().ok()).expect("a count")
    };
    let before = throttled();
    exec("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    assert!(throttled() > before + 2, "{before} {}", throttled());
}

fn a_paused_container_is_updated_and_stays_paused() {
    let (stage, cgroup) = limited();
    quiet(stage.world.runtime().args(["pause", "box"]));
    quiet(&mut update(&stage, &["--pids-limit", "30", "--memory", "64m"]));
    assert_eq!(cgroup.read("pids.max"), "30");
    assert_eq!(state(&stage, "box")["status"], "paused");
    quiet(stage.world.runtime().args(["resume", "box"]));
    assert_eq!(state(&stage, "box")["status"], "running");
}

fn a_created_container_is_updated() {
    // Without resources of its own.
    let stage = Stage::new("sleep 1000", |config, _| {
        config["linux"].as_object_mut().expect("linux").remove("resources");
    });
    create(&stage, "box");
    let cgroup = Cgroup::of(&stage);
    quiet(&mut update(&stage, &["--pids-limit", "30", "--cpu-period", "50000"]));
    assert_eq!(cgroup.read("pids.max"), "30");
    quiet(&mut update(&stage, &["--cpu-quota", "30000"]));
    assert_eq!(limits(&cgroup)[5..7], [("quota", "30000".to_owned()), ("period", "50000".to_owned())]);
    quiet(stage.world.runtime().args(["start", "box"]));
    assert_eq!(cgroup.read("pids.max"), "30");
    // Namespaces and all else are what they were: exec goes by the same file.
    quiet(stage.world.runtime().args(["exec", "box", "true"]));
    delete(&stage, "box");
}

fn a_hook_may_update_its_container() {
    for command in ["start", "run"] {
        let stage = Stage::new("sleep 1000", |_, _| ());
        let runtime = stage.world.runtime();
        let mut args = vec![runtime.get_program().to_string_lossy().into_owned()];
        args.extend(runtime.get_args().map(|a| a.to_string_lossy().into_owned()));
        let config = stage.dir.join("config.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&config).expect("readable")).expect("JSON");
        args.extend(["update", "--pids-limit=33", "box"].map(str::to_owned));
        value["hooks"] = json!({"poststart": [{"path": args[0], "args": args, "timeout": 10}]});
        fs::write(&config, value.to_string()).expect("writable");
        if command == "start" {
            create(&stage, "box");
            quiet(stage.world.runtime().args(["start", "box"]));
        } else {
            quiet(stage.world.runtime().args(["run", "-d", "-b"]).arg(&stage.dir).arg("box"));
        }
        assert_eq!(Cgroup::of(&stage).read("pids.max"), "33", "{command}");
    }
}

fn devices_are_throttled_one_by_one() {
    let (stage, cgroup) = limited();
    let disk = LoopDevice::new(stage.world.path(), 1 << 20);
    let (major, minor) = disk.number();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let said = update_from(
        &stage,
        &json!({"blockIO": {"throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
            "throttleReadIOPSDevice": rate(100), "throttleWriteIOPSDevice": rate(200)}}),
    );
    assert_eq!(said.code, 0, "{}", said.err);
    let line = |text: &str| {
        let key = format!("{major}:{minor} ");
        text.lines().find_map(|l| l.strip_prefix(&key)).unwrap_or_default().to_owned()
    };
    let rates = || match cgroup.is_v2("io") {
        true => line(&cgroup.read("io.max")),
        false => {
            let read = |file: &str| line(&cgroup.read(&format!("blkio.throttle.{file}_device")));
            format!(
                "rbps={} wbps={} riops={} wiops={}",
                read("read_bps"),
                read("write_bps"),
                read("read_iops"),
                read("write_iops")
            )
        }
    };
    assert_eq!(rates(), "rbps=1048576 wbps=2097152 riops=100 wiops=200");
    let said = update_from(&stage, &json!({"blockIO": {"throttleReadBpsDevice": rate(524_288)}}));
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(rates(), "rbps=524288 wbps=2097152 riops=100 wiops=200");
    assert_eq!(stored(&stage)["blockIO"]["throttleReadBpsDevice"], rate(524_288));
    // A later refusal puts back what a device had.
    let refused = json!({"blockIO": {"throttleReadBpsDevice": rate(1)}, "cpu": {"idle": 7}});
    assert_eq!(update_from(&stage, &refused).code, 1);
    assert_eq!(rates(), "rbps=524288 wbps=2097152 riops=100 wiops=200");
}

fn updates_at_the_same_time_are_all_remembered() {
    let (stage, _) = limited();
    let flags = [
        "--pids-limit=31",
        "--cpu-share=222",
        "--memory-reservation=1m",
        "--memory=40m",
        "--cpuset-cpus=0-1",
    ];
    for _ in 0..5 {
        let running: Vec<_> =
            flags.iter().map(|flag| update(&stage, &[flag]).spawn().expect("it starts")).collect();
        for mut child in running {
            assert!(child.wait().expect("waitable").success());
        }
    }
    let stored = stored(&stage);
    assert_eq!(stored["pids"]["limit"], 31);
    assert_eq!((&stored["cpu"]["shares"], &stored["cpu"]["cpus"]), (&json!(222), &json!("0-1")));
    assert_eq!(stored["memory"]["limit"], 41_943_040);
    assert_eq!(stored["memory"]["reservation"], 1_048_576);
}
