//! Health checks: run by the container's monitor at their times, counted by docker's rules, gone with the container.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Root};
use harness::image::busybox_layout;
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, say};
use harness::{Case, cases};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::detached::{assert_no_container, inspect, rcr, status, until, world};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("health":
    a_container_becomes_healthy_unhealthy_and_healthy_again [Root, BUSYBOX],
    the_image_says_what_is_checked_and_the_user_may_differ [Root, BUSYBOX],
    a_check_that_takes_too_long_is_killed_with_what_it_started [Root, BUSYBOX],
    failures_in_the_start_period_do_not_count [Root, BUSYBOX],
    checks_do_not_overlap_and_pause_with_the_container [Root, BUSYBOX],
    output_is_kept_up_to_a_length_and_five_times [Root, BUSYBOX],
    in_the_foreground_it_is_checked_too [Root, BUSYBOX],
    checks_end_with_container_and_monitor [Root, BUSYBOX],
    the_monitor_stays_small [Root, BUSYBOX],
    flags_that_make_no_sense_are_refused [Root, BUSYBOX],
);

fn health(world: &World, name: &str) -> Value {
    inspect(world, name)["State"]["Health"].clone()
}

fn is(world: &World, name: &str, wanted: &str) -> bool {
    health(world, name)["Status"] == wanted
}

fn exec(world: &World, name: &str, script: &str) {
    ok(&mut rcr(world, &["exec", name, "sh", "-c", script]));
}

/// Processes of the whole host with this word in their command line.
fn processes(word: &str) -> Vec<String> {
    let lines = ok(Command::new("ps").args(["-eo", "pid,args"]));
    let wanted = |line: &&str| line.contains(word) && !line.contains("ps -eo");
    lines.lines().filter(wanted).map(str::to_owned).collect()
}

fn a_container_becomes_healthy_unhealthy_and_healthy_again() {
    let (world, image) = world();
    let before = Snapshot::take();
    let flags = [
        "run",
        "-d",
        "--name",
        "web",
        "--health-cmd",
        "cat /ok",
        "--health-interval=300ms",
        "--health-retries=2",
    ];
    ok(&mut rcr(&world, &[&flags[..], &[&image, "sh", "-c", "sleep 100"]].concat()));
    let row = || ok(&mut rcr(&world, &["ps", "-a", "--format", "{{.Status}}"]));
    let found = health(&world, "web");
    assert_eq!((&found["Status"], &found["FailingStreak"]), (&json!("starting"), &json!(0)));
    assert!(row().ends_with(" (health: starting)"), "{}", row());
    until("unhealthy", || is(&world, "web", "unhealthy"));
    assert!(row().ends_with(" (unhealthy)"), "{}", row());
    let found = health(&world, "web");
    assert!(found["FailingStreak"].as_i64() >= Some(2), "{found}");
    let last = found["Log"].as_array().and_then(|log| log.last()).expect("a check").clone();
    assert_eq!(last["ExitCode"], 1);
    assert!(last["Output"].as_str().expect("text").contains("can't open '/ok': No such file"), "{last}");
    assert!(last["Start"].as_str() < last["End"].as_str(), "{last}");
    exec(&world, "web", "echo fine > /ok");
    until("healthy", || is(&world, "web", "healthy"));
    let found = health(&world, "web");
    assert_eq!(found["FailingStreak"], 0);
    assert_eq!(found["Log"].as_array().and_then(|log| log.last()).expect("a check")["Output"], "fine\n");
    assert!(row().starts_with("Up ") && row().ends_with(" (healthy)"), "{}", row());
    ok(&mut rcr(&world, &["create", "--name", "plain", &image]));
    let by = |health: &str| {
        let filter = format!("health={health}");
        ok(&mut rcr(&world, &["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]))
    };
    assert_eq!((by("healthy"), by("none"), by("starting")), ("web".into(), "plain".into(), String::new()));
    // docker: what does not run is not healthy; started again it begins anew.
    ok(&mut rcr(&world, &["stop", "-t", "0", "web"]));
    assert_eq!((by("unhealthy").as_str(), row().contains("health")), ("web", false));
    ok(&mut rcr(&world, &["start", "web"]));
    assert_eq!(health(&world, "web"), json!({ "Status": "starting", "FailingStreak": 0, "Log": [] }));
    until("healthy again", || is(&world, "web", "healthy"));
    ok(&mut rcr(&world, &["rm", "-f", "web", "plain"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn the_image_says_what_is_checked_and_the_user_may_differ() {
    let world = World::new();
    let check = json!({ "Test": ["CMD", "test", "-f", "/tmp/up"], "Interval": 200_000_000, "Retries": 1 });
    let config = json!({ "Cmd": ["sleep", "100"], "Env": ["PATH=/bin"], "Healthcheck": check });
    let image = world.pulled(&busybox_layout(&world.path().join("layout"), config));
    let of_image: Value = serde_json::from_str(&ok(&mut rcr(&world, &["inspect", &image]))).expect("JSON");
    assert_eq!(of_image[0]["Config"]["Healthcheck"], check);
    ok(&mut rcr(&world, &["run", "-d", "--name", "aa", &image]));
    until("the image's check fails", || is(&world, "aa", "unhealthy"));
    exec(&world, "aa", "touch /tmp/up");
    until("the image's check succeeds", || is(&world, "aa", "healthy"));
    ok(&mut rcr(
        &world,
        &["run", "-d", "--name", "bb", "--health-cmd", "echo $HOME; true", "-u", "1000", &image],
    ));
    assert_eq!(
        inspect(&world, "bb")["Config"]["Healthcheck"],
        json!({ "Test": ["CMD-SHELL", "echo $HOME; true"], "Interval": 200_000_000, "Retries": 1 })
    );
    until("the user's check", || is(&world, "bb", "healthy"));
    assert_eq!(health(&world, "bb")["Log"][0]["Output"], "/home/alice\n", "as the container's own user");
    ok(&mut rcr(&world, &["run", "-d", "--name", "cc", "--no-healthcheck", &image]));
    assert_eq!(health(&world, "cc"), Value::Null);
    assert_eq!(inspect(&world, "cc")["Config"]["Healthcheck"]["Test"], json!(["NONE"]));
    // A command that is not there fails, and says so.
    ok(&mut rcr(
        &world,
        &["commit", "-c", "HEALTHCHECK --interval=100ms --retries=1 CMD [\"/no/such\"]", "bb", "bad:1"],
    ));
    ok(&mut rcr(&world, &["run", "-d", "--name", "dd", "bad:1"]));
    until("no such command", || is(&world, "dd", "unhealthy"));
    let first = health(&world, "dd")["Log"][0].clone();
    assert_eq!(first["ExitCode"], -1);
    assert!(first["Output"].as_str().expect("text").contains("\"/no/such\" not found"), "{first}");
    // What was asked for at run is a part of what is committed.
    ok(&mut rcr(&world, &["commit", "bb", "good:1"]));
    let committed: Value = serde_json::from_str(&ok(&mut rcr(&world, &["inspect", "good:1"]))).expect("JSON");
    assert_eq!(committed[0]["Config"]["Healthcheck"]["Test"], json!(["CMD-SHELL", "echo $HOME; true"]));
    fails(
        &mut rcr(&world, &["commit", "-c", "HEALTHCHECK maybe", "bb"]),
        1,
        &["HEALTHCHECK maybe", "--interval"],
    );
    ok(&mut rcr(&world, &["rm", "-f", "aa", "bb", "cc", "dd"]));
    assert_no_container(&world);
}

fn a_check_that_takes_too_long_is_killed_with_what_it_started() {
    let (world, image) = world();
    let before = Snapshot::take();
    let check = "echo begun; sleep 4321; true";
    let flags =
        ["--health-cmd", check, "--health-interval=100ms", "--health-timeout=500ms", "--health-retries=1"];
    ok(&mut rcr(&world, &[&["run", "-d", "--name", "slow"], &flags[..], &[&image, "sleep", "100"]].concat()));
    until("unhealthy", || is(&world, "slow", "unhealthy"));
    let found = health(&world, "slow")["Log"][0].clone();
    assert_eq!(found["ExitCode"], -1);
    let output = found["Output"].as_str().expect("text");
    assert_eq!(output, "Health check exceeded timeout (500ms): begun\n");
    // One may be running now, but not the ones before it.
    std::thread::sleep(Duration::from_secs(2));
    let left = processes("sleep 4321");
    assert!(left.iter().filter(|line| !line.contains("sh -c")).count() <= 1, "{left:?}");
    ok(&mut rcr(&world, &["rm", "-f", "slow"]));
    assert_eq!(processes("sleep 4321"), Vec::<String>::new());
    // Nor has one more time that never stops talking.
    let flags =
        ["--health-cmd", "yes", "--health-interval=100ms", "--health-timeout=300ms", "--health-retries=1"];
    ok(&mut rcr(
        &world,
        &[&["run", "-d", "--name", "talker"], &flags[..], &[&image, "sleep", "100"]].concat(),
    ));
    until("unhealthy", || is(&world, "talker", "unhealthy"));
    ok(&mut rcr(&world, &["rm", "-f", "talker"]));
    assert_none_since(&before);
}

fn failures_in_the_start_period_do_not_count() {
    let (world, image) = world();
    let flags = [
        "--health-cmd",
        "test -f /ok",
        "--health-interval=1h",
        "--health-retries=1",
        "--health-start-period=1h",
        "--health-start-interval=200ms",
    ];
    ok(&mut rcr(
        &world,
        &[&["run", "-d", "--name", "young"], &flags[..], &[&image, "sleep", "100"]].concat(),
    ));
    until("three checks", || health(&world, "young")["Log"].as_array().is_some_and(|log| log.len() >= 3));
    let found = health(&world, "young");
    assert_eq!((&found["Status"], &found["FailingStreak"]), (&json!("starting"), &json!(0)), "{found}");
    exec(&world, "young", "touch /ok");
    until("healthy", || is(&world, "young", "healthy"));
    // From then on the usual interval counts: an hour.
    let count = health(&world, "young")["Log"].clone();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(health(&world, "young")["Log"], count);
    ok(&mut rcr(&world, &["rm", "-f", "young"]));
}

fn checks_do_not_overlap_and_pause_with_the_container() {
    let (world, image) = world();
    let check = "mkdir /lock || echo overlap >> /log; echo x >> /log; sleep 0.3; rmdir /lock";
    let flags = ["--health-cmd", check, "--health-interval=1ms", "--health-retries=1000"];
    ok(&mut rcr(&world, &[&["run", "-d", "--name", "busy"], &flags[..], &[&image, "sleep", "100"]].concat()));
    let log = || ok(&mut rcr(&world, &["exec", "busy", "cat", "/log"]));
    until("some checks", || say(&mut rcr(&world, &["exec", "busy", "cat", "/log"])).out.lines().count() > 4);
    assert!(!log().contains("overlap"), "{}", log());
    ok(&mut rcr(&world, &["pause", "busy"]));
    std::thread::sleep(Duration::from_millis(500));
    let paused = health(&world, "busy");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(health(&world, "busy"), paused, "nothing is checked");
    ok(&mut rcr(&world, &["unpause", "busy"]));
    until("it goes on", || health(&world, "busy") != paused);
    assert!(!log().contains("overlap"), "{}", log());
    let found = health(&world, "busy");
    let failed: Vec<_> =
        found["Log"].as_array().expect("a list").iter().filter(|one| one["ExitCode"] == -1).collect();
    assert!(failed.is_empty(), "{failed:?}");
    ok(&mut rcr(&world, &["rm", "-f", "busy"]));
}

fn output_is_kept_up_to_a_length_and_five_times() {
    let (world, image) = world();
    // A process that keeps the pipe open is not waited for.
    let check = "sleep 1000 & yes | head -c 100000; echo end >&2";
    let flags = ["--health-cmd", check, "--health-interval=50ms"];
    ok(&mut rcr(&world, &[&["run", "-d", "--name", "loud"], &flags[..], &[&image, "sleep", "100"]].concat()));
    until("five", || health(&world, "loud")["Log"].as_array().is_some_and(|log| log.len() == 5));
    let first = health(&world, "loud")["Log"][0].clone();
    until("a sixth", || health(&world, "loud")["Log"][0] != first);
    let found = health(&world, "loud");
    assert_eq!(found["Log"].as_array().map(Vec::len), Some(5));
    let output = found["Log"][0]["Output"].as_str().expect("text");
    assert!(
        output.len() == 4096 && output.starts_with("y\ny\n") && output.ends_with("..."),
        "{}",
        output.len()
    );
    ok(&mut rcr(&world, &["rm", "-f", "loud"]));
    assert_no_container(&world);
}

fn in_the_foreground_it_is_checked_too() {
    let (world, image) = world();
    let before = Snapshot::take();
    let flags = ["run", "--rm", "--name", "fore", "--health-cmd", "sleep 0.1", "--health-interval=100ms"];
    let script = "while ! test -f /end; do sleep 0.1; done; exit 5";
    let mut child = rcr(&world, &[&flags[..], &[&image, "sh", "-c", script]].concat()).spawn().expect("rcr");
    until("healthy", || is(&world, "fore", "healthy"));
    exec(&world, "fore", "touch /end");
    assert_eq!(child.wait().expect("a child").code(), Some(5));
    let mut child = rcr(&world, &[&flags[..], &[&image, "sleep", "100"]].concat()).spawn().expect("rcr");
    until("healthy", || is(&world, "fore", "healthy"));
    child.kill().expect("it lives");
    child.wait().expect("a child");
    assert_eq!(ok(&mut rcr(&world, &["ps", "-aq"])), "");
    assert_none_since(&before);
}

/// The process of the container's monitor.
fn monitor(world: &World, name: &str) -> i32 {
    let id = inspect(world, name)["Id"].as_str().expect("an ID").to_owned();
    let mut found = processes(&id);
    found.retain(|line| line.contains("rcr-monitor"));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].trim().split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid")
}

fn checks_end_with_container_and_monitor() {
    let (world, image) = world();
    let before = Snapshot::take();
    let run = |name: &str, more: &[&str]| {
        let flags = ["run", "-d", "--name", name, "--health-cmd", "sleep 7654", "--health-interval=50ms"];
        ok(&mut rcr(
            &world,
            &[&flags[..], more, &[&image, "sh", "-c", "trap 'exit 3' TERM; sleep 100 & wait"]].concat(),
        ));
        until("a check runs", || !processes("sleep 7654").is_empty());
    };
    let none = || until("no check is left", || processes("sleep 7654").is_empty());
    run("one", &[]);
    let begun = Instant::now();
    ok(&mut rcr(&world, &["stop", "one"]));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(inspect(&world, "one")["State"]["ExitCode"], 3);
    none();
    // It is not in the container's process namespace, which would kill it: the monitor does.
    run("two", &["--pid=host", "--rm"]);
    ok(&mut rcr(&world, &["stop", "two"]));
    none();
    assert_eq!(status(&world, "two"), "gone");
    run("three", &[]);
    kill(Pid::from_raw(monitor(&world, "three")), Signal::SIGKILL).expect("it lives");
    none();
    assert_eq!(ok(&mut rcr(&world, &["ps", "-q"])).lines().count(), 1);
    until("the next monitor checks", || !processes("sleep 7654").is_empty());
    ok(&mut rcr(&world, &["rm", "-f", "one", "three"]));
    none();
    assert_no_container(&world);
    assert_none_since(&before);
}

fn the_monitor_stays_small() {
    let (world, image) = world();
    let flags = ["run", "-d", "--name", "web", "--health-cmd", "true", "--health-interval=50ms"];
    ok(&mut rcr(&world, &[&flags[..], &[&image, "sleep", "100"]].concat()));
    until("checks", || health(&world, "web")["Log"].as_array().is_some_and(|log| log.len() == 5));
    let rollup =
        fs::read_to_string(format!("/proc/{}/smaps_rollup", monitor(&world, "web"))).expect("a process");
    let kib = |field: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let own = kib("Private_Clean:") + kib("Private_Dirty:");
    assert!(own <= 1024, "{own} KiB: {rollup}");
    ok(&mut rcr(&world, &["rm", "-f", "web"]));
}

fn flags_that_make_no_sense_are_refused() {
    let (world, image) = world();
    let run = |flags: &[&str]| rcr(&world, &[&["run", "--rm"], flags, &[&image, "true"]].concat());
    for (flags, code, words) in [
        (&["--health-interval=soon"][..], 125, &["--health-interval", "soon", "1m30s"][..]),
        (&["--health-interval=-1s"], 125, &["--health-interval", "-1s"]),
        (&["--health-timeout=10us"], 125, &["--health-timeout", "at least 1ms"]),
        (&["--health-retries=-1"], 125, &["--health-retries", "-1", "wants a number"]),
        (&["--health-start-period=5"], 125, &["--health-start-period", "5", "30s"]),
        (&["--no-healthcheck", "--health-cmd=true"], 125, &["conflicting options", "--no-healthcheck"]),
        (&["--no-healthcheck", "--health-retries=1"], 125, &["conflicting options"]),
        (&["--healthcmd=true"], 125, &["--health-cmd"]),
    ] {
        fails(&mut run(flags), code, words);
    }
    // Times alone check nothing where the image does not say what; as with docker it is no error.
    ok(&mut run(&["--health-interval=1s"]));
}
