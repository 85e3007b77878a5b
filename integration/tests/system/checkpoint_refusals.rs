//! checkpoint and restore: what is refused before criu is asked, and what is left when criu fails. No test wants a kernel on which criu works.

use std::fs::{self};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use harness::host::Need::{Criu, Path as FileNeed, Program, Root};
use harness::host::{Need, missing};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{create, delete, quiet, state, until};
use harness::world::{Said, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

use crate::checkpoint::{COUNTER, change, checkpoint, count, is_gone, place, restore, stage, start};

const BUSYBOX: Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("checkpoint_refusals":
    a_restore_that_fails_leaves_nothing [Root, BUSYBOX, Program("criu")],
    a_checkpoint_that_fails_leaves_the_container [Root, BUSYBOX, Program("criu")],
    without_criu_both_say_so [Root, BUSYBOX],
    hostile_images_touch_nothing_outside [Root, BUSYBOX],
    flags_and_states_are_checked [Root, BUSYBOX],
    features_tell_whether_criu_works [Root, Program("criu")],
);

fn a_restore_that_fails_leaves_nothing() {
    let bundle = stage(COUNTER, |_, _| ());
    let before = Snapshot::take();
    fails(&mut restore(&bundle, "none", "images", &["-d"]), 1, &["images"]);
    assert!(!place(&bundle, "images").exists());
    fs::create_dir(place(&bundle, "images")).expect("writable");
    fails(&mut restore(&bundle, "none", "images", &["-d"]), 1, &["descriptors.json"]);
    fs::write(place(&bundle, "images/descriptors.json"), "[\"\",\"\",\"\"]").expect("writable");
    // Nothing is in there: criu says so, or that it cannot work here.
    for flags in [&["-d"][..], &[]] {
        let said = say(restore(&bundle, "none", "images", flags).stdin(Stdio::null()));
        assert_eq!(said.code, 1, "{}", said.err);
        let log = place(&bundle, "images/restore.log");
        for word in ["criu failed (restore): ", "its log is ", log.to_str().expect("UTF-8")] {
            assert!(said.err.contains(word), "{word} is not in {}", said.err);
        }
        assert!(cause_is_of(&said, &log), "{}", said.err);
        is_gone(&bundle, "none");
        assert_none_since(&before);
    }
}

/// Whether a message quotes an error of criu's log.
fn cause_is_of(said: &Said, log: &Path) -> bool {
    let text = fs::read_to_string(log).expect("a log");
    let mut errors =
        text.lines().filter_map(|line| line.split_once("Error (")?.1.split_once("): ")).map(|(_, e)| e);
    errors.any(|error| said.err.contains(error.trim_end_matches('.').split('"').next().unwrap_or_default()))
}

fn a_checkpoint_that_fails_leaves_the_container() {
    let bundle = stage(COUNTER, |config, dir| {
        let mount = json!({ "destination": "/host", "type": "bind", "source": dir, "options": ["bind"] });
        config["mounts"].as_array_mut().expect("mounts").push(mount);
    });
    let before = Snapshot::take();
    start(&bundle, "counter");
    let during = Snapshot::take();
    until("a count", || count(&bundle) > 3);
    if missing(Criu).is_none() {
        // A file system that criu does not know.
        let pid = state(&bundle, "counter")["pid"].to_string();
        ok(Command::new("nsenter").args(["-t", &pid, "-m", "mount", "-t", "ramfs", "ramfs", "/tmp"]));
    }
    let said = say(&mut checkpoint(&bundle, "counter", "images", &[]));
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("criu failed (dump): "), "{}", said.err);
    assert!(cause_is_of(&said, &place(&bundle, "images/dump.log")), "{}", said.err);
    let counted = count(&bundle);
    until("the next count", || count(&bundle) > counted);
    assert_eq!(state(&bundle, "counter")["status"], "running");
    assert_none_since(&during);
    delete(&bundle, "counter");
    assert_none_since(&before);
}

fn without_criu_both_say_so() {
    let bundle = stage(COUNTER, |_, _| ());
    let before = Snapshot::take();
    start(&bundle, "counter");
    let words = ["criu is not installed", "executable file not found in $PATH"];
    fails(checkpoint(&bundle, "counter", "images", &[]).env("PATH", "/no/such/dir"), 1, &words);
    assert!(!place(&bundle, "images").exists());
    assert_eq!(state(&bundle, "counter")["status"], "running");
    delete(&bundle, "counter");
    fs::create_dir(place(&bundle, "images")).expect("writable");
    fs::write(place(&bundle, "images/descriptors.json"), "[]").expect("writable");
    fails(restore(&bundle, "counter", "images", &["-d"]).env("PATH", "/no/such/dir"), 1, &words);
    let features = ok(bundle.world.runtime().arg("features").env("PATH", "/no/such/dir"));
    assert!(features.contains("\"org.opencontainers.runc.checkpoint.enabled\": \"false\""), "{features}");
    assert_none_since(&before);
}

fn hostile_images_touch_nothing_outside() {
    static NAMES: LazyLock<[&str; 4]> =
        LazyLock::new(|| ["restore.log", "descriptors.json", "pages-1.img", "stats-restore"]);
    let bundle = stage("exit 0", |_, _| ());
    let before = Snapshot::take();
    let canary = place(&bundle, "canary");
    fs::write(&canary, "[\"pipe:[1]\"]").expect("writable");
    for name in NAMES.iter() {
        let images = place(&bundle, "images");
        fs::create_dir(&images).expect("writable");
        fs::write(images.join("descriptors.json"), "[]").expect("writable");
        let _ = fs::remove_file(images.join(name));
        symlink(&canary, images.join(name)).expect("writable");
        for mut command in
            [restore(&bundle, "led", "images", &["-d"]), restore(&bundle, "led", "images", &[])]
        {
            fails(command.stdin(Stdio::null()), 1, &[name, "a symbolic link", "not a plain file"]);
        }
        fs::remove_dir_all(&images).expect("removable");
        assert_none_since(&before);
    }
    // A checkpoint into such a directory would write through the link.
    change(&bundle, |config| config["process"]["args"] = json!(["/bin/sh", "-c", "sleep 1000"]));
    start(&bundle, "written");
    let images = place(&bundle, "images");
    fs::create_dir(&images).expect("writable");
    symlink(&canary, images.join("core-1.img")).expect("writable");
    let said = say(&mut checkpoint(&bundle, "written", "images", &[]));
    assert_eq!(said.code, 1);
    let refused = said.err.contains("a symbolic link") || said.err.contains("criu is not installed");
    assert!(refused, "{}", said.err);
    assert_eq!(fs::read_to_string(&canary).expect("readable"), "[\"pipe:[1]\"]");
    delete(&bundle, "written");
    assert_none_since(&before);
}

fn flags_and_states_are_checked() {
    let bundle = stage("sleep 1000", |_, _| ());
    let before = Snapshot::take();
    create(&bundle, "box");
    fails(&mut checkpoint(&bundle, "box", "images", &[]), 1, &["cannot be checkpointed in created state"]);
    quiet(bundle.world.runtime().args(["start", "box"]));
    for (flags, words) in [
        (&["--page-server", "here"][..], &["--page-server ADDRESS:PORT"][..]),
        (&["--page-server", "::1:27"], &["--page-server ADDRESS:PORT"]),
        (&["--page-server", "here:x"], &["Invalid port number"]),
        (&["--empty-ns", "pid"], &["namespace", "pid", "is not supported"]),
        (&["--manage-cgroups-mode", "hard"], &["manage-cgroups-mode", "hard"]),
        (&["--status-fd", "x"], &["--status-fd"]),
        (&["--lsm-profile", "x"], &["flag provided but not defined"]),
        (&["--lsm-mount-context", "x"], &["flag provided but not defined"]),
    ] {
        fails(&mut checkpoint(&bundle, "box", "images", flags), 1, words);
    }
    fails(&mut checkpoint(&bundle, "nobody", "images", &[]), 1, &["does not exist"]);
    fails(&mut restore(&bundle, "../x", "images", &["-d"]), 1, &["images"]);
    assert!(!place(&bundle, "images").exists(), "a refusal left a directory");
    quiet(bundle.world.runtime().args(["kill", "box", "KILL"]));
    until("its end", || state(&bundle, "box")["status"] == "stopped");
    fails(&mut checkpoint(&bundle, "box", "images", &[]), 1, &["cannot be checkpointed in stopped state"]);
    delete(&bundle, "box");
    assert_none_since(&before);
    let rootless = |command: &mut Command| {
        let words: Vec<_> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
        let mut as_user = Command::new("setpriv");
        as_user.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(words);
        as_user
    };
    for mut command in [checkpoint(&bundle, "box", "images", &[]), restore(&bundle, "box", "images", &["-d"])]
    {
        let said = say(&mut rootless(&mut command));
        // The program may lie where others cannot get at it.
        assert!(
            said.code != 0 && (said.err.contains("needs root") || said.err.contains("denied")),
            "{}",
            said.err
        );
    }
}

fn features_tell_whether_criu_works() {
    let world = harness::world::World::new();
    let features: Value = serde_json::from_str(&ok(world.runtime().arg("features"))).expect("JSON");
    let works = missing(Criu).is_none();
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], works.to_string());
    let unsafe_ones = features["potentiallyUnsafeConfigAnnotations"].as_array().expect("a list");
    assert!(unsafe_ones.contains(&json!("org.criu.config")));
}
