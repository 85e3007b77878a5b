//! Flags of `run` about limits, namespaces, devices and security, each by its effect in the container.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Root};
use harness::image::busybox_layout;
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, run, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("run_flags":
    limits_reach_the_cgroup [Root, BUSYBOX],
    cgroups_lie_below_the_one_asked_for [Root, BUSYBOX],
    limits_of_memory_and_disks_reach_the_cgroup [Root, BUSYBOX],
    shared_memory_has_the_size_asked_for [Root, BUSYBOX],
    namespaces_of_the_host_and_of_another_container [Root, BUSYBOX],
    shared_memory_is_shared_by_the_willing [Root, BUSYBOX],
    devices_and_what_may_be_done_with_them [Root, BUSYBOX, File("/dev/loop-control")],
    security_options_hold [Root, BUSYBOX],
    sysctls_groups_and_labels [Root, BUSYBOX],
    clocks_are_ahead [Root, BUSYBOX, File("/proc/self/timens_offsets")],
    what_cannot_be_is_refused_by_name [Root, BUSYBOX],
);

fn world() -> (World, String) {
    let world = World::new();
    let image = busybox_layout(&world.path().join("layout"), json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] }));
    let id = world.pulled(&image);
    (world, id)
}

/// `run --rm FLAGS IMAGE sh -c SCRIPT`.
fn sh(world: &World, image: &str, flags: &[&str], script: &str) -> String {
    let args = [&["--rm"], flags, &[image, "sh", "-c", script]].concat();
    ok(&mut run(world, &args))
}

fn inspect(world: &World, name: &str) -> Value {
    let found: Value =
        serde_json::from_str(&say(world.rcr().args(["inspect", name])).out).unwrap_or_default();
    found[0].clone()
}

/// A container in the background, by name, and its process id on the host.
fn background(world: &World, name: &str, flags: &[&str], image: &str, script: &str) -> (Child, i64) {
    let args = [&["--name", name], flags, &[image, "sh", "-c", script]].concat();
    let child = run(world, &args).spawn().expect("rcr starts");
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        match inspect(world, name)["State"]["Pid"].as_i64() {
            Some(pid) if pid > 0 => return (child, pid),
            _ => assert!(Instant::now() < deadline, "{name} never ran"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(world: &World, name: &str, mut child: Child) {
    ok(world.rcr().args(["rm", "-f", name]));
    child.wait().expect("a child");
}

/// A file of the cgroup of a process, of cgroup v1 or of v2.
fn cgroup_file(pid: i64, controller: &str, v1: &str, v2: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        if controllers.split(',').any(|c| c == controller) {
            let file = format!("/sys/fs/cgroup/{controller}{path}/{v1}");
            return fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned();
        }
    }
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup v2");
    let file = format!("/sys/fs/cgroup{path}/{v2}");
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned()
}

fn limits_reach_the_cgroup() {
    let (world, image) = world();
    let before = Snapshot::take();
    let flags = [
        "--cpu-shares=512",
        "--cpu-period=50000",
        "--cpu-quota=25000",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
        "-m=64m",
        "--memory-swap=96m",
        "--memory-reservation=32m",
        "--oom-score-adj=123",
    ];
    let (child, pid) = background(&world, "limited", &flags, &image, "sleep 60");
    let shares = cgroup_file(pid, "cpu", "cpu.shares", "cpu.weight");
    assert!(matches!(shares.as_str(), "512" | "20" | "59"), "{shares}");
    let quota = cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(matches!(quota.as_str(), "25000" | "25000 50000"), "{quota}");
    assert_eq!(cgroup_file(pid, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    let soft = cgroup_file(pid, "memory", "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(soft, (32 << 20).to_string());
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a process").trim(), "123");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    let config = inspect(&world, "limited")["HostConfig"].clone();
    assert_eq!(
        (&config["CpuShares"], &config["CpusetCpus"], &config["MemorySwap"]),
        (&json!(512), &json!("0"), &json!(96 << 20))
    );
    end(&world, "limited", child);
    assert_none_since(&before);
}

fn cgroups_lie_below_the_one_asked_for() {
    let (world, image) = world();
    let before = Snapshot::take();
    let parent = format!("batch-{}", std::process::id());
    let (child, pid) = background(
        &world,
        "below",
        &["-m=64m", "--cgroup-parent", &format!("{parent}/in")],
        &image,
        "sleep 60",
    );
    let id = inspect(&world, "below")["Id"].as_str().expect("an ID").to_owned();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    assert!(groups.contains(&format!("/{parent}/in/rcr-{id}\n")), "{groups}");
    assert_eq!(inspect(&world, "below")["HostConfig"]["CgroupParent"], format!("/{parent}/in"));
    end(&world, "below", child);
    // The kernel's count is read there too, and what rcr was killed with is found there.
    let script = "head -c 200m /dev/zero | tail";
    let flags = ["--name", "greedy", "-m=16m", "--cgroup-parent", &parent, &image, "sh", "-c", script];
    say(&mut run(&world, &flags));
    assert_eq!(inspect(&world, "greedy")["State"]["OOMKilled"], true);
    ok(world.rcr().args(["rm", "greedy"]));
    let (mut child, _) = background(&world, "killed", &["--cgroup-parent", &parent], &image, "sleep 60");
    child.kill().expect("it lives");
    child.wait().expect("a child");
    ok(world.rcr().arg("ps"));
    ok(world.rcr().args(["rm", "killed"]));
    fails(&mut run(&world, &["--cgroup-parent", "/a/../b", &image]), 125, &["--cgroup-parent", "\"..\""]);
    // docker leaves it too: who named it may have set limits there.
    let pattern = format!("*/{parent}*");
    let left = ok(Command::new("find").args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &pattern]));
    for dir in left.lines() {
        assert!(dir.ends_with(&parent) || dir.ends_with("/in"), "{dir}");
        fs::remove_dir(dir).unwrap_or_else(|e| panic!("{dir}: {e}"));
    }
    assert_none_since(&before);
}

fn limits_of_memory_and_disks_reach_the_cgroup() {
    let (world, image) = world();
    let before = Snapshot::take();
    let v1 = std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    let flags =
        ["-m=64m", "--memory-swap=96m", "--memory-swappiness=7", "--oom-kill-disable", "--blkio-weight=300"];
    let (child, pid) = background(&world, "limited", &flags, &image, "sleep 60");
    // v2 counts swap alone, and knows neither swappiness nor a container that waits instead of being killed.
    let swap = cgroup_file(pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    assert_eq!(swap, if v1 { 96 << 20 } else { 32 << 20 }.to_string());
    if v1 {
        assert_eq!(cgroup_file(pid, "memory", "memory.swappiness", ""), "7");
        let control = cgroup_file(pid, "memory", "memory.oom_control", "");
        assert!(control.starts_with("oom_kill_disable 1"), "{control}");
    }
    let places = [("/sys/fs/cgroup/blkio", "blkio.weight"), ("/sys/fs/cgroup/blkio", "blkio.bfq.weight")];
    let weight = places.iter().find(|(root, file)| {
        // The host's own group may not have it where a new one has.
        fs::read_dir(root).into_iter().flatten().flatten().any(|entry| entry.path().join(file).exists())
    });
    if let Some((_, file)) = weight {
        assert_eq!(cgroup_file(pid, "blkio", file, "io.bfq.weight").trim_start_matches("default "), "300");
    }
    let config = inspect(&world, "limited")["HostConfig"].clone();
    assert_eq!(
        (&config["MemorySwappiness"], &config["OomKillDisable"], &config["BlkioWeight"]),
        (&json!(7), &json!(true), &json!(300))
    );
    end(&world, "limited", child);
    // docker's rules: twice the memory if nothing is said, and none at all with -1.
    for (flags, v1_swap, v2_swap) in [
        (&["-m=64m"][..], (128u64 << 20).to_string(), (64u64 << 20).to_string()),
        (&["-m=64m", "--memory-swap=64m"], (64u64 << 20).to_string(), "0".to_owned()),
        (&["-m=64m", "--memory-swap=-1"], String::new(), "max".to_owned()),
    ] {
        let (child, pid) = background(&world, "limited", flags, &image, "sleep 60");
        let swap = cgroup_file(pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        match (v1, v1_swap.as_str()) {
            // The kernel's word for none: the highest number of pages.
            (true, "") => assert!(swap.parse::<u64>().expect("a number") > 1 << 62, "{swap}"),
            (true, want) => assert_eq!(swap, want, "{flags:?}"),
            (false, _) => assert_eq!(swap, v2_swap, "{flags:?}"),
        }
        end(&world, "limited", child);
    }
    for (flags, words) in [
        (&["--memory-swap=96m"][..], &["memory-swap", "memory"][..]),
        (&["-m=64m", "--memory-swap=32m"], &["swap"]),
        (&["--memory-swappiness=101"], &["101", "0 to 100"]),
        (&["--blkio-weight=5"], &["5", "10 to 1000"]),
    ] {
        fails(&mut run(&world, &[&["--rm"], flags, &[&image, "true"]].concat()), 125, words);
    }
    assert_none_since(&before);
}

fn shared_memory_has_the_size_asked_for() {
    let (world, image) = world();
    let script = "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2";
    assert_eq!(sh(&world, &image, &[], script), "65536");
    assert_eq!(sh(&world, &image, &["--shm-size", "1m"], script), "1024");
    assert_eq!(
        sh(&world, &image, &["--ipc", "host"], "stat -c %d /dev/shm"),
        ok(Command::new("stat").args(["-c", "%d", "/dev/shm"]))
    );
}

fn namespaces_of_the_host_and_of_another_container() {
    let (world, image) = world();
    let before = Snapshot::take();
    let host = |kind: &str| {
        fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace").display().to_string()
    };
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let script = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(sh(&world, &image, &[flag, "host"], &script), host(kind), "{flag}");
        assert_ne!(sh(&world, &image, &[], &script), host(kind), "{flag}");
    }
    assert_eq!(sh(&world, &image, &["--uts", "host"], "hostname"), ok(&mut Command::new("hostname")));
    let (child, _) = background(&world, "other", &[], &image, "echo hello > /dev/shm/note; exec sleep 60");
    let seen = sh(&world, &image, &["--pid", "container:other"], "ps | grep -c '[s]leep 60'");
    assert_eq!(seen, "1");
    end(&world, "other", child);
    fails(&mut run(&world, &["--pid", "container:other", &image]), 125, &["no such container: other"]);
    ok(&mut run(&world, &["--name", "ended", &image, "true"]));
    fails(&mut run(&world, &["--pid", "container:ended", &image]), 125, &["ended", "does not run"]);
    ok(world.rcr().args(["rm", "ended"]));
    assert_none_since(&before);
}

fn shared_memory_is_shared_by_the_willing() {
    let (world, image) = world();
    let before = Snapshot::take();
    let flags = ["--ipc", "shareable", "--shm-size", "1m"];
    let (child, pid) = background(&world, "giver", &flags, &image, "echo mine > /dev/shm/a; sleep 60");
    let namespace = |pid: i64| fs::read_link(format!("/proc/{pid}/ns/ipc")).expect("a process");
    let of_taker = sh(
        &world,
        &image,
        &["--ipc", "container:giver", "-u", "1000"],
        "cat /dev/shm/a; echo theirs > /dev/shm/b; df -k /dev/shm | tail -1; grep ' /dev/shm ' /proc/self/mountinfo; readlink /proc/self/ns/ipc",
    );
    assert!(of_taker.starts_with("mine\n") && of_taker.contains(" 1024 "), "{of_taker}");
    assert!(of_taker.contains("nosuid") && of_taker.contains("noexec"), "{of_taker}");
    assert!(of_taker.ends_with(&namespace(pid).display().to_string()), "{of_taker}");
    assert_eq!(ok(world.rcr().args(["exec", "giver", "cat", "/dev/shm/b"])), "theirs");
    assert_eq!(inspect(&world, "giver")["HostConfig"]["IpcMode"], "shareable");
    // Whoever has it keeps it when the giver is gone.
    let (taker, _) = background(&world, "taker", &["--ipc", "container:giver"], &image, "sleep 60");
    assert_eq!(inspect(&world, "taker")["HostConfig"]["IpcMode"], "container:giver");
    fails(
        &mut run(&world, &["--rm", "--ipc", "container:taker", &image, "true"]),
        125,
        &["taker", "not shareable", "--ipc shareable"],
    );
    end(&world, "giver", child);
    assert_eq!(ok(world.rcr().args(["exec", "taker", "cat", "/dev/shm/a"])), "mine");
    end(&world, "taker", taker);
    let (mut killed, _) = background(&world, "killed", &["--ipc=shareable"], &image, "sleep 60");
    killed.kill().expect("it lives");
    killed.wait().expect("a child");
    fails(
        &mut run(&world, &["--rm", "--ipc", "container:killed", &image, "true"]),
        125,
        &["killed", "does not run"],
    );
    ok(world.rcr().args(["rm", "killed"]));
    assert_eq!(
        sh(&world, &image, &["--ipc", "none"], "ls -d /dev/shm 2>&1 || echo none").lines().last(),
        Some("none")
    );
    fails(&mut run(&world, &["--ipc", "shareable", &image, "/no/such"]), 127, &["/no/such"]);
    let names = ok(world.rcr().args(["ps", "-aq"]));
    names.lines().for_each(|name| drop(ok(world.rcr().args(["rm", name]))));
    assert_none_since(&before);
}

/// /dev/loop-control, which no container may use by default.
fn devices_and_what_may_be_done_with_them() {
    let (world, image) = world();
    let flag = "/dev/loop-control:/dev/it";
    let stat = sh(&world, &image, &["--device", flag], "stat -c '%F %t:%T' /dev/it");
    assert_eq!(stat, "character special file a:ed");
    let open = "(: < /dev/it) 2>/dev/null && echo read; (: >> /dev/it) 2>/dev/null && echo written; true";
    assert_eq!(sh(&world, &image, &["--device", flag], open), "read\nwritten");
    assert_eq!(sh(&world, &image, &["--device", &format!("{flag}:r")], open), "read");
    let own = "mknod /dev/it c 10 237; ";
    assert_eq!(sh(&world, &image, &[], &format!("{own}{open}")), "");
    assert_eq!(sh(&world, &image, &["--device-cgroup-rule", "c 10:237 r"], &format!("{own}{open}")), "read");
    let dir = world.path().join("devices");
    fs::create_dir_all(dir.join("sub")).expect("writable");
    ok(Command::new("mknod").arg(dir.join("sub/zero")).args(["c", "1", "5"]));
    let flag = format!("{}:/dev/mine", dir.display());
    assert_eq!(sh(&world, &image, &["--device", &flag], "head -c 3 /dev/mine/sub/zero | wc -c"), "3");
    fails(&mut run(&world, &["--device", "/dev/none", &image]), 125, &["--device", "/dev/none"]);
    fails(&mut run(&world, &["--device", "/etc/passwd", &image]), 125, &["it is no device"]);
}

fn security_options_hold() {
    let (world, image) = world();
    let opt = |option: &str, script: &str| sh(&world, &image, &["--security-opt", option], script);
    let status = |field: &str| format!("grep '^{field}:' /proc/self/status | cut -f2");
    assert_eq!(sh(&world, &image, &[], &status("NoNewPrivs")), "0");
    assert_eq!(opt("no-new-privileges", &status("NoNewPrivs")), "1");
    assert_eq!(opt("no-new-privileges:true", &status("NoNewPrivs")), "1");
    assert_eq!(sh(&world, &image, &[], &status("Seccomp")), "2");
    assert_eq!(opt("seccomp=unconfined", &status("Seccomp")), "0");
    let profile = world.path().join("profile.json");
    let rules = json!({ "defaultAction": "SCMP_ACT_ALLOW", "archMap": [{ "architecture": "SCMP_ARCH_X86_64",
        "subArchitectures": ["SCMP_ARCH_X86"] }], "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "args": null, "includes": {}, "excludes": { "caps": ["CAP_SYS_ADMIN"] } }] });
    fs::write(&profile, rules.to_string()).expect("writable");
    let flag = format!("seccomp={}", profile.display());
    let script = "mkdir /tmp/d 2>/dev/null && echo made || echo refused";
    assert_eq!(opt(&flag, script), "refused");
    assert_eq!(sh(&world, &image, &["--security-opt", &flag, "--cap-add", "SYS_ADMIN"], script), "made");
    let keys = "head -c 1 /proc/keys | wc -c; grep -c ' /proc/sys ' /proc/self/mountinfo";
    assert_eq!(sh(&world, &image, &[], &format!("{keys}; true")), "0\n1");
    assert_eq!(opt("systempaths=unconfined", &format!("{keys}; true")).lines().last(), Some("0"));
    fs::write(&profile, "{}").expect("writable");
    fails(&mut run(&world, &["--security-opt", &flag, &image]), 125, &["seccomp profile", "defaultAction"]);
    for (option, words) in
        [("seccomp=/none", "read \"/none\""), ("bogus", "wants one of"), ("label=level:s0", "SELinux")]
    {
        fails(&mut run(&world, &["--security-opt", option, &image]), 125, &["--security-opt", words]);
    }
}

fn sysctls_groups_and_labels() {
    let (world, image) = world();
    assert_eq!(
        sh(&world, &image, &["--sysctl", "kernel.shm_rmid_forced=1"], "cat /proc/sys/kernel/shm_rmid_forced"),
        "1"
    );
    fails(&mut run(&world, &["--sysctl", "kernel.panic=1", &image]), 125, &["kernel.panic"]);
    assert_eq!(
        sh(&world, &image, &["-u", "1000", "--group-add", "wheel", "--group-add", "4242"], "id -G"),
        "1000 10 4242"
    );
    fails(&mut run(&world, &["--group-add", "nobodys", &image]), 125, &["no group \"nobodys\""]);
    let file = world.path().join("labels");
    fs::write(&file, "# of the file\na=file\nb=file\nc\n").expect("writable");
    let file = file.display().to_string();
    ok(&mut run(&world, &["--name", "ll", "--label-file", &file, "--label", "b=flag", &image, "true"]));
    let labels = &inspect(&world, "ll")["Config"]["Labels"];
    assert_eq!(labels, &json!({ "a": "file", "b": "flag", "c": "" }));
    ok(world.rcr().args(["rm", "ll"]));
}

fn clocks_are_ahead() {
    let (world, image) = world();
    let uptime = |flags: &[&str]| -> f64 {
        let text = sh(&world, &image, flags, "cut -d' ' -f1 /proc/uptime");
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    let (now, ahead) = (uptime(&[]), uptime(&["--time-offset", "boottime=1000000"]));
    assert!((ahead - now - 1_000_000.0).abs() < 60.0, "{now} {ahead}");
    let offsets =
        sh(&world, &image, &["--time-offset", "monotonic=-1.5"], "cat /proc/self/timens_offsets | tr -s ' '");
    assert!(offsets.contains("monotonic -2 500000000"), "{offsets}");
}

fn what_cannot_be_is_refused_by_name() {
    let (world, image) = world();
    let before = Snapshot::take();
    for (flags, words) in [
        (&["--gpus", "none"][..], &["--gpus", "all or a number"][..]),
        (&["--runtime", "kata"], &["--runtime", "rcr bundle"]),
        (&["--ipc", "container:x"], &["no such container: x"]),
        (&["--ipc", "container:"], &["--ipc", "container:NAME"]),
        (&["--ipc", "shared"], &["--ipc", "shareable"]),
        (&["--userns", "container:x"], &["no such container: x"]),
        (&["--userns", "hots"], &["--userns", "wants host"]),
        (&["--link", "db:db"], &["--link", "--network none"]),
        (&["--pid", "container:x"], &["no such container: x"]),
        (&["--device", "gpu=all"], &["--device", "VENDOR/CLASS", "nvidia.com/gpu"]),
        (&["--memory-swap", "1g"], &["--memory"]),
        (&["-m", "64m", "--memory-swap", "32m"], &["less than --memory"]),
        (&["--cpus", "1", "--cpu-quota", "5000"], &["--cpus"]),
        (&["--cpuset-cpus", "a"], &["--cpuset-cpus", "0-2,4"]),
        (&["--uts", "host", "-h", "x"], &["--uts host"]),
        (&["--blkio-weight", "5"], &["10 to 1000"]),
        (&["--security-opt", "apparmor=none-such"], &["apparmor"]),
    ] {
        let args = [flags, &[image.as_str(), "true"]].concat();
        fails(&mut run(&world, &args), 125, words);
    }
    assert_eq!(ok(world.rcr().args(["ps", "-aq"])), "");
    assert_none_since(&before);
}
