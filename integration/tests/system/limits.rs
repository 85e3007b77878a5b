//! `linux.resources` of a new container: each limit in the kernel's file, on cgroup v1 and v2.

use std::process::Stdio;

use harness::cgroup::Cgroup;
use harness::disk::LoopDevice;
use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, create, delete};
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("limits":
    each_limit_is_in_its_file [Root, BUSYBOX],
    each_limit_of_a_device_is_in_its_file [Root, BUSYBOX, Program("losetup")],
    realtime_limits_are_written [Root, BUSYBOX, FileNeed("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")],
    nothing_said_is_no_limit [Root, BUSYBOX],
    what_the_kernel_dropped_is_left_out_with_a_word [Root, BUSYBOX],
    the_plan_names_each_file [Root, BUSYBOX],
    what_the_hierarchy_has_not_is_refused_by_name [Root, BUSYBOX],
);

/// A created container with these resources.
fn created(resources: &Value) -> (Stage, Cgroup) {
    let stage = Stage::new("sleep 1000", |config, _| config["linux"]["resources"] = resources.clone());
    create(&stage, "box");
    let cgroup = Cgroup::of(&stage);
    (stage, cgroup)
}

fn each_limit_is_in_its_file() {
    let (stage, cgroup) = created(&json!({
        "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 100_663_296, "swappiness": 7,
                   "disableOOMKiller": true, "kernel": 1_048_576},
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "burst": 1000, "idle": 0, "cpus": "0", "mems": "0"},
        "pids": {"limit": 99},
    }));
    for (v1, v1_value, v2, v2_value) in [
        ("memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
        ("memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
        // v2 counts swap alone.
        ("memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"),
        ("cpu.shares", "512", "cpu.weight", "59"),
        ("cpu.cfs_quota_us", "50000", "cpu.max", "50000 200000"),
        ("cpu.cfs_period_us", "200000", "cpu.max", "50000 200000"),
        ("cpu.cfs_burst_us", "1000", "cpu.max.burst", "1000"),
        ("cpu.idle", "0", "cpu.idle", "0"),
        ("cpuset.cpus", "0", "cpuset.cpus", "0"),
        ("cpuset.mems", "0", "cpuset.mems", "0"),
        ("pids.max", "99", "pids.max", "99"),
    ] {
        let (file, value) =
            if cgroup.find(v1).is_some() && v1 != v2 { (v1, v1_value) } else { (v2, v2_value) };
        assert_eq!(cgroup.read(file), value, "{file}");
    }
    if !cgroup.is_v2("memory") {
        assert_eq!(cgroup.read("memory.swappiness"), "7");
        assert!(cgroup.read("memory.oom_control").starts_with("oom_kill_disable 1"));
    }
    delete(&stage, "box");
    // Where huge pages are counted, on either side of a hybrid host.
    if let Some(file) = huge_page_file() {
        let (_stage, cgroup) = created(&json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}));
        assert_eq!(cgroup.read(file), "4194304", "{file}");
    }
    if let Some(file) = ["blkio.bfq.weight", "io.bfq.weight", "io.weight"].iter().find(|f| in_a_new_one(f)) {
        let (_stage, cgroup) = created(&json!({"blockIO": {"weight": 500}}));
        let want = if *file == "io.weight" { "4950" } else { "500" };
        assert_eq!(cgroup.read(file).trim_start_matches("default "), want, "{file}");
    }
    if cgroup.is_v2("memory") || in_a_new_one("memory.high") {
        let (_stage, cgroup) = created(&json!({"unified": {"memory.high": "16777216", "pids.max": "55"}}));
        assert_eq!(
            (cgroup.read("memory.high").as_str(), cgroup.read("pids.max").as_str()),
            ("16777216", "55")
        );
    }
}

/// Whether a container without limits has `file`.
fn in_a_new_one(file: &str) -> bool {
    let (_stage, cgroup) = created(&json!({}));
    cgroup.find(file).is_some()
}

fn huge_page_file() -> Option<&'static str> {
    let on = |file: &str| std::fs::read_to_string(file).is_ok_and(|text| text.contains("hugetlb"));
    if on("/proc/self/cgroup") {
        Some("hugetlb.2MB.limit_in_bytes")
    } else if on("/sys/fs/cgroup/cgroup.controllers") || on("/sys/fs/cgroup/unified/cgroup.controllers") {
        Some("hugetlb.2MB.max")
    } else {
        None
    }
}

fn each_limit_of_a_device_is_in_its_file() {
    let place = harness::world::World::new();
    let disk = LoopDevice::new(place.path(), 1 << 20);
    let (major, minor) = disk.number();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let (_stage, cgroup) = created(&json!({"blockIO": {
        "throttleReadBpsDevice": rate(600), "throttleWriteBpsDevice": rate(700),
        "throttleReadIOPSDevice": rate(8), "throttleWriteIOPSDevice": rate(9)}}));
    if cgroup.is_v2("io") {
        assert_eq!(cgroup.read("io.max"), format!("{major}:{minor} rbps=600 wbps=700 riops=8 wiops=9"));
        return;
    }
    for (file, value) in [("read_bps", 600), ("write_bps", 700), ("read_iops", 8), ("write_iops", 9)] {
        let text = cgroup.read(&format!("blkio.throttle.{file}_device"));
        assert_eq!(text, format!("{major}:{minor} {value}"), "{file}");
    }
}

fn what_the_kernel_dropped_is_left_out_with_a_word() {
    let stage = Stage::new("true", |config, _| {
        config["linux"]["resources"] =
            json!({"memory": {"limit": 67_108_864, "kernel": 1, "kernelTCP": 1, "useHierarchy": true}});
    });
    let said = stage.run("old");
    let warning = "level=warning msg=\"Kernel memory settings are ignored and will be removed\"";
    assert!(said.code == 0 && said.err.contains(warning), "{}", said.err);
}

/// What `plan` says is what create writes.
fn the_plan_names_each_file() {
    let resources = json!({"pids": {"limit": 99}, "memory": {"limit": 67_108_864}});
    let (stage, cgroup) = created(&resources);
    let plan = ok(stage.world.runtime().arg("plan").arg(&stage.dir));
    let files: Vec<(&str, &str)> = plan
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("write ")?.split_once(" to "))
        .collect();
    assert!(files.len() == 2, "{plan}");
    for (value, file) in files {
        assert_eq!(cgroup.read(file), value, "{file}");
    }
    assert!(plan.contains("device rules: allow what every container may use"), "{plan}");
    delete(&stage, "box");
}

fn realtime_limits_are_written() {
    let (_stage, cgroup) = created(&json!({"cpu": {"realtimePeriod": 500_000, "realtimeRuntime": 1000}}));
    assert_eq!(cgroup.read("cpu.rt_period_us"), "500000");
    assert_eq!(cgroup.read("cpu.rt_runtime_us"), "1000");
}

fn nothing_said_is_no_limit() {
    // An object without its one field says nothing either.
    for resources in [json!({}), json!({"pids": {}, "memory": {}, "cpu": {}}), json!({"pids": {"limit": -1}})]
    {
        let (stage, cgroup) = created(&resources);
        assert_eq!(cgroup.read("pids.max"), "max", "{resources}");
        let memory = cgroup.either(["memory.limit_in_bytes", "memory.max"]);
        assert!(memory == "max" || memory.parse::<u64>().is_ok_and(|n| n > 1 << 62), "{resources}: {memory}");
        delete(&stage, "box");
    }
}

fn what_the_hierarchy_has_not_is_refused_by_name() {
    let (stage, cgroup) = created(&json!({}));
    let v2 = cgroup.is_v2("memory");
    drop(stage);
    let cases: &[(bool, Value, &str)] = &[
        (
            true,
            json!({"cpu": {"realtimeRuntime": 1000}}),
            "linux.resources.cpu.realtimeRuntime: cgroup v2 has no",
        ),
        (true, json!({"network": {"classID": 5}}), "linux.resources.network.classID: cgroup v2 has no"),
        (
            true,
            json!({"blockIO": {"leafWeight": 50}}),
            "linux.resources.blockIO.leafWeight: cgroup v2 has no",
        ),
        (false, json!({"unified": {"memory.high": "1"}}), "cannot use unified on cgroup v1"),
        (false, json!({"rdma": {"mlx5_1": {"hcaHandles": 1}}}), "cannot set rdma limit"),
    ];
    for (_, resources, words) in cases.iter().filter(|(on_v2, ..)| *on_v2 == v2) {
        let stage = Stage::new("true", |config, _| config["linux"]["resources"] = resources.clone());
        let before = Snapshot::take();
        let mut command = stage.world.runtime();
        command.args(["run", "--bundle"]).arg(&stage.dir).arg("box").stdin(Stdio::null());
        fails(&mut command, 1, &[words]);
        assert_none_since(&before);
    }
    // What every engine sends is only warned of.
    let resources = json!({"memory": {"limit": 67_108_864, "swappiness": 10, "kernel": 1}});
    let stage = Stage::new("true", |config, _| config["linux"]["resources"] = resources);
    let said =
        say(stage.world.runtime().args(["run", "--bundle"]).arg(&stage.dir).arg("box").stdin(Stdio::null()));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("level=warning msg=\"Kernel memory settings are ignored"), "{}", said.err);
    assert_eq!(said.err.contains("swappiness"), v2, "{}", said.err);
}
