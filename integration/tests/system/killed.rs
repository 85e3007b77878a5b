//! Containers in the background whose monitors and commands are killed, or come at once: what lives answers, the rest is gone.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, ok, say};
use harness::{Case, cases};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::detached::{PATIENT, assert_no_container, inspect, rcr, status, until, world};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("killed":
    a_monitor_needs_little_memory_and_nothing_of_its_caller [Root, BUSYBOX],
    a_killed_monitor_is_replaced [Root, BUSYBOX],
    a_killed_monitor_loses_no_output [Root, BUSYBOX],
    kill_9_of_the_monitor_at_random_moments [Root, BUSYBOX],
    kill_9_of_rcr_at_random_moments [Root, BUSYBOX],
    two_commands_at_once [Root, BUSYBOX],
);

/// Process id of the monitor of a container: the parent of its first process.
fn monitor(world: &World, name: &str) -> i32 {
    let pid = inspect(world, name)["State"]["Pid"].as_i64().expect("a number");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    parent.trim().parse().expect("a number")
}

fn a_monitor_needs_little_memory_and_nothing_of_its_caller() {
    let (world, image) = world();
    let talk = "n=0; while [ $n -lt 5000 ]; do n=$((n+1)); echo line number $n; done; echo over; sleep 60";
    // A descriptor, a directory and a terminal of the caller would keep others waiting.
    let mut command = Command::new("sh");
    let held = world.path().join("held");
    fs::write(&held, "").expect("writable");
    command
        .args(["-c", &format!("exec 9<{}; exec \"$@\"", held.display()), "sh"])
        .arg(world.rcr().get_program());
    command.args(rcr(&world, &["run", "-d", "--name", "small", &image, "sh", "-c", talk]).get_args());
    ok(command.stdin(Stdio::null()).current_dir(world.path()));
    until("it has talked", || ok(&mut rcr(&world, &["logs", "--tail", "1", "small"])) == "over");
    let pid = monitor(&world, "small");
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let private: u64 = rollup
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    assert!(private > 0 && private <= 1024, "{private} KiB of its own\n{rollup}");
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten() {
        let to = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let own = to == "/dev/null" || to.contains("pidfd") || to.starts_with("socket:");
        let ours = ["/attach/", "/container-locks/", "-json.log"].iter().any(|part| to.contains(part));
        assert!(own || ours, "it holds {to}");
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs"), Path::new("/"));
    ok(&mut rcr(&world, &["rm", "-f", "small"]));
    assert_no_container(&world);
}

fn a_killed_monitor_is_replaced() {
    let (world, image) = world();
    let before = Snapshot::take();
    ok(&mut rcr(&world, &["run", "-d", "--name", "orphan", &image, "sh", "-c", PATIENT]));
    until("it is ready", || ok(&mut rcr(&world, &["logs", "orphan"])).contains("ready"));
    let (pid, first) = (inspect(&world, "orphan")["State"]["Pid"].clone(), monitor(&world, "orphan"));
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
    until("it is dead", || !Path::new(&format!("/proc/{first}/exe")).exists());
    assert_eq!(status(&world, "orphan"), "running");
    assert_eq!(inspect(&world, "orphan")["State"]["Pid"], pid, "it is the same process");
    ok(&mut rcr(&world, &["stop", "orphan"]));
    let state = inspect(&world, "orphan")["State"].clone();
    assert_eq!(state["Status"], "exited");
    // The kernel tells since 6.15 how another's child ended; before, the record says that it is not known.
    let known = state["ExitCode"] == 3 && state["Error"] == "";
    let unknown =
        state["ExitCode"] == 137 && state["Error"].as_str().is_some_and(|e| e.contains("monitor was killed"));
    assert!(known || unknown, "{state}");
    ok(&mut rcr(&world, &["start", "orphan"]));
    ok(&mut rcr(&world, &["rm", "-f", "orphan"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn a_killed_monitor_loses_no_output() {
    let (world, image) = world();
    // More than a pipe holds, so that it has to wait for the next monitor.
    let talk = "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); echo $n; done; sleep 60";
    ok(&mut rcr(&world, &["run", "-d", "--name", "talk", &image, "sh", "-c", &format!("sleep 0.5; {talk}")]));
    let first = monitor(&world, "talk");
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
    std::thread::sleep(Duration::from_secs(1));
    until("all is written", || ok(&mut rcr(&world, &["logs", "--tail", "1", "talk"])) == "20000");
    let want: Vec<String> = (1..=20_000).map(|n: u32| n.to_string()).collect();
    assert!(ok(&mut rcr(&world, &["logs", "talk"])) == want.join("\n"), "every line, once, in order");
    ok(&mut rcr(&world, &["rm", "-f", "talk"]));
    assert_no_container(&world);
}

/// How many moments: 30, or 100 with `RCR_STRESS=full`.
fn moments() -> impl Iterator<Item = f64> {
    let full = std::env::var("RCR_STRESS").is_ok_and(|v| v == "full");
    (1..=if full { 100u32 } else { 30 }).map(|n| (f64::from(n) * 0.618_033_988_749_895).fract())
}

fn kill_9_of_the_monitor_at_random_moments() {
    let (world, image) = world();
    let before = Snapshot::take();
    ok(&mut rcr(
        &world,
        &["run", "-d", "--name", "live", &image, "sh", "-c", "while :; do echo tick; sleep 0.01; done"],
    ));
    let pid = inspect(&world, "live")["State"]["Pid"].clone();
    for moment in moments() {
        let first = monitor(&world, "live");
        std::thread::sleep(Duration::from_secs_f64(0.05 * moment));
        kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
        let lines = || ok(&mut rcr(&world, &["logs", "live"])).lines().count();
        // The next command of any kind replaces it.
        let seen = lines();
        assert_eq!(inspect(&world, "live")["State"]["Pid"], pid, "killed after {moment}");
        until("it is heard again", || lines() > seen);
    }
    ok(&mut rcr(&world, &["rm", "-f", "live"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn kill_9_of_rcr_at_random_moments() {
    let (world, image) = world();
    let before = Snapshot::take();
    let run = ["run", "-d", "--name", "xx", "-v", "/data", &image, "sh", "-c", PATIENT];
    let start = Instant::now();
    ok(&mut rcr(&world, &run));
    let whole = start.elapsed();
    ok(&mut rcr(&world, &["rm", "-f", "-v", "xx"]));
    for moment in moments() {
        for command in [&run[..], &["stop", "-t", "0", "xx"], &["start", "xx"], &["rm", "-f", "-v", "xx"]] {
            let child = rcr(&world, command).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.expect("rcr starts");
            std::thread::sleep(whole.mul_f64(moment));
            // Both: rcr, and the process that is about to be the monitor, which has rcr's command line still.
            for pid in busy(&world) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = child.kill();
            child.wait().expect("it ends");
            let said = say(&mut rcr(&world, &["ps", "-a", "--format", "{{.State}}"]));
            let known = ["", "created\n", "running\n", "exited\n"];
            assert!(
                said.code == 0 && known.contains(&said.out.as_str()),
                "{command:?} at {moment}: {said:?}"
            );
            // What is running has a process, or its end is about to be noted.
            until("it is one or the other", || {
                let state = inspect(&world, "xx")["State"].clone();
                state["Status"] != "running" || state["Pid"].as_i64() > Some(0)
            });
        }
        say(&mut rcr(&world, &["rm", "-f", "-v", "xx"]));
        assert_no_container(&world);
        assert_none_since(&before);
    }
    let volumes = fs::read_dir(world.path().join("store/volumes")).expect("there").count();
    assert_eq!(volumes, 0, "volumes without a name");
}

/// Processes of rcr itself in this world.
fn busy(world: &World) -> Vec<i32> {
    let place = world.path().join("store").display().to_string();
    let pids = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let program = words.split('\0').next().unwrap_or_default();
        program.ends_with("/rcr") && words.contains(&place)
    })
    .collect()
}

fn two_commands_at_once() {
    let (world, image) = world();
    let before = Snapshot::take();
    for (commands, round) in [
        ([&["start", "xx"][..], &["start", "xx"][..]], "start and start"),
        ([&["start", "xx"], &["rm", "-f", "xx"]], "start and rm"),
        ([&["restart", "-t", "0", "xx"], &["stop", "-t", "0", "xx"]], "restart and stop"),
        ([&["stop", "-t", "0", "xx"], &["rm", "-f", "xx"]], "stop and rm"),
        ([&["rm", "-f", "xx"], &["rm", "-f", "xx"]], "rm and rm"),
    ] {
        for _ in 0..3 {
            match round.starts_with("start") {
                true => ok(&mut rcr(&world, &["create", "--name", "xx", &image, "sleep", "60"])),
                false => ok(&mut rcr(&world, &["run", "-d", "--name", "xx", &image, "sleep", "60"])),
            };
            let children = commands.map(|args| {
                let child = rcr(&world, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
                child.expect("rcr starts")
            });
            for child in children {
                let output = child.wait_with_output().expect("it ends");
                let err = String::from_utf8_lossy(&output.stderr).into_owned();
                let fine = output.status.success()
                    || err.contains("no such container")
                    || err.contains("removed by");
                assert!(fine && !err.contains("panicked"), "{round}: {err}");
            }
            if round == "start and start" {
                assert_eq!(status(&world, "xx"), "running");
            }
            say(&mut rcr(&world, &["rm", "-f", "xx"]));
            assert_no_container(&world);
            assert_none_since(&before);
        }
    }
}
