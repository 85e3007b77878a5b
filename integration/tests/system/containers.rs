//! What the engine adds to a runtime: records, volumes, terminals, limits noticed, and the end of everything.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Program, Root};
use harness::image::{Layer, Packing, busybox_layout, write_layout, write_manifest};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, no_network, ok, run, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("containers":
    volumes_start_with_the_images_files_and_outlive_containers [Root, BUSYBOX],
    a_killed_rcr_leaves_its_container_ended_and_clean [Root, BUSYBOX],
    force_removes_what_another_process_runs [Root, BUSYBOX],
    want_of_memory_is_noticed [Root, BUSYBOX],
    a_terminal_of_the_host_is_never_handed_over [Root, BUSYBOX, Program("python3")],
    a_terminal_that_goes_away_hangs_up [Root, BUSYBOX, Program("python3")],
    a_umask_changes_nothing [Root, BUSYBOX],
    a_bundle_runs_under_every_runtime [Root, BUSYBOX, Program("runc")],
    a_deep_tree_is_removed [Root, BUSYBOX],
    an_image_without_layers_says_what_it_lacks [Root],
    an_init_never_reaches_the_hosts_dev [Root, BUSYBOX],
    a_privileged_container_has_it_all [Root, BUSYBOX],
);

fn world() -> (World, String) {
    let world = World::new();
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    let image = busybox_layout(&world.path().join("layout"), config);
    (world, image)
}

/// The container's `inspect`.
fn inspect(world: &World, name: &str) -> Value {
    let said = say(world.rcr().args(["inspect", name]));
    let list: Value = serde_json::from_str(&said.out).unwrap_or_default();
    list[0].clone()
}

/// Waits until the container runs, and gives its `inspect`.
fn running(world: &World, name: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let found = inspect(world, name);
        if found["State"]["Running"] == true {
            return found;
        }
        assert!(Instant::now() < deadline, "{name} never ran");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a child for at most some seconds, and gives its code (128+N for a signal).
fn ends(mut child: Child, seconds: u64) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code().or(status.signal().map(|n| 128 + n)).expect("an end");
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it did not end within {seconds} s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing of a container is in the store.
fn assert_no_container(world: &World) {
    for dir in ["containers", "container-locks", "container-names", "pins"] {
        let left: Vec<_> = fs::read_dir(world.path().join("store").join(dir))
            .into_iter()
            .flatten()
            .map(|e| e.expect("an entry").path())
            .collect();
        assert!(left.is_empty(), "left: {left:?}");
    }
}

fn volumes_start_with_the_images_files_and_outlive_containers() {
    let world = World::new();
    let layer = Layer::busybox().dir("data/", 0o750).file("data/seed", 0o640, b"from the image\n");
    let layer = layer.entry(b"data/of-alice", tar::EntryType::Regular, 0o600, b"", None, |h| h.set_uid(1000));
    let dir = world.path().join("layout");
    fs::create_dir(&dir).expect("writable");
    write_layout(
        &dir,
        "t",
        &[layer.into_tar()],
        Packing::Gzip,
        json!({ "Env": ["PATH=/bin"], "Volumes": { "/data": {} } }),
    );
    let image = format!("oci:{}:t", dir.display());
    let volumes = world.path().join("store/volumes");
    let count = || fs::read_dir(&volumes).into_iter().flatten().count();
    let show = "cat /data/seed; stat -c '%a %u' /data /data/of-alice; grep -c ' /data ' /proc/self/mountinfo";
    let want = "from the image\n750 0\n600 1000\n1";
    assert_eq!(ok(&mut run(&world, &["--rm", &image, "sh", "-c", show])), want);
    assert_eq!(count(), 0, "an anonymous volume goes with --rm");
    let more = format!("{show}; echo kept >> /data/seed");
    assert_eq!(ok(&mut run(&world, &["--rm", "-v", "keep:/data", &image, "sh", "-c", &more])), want);
    let out = ok(&mut run(&world, &["--rm", "-v", "keep:/data:ro", &image, "cat", "/data/seed"]));
    assert_eq!(out, "from the image\nkept", "a named volume is filled once and stays");
    assert!(volumes.join("keep/_data/seed").exists() && count() == 1);
    ok(&mut run(&world, &["--name", "vol", &image, "true"]));
    assert_eq!(count(), 2);
    ok(world.rcr().args(["rm", "-v", "vol"]));
    assert_eq!(count(), 1, "rm -v takes the anonymous volume and no other");
    assert_no_container(&world);
}

fn a_killed_rcr_leaves_its_container_ended_and_clean() {
    let (world, image) = world();
    ok(world.rcr().args(["pull", "-q", &image]));
    let before = Snapshot::take();
    let child = run(&world, &["--name", "kept", &image, "sleep", "60"]).spawn().expect("rcr starts");
    let pid = running(&world, "kept")["State"]["Pid"].to_string();
    let mut child = child;
    child.kill().expect("a child");
    child.wait().expect("a child");
    let state = inspect(&world, "kept")["State"].clone();
    assert_eq!(
        (&state["Status"], &state["ExitCode"], &state["Pid"]),
        (&json!("exited"), &json!(137), &json!(0))
    );
    assert!(state["Error"].as_str().is_some_and(|e| e.contains("killed")), "{state}");
    let gone = || !Path::new("/proc").join(&pid).join("exe").exists();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !gone() {
        assert!(Instant::now() < deadline, "process {pid} outlives rcr");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_none_since(&before);
    ok(world.rcr().args(["rm", "kept"]));
    assert_no_container(&world);
}

fn force_removes_what_another_process_runs() {
    let (world, image) = world();
    let before = Snapshot::take();
    for flags in [&["--name", "busy"][..], &["--rm", "--name", "busy"]] {
        let mut args = flags.to_vec();
        args.extend([image.as_str(), "sleep", "60"]);
        let child = run(&world, &args).spawn().expect("rcr starts");
        running(&world, "busy");
        fails(world.rcr().args(["rm", "busy"]), 1, &["busy", "running"]);
        ok(world.rcr().args(["rm", "-f", "busy"]));
        assert_eq!(ends(child, 5), 137);
        assert_no_container(&world);
    }
    assert_none_since(&before);
}

fn want_of_memory_is_noticed() {
    let (world, image) = world();
    let flags = ["--name", "hungry", "--memory", "24m", &image, "sh", "-c", "x=a; while :; do x=$x$x; done"];
    assert_eq!(say(&mut run(&world, &flags)).code, 137);
    let found = inspect(&world, "hungry");
    assert_eq!((&found["State"]["OOMKilled"], &found["State"]["ExitCode"]), (&json!(true), &json!(137)));
    assert_eq!(found["HostConfig"]["Memory"], 24 << 20);
    ok(world.rcr().args(["rm", "hungry"]));
}

/// Runs rcr on a terminal of its own with the given steps of terminal.py.
fn on_a_terminal(world: &World, args: &[&str], steps: &str) -> (Child, Command) {
    use std::io::Write;
    let rcr = world.rcr();
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/terminal.py"));
    command.arg(rcr.get_program()).args(rcr.get_args()).arg("run").args(no_network(args)).args(args);
    command.envs(rcr.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
    child.stdin.take().expect("a pipe").write_all(steps.as_bytes()).expect("writable");
    (child, command)
}

fn a_terminal_of_the_host_is_never_handed_over() {
    let (world, image) = world();
    let script = "for n in 0 1 2; do test -t $n && echo \"$n is a terminal\"; readlink /proc/self/fd/$n; done; \
                  read line; echo got $line; echo to-stderr >&2; exit 4";
    let (child, _) = on_a_terminal(&world, &["--rm", "-i", &image, "sh", "-c", script], "send typed\n");
    let output = child.wait_with_output().expect("python3 ends");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{out}");
    assert!(!out.contains("is a terminal") && out.matches("pipe:").count() == 3, "{out}");
    assert!(out.contains("got typed") && out.contains("to-stderr"), "{out}");
}

fn a_terminal_that_goes_away_hangs_up() {
    let (world, image) = world();
    let before = Snapshot::take();
    let (child, _) = on_a_terminal(&world, &["--rm", "-it", &image, "sh"], "expect #\nhangup\n");
    ends(child, 30);
    assert_eq!(ok(world.rcr().args(["ps", "-aq"])), "");
    assert_no_container(&world);
    assert_none_since(&before);
}

fn a_umask_changes_nothing() {
    let (world, image) = world();
    let show =
        "stat -c '%a %n' / /etc/hosts /etc/resolv.conf /etc/hostname /v /dev/init; cat /etc/hosts; umask";
    let with = |umask: &str| {
        let rcr = run(&world, &["--rm", "--init", "-u", "alice", "-v", "/v", "--hostname", "h", &image]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(rcr.get_program());
        command.args(rcr.get_args()).args(["sh", "-c", show]).stdin(Stdio::null());
        command.envs(rcr.get_envs().filter_map(|(k, v)| Some((k, v?))));
        ok(&mut command)
    };
    let usual = with("022");
    assert!(usual.starts_with("755 /\n644 /etc/hosts\n"), "{usual}");
    assert_eq!(with("077"), usual);
    assert_eq!(with("000"), usual);
    for dir in ["store", "store/containers", "store/container-locks", "store/volumes", "run/containers"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(world.path().join(dir)).expect(dir).permissions().mode();
        assert_eq!(mode & 0o77, 0, "{dir} is open to others");
    }
}

fn a_bundle_runs_under_every_runtime() {
    let world = World::new();
    let config = json!({ "Entrypoint": ["sh", "-c"], "Cmd": ["echo $A; id -u; id -G; pwd; exit 6"],
        "Env": ["PATH=/bin", "A=of the image"], "User": "alice", "WorkingDir": "/home/alice" });
    let image = busybox_layout(&world.path().join("layout"), config);
    let id = world.pulled(&image);
    let dir = world.path().join("bundle");
    ok(world.rcr().args(["bundle", &id]).arg(&dir));
    fails(world.rcr().args(["bundle", &id]).arg(&dir), 1, &["not empty"]);
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(world.path().join("runc"));
    for (name, mut runtime) in [("rcr-runtime", world.runtime()), ("runc", runc)] {
        let before = Snapshot::take();
        let id = format!("bundle-{name}-{}", std::process::id());
        let said = say(runtime.args(["run", "--bundle"]).arg(&dir).arg(&id).stdin(Stdio::null()));
        assert_eq!(
            (said.code, said.out.as_str()),
            (6, "of the image\n1000\n1000 10\n/home/alice\n"),
            "{name}: {said:?}"
        );
        assert_none_since(&before);
    }
    let before = Snapshot::take();
    fails(
        world.rcr().args(["bundle", "no-such-image"]).arg(world.path().join("other")),
        1,
        &["no-such-image"],
    );
    assert!(!world.path().join("other").exists());
    assert_none_since(&before);
}

fn a_deep_tree_is_removed() {
    let (world, image) = world();
    let script =
        "cd /tmp; n=0; while [ $n -lt 3000 ]; do mkdir d; cd d; n=$((n+1)); done; echo x > f; chmod 0 .";
    ok(&mut run(&world, &["--rm", &image, "sh", "-c", script]));
    assert_no_container(&world);
}

fn an_image_without_layers_says_what_it_lacks() {
    let world = World::new();
    let dir = world.path().join("layout");
    let config = json!({ "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [] } });
    write_manifest(&dir, "t", &config, &[]);
    let image = format!("oci:{}:t", dir.display());
    let before = Snapshot::take();
    fails(&mut run(&world, &["--rm", &image]), 125, &["no command"]);
    fails(&mut run(&world, &["--rm", &image, "/hello"]), 127, &["/hello", "not found"]);
    assert_no_container(&world);
    assert_none_since(&before);
}

fn an_init_never_reaches_the_hosts_dev() {
    let (world, image) = world();
    let dev = world.path().join("dev");
    fs::create_dir(&dev).expect("writable");
    // Without it the runtime cannot mask files.
    ok(Command::new("mknod").arg(dev.join("null")).args(["c", "1", "3"]));
    let bind = format!("{}:/dev", dev.display());
    let flags = ["--rm", "--init", "-v", &bind, &image, "sh", "-c", "cat /proc/1/comm; exit 3"];
    let said = say(&mut run(&world, &flags));
    assert_eq!((said.code, said.out.as_str()), (3, ".rcr-init\n"), "{said:?}");
    assert!(!dev.join("init").exists());
}

fn a_privileged_container_has_it_all() {
    let (world, image) = world();
    let show = "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; test -c /dev/mem || test -b /dev/vda && echo devices; \
                touch /sys/fs/cgroup/x 2>/dev/null; grep ' /sys ' /proc/self/mountinfo | cut -d' ' -f6";
    let out = ok(&mut run(&world, &["--rm", "--privileged", &image, "sh", "-c", show]));
    let own = fs::read_to_string("/proc/self/status").expect("a status");
    let bounding = own.lines().find_map(|l| l.strip_prefix("CapBnd:")).expect("a mask").trim();
    assert!(out.contains(bounding) && out.contains("Seccomp:\t0") && out.contains("devices"), "{out}");
    assert!(out.lines().last().is_some_and(|options| options.starts_with("rw,")), "{out}");
}
