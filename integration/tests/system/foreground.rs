//! Terminals, signals and descriptors between the user of rcr-runtime and a process in a container.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::bundle::Bundle;
use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, delete, end_of, quiet, state, until};
use harness::world::{binary, fails, ok, say};
use harness::{Case, cases};
use serde_json::json;

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("foreground":
    the_terminal_goes_to_the_console_socket [Root, BUSYBOX],
    a_terminal_in_the_foreground_is_relayed [Root, BUSYBOX, Program("python3")],
    signals_reach_the_foreground_process [Root, BUSYBOX],
    signals_that_the_caller_ignores_are_not_ignored_inside [Root, BUSYBOX],
    a_kept_container_stays_after_its_end [Root, BUSYBOX],
    orphans_come_to_the_runtime_unless_it_is_told_not_to_take_them [Root, BUSYBOX],
    exec_on_a_terminal [Root, BUSYBOX, Program("python3")],
    descriptors_are_handed_on_when_asked [Root, BUSYBOX],
    readiness_is_forwarded_to_the_service_manager [Root, BUSYBOX],
);

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

/// As under nohup(1), or as a background job of a script.
fn signals_that_the_caller_ignores_are_not_ignored_inside() {
    let bundle = Stage::new("exec grep -E 'Sig(Ign|Blk)' /proc/self/status", |_, _| ());
    let mut run = Command::new("sh");
    run.args(["-c", "trap '' HUP INT QUIT TERM XFSZ; exec \"$@\"", "sh"]).arg(binary("rcr-runtime"));
    run.arg("--root").arg(bundle.world.path().join("state"));
    run.arg("run").arg("--bundle").arg(&bundle.dir).arg("background").stdin(Stdio::null());
    assert_eq!(ok(&mut run), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000");
}

fn a_kept_container_stays_after_its_end() {
    let bundle = Stage::new("exit 3", |_, _| {});
    let before = Snapshot::take();
    let run = |flags: &[&str]| {
        let mut run = bundle.world.runtime();
        say(run.arg("run").args(flags).arg("--bundle").arg(&bundle.dir).arg("kept").stdin(Stdio::null())).code
    };
    assert_eq!(run(&["--keep"]), 3);
    assert_eq!(state(&bundle, "kept")["status"], "stopped");
    fails(
        bundle.world.runtime().arg("run").arg("--bundle").arg(&bundle.dir).arg("kept"),
        1,
        &["already exists"],
    );
    delete(&bundle, "kept");
    assert_none_since(&before);
    assert_eq!(run(&[]), 3);
    assert_none_since(&before);
}

fn orphans_come_to_the_runtime_unless_it_is_told_not_to_take_them() {
    // Whose child the first process is, and whose an orphan of it is. No pid namespace: that has its own reaper.
    let script = "echo $PPID; (sh -c 'sleep 0.2; cut -d\" \" -f4 /proc/$$/stat' &); sleep 0.6";
    let bundle = Stage::new(script, |config, _| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "pid");
    });
    let before = Snapshot::take();
    for (flags, taken) in [(&[][..], true), (&["--no-subreaper"], false)] {
        let mut run = bundle.world.runtime();
        let out = ok(run
            .arg("run")
            .args(flags)
            .arg("--bundle")
            .arg(&bundle.dir)
            .arg("parent")
            .stdin(Stdio::null()));
        let parents: Vec<&str> = out.lines().collect();
        assert_eq!(parents.len(), 2, "{out}");
        assert_eq!(parents[0] == parents[1], taken, "{flags:?}: {out}");
    }
    assert_none_since(&before);
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
