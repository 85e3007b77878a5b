//! Other people's engines with rcr-runtime in runc's place, and the cycle they use by hand.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::bundle::Bundle;
use harness::daemon::{Containerd, Docker, Podman};
use harness::host::Need::{Path as File, Program, Root};
use harness::image::busybox_layout;
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, binary, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = cases!("clients":
    create_start_state_kill_delete_by_hand [Root, File("/bin/busybox")],
    podman_runs_on_it [Root, File("/bin/busybox"), Program("podman")],
    docker_runs_on_it [Root, File("/bin/busybox"), Program("dockerd"), Program("docker")],
    containerd_runs_on_it [Root, File("/bin/busybox"), Program("containerd"), Program("ctr"), Program("skopeo")],
);

fn create_start_state_kill_delete_by_hand() {
    let Bundle { world, dir: bundle } =
        Bundle::new("trap 'exit 0' TERM; while :; do sleep 0.1; done", |_, _| ());
    let before = Snapshot::take();
    let pid_file = world.path().join("pid");
    let quiet = |command: &mut Command| {
        ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    };
    let status =
        || -> Value { serde_json::from_str(&ok(world.runtime().args(["state", "cycle"]))).expect("JSON") };
    quiet(
        world
            .runtime()
            .arg("create")
            .arg("--bundle")
            .arg(&bundle)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg("cycle"),
    );
    let created = status();
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], "cycle");
    assert_eq!(created["bundle"], bundle.to_string_lossy().as_ref());
    assert_eq!(created["pid"].to_string(), fs::read_to_string(&pid_file).expect("a pid file"));
    fails(world.runtime().arg("create").arg("--bundle").arg(&bundle).arg("cycle"), 1, &["exist"]);
    quiet(world.runtime().args(["start", "cycle"]));
    assert_eq!(status()["status"], "running");
    fails(world.runtime().args(["start", "cycle"]), 1, &["running"]);
    fails(world.runtime().args(["delete", "cycle"]), 1, &["cycle"]);
    assert!(ok(world.runtime().args(["list", "-q"])).lines().any(|l| l == "cycle"));
    quiet(world.runtime().args(["pause", "cycle"]));
    assert_eq!(status()["status"], "paused");
    quiet(world.runtime().args(["resume", "cycle"]));
    let said =
        say(world.runtime().args(["exec", "cycle", "/bin/sh", "-c", "echo in; exit 9"]).stdin(Stdio::null()));
    assert_eq!((said.code, said.out.as_str()), (9, "in\n"), "{}", said.err);
    quiet(world.runtime().args(["kill", "cycle", "KILL"]));
    let deadline = Instant::now() + Duration::from_secs(5);
    while status()["status"] != "stopped" {
        assert!(Instant::now() < deadline, "still {}", status());
        std::thread::sleep(Duration::from_millis(20));
    }
    quiet(world.runtime().args(["delete", "cycle"]));
    fails(world.runtime().args(["state", "cycle"]), 1, &["does not exist"]);
    assert_none_since(&before);
}

fn podman_runs_on_it() {
    let world = World::new();
    let image = busybox_layout(&world.path().join("layout"), json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] }));
    let podman = Podman::new(&world);
    let id = ok(podman.command().args(["pull", "-q", &image]));
    let id = id.lines().last().expect("an ID").to_owned();
    let run = |flags: &[&str], command: &[&str]| {
        let mut all = podman.command();
        all.arg("--runtime")
            .arg(binary("rcr-runtime"))
            .args(["run", "--network", "none"])
            .args(flags)
            .arg(&id)
            .args(command);
        all.stdin(Stdio::null());
        all
    };
    assert_eq!(ok(&mut run(&["--rm"], &["echo", "hello"])), "hello");
    assert_eq!(say(&mut run(&["--rm"], &["sh", "-c", "exit 7"])).code, 7);
    assert_eq!(say(&mut run(&["--rm"], &["no-such-command"])).code, 127);
    assert_eq!(say(&mut run(&["--rm"], &["/etc/passwd"])).code, 126);
    assert_eq!(
        ok(&mut run(&["--rm", "--user", "1000:1000", "--read-only", "--memory", "64m"], &["id", "-u"])),
        "1000"
    );
    ok(run(&["-d", "--name", "stays"], &["sleep", "60"]).stderr(Stdio::null()));
    let mut exec = podman.command();
    exec.arg("--runtime").arg(binary("rcr-runtime")).args(["exec", "stays", "ps", "-o", "pid,comm"]);
    assert!(ok(&mut exec).contains("1 sleep"));
    ok(podman.command().args(["rm", "-f", "-t", "0", "stays"]));
}

fn docker_runs_on_it() {
    let world = World::new();
    let runtime = binary("rcr-runtime");
    let docker = Docker::start(&world, Some(&runtime));
    let root = world.path().join("root");
    fs::create_dir_all(root.join("bin")).expect("writable");
    for name in ["sh", "echo", "id", "sleep", "ps", "cat"] {
        fs::copy("/bin/busybox", root.join("bin").join(name)).expect("a copy");
    }
    let tar = world.path().join("root.tar");
    ok(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
    ok(docker.command().arg("import").arg(&tar).arg("box"));
    let run = |flags: &[&str], command: &[&str]| {
        let mut all = docker.command();
        all.args(["run", "--network", "none", "-e", "PATH=/bin"])
            .args(flags)
            .arg("box")
            .args(command)
            .stdin(Stdio::null());
        all
    };
    assert_eq!(ok(&mut run(&["--rm"], &["echo", "hello"])), "hello");
    assert_eq!(say(&mut run(&["--rm"], &["sh", "-c", "exit 7"])).code, 7);
    assert_eq!(say(&mut run(&["--rm"], &["no-such-command"])).code, 127);
    let limits = [
        "--rm",
        "--user",
        "1000:1000",
        "--read-only",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "20",
    ];
    assert_eq!(ok(&mut run(&limits, &["id", "-u"])), "1000");
    ok(&mut run(&["-d", "--name", "stays"], &["sleep", "60"]));
    assert!(ok(docker.command().args(["exec", "stays", "ps"])).contains("sleep"));
    ok(docker.command().args(["rm", "-f", "stays"]));
    let info = ok(docker.command().args(["info", "--format", "{{.DefaultRuntime}}"]));
    assert_eq!(info, "rcr", "it was really rcr-runtime");
}

fn containerd_runs_on_it() {
    let world = World::new();
    let layout = world.path().join("layout");
    busybox_layout(&layout, json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] }));
    let archive = world.path().join("box.tar");
    let copy = [
        format!("oci:{}:latest", layout.display()),
        format!("oci-archive:{}:example.test/box:latest", archive.display()),
    ];
    ok(Command::new("skopeo").args(["--insecure-policy", "copy", "-q"]).args(copy));
    let containerd = Containerd::start(&world);
    ok(containerd.command().args(["images", "import"]).arg(&archive));
    let image = ok(containerd.command().args(["images", "ls", "-q"]));
    let run = |flags: &[&str], id: &str, command: &[&str]| {
        let mut all = containerd.command();
        all.arg("run")
            .arg("--runc-binary")
            .arg(binary("rcr-runtime"))
            .args(flags)
            .args([&image, id])
            .args(command);
        all.stdin(Stdio::null());
        all
    };
    assert_eq!(ok(&mut run(&["--rm"], "one", &["echo", "hello"])), "hello");
    assert_eq!(say(&mut run(&["--rm"], "two", &["sh", "-c", "exit 7"])).code, 7);
    ok(&mut run(&["-d", "--memory-limit", "67108864"], "three", &["sleep", "60"]));
    let out =
        ok(containerd.command().args(["tasks", "exec", "--exec-id", "e1", "three", "ps", "-o", "pid,comm"]));
    assert!(out.contains("1 sleep"), "{out}");
    ok(containerd.command().args(["tasks", "kill", "-s", "SIGKILL", "three"]));
    let deadline = Instant::now() + Duration::from_secs(5);
    while say(containerd.command().args(["tasks", "rm", "three"])).code != 0 {
        assert!(Instant::now() < deadline, "the task never ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    ok(containerd.command().args(["containers", "rm", "three"]));
}
