//! Many containers, one after the other and at once: none hangs, and nothing stays behind. `RCR_STRESS=full` runs ten
//! times as many.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::bundle::Bundle;
use harness::host::Need::{Path as File, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::{Case, cases};
use serde_json::json;

pub(crate) const CASES: &[Case] = cases!("stress":
    run_in_sequence [Root, File("/bin/busybox")],
    run_at_once [Root, File("/bin/busybox")],
    create_start_delete_in_sequence [Root, File("/bin/busybox")],
    create_start_delete_at_once [Root, File("/bin/busybox")],
    exec_at_once_in_one_container [Root, File("/bin/busybox")],
);

/// A command that takes longer is said to hang. Fifty at once on one CPU take a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// `few`, or ten times as many if `$RCR_STRESS` asks for it.
fn times(few: usize) -> usize {
    if std::env::var_os("RCR_STRESS").is_some_and(|v| v == "full") { few * 10 } else { few }
}

fn bundle(program: &[&str]) -> Bundle {
    Bundle::new("", |config, _| {
        config["process"]["args"] = json!(program);
        // Each in the cgroup of its id.
        config["linux"].as_object_mut().expect("an object").remove("cgroupsPath");
    })
}

fn id(number: usize) -> String {
    format!("rcr-stress-{}-{number}", std::process::id())
}

/// A command of the runtime, with its output in a file, which no process that stays can keep open.
fn spawn(bundle: &Bundle, args: &[&str], id: &str) -> Child {
    let mut command = bundle.world.runtime();
    command.args(args);
    if ["run", "create"].contains(&args[0]) {
        command.arg("--bundle").arg(&bundle.dir);
    }
    let log = fs::File::create(bundle.world.path().join(format!("log-{id}"))).expect("writable");
    command.arg(id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("spawned")
}

/// Waits for all of them, and panics with what the first that hung or failed said.
fn finish(bundle: &Bundle, what: &str, mut children: Vec<(String, Child)>) {
    let deadline = Instant::now() + PATIENCE;
    while let Some((id, mut child)) = children.pop() {
        let status = loop {
            match child.try_wait().expect("a child") {
                Some(status) => break status.to_string(),
                None if Instant::now() > deadline => {
                    let stack = fs::read_to_string(format!("/proc/{}/stack", child.id())).unwrap_or_default();
                    let _ = child.kill();
                    break format!("hangs:\n{stack}");
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let log = fs::read_to_string(bundle.world.path().join(format!("log-{id}"))).unwrap_or_default();
        assert_eq!(status, "exit status: 0", "{what} {id}: {log}");
    }
}

fn one(bundle: &Bundle, args: &[&str], id: &str) {
    finish(bundle, args[0], vec![(id.to_owned(), spawn(bundle, args, id))]);
}

fn all(bundle: &Bundle, args: &[&str], count: usize) {
    let children = (0..count).map(|n| (id(n), spawn(bundle, args, &id(n)))).collect();
    finish(bundle, args[0], children);
}

/// Runs `scene`, and compares the host, the state directory and this process before and after.
fn leaves_nothing(bundle: &Bundle, scene: impl FnOnce()) {
    let own = || -> BTreeSet<String> {
        let fds = fs::read_dir("/proc/self/fd").expect("own descriptors").flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).map(|to| to.display().to_string()).collect()
    };
    let (before, descriptors) = (Snapshot::take(), own());
    scene();
    assert_none_since(&before);
    let state = bundle.world.path().join("state");
    let left: Vec<_> = fs::read_dir(&state).into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left in the state directory: {left:?}");
    let more: Vec<_> = own().difference(&descriptors).cloned().collect();
    assert!(more.iter().all(|to| to.starts_with("/proc/")), "open descriptors: {more:?}");
    assert!(!has_children(), "a process was left to this one");
}

/// Whether this process has children, dead ones included.
fn has_children() -> bool {
    let own = Path::new("/proc/self/task");
    fs::read_dir(own).expect("own threads").flatten().any(|thread| {
        fs::read_to_string(thread.path().join("children")).is_ok_and(|list| !list.trim().is_empty())
    })
}

fn run_in_sequence() {
    let bundle = bundle(&["/bin/true"]);
    leaves_nothing(&bundle, || {
        for number in 0..times(200) {
            one(&bundle, &["run"], &id(number));
        }
    });
}

fn run_at_once() {
    let bundle = bundle(&["/bin/true"]);
    leaves_nothing(&bundle, || {
        for _ in 0..4 {
            all(&bundle, &["run"], times(50).min(200));
        }
    });
}

fn create_start_delete_in_sequence() {
    let bundle = bundle(&["/bin/sleep", "1000"]);
    leaves_nothing(&bundle, || {
        for number in 0..times(40) {
            let id = id(number);
            one(&bundle, &["create"], &id);
            one(&bundle, &["start"], &id);
            one(&bundle, &["delete", "--force"], &id);
            // And without having been started.
            one(&bundle, &["create"], &id);
            one(&bundle, &["delete"], &id);
        }
    });
}

fn create_start_delete_at_once() {
    let bundle = bundle(&["/bin/sleep", "1000"]);
    let count = times(20).min(200);
    leaves_nothing(&bundle, || {
        all(&bundle, &["create"], count);
        all(&bundle, &["start"], count);
        all(&bundle, &["delete", "--force"], count);
    });
}

fn exec_at_once_in_one_container() {
    let bundle = bundle(&["/bin/sleep", "1000"]);
    let name = id(0);
    leaves_nothing(&bundle, || {
        one(&bundle, &["create"], &name);
        one(&bundle, &["start"], &name);
        let exec = |number: usize| {
            let mut command: Command = bundle.world.runtime();
            let log =
                fs::File::create(bundle.world.path().join(format!("log-exec-{number}"))).expect("writable");
            command.args(["exec", &name, "/bin/true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            (format!("exec-{number}"), command.spawn().expect("spawned"))
        };
        for _ in 0..4 {
            finish(&bundle, "exec", (0..times(25).min(100)).map(exec).collect());
        }
        one(&bundle, &["delete", "--force"], &name);
    });
}
