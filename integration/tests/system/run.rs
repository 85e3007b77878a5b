//! `rcr run`: what the process in the container sees, and what its end looks like from outside.

use std::io::Write;
use std::process::{Command, Stdio};

use harness::host::Need::{Path, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, run, say};
use harness::{Case, cases, image};
use serde_json::json;

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("run":
    output_and_exit_code_are_the_containers [Root, BUSYBOX],
    a_signal_ends_with_128_plus_its_number [Root, BUSYBOX],
    entrypoint_command_and_their_overrides [Root, BUSYBOX],
    environment_workdir_and_user [Root, BUSYBOX],
    processes_see_only_their_own [Root, BUSYBOX],
    standard_input_arrives_with_i_only [Root, BUSYBOX],
    binds_volumes_and_tmpfs [Root, BUSYBOX],
    a_read_only_root_refuses_writes [Root, BUSYBOX],
    limits_reach_the_cgroup_and_the_process [Root, BUSYBOX],
    capabilities_are_dockers_and_can_be_changed [Root, BUSYBOX],
    without_a_network_there_is_loopback_alone [Root, BUSYBOX],
    an_init_reaps_orphans_and_forwards_signals [Root, BUSYBOX],
    a_terminal_resizes_and_survives_an_interrupt [Root, BUSYBOX, Program("python3")],
    directories_may_be_relative [Root, BUSYBOX],
    names_are_unique_and_kept_containers_are_listed [Root, BUSYBOX],
    missing_commands_give_127_and_126 [Root, BUSYBOX],
);

/// A world with `box` as the name of a busybox image: `oci:DIR:latest`.
fn world() -> (World, String) {
    world_with(json!({ "Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin", "COLOUR=green"] }))
}

fn world_with(config: serde_json::Value) -> (World, String) {
    let world = World::new();
    let source = image::busybox_layout(&world.path().join("layout"), config);
    (world, source)
}

fn output_and_exit_code_are_the_containers() {
    let (world, image) = world();
    let before = Snapshot::take();
    let script = "echo out; echo err >&2; exit 7";
    let said = say(&mut run(&world, &["--rm", &image, "sh", "-c", script]));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    assert_none_since(&before);
}

fn a_signal_ends_with_128_plus_its_number() {
    let (world, image) = world();
    // The first process of a pid namespace is immune to signals from inside, so a child dies and tells.
    let said = say(&mut run(&world, &["--rm", &image, "sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"]));
    assert_eq!(said.code, 139);
    let mut child =
        run(&world, &["--rm", "--name", "victim", &image, "sleep", "60"]).spawn().expect("rcr starts");
    let pid = wait_for_pid(&world, "victim");
    ok(Command::new("kill").args(["-KILL", &pid]));
    assert_eq!(child.wait().expect("rcr ends").code(), Some(137));
    // rcr forwards what it gets; sleep has a handler for nothing, but a trap in sh has.
    let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let mut child =
        run(&world, &["--rm", "--name", "trapper", &image, "sh", "-c", script]).spawn().expect("rcr starts");
    wait_for_pid(&world, "trapper");
    std::thread::sleep(std::time::Duration::from_millis(300));
    ok(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    assert_eq!(child.wait().expect("rcr ends").code(), Some(3));
}

fn wait_for_pid(world: &World, name: &str) -> String {
    for _ in 0..200 {
        let said = say(world.rcr().args(["inspect", name]));
        let found: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
        if let Some(pid) = found[0]["State"]["Pid"].as_i64().filter(|p| *p > 0) {
            return pid.to_string();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{name} never had a pid");
}

fn entrypoint_command_and_their_overrides() {
    let config = json!({ "Entrypoint": ["echo", "entry"], "Cmd": ["cmd"], "Env": ["PATH=/bin"] });
    let (world, image) = world_with(config);
    assert_eq!(ok(&mut run(&world, &["--rm", &image])), "entry cmd");
    assert_eq!(ok(&mut run(&world, &["--rm", &image, "mine", "-x"])), "entry mine -x");
    assert_eq!(ok(&mut run(&world, &["--rm", "--entrypoint", "printf", &image, "%s!", "new"])), "new!");
    // An entrypoint of one's own drops the image's command, as docker does.
    assert_eq!(ok(&mut run(&world, &["--rm", "--entrypoint", "echo", &image])), "");
}

fn environment_workdir_and_user() {
    let config =
        json!({ "Env": ["PATH=/bin", "A=image", "B=image"], "WorkingDir": "/made/here", "User": "alice" });
    let (world, image) = world_with(config);
    let env_file = world.path().join("env");
    std::fs::write(&env_file, "# comment\nC=file\nA=file\n").expect("writable");
    let show = "pwd; id -u; id -g; echo $A $B $C $HOME; echo $HOSTNAME; hostname";
    let out = ok(&mut run(
        &world,
        &[
            "--rm",
            "-e",
            "A=flag",
            "--env-file",
            &env_file.to_string_lossy(),
            "--hostname",
            "h1",
            &image,
            "sh",
            "-c",
            show,
        ],
    ));
    assert_eq!(out, "/made/here\n1000\n1000\nflag image file /home/alice\nh1\nh1");
    let out = ok(&mut run(
        &world,
        &["--rm", "-u", "1234:10", "-w", "/tmp/w", &image, "sh", "-c", "pwd; id -u; id -g; echo $HOME"],
    ));
    assert_eq!(out, "/tmp/w\n1234\n10\n/");
    assert_eq!(ok(&mut run(&world, &["--rm", "-u", "alice", &image, "id", "-G"])), "1000 10");
    fails(
        &mut run(&world, &["--rm", "-u", "nobody-here", &image, "true"]),
        125,
        &["nobody-here", "/etc/passwd"],
    );
}

fn processes_see_only_their_own() {
    let (world, image) = world();
    let out = ok(&mut run(&world, &["--rm", &image, "ps", "-o", "pid,comm"]));
    let rows: Vec<Vec<&str>> = out.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows, [["1", "ps"]]);
    let inside = ok(&mut run(
        &world,
        &[
            "--rm",
            &image,
            "sh",
            "-c",
            "for n in mnt uts ipc pid net cgroup; do readlink /proc/self/ns/$n; done",
        ],
    ));
    for (name, line) in ["mnt", "uts", "ipc", "pid", "net", "cgroup"].iter().zip(inside.lines()) {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace link");
        assert_ne!(own.to_string_lossy(), line, "{name} is a namespace of its own");
    }
}

fn standard_input_arrives_with_i_only() {
    let (world, image) = world();
    for (flags, want) in [(&["--rm", "-i"][..], "typed"), (&["--rm"][..], "")] {
        let mut command = run(&world, flags);
        command.args([&image, "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("rcr starts");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(b"typed")
            .or_else(|e| match e.kind() {
                std::io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(e),
            })
            .expect("writable");
        let output = child.wait_with_output().expect("rcr ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), want, "{flags:?}");
        assert!(output.status.success());
    }
}

fn binds_volumes_and_tmpfs() {
    let (world, image) = world();
    let shared = world.path().join("shared");
    std::fs::create_dir(&shared).expect("writable");
    std::fs::write(shared.join("in"), "from the host").expect("writable");
    let bind = format!("{}:/mnt/data", shared.display());
    let out = ok(&mut run(
        &world,
        &["--rm", "-v", &bind, &image, "sh", "-c", "cat /mnt/data/in; echo back > /mnt/data/out"],
    ));
    assert_eq!(out, "from the host");
    assert_eq!(std::fs::read_to_string(shared.join("out")).expect("written inside"), "back\n");
    let read_only = format!("{}:/mnt/data:ro", shared.display());
    let said = say(&mut run(&world, &["--rm", "-v", &read_only, &image, "touch", "/mnt/data/x"]));
    assert!(said.code == 1 && said.err.contains("Read-only"), "{said:?}");
    let out = ok(&mut run(
        &world,
        &[
            "--rm",
            "--tmpfs",
            "/scratch:size=1m,mode=0700",
            &image,
            "grep",
            " /scratch ",
            "/proc/self/mountinfo",
        ],
    ));
    assert!(out.contains("tmpfs") && out.contains("size=1024k") && out.contains("mode=700"), "{out}");
}

fn a_read_only_root_refuses_writes() {
    let (world, image) = world();
    let said = say(&mut run(&world, &["--rm", "--read-only", &image, "touch", "/x"]));
    assert!(said.code == 1 && said.err.contains("Read-only"), "{said:?}");
    let said = say(&mut run(&world, &["--rm", "--read-only", &image, "mount", "-o", "remount,rw", "/"]));
    assert_ne!(said.code, 0, "the root can be made writable from inside: {said:?}");
}

fn limits_reach_the_cgroup_and_the_process() {
    let (world, image) = world();
    let flags = [
        "--rm",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
        "--cpus",
        "0.5",
        "--ulimit",
        "nofile=100:200",
        &image,
    ];
    // The container sees its own cgroup as the root of each hierarchy.
    let show = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us 2>/dev/null || cat memory.max pids.max cpu.max; ulimit -Sn; ulimit -Hn";
    let out = ok(run(&world, &flags).args(["sh", "-c", show]));
    assert!(out == "67108864\n50\n50000\n100\n200" || out == "67108864\n50\n50000 100000\n100\n200", "{out}");
}

fn capabilities_are_dockers_and_can_be_changed() {
    let (world, image) = world();
    let caps = |flags: &[&str]| -> Vec<String> {
        let mut command = run(&world, flags);
        let out = ok(command.args([&image, "grep", "^Cap", "/proc/self/status"]));
        out.lines().map(|l| l.split_whitespace().nth(1).expect("a mask").to_owned()).collect()
    };
    // Inheritable, permitted, effective, bounding, ambient; docker's fourteen are 00000000a80425fb.
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(caps(&["--rm"]), [none, docker, docker, docker, none]);
    assert_eq!(caps(&["--rm", "--cap-drop", "ALL"]), [none; 5]);
    let net_admin = "0000000000001000";
    assert_eq!(
        caps(&["--rm", "--cap-drop", "all", "--cap-add", "NET_ADMIN"]),
        [none, net_admin, net_admin, net_admin, none]
    );
    assert_eq!(caps(&["--rm", "-u", "1000"]), [none, none, none, docker, none]);
    let said =
        say(&mut run(&world, &["--rm", &image, "grep", "-E", "^(Seccomp|NoNewPrivs):", "/proc/self/status"]));
    assert_eq!(said.out, "NoNewPrivs:\t0\nSeccomp:\t2\n");
}

fn without_a_network_there_is_loopback_alone() {
    let (world, image) = world();
    let out = ok(&mut run(
        &world,
        &[
            "--rm",
            &image,
            "sh",
            "-c",
            "ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1'; grep localhost /etc/hosts | head -n 1",
        ],
    ));
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("lo"));
    assert_eq!(lines.next(), Some("1"));
    assert!(lines.next().is_some_and(|l| l.starts_with("127.0.0.1")), "{out}");
    let host = std::fs::read_link("/proc/self/ns/net").expect("a namespace link");
    let out = ok(&mut run(&world, &["--rm", "--network", "host", &image, "readlink", "/proc/self/ns/net"]));
    assert_eq!(out, host.to_string_lossy());
}

fn an_init_reaps_orphans_and_forwards_signals() {
    let (world, image) = world();
    let orphan = "(sleep 0.2 &) ; sleep 0.6; ps -o pid,stat,comm; exit 4";
    let said = say(&mut run(&world, &["--rm", "--init", &image, "sh", "-c", orphan]));
    assert_eq!(said.code, 4, "{said:?}");
    assert!(!said.out.contains('Z'), "a zombie is left: {}", said.out);
    assert!(
        !said.out.lines().any(|l| l.split_whitespace().next() == Some("1") && l.ends_with("sh")),
        "{}",
        said.out
    );
    // sleep has no handler: as pid 1 it would ignore TERM, below an init it dies of it.
    let mut child = run(&world, &["--rm", "--init", "--name", "sleeper", &image, "sleep", "60"])
        .spawn()
        .expect("rcr starts");
    wait_for_pid(&world, "sleeper");
    std::thread::sleep(std::time::Duration::from_millis(300));
    ok(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    assert_eq!(child.wait().expect("rcr ends").code(), Some(143));
}

fn a_terminal_resizes_and_survives_an_interrupt() {
    let (world, image) = world();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/terminal.py");
    let rcr = world.rcr();
    let mut command = Command::new("python3");
    command.arg(script).arg(rcr.get_program()).args(rcr.get_args());
    command.envs(rcr.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command
        .args(["run", "--network=none", "--rm", "-it", &image, "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("python3 starts");
    let steps = "expect #\nsend stty size\nexpect 24 80\nresize 33 111\nsend sleep 0.3; stty size\nexpect 33 111\n\
                 send sleep 50\nkey 03\nexpect #\nsend echo sur''vived\nexpect survived\nsend test -t 0 && test -t 1 && echo is''tty\nexpect istty\n\
                 send ps -o pid,comm | head -n 2 | tail -n 1 | tr -s ' '\nexpect 1 sh\nsend exit 5\n";
    child.stdin.take().expect("a pipe").write_all(steps.as_bytes()).expect("writable");
    let output = child.wait_with_output().expect("python3 ends");
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stdout));
}

fn directories_may_be_relative() {
    let (world, image) = world();
    let mut command =
        run(&world, &["--root", "store", "--runroot", "run", "--rm", &image, "cat", "/etc/hostname"]);
    let said = ok(command.current_dir(world.path()));
    assert_eq!(said.len(), 12, "{said}");
}

fn names_are_unique_and_kept_containers_are_listed() {
    let (world, image) = world();
    let before = Snapshot::take();
    ok(&mut run(&world, &["--name", "web", &image, "true"]));
    fails(&mut run(&world, &["--name", "web", &image, "true"]), 125, &["web", "in use"]);
    let listed: serde_json::Value =
        serde_json::from_str(&ok(world.rcr().args(["ps", "-a", "--format", "json"]))).expect("JSON");
    let row = listed.as_array().map_or(&listed, |rows| &rows[0]);
    assert_eq!(row["Names"], "web");
    let inspected: serde_json::Value =
        serde_json::from_str(&ok(world.rcr().args(["inspect", "web"]))).expect("JSON");
    assert_eq!(inspected[0]["State"]["Status"], "exited");
    assert_eq!(inspected[0]["State"]["ExitCode"], 0);
    ok(world.rcr().args(["rm", "web"]));
    fails(world.rcr().args(["rm", "web"]), 1, &["web", "no such container"]);
    assert_none_since(&before);
}

fn missing_commands_give_127_and_126() {
    let (world, image) = world();
    let before = Snapshot::take();
    fails(&mut run(&world, &["--rm", &image, "no-such-command"]), 127, &["no-such-command", "not found"]);
    fails(&mut run(&world, &["--rm", &image, "/no/such/file"]), 127, &["/no/such/file"]);
    fails(&mut run(&world, &["--rm", &image, "/etc/passwd"]), 126, &["/etc/passwd", "ermission denied"]);
    fails(&mut run(&world, &["--rm", &image, "/tmp"]), 126, &["/tmp"]);
    assert_none_since(&before);
}
