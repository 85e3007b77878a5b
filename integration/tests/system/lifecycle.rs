//! The life of a container under rcr-runtime: hooks, starts, deletes, and what a killed or dead process leaves.

use std::fs::{self};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path as FileNeed, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, create, delete, end_of, is_alive, quiet, state, until};
use harness::world::{fails, ok};
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
);

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
