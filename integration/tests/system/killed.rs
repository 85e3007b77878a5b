//! Containers in the background whose monitors and commands are killed, or come at once: what lives answers, the rest is gone.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::moments::{kill_after, moments};
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
    a_killed_monitor_loses_no_beginning_of_a_line [Root, BUSYBOX],
    a_killed_commit_leaves_nothing_frozen [Root, BUSYBOX],
    kill_9_of_a_restart_of_one_made_with_rm [Root, BUSYBOX],
    two_renames_at_once_leave_one_name [Root, BUSYBOX],
    rm_of_one_that_ends_in_the_foreground [Root, BUSYBOX],
    the_name_of_a_dead_one_can_be_taken_while_another_command_buries_it [Root, BUSYBOX],
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

fn kill_9_of_the_monitor_at_random_moments() {
    let (world, image) = world();
    let before = Snapshot::take();
    ok(&mut rcr(
        &world,
        &["run", "-d", "--name", "live", &image, "sh", "-c", "while :; do echo tick; sleep 0.01; done"],
    ));
    let pid = inspect(&world, "live")["State"]["Pid"].clone();
    for moment in moments(30) {
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
    for moment in moments(30) {
        let (stop, start, remove) = (["stop", "-t", "0", "xx"], ["start", "xx"], ["rm", "-f", "-v", "xx"]);
        // Each command, and those that make it have something to do, of which some have nothing to do.
        let steps: [(&[&str], &[&[&str]]); 4] =
            [(&run, &[]), (&stop, &[&run, &start]), (&start, &[&run, &stop]), (&remove, &[&run, &start])];
        for (command, first) in steps {
            first.iter().for_each(|words| drop(say(&mut rcr(&world, words))));
            kill_after(&mut rcr(&world, command), whole.mul_f64(moment), || kill_all(&busy(&world, "rcr")));
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
    assert_no_volume(&world);
}

fn assert_no_volume(world: &World) {
    assert_eq!(fs::read_dir(world.path().join("store/volumes")).expect("there").count(), 0);
}

pub(crate) fn kill_all(pids: &[i32]) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// Processes of a program in this world: `rcr`, which is also what a process runs that is about to be a monitor, or
/// `rcr-monitor`.
pub(crate) fn busy(world: &World, program: &str) -> Vec<i32> {
    let place = world.path().join("store").display().to_string();
    let pids = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let first = words.split('\0').next().unwrap_or_default();
        first.ends_with(&format!("/{program}")) && words.contains(&place)
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

fn a_killed_monitor_loses_no_beginning_of_a_line() {
    let (world, image) = world();
    let wait = |file: &str| format!("until test -e /tmp/{file}; do sleep 0.05; done");
    let script = format!("printf begin; {}; printf -- '-end\nlast'; sleep 60", wait("go"));
    ok(&mut rcr(&world, &["run", "-d", "--name", "talk", &image, "sh", "-c", &script]));
    let replace = |heard: &str| {
        // What the log does not have yet is in the monitor's hands alone.
        let id = inspect(&world, "talk")["Id"].as_str().expect("an ID").to_owned();
        let kept = world.path().join("run/attach").join(id).join("1.line");
        until("it is heard", || fs::read_to_string(&kept).is_ok_and(|text| text == heard));
        kill_all(&[monitor(&world, "talk")]);
        ok(&mut rcr(&world, &["ps"]));
    };
    replace("begin");
    replace("begin");
    ok(&mut rcr(&world, &["exec", "talk", "touch", "/tmp/go"]));
    until("its line has ended", || ok(&mut rcr(&world, &["logs", "talk"])) == "begin-end");
    replace("last");
    ok(&mut rcr(&world, &["stop", "-t", "0", "talk"]));
    assert_eq!(ok(&mut rcr(&world, &["logs", "talk"])), "begin-end\nlast");
    // The log of the next start goes on behind that of this one.
    ok(&mut rcr(&world, &["start", "talk"]));
    until("it talks again", || ok(&mut rcr(&world, &["logs", "talk"])).ends_with("-end"));
    ok(&mut rcr(&world, &["stop", "-t", "0", "talk"]));
    assert_eq!(ok(&mut rcr(&world, &["logs", "talk"])), "begin-end\nlastbegin-end\nlast");
    ok(&mut rcr(&world, &["rm", "talk"]));
    assert_no_container(&world);
}

fn a_killed_commit_leaves_nothing_frozen() {
    let (world, image) = world();
    let before = Snapshot::take();
    // Enough that a commit takes some time.
    let script =
        "dd if=/dev/urandom of=/big bs=1M count=64 2> /dev/null; while :; do echo tick; sleep 0.05; done";
    ok(&mut rcr(&world, &["run", "-d", "--name", "work", &image, "sh", "-c", script]));
    until("it works", || ok(&mut rcr(&world, &["logs", "work"])).contains("tick"));
    for _ in 0..5 {
        let mut commit = rcr(&world, &["commit", "work"]).stdout(Stdio::null()).spawn().expect("rcr starts");
        until("it is frozen", || status(&world, "work") == "paused");
        commit.kill().expect("it works still");
        commit.wait().expect("a child");
        // Any command thaws it.
        assert_eq!(ok(&mut rcr(&world, &["ps", "--format", "{{.State}}"])), "running");
        let lines = || ok(&mut rcr(&world, &["logs", "work"])).lines().count();
        let seen = lines();
        until("it goes on", || lines() > seen);
    }
    // What the user has paused stays so.
    ok(&mut rcr(&world, &["pause", "work"]));
    let mut commit = rcr(&world, &["commit", "work"]).stdout(Stdio::null()).spawn().expect("rcr starts");
    commit.kill().expect("it works still");
    commit.wait().expect("a child");
    assert_eq!(ok(&mut rcr(&world, &["ps", "--format", "{{.State}}"])), "paused");
    ok(&mut rcr(&world, &["rm", "-f", "work"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn kill_9_of_a_restart_of_one_made_with_rm() {
    let (world, image) = world();
    let before = Snapshot::take();
    let run = ["run", "-d", "--rm", "--name", "xx", "-v", "/data", &image, "sh", "-c", PATIENT];
    ok(&mut rcr(&world, &run));
    let start = Instant::now();
    ok(&mut rcr(&world, &["restart", "-t", "0", "xx"]));
    let whole = start.elapsed();
    assert_eq!(status(&world, "xx"), "running", "a restart keeps it");
    for moment in moments(15) {
        kill_after(&mut rcr(&world, &["restart", "-t", "0", "xx"]), whole.mul_f64(moment), || {
            kill_all(&busy(&world, "rcr"));
        });
        // It goes on, or is gone with all it had; it never stays without running.
        until("it is one or the other", || {
            let listed = ok(&mut rcr(&world, &["ps", "-a", "--format", "{{.State}}"]));
            listed.is_empty()
                || listed == "running" && inspect(&world, "xx")["State"]["Pid"].as_i64() > Some(0)
        });
        if status(&world, "xx") == "gone" {
            assert_no_container(&world);
            assert_none_since(&before);
            ok(&mut rcr(&world, &run));
        }
    }
    ok(&mut rcr(&world, &["stop", "-t", "0", "xx"]));
    assert_no_container(&world);
    assert_none_since(&before);
    assert_no_volume(&world);
}

fn two_renames_at_once_leave_one_name() {
    let (world, image) = world();
    ok(&mut rcr(&world, &["create", "--name", "first", &image]));
    let names = || -> Vec<String> {
        let names = fs::read_dir(world.path().join("store/container-names")).expect("there").flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    for round in 0..10 {
        let [old] = &names()[..] else { panic!("{:?}", names()) };
        let wanted = [format!("left{round}"), format!("right{round}")];
        let children = wanted.each_ref().map(|name| {
            rcr(&world, &["rename", old, name]).stderr(Stdio::null()).spawn().expect("rcr starts")
        });
        let done = children.map(|mut child| child.wait().expect("it ends").success());
        assert!(done.contains(&true));
        assert_eq!(names().len(), 1, "{:?}", names());
        assert_eq!(ok(&mut rcr(&world, &["ps", "-a", "--format", "{{.Names}}"])), names()[0]);
    }
    // Killed at any moment it has one name too, once the next command has run.
    for (round, moment) in moments(15).enumerate() {
        let old = names()[0].clone();
        let rename = ["rename", &old, &format!("killed{round}")];
        kill_after(&mut rcr(&world, &rename), Duration::from_secs_f64(0.01 * moment), || ());
        assert_eq!(ok(&mut rcr(&world, &["ps", "-a", "--format", "{{.Names}}"])), names()[0]);
        assert_eq!(names().len(), 1, "{:?}", names());
    }
    ok(&mut rcr(&world, &["rm", &names()[0]]));
    assert_no_container(&world);
}

fn rm_of_one_that_ends_in_the_foreground() {
    let (world, image) = world();
    let before = Snapshot::take();
    for round in 0..10 {
        let flags = if round % 2 == 0 {
            &["run", "--rm", "--name", "front"][..]
        } else {
            &["run", "--name", "front"]
        };
        let words = [flags, &[&image, "sleep", "60"]].concat();
        let front =
            rcr(&world, &words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("rcr starts");
        until("it runs", || status(&world, "front") == "running");
        // Several, because each notes what it wants where the first one removes.
        let removers = [0; 3].map(|_| {
            rcr(&world, &["rm", "-f", "front"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("rcr starts")
        });
        for remover in removers {
            let output = remover.wait_with_output().expect("it ends");
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() || err.contains("no such container"), "{err}");
        }
        let output = front.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(137), ""));
        assert_no_container(&world);
    }
    assert_none_since(&before);
}

fn the_name_of_a_dead_one_can_be_taken_while_another_command_buries_it() {
    let (world, image) = world();
    let before = Snapshot::take();
    for _ in 0..10 {
        let run = ["run", "--rm", "--name", "web", &image, "sleep", "60"];
        let mut first = rcr(&world, &run).stdout(Stdio::null()).spawn().expect("rcr starts");
        until("it runs", || status(&world, "web") == "running");
        first.kill().expect("it runs");
        first.wait().expect("a child");
        let buriers =
            [0; 2].map(|_| rcr(&world, &["ps", "-q"]).stdout(Stdio::null()).spawn().expect("rcr starts"));
        ok(&mut rcr(&world, &["run", "-d", "--name", "web", &image, "sleep", "60"]));
        for mut burier in buriers {
            assert!(burier.wait().expect("a child").success());
        }
        ok(&mut rcr(&world, &["rm", "-f", "web"]));
        assert_no_container(&world);
    }
    assert_none_since(&before);
}
