//! `pause`, `resume`, `ps` and `kill`: what a container's processes feel of them, on cgroup v1 and v2.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::cgroup::Cgroup;
use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::stage::{Stage, create, delete, is_alive, quiet, state, until};
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use serde_json::json;

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("processes":
    a_paused_container_stands_still [Root, BUSYBOX],
    only_what_can_be_paused_is [Root, BUSYBOX],
    ps_lists_the_processes_of_the_container [Root, BUSYBOX, Program("ps")],
    a_signal_reaches_the_first_process_by_name_or_number [Root, BUSYBOX],
    kill_ends_a_container_in_every_state [Root, BUSYBOX],
    kill_takes_all_processes_where_nobody_else_would [Root, BUSYBOX],
    containers_in_one_pid_namespace_die_alone [Root, BUSYBOX],
);

fn a_paused_container_stands_still() {
    let stage = Stage::running("box", |config, _| {
        config["root"]["readonly"] = json!(false);
        let script = "i=0; while :; do i=$((i+1)); echo $i > /count; done & while :; do sleep 0.01; done";
        config["process"]["args"] = json!(["sh", "-c", script]);
    });
    let count = || fs::read_to_string(stage.rootfs().join("count")).unwrap_or_default();
    let moves = || {
        let before = count();
        std::thread::sleep(Duration::from_millis(200));
        count() != before
    };
    until("it runs", || !count().is_empty());
    for _ in 0..3 {
        quiet(stage.world.runtime().args(["pause", "box"]));
        assert_eq!(state(&stage, "box")["status"], "paused");
        assert!(!moves(), "paused");
        fails(
            stage.world.runtime().args(["exec", "box", "true"]),
            255,
            &["cannot exec in a paused container"],
        );
        quiet(stage.world.runtime().args(["resume", "box"]));
        assert_eq!(state(&stage, "box")["status"], "running");
        until("it goes on", &moves);
    }
    // An exec into it waits like everybody else there.
    quiet(stage.world.runtime().args(["pause", "box"]));
    let mut command = stage.world.runtime();
    command.args(["exec", "--ignore-paused", "box", "sh", "-c", "echo here"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("waitable").is_none(), "it ran in a paused container");
    quiet(stage.world.runtime().args(["resume", "box"]));
    let out = child.wait_with_output().expect("its output");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "here\n");
}

fn only_what_can_be_paused_is() {
    let stage = Stage::new("sleep 1000", |_, _| ());
    create(&stage, "box");
    quiet(stage.world.runtime().args(["pause", "box"]));
    assert_eq!(state(&stage, "box")["status"], "paused");
    quiet(stage.world.runtime().args(["resume", "box"]));
    assert_eq!(state(&stage, "box")["status"], "created");
    quiet(stage.world.runtime().args(["start", "box"]));
    fails(stage.world.runtime().args(["resume", "box"]), 1, &["container not paused"]);
    for command in ["pause", "resume", "ps", "kill"] {
        fails(stage.world.runtime().args([command, "nobody"]), 1, &["container does not exist"]);
        fails(stage.world.runtime().arg(command), 1, &["argument"]);
    }
    // The tries to pause another one have left this one alone.
    assert_eq!(state(&stage, "box")["status"], "running");
    quiet(stage.world.runtime().args(["kill", "box", "KILL"]));
    until("its end", || state(&stage, "box")["status"] == "stopped");
    fails(stage.world.runtime().args(["pause", "box"]), 1, &["container not running or created"]);
    fails(stage.world.runtime().args(["resume", "box"]), 1, &["container not paused"]);
}

fn ps_lists_the_processes_of_the_container() {
    let stage = Stage::running("box", |_, _| ());
    quiet(stage.world.runtime().args(["exec", "-d", "box", "sleep", "1234"]));
    let json = || -> Vec<i64> {
        serde_json::from_str(&ok(stage.world.runtime().args(["ps", "--format", "json", "box"])))
            .expect("JSON")
    };
    let cgroup = Cgroup::of(&stage);
    let mut want: Vec<i64> = cgroup.read("cgroup.procs").lines().map(|l| l.parse().expect("a pid")).collect();
    want.sort_unstable();
    assert_eq!(json(), want);
    assert_eq!(want.len(), 2);
    let table = ok(stage.world.runtime().args(["ps", "box"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        "UID PID PPID C STIME TTY TIME CMD".split(' ').collect::<Vec<_>>()
    );
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[2].contains("sleep 1234"), "{table}");
    for pid in &want {
        assert!(lines[1..].iter().any(|l| l.split_whitespace().nth(1) == Some(&pid.to_string())), "{table}");
    }
    // Everything behind the id is for ps(1).
    let table = ok(stage.world.runtime().args(["ps", "box", "-e", "-x"]));
    assert!(table.trim_start().starts_with("PID TTY      STAT   TIME COMMAND\n"), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let table = ok(stage.world.runtime().args(["ps", "box", "-eo", "ppid,pid,args"]));
    assert!(table.contains("sleep 1234"), "{table}");
    fails(
        stage.world.runtime().args(["ps", "box", "-eo", "args"]),
        1,
        &["couldn't find PID field in ps output"],
    );
    fails(stage.world.runtime().args(["ps", "box", "--no-such-option"]), 1, &["ps: "]);
    fails(stage.world.runtime().args(["ps", "-f", "xml", "box"]), 1, &["invalid format option"]);
    quiet(stage.world.runtime().args(["kill", "box", "KILL"]));
    until("its end", || state(&stage, "box")["status"] == "stopped");
    assert_eq!(ok(stage.world.runtime().args(["ps", "box"])).lines().count(), 1, "only the title");
    assert_eq!(json(), Vec::<i64>::new());
}

fn a_signal_reaches_the_first_process_by_name_or_number() {
    let stage = Stage::running("box", |config, _| {
        config["root"]["readonly"] = json!(false);
        let script = "for s in TERM USR1 USR2 HUP INT; do trap \"echo $s >> /log\" $s; done; echo up >> /log; \
                      while :; do sleep 0.01; done";
        config["process"]["args"] = json!(["sh", "-c", script]);
    });
    let log = || fs::read_to_string(stage.rootfs().join("log")).unwrap_or_default();
    until("it is ready", || log() == "up\n");
    let mut want = log();
    for (signal, name) in [
        (Some("USR1"), "USR1"),
        (Some("SIGUSR2"), "USR2"),
        (Some("sighup"), "HUP"),
        (Some("2"), "INT"),
        (None, "TERM"),
        (Some(""), "TERM"),
    ] {
        quiet(stage.world.runtime().args(["kill", "box"]).args(signal));
        want.push_str(&format!("{name}\n"));
        until(name, || log() == want);
    }
    // Only asks whether it is there.
    quiet(stage.world.runtime().args(["kill", "box", "0"]));
    quiet(stage.world.runtime().args(["kill", "--all", "box", "USR1"]));
    for signal in ["NOPE", "SIGNOPE", "1x"] {
        fails(stage.world.runtime().args(["kill", "box", signal]), 1, &["unknown signal", signal]);
    }
    fails(stage.world.runtime().args(["kill", "box", "99"]), 1, &["invalid argument"]);
    fails(
        stage.world.runtime().args(["kill", "box", "TERM", "more"]),
        1,
        &["requires a maximum of 2 argument"],
    );
    assert_eq!(state(&stage, "box")["status"], "running");
}

fn kill_ends_a_container_in_every_state() {
    for status in ["created", "running", "paused"] {
        let stage = Stage::new("sleep 1000", |_, _| ());
        create(&stage, "box");
        if status != "created" {
            quiet(stage.world.runtime().args(["start", "box"]));
        }
        if status == "paused" {
            quiet(stage.world.runtime().args(["pause", "box"]));
        }
        assert_eq!(state(&stage, "box")["status"], status);
        quiet(stage.world.runtime().args(["kill", "box", "KILL"]));
        until(status, || state(&stage, "box")["status"] == "stopped");
        for signal in ["0", "TERM", "KILL"] {
            fails(stage.world.runtime().args(["kill", "box", signal]), 1, &["container not running"]);
            quiet(stage.world.runtime().args(["kill", "-a", "box", signal]));
        }
        quiet(stage.world.runtime().args(["delete", "box"]));
    }
}

fn kill_takes_all_processes_where_nobody_else_would() {
    for init_is_gone in [false, true] {
        for paused in [false, true] {
            // Its children would outlive it, and go on forking.
            let stage = Stage::running("box", |config, _| {
                config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|n| n["type"] != "pid");
                let script = "for i in 1 2 3; do sh -c 'while :; do sleep 0.01; done' & done; sleep 1000";
                config["process"]["args"] = json!(["sh", "-c", script]);
            });
            let cgroup = Cgroup::of(&stage);
            until("its children", || cgroup.read("cgroup.procs").lines().count() > 4);
            if init_is_gone {
                ok(Command::new("kill").args(["-KILL", &state(&stage, "box")["pid"].to_string()]));
                until("its first process's end", || state(&stage, "box")["status"] == "stopped");
            } else if paused {
                quiet(stage.world.runtime().args(["pause", "box"]));
            }
            quiet(stage.world.runtime().args(["kill", "box", "KILL"]));
            until("the end of all", || cgroup.read("cgroup.procs").is_empty());
            assert_eq!(state(&stage, "box")["status"], "stopped");
            fails(stage.world.runtime().args(["kill", "box", "KILL"]), 1, &["container not running"]);
            quiet(stage.world.runtime().args(["delete", "box"]));
        }
    }
}

fn containers_in_one_pid_namespace_die_alone() {
    let first = Stage::running("first", |_, _| ());
    let pid = state(&first, "first")["pid"].as_i64().expect("a pid");
    let second = Stage::running("second", |config, _| {
        for namespace in config["linux"]["namespaces"].as_array_mut().expect("a list") {
            if namespace["type"] == "pid" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
            }
        }
    });
    quiet(second.world.runtime().args(["exec", "-d", "second", "sleep", "1000"]));
    let pids: Vec<i32> =
        serde_json::from_str(&ok(second.world.runtime().args(["ps", "-f", "json", "second"]))).expect("JSON");
    assert_eq!(pids.len(), 2);
    quiet(second.world.runtime().args(["kill", "second", "9"]));
    until("the end of all", || pids.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(state(&first, "first")["status"], "running");
    delete(&second, "second");
    let said = say(first.world.runtime().args(["exec", "first", "true"]));
    assert_eq!(said.code, 0, "{}", said.err);
}
