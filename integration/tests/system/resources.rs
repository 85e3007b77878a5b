//! What a container may use: its cgroup in every kind of hierarchy, its devices, its system calls.
//!
//! The host's v1 hierarchies are used as they are. Pure cgroup v2 is had on a hybrid host too: in a mount namespace
//! where nothing but the unified hierarchy is mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use harness::bundle::{Bundle, add_usr};
use harness::host::Need::{Cgroup2, Path as FileNeed, Program, PureCgroup2, Root};
use harness::host::{missing, unified};
use harness::world::{Said, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");
const HYBRID: harness::host::Need = FileNeed("/sys/fs/cgroup/unified/cgroup.procs");
const V1_DEVICES: harness::host::Need = FileNeed("/sys/fs/cgroup/devices/devices.list");

pub(crate) const CASES: &[Case] = cases!("resources":
    v2_containers_are_born_in_their_cgroup [Root, BUSYBOX, Cgroup2, Program("unshare")],
    v2_files_of_the_configuration_are_written [Root, BUSYBOX, Cgroup2, Program("unshare")],
    v2_containers_pause_and_die_together [Root, BUSYBOX, Cgroup2, Program("unshare")],
    v2_exec_follows_an_init_that_moved [Root, BUSYBOX, Cgroup2, Program("unshare")],
    device_rules_hold_in_v1 [Root, BUSYBOX, V1_DEVICES, FileNeed("/dev/fuse")],
    device_rules_hold_in_v2 [Root, BUSYBOX, Cgroup2, Program("unshare"), FileNeed("/dev/fuse")],
    a_limit_without_a_controller_is_refused [Root, BUSYBOX, HYBRID, Program("unshare")],
    what_a_hierarchy_has_no_file_for_is_refused [Root, BUSYBOX, HYBRID, Program("unshare")],
    v1_cgroups_in_use_or_frozen_are_refused [Root, BUSYBOX, HYBRID],
    v2_cgroups_in_use_or_frozen_are_refused [Root, BUSYBOX, Cgroup2, Program("unshare")],
    cgroups_below_are_removed_with_the_container [Root, BUSYBOX],
    a_failed_create_leaves_no_cgroup [Root, BUSYBOX],
    the_kernel_decides_as_the_profile_says [Root, BUSYBOX, FileNeed("/usr/bin/perl")],
    the_kernel_decides_as_under_runc [Root, BUSYBOX, FileNeed("/usr/bin/perl"), Program("runc")],
    a_killing_profile_kills [Root, BUSYBOX],
    a_profile_without_new_calls_does_not_hinder_the_runtime [Root, BUSYBOX],
    two_notifications_reach_their_listener [Root, BUSYBOX, FileNeed("/usr/bin/perl"), Program("python3")],
);

/// A bundle with a cgroup of its own, whose containers end with it.
struct Stage {
    bundle: Bundle,
    /// Its cgroup's path below the mount points.
    cgroup: String,
    /// Whether it sees nothing but cgroup v2.
    v2: bool,
}

impl Stage {
    fn new(script: &str, v2: bool, adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("rcr-resources-{}-{number}", std::process::id());
        let bundle = Bundle::new(script, |config, dir| {
            config["linux"]["cgroupsPath"] = json!(format!("/{cgroup}"));
            // There already where v2 is all there is.
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            namespaces.retain(|n| n["type"] != "cgroup");
            namespaces.push(json!({"type": "cgroup"}));
            adjust(config, dir);
        });
        Stage { bundle, cgroup, v2 }
    }

    fn runtime(&self) -> Command {
        let runtime = self.bundle.world.runtime();
        if !self.v2 || missing(PureCgroup2).is_none() {
            return runtime;
        }
        let only_v2 = "umount -l -R /sys/fs/cgroup; umount -a -t cgroup,cgroup2; \
                       mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", only_v2]);
        command.arg(runtime.get_program()).args(runtime.get_args());
        for (name, value) in runtime.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    fn run(&self) -> Said {
        self.bundle.run_under(self.runtime(), "box")
    }

    /// Creates and starts it in the background.
    fn start(&self) {
        quiet(self.runtime().arg("create").arg("--bundle").arg(&self.bundle.dir).arg("box"));
        quiet(self.runtime().args(["start", "box"]));
    }

    fn exec(&self, script: &str) -> Said {
        say(self.runtime().args(["exec", "box", "sh", "-c", script]).stdin(Stdio::null()))
    }

    fn state(&self) -> Value {
        serde_json::from_str(&ok(self.runtime().args(["state", "box"]))).expect("JSON")
    }

    /// Its directories on this host.
    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path());
        let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        all.map(|dir| dir.join(&self.cgroup)).filter(|dir| dir.is_dir()).collect()
    }

    fn unified(&self) -> PathBuf {
        unified().expect("cgroup v2").join(&self.cgroup)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        say(self.runtime().args(["delete", "--force", "box"]));
        for dir in self.cgroups() {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Children of the runtime outlive it: they must not hold a pipe that somebody reads to its end.
fn quiet(command: &mut Command) {
    ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
}

fn v2_containers_are_born_in_their_cgroup() {
    let stage = Stage::new("cat /proc/self/cgroup; grep ' /sys/fs/cgroup ' /proc/mounts", true, |_, _| ());
    let said = stage.run();
    assert_eq!(said.code, 0, "{}", said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    // Other hierarchies exist on a hybrid host; nobody sees them here.
    assert!(lines.contains(&"0::/"), "{lines:?}");
    assert!(
        lines.last().is_some_and(|l| l.starts_with("cgroup /sys/fs/cgroup cgroup2 ro,nosuid")),
        "{lines:?}"
    );
    assert_eq!(stage.cgroups(), Vec::<PathBuf>::new());

    let stage = Stage::new("sleep 1000", true, |_, _| ());
    stage.start();
    let pid = stage.state()["pid"].to_string();
    assert_eq!(fs::read_to_string(stage.unified().join("cgroup.procs")).expect("a cgroup").trim(), pid);
    assert_eq!(stage.cgroups(), [stage.unified()], "and nowhere else");
    quiet(stage.runtime().args(["delete", "--force", "box"]));
    assert!(!stage.unified().exists());
}

fn v2_files_of_the_configuration_are_written() {
    let stage = Stage::new("sleep 1000", true, |config, _| {
        config["linux"]["resources"]["unified"] =
            json!({"cgroup.max.depth": "3", "cgroup.max.descendants": "77"});
    });
    stage.start();
    let read = |file: &str| fs::read_to_string(stage.unified().join(file)).expect("a file");
    assert_eq!(read("cgroup.max.depth"), "3\n");
    assert_eq!(read("cgroup.max.descendants"), "77\n");

    for bad in ["../cgroup.max.depth", "a/b", "memory"] {
        let stage = Stage::new("true", true, |config, _| {
            config["linux"]["resources"]["unified"] = json!({ bad: "1" });
        });
        let said = stage.run();
        assert_eq!(said.code, 1);
        assert!(said.err.contains("unified resource"), "{}", said.err);
        assert_eq!(stage.cgroups(), Vec::<PathBuf>::new());
    }
}

fn v2_containers_pause_and_die_together() {
    let stage = Stage::new("sleep 1000 & sleep 1000 & sleep 1000", true, |_, _| ());
    stage.start();
    let events = || fs::read_to_string(stage.unified().join("cgroup.events")).expect("events");
    quiet(stage.runtime().args(["pause", "box"]));
    assert!(events().contains("frozen 1"));
    assert_eq!(stage.state()["status"], "paused");
    quiet(stage.runtime().args(["resume", "box"]));
    assert!(events().contains("frozen 0"));
    assert_eq!(stage.state()["status"], "running");
    quiet(stage.runtime().args(["pause", "box"]));
    quiet(stage.runtime().args(["delete", "--force", "box"]));
    assert!(!stage.unified().exists());
}

fn v2_exec_follows_an_init_that_moved() {
    let stage = Stage::new("sleep 1000", true, |_, _| ());
    stage.start();
    let other = stage.unified().with_file_name(format!("{}-moved", stage.cgroup));
    fs::create_dir(&other).expect("a cgroup");
    fs::write(other.join("cgroup.procs"), stage.state()["pid"].to_string()).expect("moved");
    fs::remove_dir(stage.unified()).expect("empty now");
    let said = stage.exec("cat /proc/self/cgroup");
    let end = say(stage.runtime().args(["delete", "--force", "box"]));
    let gone = comes_true(|| fs::remove_dir(&other).is_ok());
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.lines().any(|l| l.starts_with("0::/..") && l.ends_with("-moved")), "{}", said.out);
    assert_eq!(end.code, 0, "{}", end.err);
    assert!(gone, "its processes are gone too");
}

/// Waits for something, at most two seconds.
fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        holds()
    })
}

fn device_rules_hold_in_v1() {
    device_rules_hold(false);
}

fn device_rules_hold_in_v2() {
    device_rules_hold(true);
}

/// A container has the node in every case; whether it can be opened is the cgroup's decision.
fn device_rules_hold(v2: bool) {
    let script = "for mode in '<' '>' '<>'; do sh -c \"exec 3$mode/dev/fuse\" 2>/dev/null && echo yes || echo no; done; \
                  head -c1 /dev/zero | wc -c; echo > /dev/null && echo null";
    let any = json!({"allow": false, "access": "rwm"});
    let rule = |allow: bool, minor: Value, access: &str| json!({"allow": allow, "type": "c", "major": 10, "minor": minor, "access": access});
    let everything = json!({"allow": true, "access": "rwm"});
    for (rules, opens) in [
        (json!([]), ["no", "no", "no"]),
        (json!([any]), ["no", "no", "no"]),
        (json!([any, rule(true, json!(229), "r")]), ["yes", "no", "no"]),
        (json!([any, rule(true, json!(229), "rw")]), ["yes", "yes", "yes"]),
        (json!([any, rule(true, Value::Null, "rwm")]), ["yes", "yes", "yes"]),
        (json!([rule(true, json!(229), "rw"), any]), ["no", "no", "no"]),
        (json!([everything]), ["yes", "yes", "yes"]),
        (json!([everything, rule(false, json!(229), "w")]), ["yes", "no", "no"]),
    ] {
        let stage = Stage::new(script, v2, |config, _| {
            config["linux"]["devices"] =
                json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
            config["linux"]["resources"]["devices"] = rules.clone();
        });
        let said = stage.run();
        let lines: Vec<&str> = said.out.lines().collect();
        assert_eq!(lines, [&opens[..], &["1", "null"]].concat(), "v2: {v2}, {rules}: {}", said.err);
    }
    // cgroup v1 can't take one device out of a wildcard; the program of v2 can.
    let stage = Stage::new(script, v2, |config, _| {
        config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
        config["linux"]["resources"]["devices"] =
            json!([any, rule(true, Value::Null, "rw"), rule(false, json!(229), "w")]);
    });
    let said = stage.run();
    if v2 {
        assert!(said.out.starts_with("yes\nno\nno\n"), "{}{}", said.out, said.err);
    } else {
        assert_eq!(said.code, 1);
        assert!(said.err.contains("cannot punch the hole"), "{}", said.err);
    }
}

fn a_limit_without_a_controller_is_refused() {
    for (v2, resources, name) in [
        (true, json!({"memory": {"limit": 67_108_864}}), "memory"),
        (true, json!({"pids": {"limit": 10}}), "pids"),
        (false, json!({"rdma": {"mlx5_1": {"hcaHandles": 1}}}), "rdma"),
    ] {
        let stage = Stage::new("true", v2, |config, _| config["linux"]["resources"] = resources.clone());
        let said = stage.run();
        assert_eq!(said.code, 1, "{resources}: {}", said.out);
        let want = format!("cannot set {name} limit: container could not join or create cgroup");
        assert!(said.err.contains(&want), "{}", said.err);
        assert_eq!(stage.cgroups(), Vec::<PathBuf>::new());
    }
}

fn what_a_hierarchy_has_no_file_for_is_refused() {
    for (v2, resources, words) in [
        (
            true,
            json!({"cpu": {"realtimeRuntime": 1000}}),
            "cpu.realtimeRuntime: cgroup v2 has no realtime limits",
        ),
        (true, json!({"network": {"classID": 7}}), "network.classID: cgroup v2 has no net_cls controller"),
        (
            true,
            json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
            "network.priorities: cgroup v2 has no net_prio controller",
        ),
        (true, json!({"blockIO": {"leafWeight": 10}}), "blockIO.leafWeight: cgroup v2 has no leaf weights"),
        (
            false,
            json!({"unified": {"memory.high": "1"}}),
            "unified: invalid configuration: cannot use unified on cgroup v1",
        ),
    ] {
        let stage = Stage::new("true", v2, |config, _| config["linux"]["resources"] = resources.clone());
        let said = stage.run();
        assert_eq!(said.code, 1, "{resources}: {}", said.out);
        assert!(said.err.contains(&format!("linux.resources.{words}")), "{}", said.err);
        assert_eq!(stage.cgroups(), Vec::<PathBuf>::new());
    }
    // What runc leaves out in silence there is left out here too.
    for resources in [json!({"memory": {"swappiness": 10}}), json!({"memory": {"disableOOMKiller": true}})] {
        let stage =
            Stage::new("echo ran", true, |config, _| config["linux"]["resources"] = resources.clone());
        let said = stage.run();
        assert_eq!(said.out, "ran\n", "{resources}: {}", said.err);
    }
}

fn v1_cgroups_in_use_or_frozen_are_refused() {
    let stage = Stage::new("true", false, |_, _| ());
    refused_in_use(&stage);
    let freezer = Path::new("/sys/fs/cgroup/freezer").join(&stage.cgroup);
    fs::create_dir(&freezer).expect("a cgroup");
    fs::write(freezer.join("freezer.state"), "FROZEN").expect("frozen");
    refused_frozen(&stage);
}

fn v2_cgroups_in_use_or_frozen_are_refused() {
    let stage = Stage::new("true", true, |_, _| ());
    refused_in_use(&stage);
    fs::write(stage.unified().join("cgroup.freeze"), "1").expect("frozen");
    refused_frozen(&stage);
}

fn refused_in_use(stage: &Stage) {
    fs::create_dir(stage.unified()).expect("a cgroup");
    let mut other = Command::new("sleep").arg("1000").spawn().expect("sleep");
    fs::write(stage.unified().join("cgroup.procs"), other.id().to_string()).expect("joined");
    let said = stage.run();
    other.kill().expect("killed");
    other.wait().expect("reaped");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("container's cgroup is not empty: 1 process(es) found"), "{}", said.err);
    assert_eq!(stage.cgroups(), [stage.unified()], "what was there stays, what was made does not");
}

fn refused_frozen(stage: &Stage) {
    let said = stage.run();
    assert_eq!(said.code, 1);
    assert!(said.err.contains("container's cgroup unexpectedly frozen"), "{}", said.err);
}

fn cgroups_below_are_removed_with_the_container() {
    let stage = Stage::new("sleep 1000", false, |_, _| ());
    stage.start();
    let made = stage.cgroups();
    assert!(!made.is_empty());
    for dir in &made {
        for below in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(dir.join(below)).expect("a cgroup");
        }
    }
    quiet(stage.runtime().args(["delete", "--force", "box"]));
    assert_eq!(stage.cgroups(), Vec::<PathBuf>::new());
}

fn a_failed_create_leaves_no_cgroup() {
    // Fails in the child, after the cgroup was made and joined; and in the parent, when limits are written.
    let missing: fn(&mut Value) = |config| config["process"]["args"] = json!(["/no/such/command"]);
    let cpus: fn(&mut Value) = |config| config["linux"]["resources"]["cpu"] = json!({"cpus": "9999"});
    for broken in [missing, cpus] {
        let mut stage = Stage::new("true", false, |config, _| broken(config));
        let below = format!("/{}/made/for/it", stage.cgroup);
        stage.bundle.adjust(|config, _| config["linux"]["cgroupsPath"] = json!(below));
        let said = stage.run();
        assert_ne!(said.code, 0);
        assert_eq!(stage.cgroups(), Vec::<PathBuf>::new(), "parents too: {}", said.err);
    }
}

/// A bundle whose container has the host's /usr with perl, the one program of every Debian that makes any call.
fn calling(calls: &str, seccomp: &Value) -> Stage {
    Stage::new("", false, |config, dir| {
        add_usr(config, dir);
        config["process"]["args"] = json!(["/usr/bin/perl", "-e", calls]);
        config["linux"]["seccomp"] = seccomp.clone();
    })
}

/// Perl that makes each call and prints what it said: 0 or the errno.
fn script(calls: &[(i64, &[u64])]) -> String {
    let calls = calls.iter().map(|(number, args)| {
        let args: Vec<String> = args.iter().map(|a| format!(", {a}")).collect();
        format!("print syscall({number}{}) < 0 ? $!+0 : 0, qq(\\n);", args.concat())
    });
    calls.collect()
}

/// A profile with every operator and several actions over the default of letting pass.
fn operators() -> Value {
    let rule = |name: &str, errno: u32, args: Value| json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args});
    let when = |index: u32, op: &str, value: u64| json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value});
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [
            rule("getppid", 95, json!([])),
            rule("personality", 21, json!([when(0, "EQ", 0xffff_ffff)])),
            rule("personality", 22, json!([when(0, "GT", 0xffff_ffff)])),
            rule("getpriority", 23, json!([when(0, "EQ", 0), when(1, "LT", 5)])),
            rule("getpgid", 24, json!([when(0, "NE", 0)])),
            rule("umask", 25, json!([{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0o70, "valueTwo": 0o20}])),
            rule("getsid", 26, json!([when(0, "EQ", 7), when(0, "GE", 0x1_0000_0000_u64)])),
        ],
    })
}

const OPERATOR_CALLS: [(i64, &[u64]); 11] = [
    (libc::SYS_getppid, &[]),
    (libc::SYS_personality, &[0xffff_ffff]),
    (libc::SYS_personality, &[0x1_ffff_ffff]),
    (libc::SYS_getpriority, &[0, 4]),
    (libc::SYS_getpriority, &[0, 5]),
    (libc::SYS_getpgid, &[0]),
    (libc::SYS_getpgid, &[1]),
    (libc::SYS_umask, &[0o722]),
    (libc::SYS_umask, &[0o732]),
    (libc::SYS_getsid, &[7]),
    (libc::SYS_getsid, &[0x1_0000_0000]),
];

fn the_kernel_decides_as_the_profile_says() {
    let stage = calling(&script(&OPERATOR_CALLS), &operators());
    let said = stage.run();
    let lines: Vec<&str> = said.out.lines().collect();
    // There is no process 5: ESRCH is the kernel's own answer.
    assert_eq!(lines, ["95", "21", "22", "23", "3", "0", "24", "25", "0", "26", "26"], "{}", said.err);

    // A list of what is allowed: EPERM for the rest, ENOSYS for what is newer than all of it.
    let allowed = "read write openat close newfstatat mmap mprotect munmap brk rt_sigaction rt_sigprocmask ioctl pread64
        access arch_prctl set_tid_address set_robust_list rseq prlimit64 getrandom execve exit_group lseek futex fcntl
        getuid geteuid getgid getegid getpid readlink fstat faccessat2 dup dup2 dup3 statx";
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": allowed.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}],
    });
    let calls: [(i64, &[u64]); 4] =
        [(libc::SYS_getpid, &[]), (libc::SYS_getppid, &[]), (libc::SYS_unshare, &[0]), (5000, &[])];
    let said = calling(&script(&calls), &profile).run();
    assert_eq!(said.out.lines().collect::<Vec<_>>(), ["0", "1", "1", "38"], "{}", said.err);
}

fn the_kernel_decides_as_under_runc() {
    let show = format!(
        "{} open F, '/proc/self/status'; print grep {{ /^(Seccomp|Speculation_Store)/ }} <F>;",
        script(&OPERATOR_CALLS)
    );
    let under_runc = |profile: &Value| {
        let stage = calling(&show, profile);
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(stage.bundle.world.path().join("runc"));
        let said = stage.bundle.run_under(runc, "box");
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    };
    let plain = under_runc(&operators());
    assert!(plain.contains("Seccomp:\t2\nSeccomp_filters:\t1\n"), "{plain}");
    assert_eq!(calling(&show, &operators()).run().out, plain);
    let mut profile = operators();
    profile["flags"] = json!([]);
    assert_eq!(calling(&show, &profile).run().out, under_runc(&profile), "flags that are none");
    // runc 1.1 refuses flags. They change no decision, and SPEC_ALLOW leaves speculation as it is on the host.
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    let ours = calling(&show, &profile).run();
    let decisions = |out: &str| -> Vec<String> {
        out.lines().filter(|l| !l.starts_with("Speculation")).map(str::to_owned).collect()
    };
    assert_eq!(decisions(&ours.out), decisions(&plain), "{}", ours.err);
    let host = std::fs::read_to_string("/proc/self/status").expect("readable");
    let speculation = host.lines().find(|l| l.starts_with("Speculation_Store_Bypass")).expect("a line");
    assert!(ours.out.lines().any(|l| l == speculation), "{}", ours.out);
}

fn a_profile_without_new_calls_does_not_hinder_the_runtime() {
    // Calls that came after Linux 4.18, with the errors of old profiles (docker's default) and of new ones.
    let calls = [
        "close_range",
        "faccessat2",
        "openat2",
        "fsopen",
        "fsmount",
        "move_mount",
        "mount_setattr",
        "clone3",
    ];
    for (errno, no_new_privileges) in [(1, false), (1, true), (38, false), (38, true)] {
        let stage = Stage::new("echo ran; sleep 1000", false, |config, _| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
            });
        });
        let what = format!("errno {errno}, noNewPrivileges {no_new_privileges}");
        stage.start();
        let pid = stage.state()["pid"].to_string();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        assert!(status.contains("Seccomp:\t2"), "{what}: {status}");
        let said = stage.exec("echo ran too");
        assert_eq!((said.code, said.out.as_str()), (0, "ran too\n"), "{what}: {}", said.err);
        quiet(stage.runtime().args(["delete", "--force", "box"]));
        // What waits for its start has the FIFO open and nothing else of the runtime's.
        quiet(stage.runtime().arg("create").arg("--bundle").arg(&stage.bundle.dir).arg("box"));
        let fds = fs::read_dir(format!("/proc/{}/fd", stage.state()["pid"])).expect("it lives").flatten();
        let mut open: Vec<String> =
            fds.filter_map(|fd| fs::read_link(fd.path()).ok()).map(|to| to.display().to_string()).collect();
        open.retain(|to| !to.ends_with("/dev/null") && !to.ends_with("/null"));
        assert!(open.len() == 1 && open[0].contains("fifo"), "{what}: {open:?}");
        quiet(stage.runtime().args(["delete", "--force", "box"]));
    }
}

fn a_killing_profile_kills() {
    for (action, code) in
        [("SCMP_ACT_KILL_PROCESS", 128 + 31), ("SCMP_ACT_KILL", 128 + 31), ("SCMP_ACT_TRAP", 128 + 31)]
    {
        let stage = Stage::new("echo before; exec mkdir /tmp/x", false, |config, _| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": action}],
            });
        });
        let said = stage.run();
        assert_eq!((said.out.as_str(), said.code), ("before\n", code), "{action}: {}", said.err);
    }
}

fn two_notifications_reach_their_listener() {
    let calls: [(i64, &[u64]); 2] = [(libc::SYS_getppid, &[]), (libc::SYS_getsid, &[0])];
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerMetadata": "who asks",
        "syscalls": [{"names": ["getppid", "getsid"], "action": "SCMP_ACT_NOTIFY"}],
    });
    let mut stage = calling(&script(&calls), &profile);
    let socket = stage.bundle.world.path().join("agent");
    stage.bundle.adjust(|config, _| config["linux"]["seccomp"]["listenerPath"] = json!(socket));
    let agent = Command::new("python3")
        .args(["-c", AGENT])
        .arg(&socket)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    assert!(comes_true(|| socket.exists()));
    let said = stage.run();
    let heard = agent.wait_with_output().expect("an end");
    assert_eq!(said.out.lines().collect::<Vec<_>>(), ["77", "77"], "{}", said.err);
    let heard = String::from_utf8_lossy(&heard.stdout).into_owned();
    let lines: Vec<&str> = heard.lines().collect();
    let numbers = [libc::SYS_getppid.to_string(), libc::SYS_getsid.to_string()];
    assert_eq!(lines, ["box", "who asks", "seccompFd", &numbers[0], &numbers[1]]);
}

/// Takes the listener of one container, tells what it came with, and answers two calls with errno 77.
const AGENT: &str = r#"
import array, fcntl, json, socket, struct, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
server.listen(1)
server.settimeout(20)
peer, _ = server.accept()
peer.settimeout(20)
data, control, _, _ = peer.recvmsg(65536, socket.CMSG_SPACE(4))
state = json.loads(data)
print(state["state"]["id"], state["metadata"], *state["fds"], sep="\n")
fd = array.array("i", control[0][2])[0]
for _ in range(2):
    request = bytearray(80)
    fcntl.ioctl(fd, 0xC0502100, request)
    ident, pid, flags, number = struct.unpack_from("QIIi", request)
    print(number)
    fcntl.ioctl(fd, 0xC0182101, struct.pack("QqiI", ident, 0, -77, 0))
"#;
