//! The life of a container under rcr-runtime: hooks, terminals, descriptors, and what a killed or dead process leaves.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use harness::bundle::Bundle;
use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{binary, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("lifecycle":
    hooks_run_at_their_moments_with_the_state [Root, BUSYBOX],
    a_failed_hook_after_start_kills_the_container [Root, BUSYBOX],
    starting_a_dead_init_fails_at_once [Root, BUSYBOX],
    of_two_starts_one_wins [Root, BUSYBOX],
    a_reused_pid_is_not_the_container [Root, BUSYBOX],
    a_create_that_fails_leaves_nothing [Root, BUSYBOX],
    a_killed_create_is_cleaned_up_by_delete [Root, BUSYBOX],
    a_killed_run_is_cleaned_up_by_delete [Root, BUSYBOX],
    without_a_pid_namespace_all_processes_are_killed [Root, BUSYBOX],
    a_paused_container_can_be_deleted [Root, BUSYBOX],
    the_terminal_goes_to_the_console_socket [Root, BUSYBOX],
    a_terminal_in_the_foreground_is_relayed [Root, BUSYBOX, Program("python3")],
    signals_reach_the_foreground_process [Root, BUSYBOX],
    exec_changes_what_its_flags_say [Root, BUSYBOX],
    exec_takes_a_process_file [Root, BUSYBOX],
    exec_on_a_terminal [Root, BUSYBOX, Program("python3")],
    exec_fails_with_255 [Root, BUSYBOX],
    exec_in_a_sub_cgroup [Root, BUSYBOX, FileNeed("/sys/fs/cgroup/pids")],
    descriptors_are_handed_on_when_asked [Root, BUSYBOX],
    readiness_is_forwarded_to_the_service_manager [Root, BUSYBOX],
    errors_go_to_the_log_in_its_format [Root, BUSYBOX],
    list_and_ps_know_the_containers [Root, BUSYBOX],
    what_is_missing_is_said [Root, BUSYBOX],
);

fn quiet(command: &mut Command) {
    ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
}

/// A bundle with a cgroup of its own, whatever else runs on this machine, and whose containers end with it, also
/// when a test panics.
struct Stage(Bundle);

impl Stage {
    fn new(script: &str, adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!("/rcr-stage-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Stage(Bundle::new(script, |config, dir| {
            config["linux"]["cgroupsPath"] = json!(cgroup);
            adjust(config, dir);
        }))
    }

    /// With a container that sleeps, created and started.
    fn running(id: &str, adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
        let stage = Stage::new("sleep 1000", adjust);
        create(&stage, id);
        quiet(stage.world.runtime().args(["start", id]));
        stage
    }
}

impl Deref for Stage {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for id in say(self.world.runtime().args(["list", "-q"])).out.lines() {
            say(self.world.runtime().args(["delete", "--force", id]));
        }
    }
}

fn create(bundle: &Bundle, id: &str) {
    quiet(bundle.world.runtime().arg("create").arg("--bundle").arg(&bundle.dir).arg(id));
}

fn state(bundle: &Bundle, id: &str) -> Value {
    serde_json::from_str(&ok(bundle.world.runtime().args(["state", id]))).expect("JSON")
}

fn delete(bundle: &Bundle, id: &str) {
    quiet(bundle.world.runtime().args(["delete", "--force", id]));
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a child, at most ten seconds.
fn end_of(child: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait().expect("waitable") {
            return status.code().or(status.signal().map(|n| 128 + n)).expect("a code or a signal");
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hooks_run_at_their_moments_with_the_state() {
    let bundle = Stage::new("echo process >> /log; sleep 1000", |config, dir| {
        let log = dir.join("rootfs/log");
        // On the host, and in the container's namespaces before its root is entered, paths are the host's.
        let outside = |kind: &str| {
            let script = format!(
                "echo $(echo {kind}; cat; echo; readlink /proc/self/ns/uts; echo $MARK) >> {}",
                log.display()
            );
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["MARK=own", "PATH=/bin:/usr/bin"] }])
        };
        let inside = "echo $(echo startContainer; cat; echo; readlink /proc/self/ns/uts; echo $MARK) >> /log";
        config["root"]["readonly"] = json!(false);
        config["annotations"] = json!({ "colour": "green" });
        config["process"]["env"] = json!(["PATH=/bin", "MARK=process"]);
        config["hooks"] = json!({
            "prestart": outside("prestart"),
            "createRuntime": outside("createRuntime"),
            "createContainer": outside("createContainer"),
            "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", inside] }],
            "poststart": outside("poststart"),
            "poststop": outside("poststop"),
        });
    });
    let log = || fs::read_to_string(bundle.rootfs().join("log")).unwrap_or_default();
    create(&bundle, "hooked");
    let kinds = |text: &str| -> Vec<String> {
        text.lines().map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(kinds(&log()), ["prestart", "createRuntime", "createContainer"]);
    let pid = state(&bundle, "hooked")["pid"].clone();
    let container = ok(Command::new("readlink").arg(format!("/proc/{pid}/ns/uts")));
    let host = ok(Command::new("readlink").arg("/proc/self/ns/uts"));
    assert_ne!(host, container);
    quiet(bundle.world.runtime().args(["start", "hooked"]));
    until("the process", || log().contains("process\n"));
    quiet(bundle.world.runtime().args(["kill", "hooked", "KILL"]));
    until("its end", || state(&bundle, "hooked")["status"] == "stopped");
    quiet(bundle.world.runtime().args(["delete", "hooked"]));
    let text = log();
    let mut order = kinds(&text);
    // poststart and the process race by nature.
    order.retain(|k| k != "process");
    assert_eq!(
        order,
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    );
    for line in text.lines().filter(|l| *l != "process") {
        let (kind, rest) = line.split_once(' ').expect("a state");
        let (json, rest) = rest.rsplit_once("} ").expect("a state");
        let told: Value = serde_json::from_str(&format!("{json}}}")).expect("JSON");
        let (status, its_pid, namespace, mark) = match kind {
            "prestart" | "createRuntime" => ("creating", &pid, &host, "own"),
            "createContainer" => ("creating", &json!(1), &container, "own"),
            "startContainer" => ("created", &json!(1), &container, "process"),
            "poststart" => ("running", &pid, &host, "own"),
            _ => ("stopped", &Value::Null, &host, "own"),
        };
        assert_eq!(told["status"], status, "{kind}");
        assert_eq!(&told["pid"], its_pid, "{kind}");
        assert_eq!(told["id"], "hooked", "{kind}");
        assert_eq!(told["bundle"], bundle.dir.to_string_lossy().as_ref(), "{kind}");
        assert_eq!(told["annotations"], json!({ "colour": "green" }), "{kind}");
        assert_eq!(rest, format!("{namespace} {mark}"), "{kind}");
    }
}

fn a_failed_hook_after_start_kills_the_container() {
    for kind in ["startContainer", "poststart"] {
        let bundle = Stage::new("sleep 1000", |config, _| {
            config["hooks"] = json!({ kind: [{ "path": "/bin/true" }, { "path": "/bin/false" }] });
        });
        let before = Snapshot::take();
        create(&bundle, "hooked");
        let expected = format!("error running {kind} hook #1");
        fails(bundle.world.runtime().args(["start", "hooked"]), 1, &[&expected, "/bin/false"]);
        until("its end", || state(&bundle, "hooked")["status"] == "stopped");
        quiet(bundle.world.runtime().args(["delete", "hooked"]));
        // `run` clears away by itself.
        let said = bundle.run("hooked");
        assert_eq!(said.code, 1);
        assert!(said.err.contains(&expected), "{}", said.err);
        fails(bundle.world.runtime().args(["state", "hooked"]), 1, &["does not exist"]);
        assert_none_since(&before);
    }
}

fn starting_a_dead_init_fails_at_once() {
    let bundle = Stage::new("sleep 1000", |_, _| ());
    let before = Snapshot::take();
    create(&bundle, "dead");
    let pid = state(&bundle, "dead")["pid"].to_string();
    ok(Command::new("kill").args(["-KILL", &pid]));
    let start = Instant::now();
    until("its end", || state(&bundle, "dead")["status"] == "stopped");
    fails(bundle.world.runtime().args(["start", "dead"]), 1, &["stopped"]);
    assert!(start.elapsed() < Duration::from_secs(5));
    fails(bundle.world.runtime().args(["exec", "dead", "true"]), 255, &["stopped"]);
    fails(bundle.world.runtime().args(["kill", "dead", "TERM"]), 1, &["container not running"]);
    quiet(bundle.world.runtime().args(["kill", "--all", "dead", "TERM"]));
    quiet(bundle.world.runtime().args(["delete", "dead"]));
    assert_none_since(&before);
}

fn of_two_starts_one_wins() {
    let bundle = Stage::new("sleep 1000", |_, _| ());
    for round in 0..10 {
        let id = format!("raced{round}");
        create(&bundle, &id);
        let start = || {
            let mut command = bundle.world.runtime();
            command.args(["start", &id]).stdin(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("it starts")
        };
        let mut codes = [start(), start()].map(|mut child| end_of(&mut child));
        codes.sort_unstable();
        assert_eq!(codes, [0, 1]);
        assert_eq!(state(&bundle, &id)["status"], "running");
        delete(&bundle, &id);
    }
}

fn a_reused_pid_is_not_the_container() {
    let bundle = Stage::running("old", |_, _| ());
    let file = bundle.world.path().join("state/old/state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
    quiet(bundle.world.runtime().args(["kill", "old", "KILL"]));
    until("its end", || state(&bundle, "old")["status"] == "stopped");
    // As if the number had been given to somebody else, who started at another time.
    let mut stranger = Command::new("sleep").arg("1000").spawn().expect("it starts");
    record["init_process_pid"] = json!(stranger.id());
    fs::write(&file, record.to_string()).expect("writable");
    assert_eq!(state(&bundle, "old")["status"], "stopped");
    assert_eq!(state(&bundle, "old")["pid"], 0);
    fails(bundle.world.runtime().args(["kill", "old", "KILL"]), 1, &["container not running"]);
    delete(&bundle, "old");
    assert!(stranger.try_wait().expect("waitable").is_none(), "a stranger was killed");
    stranger.kill().expect("killable");
    stranger.wait().expect("waitable");
}

fn a_create_that_fails_leaves_nothing() {
    type Adjust = fn(&mut Value);
    let configs: &[(&str, Adjust)] = &[
        ("/no/such/namespace", |c| c["linux"]["namespaces"][0]["path"] = json!("/no/such/namespace")),
        ("/no/such/source", |c| {
            let mount = json!({ "destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"] });
            c["mounts"].as_array_mut().expect("mounts").push(mount);
        }),
        ("no-such-command", |c| c["process"]["args"] = json!(["no-such-command"])),
        ("/no/such/rootfs", |c| c["root"]["path"] = json!("/no/such/rootfs")),
        ("no_such_key", |c| c["linux"]["sysctl"] = json!({ "net.no_such_key": "1" })),
        ("linux.resources.devices[0]", |c| {
            c["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "x" }])
        }),
        ("pids.max", |c| c["linux"]["resources"]["pids"]["limit"] = json!(i64::MAX)),
        ("cgroupsPath", |c| c["linux"]["cgroupsPath"] = json!("../x")),
        ("args", |c| c["process"]["args"] = json!([])),
        ("RLIMIT_NOPE", |c| {
            c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOPE", "soft": 1, "hard": 1 }])
        }),
    ];
    for (word, adjust) in configs {
        let bundle = Stage::new("exit 0", |config, _| adjust(config));
        let before = Snapshot::take();
        for command in ["create", "run"] {
            let mut runtime = bundle.world.runtime();
            runtime.arg(command).arg("--bundle").arg(&bundle.dir).arg("failing").stdin(Stdio::null());
            fails(&mut runtime, 1, &[word]);
            assert_none_since(&before);
            fails(bundle.world.runtime().args(["state", "failing"]), 1, &["does not exist"]);
        }
    }
    let bundle = Stage::new("sleep 1000", |_, _| ());
    let before = Snapshot::take();
    for (flags, word) in [
        (&["--pid-file", "/no/such/dir/pid"][..], "/no/such/dir/pid"),
        (&["--pidfd-socket", "/no/such/socket"], "/no/such/socket"),
        (&["--console-socket", "/no/such/socket"], "console socket"),
        (&["--preserve-fds", "900"], "preserved-fd"),
    ] {
        let mut create = bundle.world.runtime();
        create.arg("create").arg("--bundle").arg(&bundle.dir).args(flags).arg("failing").stdin(Stdio::null());
        fails(&mut create, 1, &[word]);
        assert_none_since(&before);
    }
    // The id is free for the next try.
    create(&bundle, "failing");
    fails(
        bundle.world.runtime().arg("create").arg("--bundle").arg(&bundle.dir).arg("failing"),
        1,
        &["already exists"],
    );
    assert_eq!(
        state(&bundle, "failing")["status"],
        "created",
        "the second create took the first one's container away"
    );
    delete(&bundle, "failing");
    assert_none_since(&before);
}

/// Kills `create` or `run` at many moments; whatever is left then, delete must find.
fn kill_at_many_moments(command: &str) {
    let bundle = Stage::new("sleep 1000", |_, _| ());
    let before = Snapshot::take();
    let full = Instant::now();
    create(&bundle, "whole");
    let full = full.elapsed();
    delete(&bundle, "whole");
    let rounds = 40;
    for round in 0..rounds {
        let mut starting = bundle.world.runtime();
        starting.arg(command).arg("--bundle").arg(&bundle.dir).arg("killed");
        let mut starting = starting.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(full * round / rounds);
        starting.kill().expect("killable");
        starting.wait().expect("waitable");
        delete(&bundle, "killed");
        fails(bundle.world.runtime().args(["state", "killed"]), 1, &["does not exist"]);
        assert_none_since(&before);
    }
    assert_eq!(ok(bundle.world.runtime().args(["list", "-q"])), "");
}

fn a_killed_create_is_cleaned_up_by_delete() {
    kill_at_many_moments("create");
}

fn a_killed_run_is_cleaned_up_by_delete() {
    kill_at_many_moments("run");
}

fn without_a_pid_namespace_all_processes_are_killed() {
    for how in ["kill", "delete", "delete after init"] {
        let bundle = Stage::new("sleep 1000", |config, _| {
            config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "pid");
        });
        let before = Snapshot::take();
        create(&bundle, "shared");
        quiet(bundle.world.runtime().args(["start", "shared"]));
        for _ in 0..3 {
            quiet(bundle.world.runtime().args(["exec", "-d", "shared", "sleep", "1000"]));
        }
        let pids: Vec<i32> =
            serde_json::from_str(&ok(bundle.world.runtime().args(["ps", "-f", "json", "shared"])))
                .expect("JSON");
        assert!(pids.len() >= 4, "{pids:?}");
        match how {
            "kill" => {
                quiet(bundle.world.runtime().args(["kill", "shared", "KILL"]));
            }
            "delete" => delete(&bundle, "shared"),
            _ => {
                ok(Command::new("kill").args(["-KILL", &state(&bundle, "shared")["pid"].to_string()]));
                until("its end", || state(&bundle, "shared")["status"] == "stopped");
                quiet(bundle.world.runtime().args(["delete", "shared"]));
            }
        }
        until("the end of all", || pids.iter().all(|pid| !is_alive(*pid)));
        delete(&bundle, "shared");
        assert_none_since(&before);
    }
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn a_paused_container_can_be_deleted() {
    let bundle = Stage::new("sleep 1000", |_, _| ());
    let before = Snapshot::take();
    create(&bundle, "frozen");
    quiet(bundle.world.runtime().args(["start", "frozen"]));
    quiet(bundle.world.runtime().args(["pause", "frozen"]));
    assert_eq!(state(&bundle, "frozen")["status"], "paused");
    fails(bundle.world.runtime().args(["exec", "frozen", "true"]), 255, &["paused"]);
    fails(bundle.world.runtime().args(["delete", "frozen"]), 1, &["frozen", "paused"]);
    fails(bundle.world.runtime().args(["pause", "frozen"]), 1, &["not running"]);
    delete(&bundle, "frozen");
    fails(bundle.world.runtime().args(["resume", "frozen"]), 1, &["does not exist"]);
    assert_none_since(&before);
}

/// Accepts a connection and the descriptor that comes over it.
fn receive_descriptor(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().expect("a connection");
    let (_, descriptor) = sys::message::receive(connection.as_fd(), &mut [0; 4096]).expect("a message");
    descriptor.expect("a descriptor")
}

fn the_terminal_goes_to_the_console_socket() {
    let bundle = Stage::new(
        "stty size; readlink /proc/self/fd/0; read x; echo got $x; tty; sleep 1000",
        |config, _| {
            config["process"]["terminal"] = json!(true);
            config["process"]["consoleSize"] = json!({ "height": 10, "width": 110 });
        },
    );
    let socket = bundle.world.path().join("console");
    let pidfd_socket = bundle.world.path().join("pidfd");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let pidfd_listener = UnixListener::bind(&pidfd_socket).expect("a socket");
    let before = Snapshot::take();
    fails(
        bundle.world.runtime().arg("create").arg("--bundle").arg(&bundle.dir).arg("tty"),
        1,
        &["cannot allocate tty"],
    );
    assert_none_since(&before);
    quiet(
        bundle
            .world
            .runtime()
            .arg("create")
            .arg("--bundle")
            .arg(&bundle.dir)
            .arg("--console-socket")
            .arg(&socket)
            .arg("--pidfd-socket")
            .arg(&pidfd_socket)
            .arg("tty"),
    );
    let mut master = File::from(receive_descriptor(&listener));
    let pidfd = receive_descriptor(&pidfd_listener);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).expect("fdinfo");
    let pid = state(&bundle, "tty")["pid"].to_string();
    assert!(info.lines().any(|l| l.split_whitespace().eq(["Pid:", &pid])), "{info}");
    quiet(bundle.world.runtime().args(["start", "tty"]));
    let mut seen = String::new();
    let mut expect = |text: &str, master: &mut File| {
        while !seen.contains(text) {
            let mut bytes = [0; 4096];
            let count = master.read(&mut bytes).expect("output");
            seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    };
    expect("10 110", &mut master);
    expect("/dev/pts/0", &mut master);
    master.write_all(b"words\n").expect("input");
    expect("got words", &mut master);
    delete(&bundle, "tty");
    assert_none_since(&before);
}

fn a_terminal_in_the_foreground_is_relayed() {
    // The signal ends a read early.
    let script = "trap 'echo caught' INT; echo ready; until read x; do :; done; stty size; echo got $x; read y; exit 7";
    let bundle = Stage::new(script, |config, _| config["process"]["terminal"] = json!(true));
    let steps =
        "expect ready\nresize 33 99\nkey 03\nexpect caught\nsend one\nexpect 33 99\nexpect got\nsend two\n";
    let mut run = pty(steps, &bundle);
    run.arg("run").arg("--bundle").arg(&bundle.dir).arg("front");
    let before = Snapshot::take();
    let said = say(&mut run);
    assert_eq!(said.code, 7, "{}{}", said.out, said.err);
    assert!(said.out.contains("got one"), "{}", said.out);
    assert_none_since(&before);
}

/// rcr-runtime on a terminal, with the steps of terminal.py.
fn pty(steps: &str, bundle: &Bundle) -> Command {
    let file = bundle.world.path().join("steps");
    fs::write(&file, steps).expect("writable");
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/terminal.py"));
    command.arg(binary("rcr-runtime")).arg("--root").arg(bundle.world.path().join("state"));
    command.stdin(File::open(&file).expect("readable"));
    command
}

fn signals_reach_the_foreground_process() {
    let script =
        "trap 'echo hup' HUP; trap 'echo usr; exit 5' USR1; echo ready; while :; do sleep 0.05; done";
    let bundle = Stage::new(script, |_, _| ());
    let before = Snapshot::take();
    let mut run = bundle.world.runtime();
    run.arg("run")
        .arg("--bundle")
        .arg(&bundle.dir)
        .arg("signalled")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = run.spawn().expect("it starts");
    let mut output = child.stdout.take().expect("a pipe");
    let mut seen = Vec::new();
    let mut expect = |text: &str| {
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut bytes = [0; 256];
            let count = output.read(&mut bytes).expect("output");
            assert!(count > 0, "{text} never came");
            seen.extend_from_slice(&bytes[..count]);
        }
    };
    expect("ready");
    ok(Command::new("kill").args(["-HUP", &child.id().to_string()]));
    expect("hup");
    ok(Command::new("kill").args(["-USR1", &child.id().to_string()]));
    expect("usr");
    assert_eq!(end_of(&mut child), 5);
    assert_none_since(&before);
    // Death by a signal is 128+N.
    let bundle = Stage::new("kill -KILL 1; sleep 1; exec sh -c 'kill -SEGV $$'", |config, _| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "pid");
        config["process"]["args"] = json!(["/bin/sh", "-c", "kill -SEGV $$"]);
    });
    assert_eq!(bundle.run("segv").code, 139);
}

fn exec_changes_what_its_flags_say() {
    let bundle = Stage::running("box", |config, _| {
        config["root"]["readonly"] = json!(false);
        config["process"]["env"] = json!(["PATH=/bin", "BASE=config"]);
        config["process"]["noNewPrivileges"] = json!(false);
    });
    let exec = |flags: &[&str], command: &[&str]| {
        let mut all = bundle.world.runtime();
        all.arg("exec").args(flags).arg("box").args(command).stdin(Stdio::null());
        ok(&mut all)
    };
    assert_eq!(exec(&["--cwd", "/tmp"], &["pwd"]), "/tmp");
    assert_eq!(exec(&["-e", "A=1", "--env", "BASE=2"], &["sh", "-c", "echo $A $BASE"]), "1 2");
    assert_eq!(exec(&["-u", "1000:100"], &["sh", "-c", "id -u; id -g; echo $HOME"]), "1000\n100\n/");
    assert_eq!(exec(&["-u", "1000:1000", "-g", "100", "-g", "65534"], &["id", "-G"]), "1000 100 65534");
    assert_eq!(exec(&["--no-new-privs"], &["grep", "NoNewPrivs", "/proc/self/status"]), "NoNewPrivs:\t1");
    assert_eq!(exec(&[], &["grep", "NoNewPrivs", "/proc/self/status"]), "NoNewPrivs:\t0");
    let bounding = |flags: &[&str]| {
        let line = exec(flags, &["grep", "CapBnd", "/proc/self/status"]);
        u64::from_str_radix(line.rsplit('\t').next().expect("a set"), 16).expect("hexadecimal")
    };
    assert_eq!(
        bounding(&["--cap", "CAP_SYS_CHROOT", "-c", "CAP_NET_RAW"]),
        bounding(&[]) | 1 << 18 | 1 << 13
    );
    // Flags behind the id are the command's.
    assert_eq!(exec(&[], &["echo", "-d", "--cwd"]), "-d --cwd");
    let pid_file = bundle.world.path().join("exec.pid");
    let mut detached = bundle.world.runtime();
    detached.args(["exec", "--detach", "--pid-file"]).arg(&pid_file).args(["box", "sleep", "1000"]);
    quiet(&mut detached);
    let pid: i32 = fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a pid");
    assert!(is_alive(pid));
    assert_eq!(exec(&[], &["sh", "-c", "ps -o comm | grep -c sleep"]), "2");
    let mut failing = bundle.world.runtime();
    assert_eq!(say(failing.args(["exec", "box", "sh", "-c", "exit 42"]).stdin(Stdio::null())).code, 42);
    let mut killed = bundle.world.runtime();
    assert_eq!(say(killed.args(["exec", "box", "sh", "-c", "kill -9 $$"]).stdin(Stdio::null())).code, 137);
    delete(&bundle, "box");
    assert!(!is_alive(pid), "the container's other process is left");
}

fn exec_takes_a_process_file() {
    let bundle = Stage::running("box", |_, _| ());
    let file = bundle.world.path().join("process.json");
    let process = json!({
        "args": ["sh", "-c", "id -u; pwd; echo $A; grep CapEff /proc/self/status"],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "A=b"],
        "user": { "uid": 7, "gid": 7 },
    });
    fs::write(&file, process.to_string()).expect("writable");
    let mut exec = bundle.world.runtime();
    exec.arg("exec").arg("--process").arg(&file).arg("box").stdin(Stdio::null());
    assert_eq!(ok(&mut exec), "7\n/tmp\nb\nCapEff:\t0000000000000000");
    for (bad, words) in [
        ("{", &["process.json"][..]),
        (r#"{"args": ["sh"], "cwd": 7}"#, &["cwd"]),
        (r#"{"args": ["sh"], "cwd": "relative"}"#, &["absolute"]),
        (r#"{"args": [], "cwd": "/"}"#, &["args"]),
    ] {
        fs::write(&file, bad).expect("writable");
        fails(bundle.world.runtime().arg("exec").arg("--process").arg(&file).arg("box"), 255, words);
    }
    delete(&bundle, "box");
}

fn exec_on_a_terminal() {
    let bundle = Stage::running("box", |_, _| ());
    let before = Snapshot::take();
    let mut exec = pty("expect ready\nresize 20 70\nsend hello\nexpect 20 70\nexpect got hello\n", &bundle);
    exec.args(["exec", "-t", "box", "sh", "-c", "echo ready; read x; stty size; echo got $x; exit 3"]);
    let said = say(&mut exec);
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert_none_since(&before);
    delete(&bundle, "box");
}

fn exec_fails_with_255() {
    let bundle = Stage::running("box", |_, _| ());
    let before = Snapshot::take();
    for (args, words) in [
        (&["no-such-container", "true"][..], &["does not exist"][..]),
        (&["box", "no-such-command"], &["no-such-command", "executable file not found in $PATH"]),
        (&["box", "/etc"], &["/etc"]),
        (&["--pid-file", "/no/such/dir/pid", "box", "true"], &["/no/such/dir/pid"]),
        (&["--user", "1abc", "box", "true"], &["bad uid"]),
        (&["--cap", "CAP_NOPE", "box", "true"], &["CAP_NOPE"]),
        (&["box"], &["exec args cannot be empty"]),
    ] {
        let mut exec = bundle.world.runtime();
        fails(exec.arg("exec").args(args).stdin(Stdio::null()), 255, words);
        assert_none_since(&before);
    }
    delete(&bundle, "box");
}

fn exec_in_a_sub_cgroup() {
    let bundle =
        Stage::running("box", |config, _| config["linux"]["cgroupsPath"] = json!("/rcr-sub-cgroups"));
    let sub = Path::new("/sys/fs/cgroup/pids/rcr-sub-cgroups/below");
    fs::create_dir(sub).expect("a cgroup");
    let exec = |cgroup: &str| {
        let mut exec = bundle.world.runtime();
        exec.args(["exec", "--cgroup", cgroup, "box", "cat", "/proc/self/cgroup"]).stdin(Stdio::null());
        say(&mut exec)
    };
    let said = exec("pids:below");
    assert!(
        said.out.lines().any(|l| l.contains(":pids:") && l.ends_with("/below")),
        "{}{}",
        said.out,
        said.err
    );
    for (bad, word) in [
        ("..", "bad sub cgroup path"),
        ("pids:../x", "bad sub cgroup path"),
        ("pids:missing", "no such file or directory"),
        ("nope:/", "unknown controller"),
    ] {
        let said = exec(bad);
        assert_eq!(said.code, 255, "{bad}");
        assert!(said.err.contains(word), "{bad}: {}", said.err);
    }
    delete(&bundle, "box");
    assert!(!sub.exists());
}

fn descriptors_are_handed_on_when_asked() {
    let script = "cat /proc/self/fd/3 2>/dev/null; cat /proc/self/fd/4 2>/dev/null; echo fds=$LISTEN_FDS pid=$LISTEN_PID; ls /proc/self/fd | wc -l";
    let bundle = Stage::new(script, |_, _| ());
    for name in ["three", "four"] {
        fs::write(bundle.world.path().join(name), format!("{name}\n")).expect("writable");
    }
    // A shell opens the descriptors, because std makes all of its own close-on-exec.
    let run = |prefix: &str, flags: &str| {
        let script = format!(
            "cd {}; exec 3<three 4<four; {prefix} exec {} --root state run --bundle bundle {flags} fds",
            bundle.world.path().display(),
            binary("rcr-runtime").display()
        );
        say(Command::new("sh").args(["-c", &script]).stdin(Stdio::null()))
    };
    // ls itself has one for the directory.
    assert_eq!(run("", "").out, "fds= pid=\n4\n");
    assert_eq!(run("", "--preserve-fds 1").out, "three\nfds= pid=\n5\n");
    assert_eq!(run("", "--preserve-fds=2").out, "three\nfour\nfds= pid=\n6\n");
    assert_eq!(run("export LISTEN_FDS=1 LISTEN_PID=$$;", "").out, "three\nfds=1 pid=1\n5\n");
    assert_eq!(
        run("export LISTEN_FDS=1 LISTEN_PID=$$;", "--preserve-fds 1").out,
        "three\nfour\nfds=1 pid=1\n6\n"
    );
    assert_eq!(run("export LISTEN_FDS=1 LISTEN_PID=1;", "").out, "fds= pid=\n4\n", "meant for somebody else");
    let said = run("", "--preserve-fds 9");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("unable to stat preserved-fd 2"), "{}", said.err);
}

fn readiness_is_forwarded_to_the_service_manager() {
    let bundle = Stage::new("sleep 1000", |_, _| ());
    let path = bundle.world.path().join("manager");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut start = bundle.world.runtime();
    start.args(["run", "-d", "--bundle"]).arg(&bundle.dir).arg("notifier").env("NOTIFY_SOCKET", &path);
    let mut start = start.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
    until("running", || say(bundle.world.runtime().args(["state", "notifier"])).out.contains("running"));
    // busybox has no sd_notify: the mount is checked inside, and the message is sent from outside.
    let mut exec = bundle.world.runtime();
    exec.args([
        "exec",
        "notifier",
        "sh",
        "-c",
        "test -S /run/notify/notify.sock && ! touch /run/notify/x 2>/dev/null",
    ]);
    quiet(&mut exec);
    assert!(start.try_wait().expect("waitable").is_none(), "it did not wait for readiness");
    let inside = bundle.world.path().join("state/notifier/notify/notify.sock");
    UnixDatagram::unbound().expect("a socket").send_to(b"READY=1\nSTATUS=up", &inside).expect("sent");
    let receive = || {
        let mut bytes = [0; 256];
        let count = manager.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(receive(), "READY=1\n");
    assert_eq!(receive(), format!("MAINPID={}\n", state(&bundle, "notifier")["pid"]));
    assert_eq!(receive(), "BARRIER=1");
    assert_eq!(end_of(&mut start), 0);
    delete(&bundle, "notifier");
}

fn errors_go_to_the_log_in_its_format() {
    let bundle = Stage::new("exit 0", |config, _| {
        config["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .push(json!({ "type": "network", "path": "/no/such" }));
    });
    let log = bundle.world.path().join("log.json");
    let mut run = bundle.world.runtime();
    run.arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "create", "--bundle"])
        .arg(&bundle.dir)
        .arg("logged");
    let said = say(&mut run);
    assert_eq!(said.code, 1);
    let text = fs::read_to_string(&log).expect("a log");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "error");
    assert!(last["time"].as_str().expect("a time").ends_with('Z'));
    // Once on standard error too, without decoration.
    assert_eq!(said.err.trim_end(), last["msg"].as_str().expect("a message"));
    let said = bundle.run("logged");
    assert!(said.err.starts_with("time=\"") && said.err.contains("level=error msg=\""), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    // A plan is in the debug log.
    let bundle = Stage::new("exit 0", |_, _| ());
    let mut run = bundle.world.runtime();
    run.args(["--debug", "--log"]).arg(&log).arg("run").arg("--bundle").arg(&bundle.dir).arg("debugged");
    assert_eq!(say(run.stdin(Stdio::null())).code, 0);
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.contains("level=debug msg=") && text.contains("pivot"), "{text}");
}

fn list_and_ps_know_the_containers() {
    // Two containers can't share a cgroup: each is in that of its id, which nobody else has.
    let [one, two] = ["one", "two"].map(|name| format!("{name}-{}", std::process::id()));
    let (one, two) = (one.as_str(), two.as_str());
    let bundle = Stage::running(one, |config, _| {
        config["annotations"] = json!({ "k": "v" });
        config["linux"]["cgroupsPath"] = json!("");
    });
    create(&bundle, two);
    let runtime = |args: &[&str]| ok(bundle.world.runtime().args(args));
    assert_eq!(runtime(&["list", "-q"]), format!("{one}\n{two}"));
    let table = runtime(&["list"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((lines[1][0], lines[1][2], lines[1][5]), (one, "running", "root"));
    assert_eq!((lines[2][0], lines[2][2]), (two, "created"));
    let json: Value = serde_json::from_str(&runtime(&["list", "--format", "json"])).expect("JSON");
    assert_eq!(json[0]["annotations"], json!({ "k": "v" }));
    assert_eq!(json[1]["owner"], "root");
    assert_eq!(json[0]["pid"], state(&bundle, one)["pid"]);
    let processes: Vec<i32> = serde_json::from_str(&runtime(&["ps", "--format", "json", one])).expect("JSON");
    assert!(processes.iter().any(|pid| json!(pid) == json[0]["pid"]), "{processes:?}");
    let table = runtime(&["ps", one]);
    assert!(
        table.lines().next().expect("a title").contains("PID") && table.contains("sleep 1000"),
        "{table}"
    );
    assert!(runtime(&["ps", one, "-o", "pid,comm"]).lines().count() >= 2);
    delete(&bundle, one);
    delete(&bundle, two);
    assert_eq!(runtime(&["list", "-f", "json"]), "null");
    fails(
        Command::new(binary("rcr-runtime")).args(["--root", "/no/such/root", "list"]),
        1,
        &["/no/such/root"],
    );
}

fn what_is_missing_is_said() {
    let bundle = Stage::new("exit 0", |_, _| ());
    let before = Snapshot::take();
    for command in ["checkpoint", "restore", "events", "update"] {
        fails(bundle.world.runtime().args([command, "x"]), 1, &[command, "yet"]);
    }
    fails(bundle.world.runtime().args(["frobnicate", "x"]), 3, &["No help topic for 'frobnicate'"]);
    fails(
        bundle.world.runtime().args(["create", "--frob", "x"]),
        1,
        &["flag provided but not defined: -frob"],
    );
    fails(bundle.world.runtime().args(["state"]), 1, &["requires exactly 1 argument(s)"]);
    fails(bundle.world.runtime().args(["kill", "x", "NOPE"]), 1, &["unknown signal", "NOPE"]);
    fails(bundle.world.runtime().args(["delete", "nobody"]), 1, &["does not exist"]);
    quiet(bundle.world.runtime().args(["delete", "--force", "nobody"]));
    fails(Command::new(binary("rcr-runtime")).args(["--root", "/", "list"]), 1, &["--root"]);
    assert_none_since(&before);
}
