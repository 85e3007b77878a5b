//! Fields of `process`, and of `linux` that concern the process: each proven by what the kernel says of it.

use std::fs;
use std::process::{Command, Stdio};

use harness::bundle::add_usr;
use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, state};
use harness::world::{Said, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");
const PERL: harness::host::Need = FileNeed("/usr/bin/perl");
const TWO_CPUS: harness::host::Need = FileNeed("/sys/devices/system/cpu/cpu1");
const NUMA: harness::host::Need = FileNeed("/proc/self/numa_maps");

pub(crate) const CASES: &[Case] = cases!("process_fields":
    scheduler_of_every_policy [Root, BUSYBOX, Program("chrt")],
    io_priority_of_every_class [Root, BUSYBOX, Program("ionice")],
    exec_cpu_affinity_initial_and_final [Root, BUSYBOX, TWO_CPUS],
    a_caller_bound_to_a_cpu_does_not_bind_the_container [Root, BUSYBOX, TWO_CPUS, Program("taskset")],
    personality_linux32 [Root, BUSYBOX],
    memory_policy_of_every_mode_and_flag [Root, BUSYBOX, NUMA],
    user_umask [Root, BUSYBOX],
    rlimits_and_oom_score_adj_in_exec_too [Root, BUSYBOX],
    labels_without_their_security_module_are_refused [Root, BUSYBOX],
    a_session_keyring_of_its_own [Root, BUSYBOX, PERL],
    unknown_names_are_refused_with_their_place [Root, BUSYBOX],
);

fn exec(stage: &Stage, command: &[&str]) -> Said {
    say(stage.world.runtime().args(["exec", "box"]).args(command).stdin(Stdio::null()))
}

/// `exec --process` of a process that has nothing but arguments and what is given.
fn exec_process(stage: &Stage, args: &[&str], more: &Value) -> Said {
    let mut process = json!({ "args": args, "cwd": "/", "env": ["PATH=/bin"] });
    for (key, value) in more.as_object().expect("an object") {
        process[key] = value.clone();
    }
    let file = stage.world.path().join("process.json");
    fs::write(&file, process.to_string()).expect("writable");
    let mut runtime = stage.world.runtime();
    say(runtime.arg("exec").arg("--process").arg(&file).arg("box").stdin(Stdio::null()))
}

/// What chrt says of the container's process: policy, priority, and the rest.
fn scheduling(stage: &Stage) -> Vec<String> {
    let said = ok(Command::new("chrt").args(["--pid", &state(stage, "box")["pid"].to_string()]));
    said.lines().map(|line| line.rsplit(": ").next().unwrap_or_default().to_owned()).collect()
}

fn scheduler_of_every_policy() {
    let running = |scheduler: &Value| {
        Stage::running("box", |config, _| {
            config["process"]["args"] = json!(["sleep", "1000"]);
            config["process"]["scheduler"] = scheduler.clone();
            // Where real-time groups are scheduled as such, a new one has no time.
            if fs::metadata("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").is_ok() {
                config["linux"]["resources"]["cpu"] =
                    json!({ "realtimePeriod": 1_000_000, "realtimeRuntime": 100_000 });
            }
        })
    };
    for (scheduler, expected) in [
        (json!({"policy": "SCHED_OTHER", "nice": 7}), &["SCHED_OTHER", "0"][..]),
        (json!({"policy": "SCHED_BATCH", "nice": -3}), &["SCHED_BATCH", "0"]),
        (json!({"policy": "SCHED_IDLE"}), &["SCHED_IDLE", "0"]),
        (json!({"policy": "SCHED_FIFO", "priority": 12}), &["SCHED_FIFO", "12"]),
        (
            json!({"policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_RESET_ON_FORK"]}),
            &["SCHED_RR|SCHED_RESET_ON_FORK", "3"],
        ),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000, "period": 40_000_000,
                   "flags": ["SCHED_FLAG_DL_OVERRUN"]}),
            &["SCHED_DEADLINE", "0", "10000000/20000000/40000000"],
        ),
    ] {
        let stage = running(&scheduler);
        // Longer ones have the time slice last.
        assert_eq!(scheduling(&stage)[..expected.len()], *expected, "{scheduler}");
        let Some(nice) = scheduler.get("nice") else { continue };
        let stat = fs::read_to_string(format!("/proc/{}/stat", state(&stage, "box")["pid"])).expect("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        assert_eq!(fields.split(' ').nth(16).expect("nice"), nice.to_string(), "{scheduler}");
    }
    // A process file without one takes the container's.
    let stage = running(&json!({"policy": "SCHED_BATCH", "nice": 4}));
    let said = exec_process(&stage, &["cut", "-d", " ", "-f", "19,41", "/proc/self/stat"], &json!({}));
    assert_eq!(said.out, "4 3\n", "{}", said.err);
    let own = json!({"scheduler": {"policy": "SCHED_IDLE"}});
    let said = exec_process(&stage, &["cut", "-d", " ", "-f", "41", "/proc/self/stat"], &own);
    assert_eq!(said.out, "5\n", "{}", said.err);
    // The kernel has a number for it and nothing else.
    let stage = Stage::new("true", |config, _| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_ISO"});
    });
    let before = Snapshot::take();
    let said = stage.run("box");
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("set scheduler (policy 4") && said.err.contains("invalid argument"),
        "{}",
        said.err
    );
    assert_none_since(&before);
}

fn io_priority_of_every_class() {
    for (class, priority, expected) in [
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2"),
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let stage = Stage::running("box", |config, _| {
            config["process"]["ioPriority"] = json!({ "class": class, "priority": priority });
        });
        let pid = state(&stage, "box")["pid"].to_string();
        assert_eq!(ok(Command::new("ionice").args(["-p", &pid])), expected);
        let said = exec_process(&stage, &["ionice"], &json!({}));
        assert!(said.out.starts_with(expected), "exec: {}{}", said.out, said.err);
    }
}

const CPUS: [&str; 3] = ["sed", "-n", "s/^Cpus_allowed_list:\t//p"];

fn cpus(stage: &Stage, affinity: Option<&Value>) -> String {
    let args = [&CPUS[..], &["/proc/self/status"]].concat();
    let more = affinity.map_or(json!({}), |affinity| json!({ "execCPUAffinity": affinity }));
    let said = exec_process(stage, &args, &more);
    assert_eq!(said.code, 0, "{}", said.err);
    said.out.trim_end().to_owned()
}

fn exec_cpu_affinity_initial_and_final() {
    let every = ok(Command::new(CPUS[0]).args(&CPUS[1..]).arg("/proc/self/status"));
    let stage = Stage::running("box", |config, _| {
        config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "1" });
    });
    let pid = state(&stage, "box")["pid"].to_string();
    let init = ok(Command::new(CPUS[0]).args(&CPUS[1..]).arg(format!("/proc/{pid}/status")));
    assert_eq!(init, every, "it concerns further processes only");
    let args = [&CPUS[..], &["/proc/self/status"]].concat();
    assert_eq!(exec(&stage, &args).out, "1\n");
    for (affinity, expected) in [
        (json!({"initial": "0"}), "0"),
        (json!({"initial": "1"}), "1"),
        (json!({"final": "0"}), "0"),
        (json!({"initial": "0", "final": "0-1"}), "0-1"),
        // More CPUs than cpu_set_t has; those that are not there are no error as long as one is.
        (json!({"initial": "0,1030"}), "0"),
        (json!({"final": "1,2000-4000,8191"}), "1"),
        (json!({"initial": "", "final": " 1,"}), "1"),
    ] {
        assert_eq!(cpus(&stage, Some(&affinity)), expected, "{affinity}");
    }
    assert_eq!(cpus(&stage, None), "1", "the container's own");
    for (affinity, words) in [
        (json!({"initial": "x"}), "execCPUAffinity"),
        (json!({"final": "1-0"}), "ends before it begins"),
        (json!({"final": "4000"}), "set cpu affinity"),
        (json!({"initial": "4000"}), "execCPUAffinity.initial"),
    ] {
        let said = exec_process(&stage, &["true"], &json!({ "execCPUAffinity": affinity }));
        assert_eq!(said.code, 255, "{affinity}: {}", said.out);
        assert!(said.err.contains(words), "{affinity}: {}", said.err);
    }
}

fn a_caller_bound_to_a_cpu_does_not_bind_the_container() {
    let every = ok(Command::new(CPUS[0]).args(&CPUS[1..]).arg("/proc/self/status"));
    let stage = Stage::new("sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status", |_, _| ());
    let bound = |args: &[&str]| {
        let runtime = stage.world.runtime();
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", "0"]).arg(runtime.get_program()).args(runtime.get_args()).args(args);
        taskset.current_dir(&stage.dir).stdin(Stdio::null());
        ok(&mut taskset)
    };
    assert_eq!(bound(&["run", "box"]), every);
    let stage = Stage::running("box", |_, _| ());
    let runtime = stage.world.runtime();
    let mut taskset = Command::new("taskset");
    taskset.args(["-c", "1"]).arg(runtime.get_program()).args(runtime.get_args());
    taskset.args(["exec", "box"]).args(CPUS).arg("/proc/self/status").stdin(Stdio::null());
    assert_eq!(ok(&mut taskset), every);
}

fn personality_linux32() {
    let stage = Stage::running("box", |config, _| {
        config["linux"]["personality"] = json!({ "domain": "LINUX32", "flags": ["NOT_YET"] });
    });
    let pid = state(&stage, "box")["pid"].to_string();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/personality")).expect("readable").trim(), "00000008");
    assert_eq!(exec(&stage, &["uname", "-m"]).out, "i686\n");
    let stage = Stage::new("uname -m", |config, _| {
        config["linux"]["personality"] = json!({ "domain": "LINUX" });
    });
    assert_eq!(stage.run("box").out.trim_end(), std::env::consts::ARCH);
}

fn memory_policy_of_every_mode_and_flag() {
    let show = "cut -d' ' -f2- /proc/self/numa_maps | head -n1 | sed 's/ file=.*//; s/ heap.*//'";
    let policy =
        |mode: &str, nodes: &str, flags: &[&str]| json!({ "mode": mode, "nodes": nodes, "flags": flags });
    for (policy, expected) in [
        (policy("MPOL_DEFAULT", "", &[]), "default"),
        (policy("MPOL_LOCAL", "", &[]), "local"),
        (policy("MPOL_PREFERRED", "0", &[]), "prefer:0"),
        (policy("MPOL_PREFERRED", "", &[]), "local"),
        (policy("MPOL_PREFERRED_MANY", "0", &[]), "prefer (many):0"),
        (policy("MPOL_BIND", "0", &[]), "bind:0"),
        (policy("MPOL_INTERLEAVE", "0", &[]), "interleave:0"),
        (policy("MPOL_WEIGHTED_INTERLEAVE", "0", &[]), "weighted interleave:0"),
        (policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES"]), "bind=static:0"),
        (policy("MPOL_BIND", "0", &["MPOL_F_RELATIVE_NODES"]), "bind=relative:0"),
    ] {
        let stage = Stage::new(show, |config, _| config["linux"]["memoryPolicy"] = policy.clone());
        let said = stage.run("box");
        assert_eq!(said.out.trim_end(), expected, "{policy}: {}", said.err);
    }
    let balancing = policy("MPOL_BIND", "0", &["MPOL_F_NUMA_BALANCING"]);
    let stage = Stage::running("box", |config, _| config["linux"]["memoryPolicy"] = balancing);
    let said = exec(&stage, &["sh", "-c", show]);
    assert!(said.out.starts_with("bind") && said.out.trim_end().ends_with(":0"), "{}{}", said.out, said.err);
    // A node that is not there, and flags that exclude each other, are the kernel's to refuse.
    for bad in [
        policy("MPOL_BIND", "63", &[]),
        policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]),
    ] {
        let stage = Stage::new("true", |config, _| config["linux"]["memoryPolicy"] = bad.clone());
        let said = stage.run("box");
        assert_eq!(said.code, 1, "{bad}");
        assert!(said.err.contains("set memory policy"), "{bad}: {}", said.err);
    }
}

fn user_umask() {
    let stage = Stage::running("box", |config, _| {
        config["process"]["user"] = json!({ "uid": 0, "gid": 0, "umask": 0o137 });
    });
    let pid = state(&stage, "box")["pid"].to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
    assert!(status.contains("Umask:\t0137\n"), "{status}");
    assert_eq!(exec(&stage, &["sh", "-c", "umask"]).out, "0137\n");
    assert_eq!(exec_process(&stage, &["sh", "-c", "umask"], &json!({})).out, "0137\n");
    let own = json!({ "user": { "uid": 0, "gid": 0, "umask": 0o27 } });
    assert_eq!(exec_process(&stage, &["sh", "-c", "umask"], &own).out, "0027\n");
    let stage = Stage::new("umask", |_, _| ());
    assert_eq!(stage.run("box").out, "0022\n", "whatever the caller's is");
}

fn rlimits_and_oom_score_adj_in_exec_too() {
    let stage = Stage::running("box", |config, _| {
        config["process"]["oomScoreAdj"] = json!(321);
        config["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 77, "hard": 99 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        ]);
    });
    let show = ["sh", "-c", "ulimit -n; ulimit -Hn; ulimit -Hc; cat /proc/self/oom_score_adj"];
    assert_eq!(exec(&stage, &show).out, "77\n99\n0\n321\n");
    assert_eq!(exec_process(&stage, &show, &json!({})).out, "77\n99\n0\n321\n");
    let own = json!({ "oomScoreAdj": 500, "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 55, "hard": 55 }] });
    assert!(exec_process(&stage, &show, &own).out.starts_with("55\n55\n"), "its own");
}

/// There is neither AppArmor nor SELinux on the hosts this runs on; where there is, the refusal would be wrong.
fn labels_without_their_security_module_are_refused() {
    for (field, there, words) in [
        (
            "apparmorProfile",
            "/sys/module/apparmor/parameters/enabled",
            "apparmor: config provided but apparmor not supported",
        ),
        (
            "selinuxLabel",
            "/sys/fs/selinux/enforce",
            "selinux label is specified in config, but selinux is disabled or not supported",
        ),
    ] {
        if fs::metadata(there).is_ok() {
            continue;
        }
        let stage = Stage::new("true", |config, _| config["process"][field] = json!("some:label"));
        let before = Snapshot::take();
        let said = stage.run("box");
        assert_eq!(said.code, 1);
        assert!(said.err.contains(&format!("process.{field}: {words}")), "{}", said.err);
        assert_none_since(&before);
        let stage = Stage::running("box", |_, _| ());
        let flag = if field == "selinuxLabel" { "--process-label" } else { "--apparmor" };
        fails(stage.world.runtime().args(["exec", flag, "x", "box", "true"]), 255, &[words]);
    }
}

fn a_session_keyring_of_its_own() {
    // KEYCTL_DESCRIBE of KEY_SPEC_SESSION_KEYRING: type;uid;gid;permissions;name.
    let show = format!(
        "$buffer = qq(\\0) x 256; $length = syscall({}, 6, -3, $buffer, 256); print substr($buffer, 0, $length - 1);",
        libc::SYS_keyctl
    );
    let stage = Stage::new("", |config, dir| {
        add_usr(config, dir);
        config["process"]["args"] = json!(["/usr/bin/perl", "-e", show]);
    });
    let said = stage.run("box");
    assert!(
        said.out.starts_with("keyring;0;0;") && said.out.ends_with(";_ses.box"),
        "{}{}",
        said.out,
        said.err
    );
    let mut run = stage.world.runtime();
    run.args(["run", "--no-new-keyring", "--bundle"]).arg(&stage.dir).arg("box").stdin(Stdio::null());
    let kept = say(&mut run);
    assert_eq!(kept.code, 0, "{}", kept.err);
    assert!(!kept.out.contains("_ses.box"), "{}", kept.out);
    // A further process is in the same.
    let stage = Stage::running("box", add_usr);
    assert!(exec(&stage, &["/usr/bin/perl", "-e", &show]).out.ends_with(";_ses.box"));
}

fn unknown_names_are_refused_with_their_place() {
    for (pointer, value, place) in [
        ("/process/scheduler", json!({"policy": "SCHED_NOPE"}), "process.scheduler.policy"),
        ("/process/scheduler", json!({"nice": 1}), "process.scheduler"),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "flags": ["NOPE"]}),
            "process.scheduler.flags[0]",
        ),
        ("/process/ioPriority", json!({"class": "NOPE"}), "process.ioPriority.class"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_NOPE"}), "linux.memoryPolicy.mode"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "flags": ["x"]}), "linux.memoryPolicy.flags[0]"),
        ("/linux/personality", json!({"domain": "LINUX64"}), "linux.personality.domain"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]),
            "process.rlimits[0].type",
        ),
    ] {
        let stage = Stage::new("true", |config, _| {
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            config.pointer_mut(parent).expect("an object")[key] = value.clone();
        });
        let said = stage.run("box");
        assert_eq!(said.code, 1, "{value}: {}", said.out);
        assert!(said.err.contains(place), "{value}: {}", said.err);
    }
}
