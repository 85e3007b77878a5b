//! Containers that are started again when they end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{fails, ok};
use harness::{Case, cases};
use serde_json::json;

use crate::detached::{assert_no_container, inspect, rcr, status, until, world};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("restart":
    failures_are_tried_again_so_often [Root, BUSYBOX],
    always_is_until_the_user_stops_it [Root, BUSYBOX],
    a_stop_during_the_pause_works_at_once [Root, BUSYBOX],
    a_stop_is_done_when_somebody_starts_anew [Root, BUSYBOX],
    what_belongs_up_comes_up_at_boot [Root, BUSYBOX],
    want_of_memory_is_told [Root, BUSYBOX],
);

fn failures_are_tried_again_so_often() {
    let (world, image) = world();
    let before = Snapshot::take();
    let start = Instant::now();
    let flags = ["run", "-d", "--name", "bad", "--restart", "on-failure:3"];
    ok(&mut rcr(&world, &[&flags[..], &[&image, "sh", "-c", "echo try; exit 5"]].concat()));
    until("it gives up", || status(&world, "bad") == "exited");
    // 100, 200 and 400 ms lie between.
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
    assert_eq!(ok(&mut rcr(&world, &["logs", "bad"])), "try\ntry\ntry\ntry");
    let found = inspect(&world, "bad");
    assert_eq!((&found["RestartCount"], &found["State"]["ExitCode"]), (&json!(3), &json!(5)));
    assert_eq!(found["HostConfig"]["RestartPolicy"], json!({ "Name": "on-failure", "MaximumRetryCount": 3 }));
    // A user's start counts anew, and success is the end.
    ok(&mut rcr(&world, &["rm", "bad"]));
    let script = "n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) > /n; test $n -ge 2";
    ok(&mut rcr(
        &world,
        &["run", "-d", "--name", "good", "--restart", "on-failure", &image, "sh", "-c", script],
    ));
    until("it succeeds", || {
        inspect(&world, "good")["State"]["ExitCode"] == 0 && status(&world, "good") == "exited"
    });
    assert_eq!(inspect(&world, "good")["RestartCount"], 2);
    ok(&mut rcr(&world, &["rm", "good"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn always_is_until_the_user_stops_it() {
    let (world, image) = world();
    let before = Snapshot::take();
    ok(&mut rcr(&world, &["run", "-d", "--name", "up", "--restart", "always", &image, "sleep", "0.2"]));
    until("it was started again", || inspect(&world, "up")["RestartCount"].as_i64() >= Some(2));
    ok(&mut rcr(&world, &["stop", "-t", "1", "up"]));
    assert_eq!(status(&world, "up"), "exited");
    let count = inspect(&world, "up")["RestartCount"].clone();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((status(&world, "up").as_str(), &inspect(&world, "up")["RestartCount"]), ("exited", &count));
    ok(&mut rcr(&world, &["start", "up"]));
    until("the policy holds again", || inspect(&world, "up")["RestartCount"].as_i64() >= Some(1));
    // A removal by force is no end to start again after.
    ok(&mut rcr(&world, &["rm", "-f", "up"]));
    assert_no_container(&world);
    ok(&mut rcr(&world, &["run", "-d", "--name", "up", "--restart", "always", &image, "sleep", "60"]));
    ok(&mut rcr(&world, &["kill", "up"]));
    until("it stays down", || status(&world, "up") == "exited");
    ok(&mut rcr(&world, &["rm", "up"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn a_stop_during_the_pause_works_at_once() {
    let (world, image) = world();
    ok(&mut rcr(&world, &["run", "-d", "--name", "flap", "--restart", "always", &image, "false"]));
    // By then the pause has three seconds or more.
    until("the pauses are long", || inspect(&world, "flap")["RestartCount"].as_i64() >= Some(5));
    until("it pauses", || {
        let state = inspect(&world, "flap")["State"].clone();
        (&state["Status"], &state["Restarting"], &state["ExitCode"])
            == (&json!("restarting"), &json!(true), &json!(1))
    });
    until("ps tells", || ok(&mut rcr(&world, &["ps"])).contains("Restarting (1)"));
    let start = Instant::now();
    ok(&mut rcr(&world, &["stop", "flap"]));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(status(&world, "flap"), "exited");
    ok(&mut rcr(&world, &["start", "flap"]));
    until("it pauses", || status(&world, "flap") == "restarting");
    let start = Instant::now();
    ok(&mut rcr(&world, &["rm", "-f", "flap"]));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_no_container(&world);
}

fn a_stop_is_done_when_somebody_starts_anew() {
    let (world, image) = world();
    let before = Snapshot::take();
    let deaf = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"];
    ok(&mut rcr(&world, &[&["run", "-d", "--name", "xx", &image][..], &deaf].concat()));
    until("it is deaf", || ok(&mut rcr(&world, &["logs", "xx"])) == "deaf");
    let first = inspect(&world, "xx")["State"]["Pid"].clone();
    let stop = rcr(&world, &["stop", "-t", "4", "xx"]).stderr(Stdio::piped()).spawn().expect("rcr starts");
    let dir =
        world.path().join("store/containers").join(inspect(&world, "xx")["Id"].as_str().expect("an ID"));
    until("it was asked to stop", || dir.join("stopped").exists());
    ok(&mut rcr(&world, &["restart", "-t", "0", "xx"]));
    let output = stop.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    // The grace of the first one is no grace of the second.
    std::thread::sleep(Duration::from_secs(4));
    let state = inspect(&world, "xx")["State"].clone();
    assert!(state["Status"] == "running" && state["Pid"] != first, "{first} and {state}");
    ok(&mut rcr(&world, &["rm", "-f", "xx"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn what_belongs_up_comes_up_at_boot() {
    let (world, image) = world();
    for (name, policy) in [("a", "always"), ("b", "unless-stopped"), ("c", "unless-stopped"), ("d", "no")] {
        ok(&mut rcr(
            &world,
            &["run", "-d", "--name", &format!("box-{name}"), "--restart", policy, &image, "sleep", "60"],
        ));
    }
    // The user stops two of them; a boot, where nobody stops anything, ends the others.
    ok(&mut rcr(&world, &["stop", "-t", "0", "box-a", "box-c", "box-d"]));
    let started = ok(&mut rcr(&world, &["start", "--all", "--filter", "restart-policy=always"]));
    assert_eq!(started, "box-a");
    let started = ok(&mut rcr(&world, &["start", "--all", "--filter", "restart-policy=unless-stopped"]));
    assert_eq!(started, "", "one runs, and one was stopped by the user");
    assert_eq!(ok(&mut rcr(&world, &["start", "--all"])), "box-d");
    fails(rcr(&world, &["start", "--all", "box-a"]).stdout(Stdio::null()), 125, &["--all"]);
    ok(&mut rcr(&world, &["rm", "-f", "box-a", "box-b", "box-c", "box-d"]));
    assert_no_container(&world);
}

fn want_of_memory_is_told() {
    let (world, image) = world();
    let script = "x=a; while :; do x=$x$x; done";
    ok(&mut rcr(&world, &["run", "-d", "--name", "hungry", "--memory", "24m", &image, "sh", "-c", script]));
    assert_eq!(ok(&mut rcr(&world, &["wait", "hungry"])), "137");
    until("it is noted", || inspect(&world, "hungry")["State"]["OOMKilled"] == true);
    ok(&mut rcr(&world, &["rm", "hungry"]));
    assert_no_container(&world);
}
