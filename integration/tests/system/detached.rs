//! Containers that stay: started in the background, stopped, attached to, and found again whatever is killed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Program, Root};
use harness::image::busybox_layout;
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, no_network, ok, say};
use harness::{Case, cases};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("detached":
    a_container_runs_on_and_is_stopped [Root, BUSYBOX],
    made_now_and_started_later [Root, BUSYBOX],
    after_a_reboot_the_run_directory_is_made_again [Root, BUSYBOX],
    a_signal_that_is_not_heard_is_followed_by_sigkill [Root, BUSYBOX],
    paused_ones_go_on_and_stop [Root, BUSYBOX],
    what_cannot_start_leaves_nothing [Root, BUSYBOX],
    several_names_at_once [Root, BUSYBOX],
    renamed_ones_are_found [Root, BUSYBOX],
    attached_streams_are_the_containers [Root, BUSYBOX],
    the_detach_keys_let_go_of_a_terminal [Root, BUSYBOX, Program("python3")],
    a_client_that_does_not_read_is_dropped [Root, BUSYBOX],
    wait_tells_how_it_ended_even_when_it_is_gone [Root, BUSYBOX],
    a_cidfile_holds_the_id [Root, BUSYBOX],
    a_restart_keeps_one_made_with_rm [Root, BUSYBOX],
    streams_can_be_opened_again_by_the_containers_user [Root, BUSYBOX],
    streams_that_are_not_attached_are_not_shown [Root, BUSYBOX],
);

/// A world with busybox in its store, and the image's ID.
pub(crate) fn world() -> (World, String) {
    let world = World::new();
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    let image = busybox_layout(&world.path().join("layout"), config);
    let id = world.pulled(&image);
    (world, id)
}

pub(crate) fn rcr(world: &World, args: &[&str]) -> Command {
    let mut command = world.rcr();
    command.args(without_network(args)).stdin(Stdio::null());
    command
}

/// What makes a container makes it without a network, unless it says otherwise.
fn without_network<'a>(args: &[&'a str]) -> Vec<&'a str> {
    match args.split_first() {
        Some((command @ (&"run" | &"create"), rest)) => {
            [&[*command][..], no_network(rest).as_slice(), rest].concat()
        }
        _ => args.to_vec(),
    }
}

/// One element of `inspect`.
pub(crate) fn inspect(world: &World, name: &str) -> Value {
    let said = say(&mut rcr(world, &["inspect", name]));
    serde_json::from_str::<Value>(&said.out).unwrap_or_default()[0].clone()
}

pub(crate) fn status(world: &World, name: &str) -> String {
    inspect(world, name)["State"]["Status"].as_str().unwrap_or("gone").to_owned()
}

/// Waits for something, for at most 20 seconds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// That no container is left, and nothing that came with one.
pub(crate) fn assert_no_container(world: &World) {
    assert_eq!(ok(&mut rcr(world, &["ps", "-aq"])), "");
    for dir in
        ["store/containers", "store/container-locks", "store/container-names", "run/attach", "run/containers"]
    {
        // With --rm it goes by itself, its record first.
        until(&format!("{dir} is empty"), || {
            fs::read_dir(world.path().join(dir)).expect(dir).next().is_none()
        });
    }
}

/// A script that ends with 3 on SIGTERM.
pub(crate) const PATIENT: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";

fn a_container_runs_on_and_is_stopped() {
    let (world, image) = world();
    let before = Snapshot::take();
    let id = ok(&mut rcr(&world, &["run", "-d", "--name", "web", &image, "sh", "-c", PATIENT]));
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let state = inspect(&world, "web")["State"].clone();
    assert_eq!((&state["Status"], &state["Running"]), (&json!("running"), &json!(true)));
    let pid = state["Pid"].as_i64().expect("a number");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    until("it is ready", || ok(&mut rcr(&world, &["logs", "web"])).contains("ready"));
    let start = Instant::now();
    assert_eq!(ok(&mut rcr(&world, &["stop", "web"])), "web");
    assert!(start.elapsed() < Duration::from_secs(5), "the signal was heard");
    let state = inspect(&world, "web")["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(3)));
    assert!(state["FinishedAt"].as_str() > state["StartedAt"].as_str(), "{state}");
    // Stopped once more, and started again.
    assert_eq!(ok(&mut rcr(&world, &["stop", "web"])), "web");
    assert_eq!(ok(&mut rcr(&world, &["start", "web"])), "web");
    assert_eq!(status(&world, "web"), "running");
    assert_eq!(ok(&mut rcr(&world, &["start", "web"])), "web", "one that runs is no error");
    let first = inspect(&world, "web")["State"]["Pid"].clone();
    assert_eq!(ok(&mut rcr(&world, &["restart", "-t", "1", "web"])), "web");
    assert_ne!(inspect(&world, "web")["State"]["Pid"], first);
    fails(&mut rcr(&world, &["rm", "web"]), 1, &["web", "running", "rcr rm -f"]);
    assert_eq!(ok(&mut rcr(&world, &["rm", "-f", "web"])), "web");
    assert_no_container(&world);
    // With --rm it is gone by itself.
    ok(&mut rcr(&world, &["run", "-d", "--rm", "--name", "web", "-v", "/data", &image, "sh", "-c", PATIENT]));
    ok(&mut rcr(&world, &["kill", "web"]));
    until("it is gone", || status(&world, "web") == "gone");
    assert_no_container(&world);
    assert_none_since(&before);
}

fn after_a_reboot_the_run_directory_is_made_again() {
    let (world, image) = world();
    ok(&mut rcr(&world, &["create", "--name", "old", &image, "sleep", "100"]));
    fs::remove_dir_all(world.path().join("run")).expect("there");
    ok(&mut rcr(&world, &["start", "old"]));
    ok(&mut rcr(&world, &["run", "-d", "--name", "new", &image, "sleep", "100"]));
    assert_eq!((status(&world, "old"), status(&world, "new")), ("running".to_owned(), "running".to_owned()));
    ok(&mut rcr(&world, &["rm", "-f", "old", "new"]));
    assert_no_container(&world);
}

fn made_now_and_started_later() {
    let (world, image) = world();
    let id =
        ok(&mut rcr(&world, &["create", "--name", "job", &image, "sh", "-c", "echo $0; cat /f; exit 7"]));
    assert_eq!(id.len(), 64);
    assert_eq!(status(&world, "job"), "created");
    assert_eq!(ok(&mut rcr(&world, &["ps", "-q"])), "");
    assert!(ok(&mut rcr(&world, &["ps", "-a"])).contains("Created"));
    assert_eq!(ok(&mut rcr(&world, &["stop", "job"])), "job", "what does not run is stopped already");
    fails(&mut rcr(&world, &["kill", "job"]), 1, &["job", "not running"]);
    let said = say(&mut rcr(&world, &["start", "-a", "job"]));
    assert_eq!((said.code, said.out.as_str()), (7, "sh\n"), "{said:?}");
    assert!(said.err.contains("/f"), "standard error is a stream of its own: {said:?}");
    assert_eq!(
        (status(&world, "job").as_str(), ok(&mut rcr(&world, &["wait", "job"])).as_str()),
        ("exited", "7")
    );
    // What it writes stays over the next start.
    ok(&mut rcr(&world, &["create", "--name", "keep", &image, "sh", "-c", "cat /n; echo x >> /n"]));
    for lines in 0..3 {
        assert_eq!(ok(&mut rcr(&world, &["start", "-a", "keep"])).lines().count(), lines);
    }
    assert_eq!(ok(&mut rcr(&world, &["logs", "keep"])), "x\nx\nx", "all runs are in the log");
    fails(&mut rcr(&world, &["create", "-m", "1k", &image]), 1, &["memory", "6m"]);
    fails(&mut rcr(&world, &["start", "nobody"]), 1, &["no such container: nobody"]);
    ok(&mut rcr(&world, &["rm", "job", "keep"]));
    assert_no_container(&world);
}

fn a_signal_that_is_not_heard_is_followed_by_sigkill() {
    let (world, image) = world();
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    ok(&mut rcr(&world, &["run", "-d", "--name", "deaf", &image, "sh", "-c", deaf]));
    until("it is ready", || ok(&mut rcr(&world, &["logs", "deaf"])).contains("ready"));
    let start = Instant::now();
    ok(&mut rcr(&world, &["stop", "-t", "1", "deaf"]));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    assert_eq!(inspect(&world, "deaf")["State"]["ExitCode"], 137);
    ok(&mut rcr(&world, &["rm", "deaf"]));
    let script = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done";
    let flags = ["--stop-signal", "usr1", "--stop-timeout", "20"];
    let args = [&["run", "-d", "--name", "own"], &flags[..], &[&image, "sh", "-c", script]].concat();
    ok(&mut rcr(&world, &args));
    until("it is ready", || ok(&mut rcr(&world, &["logs", "own"])).contains("ready"));
    let config = inspect(&world, "own")["Config"].clone();
    assert_eq!((&config["StopSignal"], &config["StopTimeout"]), (&json!("usr1"), &json!(20)));
    ok(&mut rcr(&world, &["stop", "own"]));
    assert_eq!(inspect(&world, "own")["State"]["ExitCode"], 5);
    ok(&mut rcr(&world, &["rm", "own"]));
    assert_no_container(&world);
}

fn paused_ones_go_on_and_stop() {
    let (world, image) = world();
    let count = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done";
    ok(&mut rcr(&world, &["run", "-d", "--name", "ice", &image, "sh", "-c", count]));
    let lines = || ok(&mut rcr(&world, &["logs", "ice"])).lines().count();
    until("it counts", || lines() > 3);
    assert_eq!(ok(&mut rcr(&world, &["pause", "ice"])), "ice");
    assert_eq!(status(&world, "ice"), "paused");
    std::thread::sleep(Duration::from_millis(200));
    let frozen = lines();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lines(), frozen, "nothing is written while it is frozen");
    fails(&mut rcr(&world, &["pause", "ice"]), 1, &["already paused"]);
    fails(&mut rcr(&world, &["start", "ice"]), 1, &["paused", "rcr unpause ice"]);
    assert_eq!(ok(&mut rcr(&world, &["unpause", "ice"])), "ice");
    until("it goes on", || lines() > frozen);
    fails(&mut rcr(&world, &["unpause", "ice"]), 1, &["not paused"]);
    ok(&mut rcr(&world, &["pause", "ice"]));
    ok(&mut rcr(&world, &["stop", "-t", "1", "ice"]));
    assert_eq!(status(&world, "ice"), "exited");
    ok(&mut rcr(&world, &["start", "ice"]));
    ok(&mut rcr(&world, &["pause", "ice"]));
    ok(&mut rcr(&world, &["rm", "-f", "ice"]));
    assert_no_container(&world);
}

fn what_cannot_start_leaves_nothing() {
    let (world, image) = world();
    let before = Snapshot::take();
    fails(&mut rcr(&world, &["run", "-d", &image, "/no/such"]), 127, &["/no/such", "not found"]);
    fails(&mut rcr(&world, &["run", "-d", &image, "/etc"]), 126, &["/etc", "cannot be executed"]);
    fails(&mut rcr(&world, &["run", "-d", "-u", "nobody-here", &image, "true"]), 125, &["nobody-here"]);
    fails(&mut rcr(&world, &["run", "-d", "-a", "stdout", &image, "true"]), 125, &["conflicting"]);
    fails(
        &mut rcr(&world, &["run", "-d", "--rm", "--restart", "always", &image, "true"]),
        125,
        &["--restart"],
    );
    assert_no_container(&world);
    // One that was made stays what it was.
    ok(&mut rcr(&world, &["create", "--name", "bad", &image, "/no/such"]));
    fails(&mut rcr(&world, &["start", "bad"]), 1, &["/no/such", "not found"]);
    assert_eq!(status(&world, "bad"), "created");
    ok(&mut rcr(&world, &["rm", "bad"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn several_names_at_once() {
    let (world, image) = world();
    for name in ["one", "two"] {
        ok(&mut rcr(&world, &["run", "-d", "--name", name, &image, "sleep", "60"]));
    }
    let said = say(&mut rcr(&world, &["stop", "-t", "0", "one", "nobody", "two"]));
    assert_eq!((said.code, said.out.as_str()), (1, "one\ntwo\n"), "{said:?}");
    assert!(said.err.contains("no such container: nobody") && said.err.lines().count() == 1, "{said:?}");
    assert_eq!(ok(&mut rcr(&world, &["start", "two", "one"])), "two\none");
    let id = inspect(&world, "one")["Id"].as_str().expect("an ID").to_owned();
    assert_eq!(ok(&mut rcr(&world, &["kill", &id[..10], "two"])), format!("{}\ntwo", &id[..10]));
    assert_eq!(ok(&mut rcr(&world, &["wait", "one", "two"])), "137\n137");
    assert_eq!(ok(&mut rcr(&world, &["rm", "one", "two"])), "one\ntwo");
    assert_no_container(&world);
}

fn renamed_ones_are_found() {
    let (world, image) = world();
    ok(&mut rcr(&world, &["run", "-d", "--name", "old", &image, "sleep", "60"]));
    ok(&mut rcr(&world, &["create", "--name", "other", &image]));
    fails(&mut rcr(&world, &["rename", "old", "other"]), 1, &["other", "in use"]);
    ok(&mut rcr(&world, &["rename", "old", "new"]));
    assert_eq!((status(&world, "new").as_str(), status(&world, "old").as_str()), ("running", "gone"));
    ok(&mut rcr(&world, &["rename", "other", "old"]));
    ok(&mut rcr(&world, &["rm", "-f", "new", "old"]));
    assert_no_container(&world);
}

fn attached_streams_are_the_containers() {
    let (world, image) = world();
    let input = |args: &[&str], text: &str| {
        use std::io::Write;
        let mut command = rcr(&world, args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rcr starts");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("writable");
        let output = child.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // The end of the caller's input is the end of the container's, and all of it arrives.
    ok(&mut rcr(&world, &["create", "-i", "--name", "sum", &image, "md5sum"]));
    let long = "0123456789abcdef\n".repeat(50_000);
    let want = {
        fs::write(world.path().join("long"), &long).expect("writable");
        ok(Command::new("md5sum").stdin(fs::File::open(world.path().join("long")).expect("there")))
    };
    assert_eq!(input(&["start", "-ai", "sum"], &long), (Some(0), format!("{want}\n")));
    // Made for the background, it outlives who types.
    ok(&mut rcr(
        &world,
        &["run", "-di", "--name", "echo", &image, "sh", "-c", "while read l; do echo got $l; done"],
    ));
    let mut attached = rcr(&world, &["attach", "--no-stdin", "echo"]);
    let mut attached = attached.stdout(Stdio::piped()).spawn().expect("rcr starts");
    std::thread::sleep(Duration::from_millis(300));
    let typing = rcr(&world, &["attach", "echo"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut typing = typing.expect("rcr starts");
    {
        use std::io::Write;
        typing.stdin.take().expect("a pipe").write_all(b"one\ntwo\n").expect("writable");
    }
    until("it answers", || ok(&mut rcr(&world, &["logs", "echo"])) == "got one\ngot two");
    typing.kill().expect("a child");
    typing.wait().expect("a child");
    assert_eq!(status(&world, "echo"), "running", "the end of one's input is not its end");
    ok(&mut rcr(&world, &["kill", "echo"]));
    let output = {
        use std::io::Read;
        let mut text = String::new();
        attached.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
        text
    };
    assert_eq!(output, "got one\ngot two\n");
    assert_eq!(attached.wait().expect("a child").code(), Some(137));
    fails(&mut rcr(&world, &["attach", "echo"]), 1, &["echo", "not running"]);
    // Signals are passed on, or not.
    ok(&mut rcr(&world, &["run", "-d", "--name", "deep", &image, "sh", "-c", PATIENT]));
    let signalled = |proxy: &str| {
        let mut child =
            rcr(&world, &["attach", proxy, "deep"]).stdout(Stdio::null()).spawn().expect("rcr starts");
        std::thread::sleep(Duration::from_millis(400));
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("a child");
        child.wait().expect("a child").code()
    };
    assert_eq!(signalled("--sig-proxy=false"), Some(143));
    assert_eq!(status(&world, "deep"), "running");
    assert_eq!(signalled("--sig-proxy"), Some(3));
    ok(&mut rcr(&world, &["rm", "sum", "echo", "deep"]));
    assert_no_container(&world);
}

/// Runs rcr on a terminal of its own with the given steps of terminal.py; its code and what it showed.
fn on_a_terminal(world: &World, args: &[&str], steps: &str) -> (Option<i32>, String) {
    use std::io::Write;
    let rcr = world.rcr();
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/terminal.py"));
    command.arg(rcr.get_program()).args(rcr.get_args()).args(without_network(args));
    command.envs(rcr.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
    child.stdin.take().expect("a pipe").write_all(steps.as_bytes()).expect("writable");
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn the_detach_keys_let_go_of_a_terminal() {
    let (world, image) = world();
    ok(&mut rcr(&world, &["run", "-dit", "--name", "term", &image, "sh"]));
    let steps = "send echo $((6*7)); stty size\nexpect 42\nexpect 24 80\nkey 10\nkey 11\n";
    let (code, out) = on_a_terminal(&world, &["attach", "term"], steps);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(status(&world, "term"), "running");
    let steps = "send echo $((7*7))\nexpect 49\nkey 18\n";
    let (code, out) = on_a_terminal(&world, &["attach", "--detach-keys", "ctrl-x", "term"], steps);
    assert_eq!(code, Some(0), "{out}");
    let (code, out) = on_a_terminal(&world, &["attach", "term"], "send exit 9\n");
    assert_eq!(code, Some(9), "{out}");
    // In the foreground it runs on when keys to let go are asked for.
    let args = ["run", "-it", "--name", "fore", "--detach-keys", "ctrl-x", &image, "sh"];
    let (code, out) = on_a_terminal(&world, &args, "send echo $((6*7))\nexpect 42\nkey 18\n");
    assert_eq!((code, status(&world, "fore").as_str()), (Some(0), "running"), "{out}");
    ok(&mut rcr(&world, &["rm", "-f", "term", "fore"]));
    assert_no_container(&world);
}

fn a_client_that_does_not_read_is_dropped() {
    let (world, image) = world();
    let count =
        "n=0; while [ $n -lt 40000 ]; do n=$((n+1)); echo line number $n of many; done; echo last; sleep 60";
    ok(&mut rcr(&world, &["create", "--name", "talk", &image, "sh", "-c", count]));
    let stuck = rcr(&world, &["start", "-a", "talk"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    // Nobody reads its output.
    let mut stuck = stuck.expect("rcr starts");
    let stopped = Pid::from_raw(stuck.id().cast_signed());
    until("it runs", || status(&world, "talk") == "running");
    kill(stopped, Signal::SIGSTOP).expect("a child");
    until("the container has gone on", || ok(&mut rcr(&world, &["logs", "--tail", "1", "talk"])) == "last");
    kill(stopped, Signal::SIGKILL).expect("a child");
    stuck.wait().expect("a child");
    assert_eq!(ok(&mut rcr(&world, &["logs", "talk"])).lines().count(), 40_001);
    ok(&mut rcr(&world, &["rm", "-f", "talk"]));
    assert_no_container(&world);
}

fn wait_tells_how_it_ended_even_when_it_is_gone() {
    let (world, image) = world();
    let waiting = |name: &str| {
        let child = rcr(&world, &["wait", name]).stdout(Stdio::piped()).spawn().expect("rcr starts");
        std::thread::sleep(Duration::from_millis(300));
        child
    };
    let answer = |child: Child| {
        String::from_utf8_lossy(&child.wait_with_output().expect("it ends").stdout).into_owned()
    };
    ok(&mut rcr(&world, &["run", "-d", "--rm", "--name", "gone", &image, "sh", "-c", PATIENT]));
    let child = waiting("gone");
    ok(&mut rcr(&world, &["stop", "gone"]));
    assert_eq!(answer(child), "3\n");
    ok(&mut rcr(&world, &["run", "-d", "--name", "kept", &image, "sh", "-c", "sleep 1; exit 4"]));
    assert_eq!(answer(waiting("kept")), "4\n");
    // In the foreground of another process there is no monitor to ask.
    let mut fore =
        rcr(&world, &["run", "--name", "fore", &image, "sh", "-c", "sleep 2; exit 6"]).spawn().expect("rcr");
    until("it runs", || status(&world, "fore") == "running");
    assert_eq!(answer(waiting("fore")), "6\n");
    fore.wait().expect("a child");
    fails(&mut rcr(&world, &["logs", "fore"]), 1, &["fore", "foreground", "run -d"]);
    ok(&mut rcr(&world, &["rm", "kept", "fore"]));
    assert_no_container(&world);
}

fn a_cidfile_holds_the_id() {
    let (world, image) = world();
    let file = world.path().join("cid");
    let path = file.to_str().expect("UTF-8");
    let id = ok(&mut rcr(&world, &["run", "-d", "--cidfile", path, &image, "sleep", "60"]));
    assert_eq!(fs::read_to_string(&file).expect("a file"), id);
    fails(&mut rcr(&world, &["run", "--cidfile", path, &image, "true"]), 125, &[path, "exists"]);
    assert_eq!(fs::read_to_string(&file).expect("still there"), id);
    ok(&mut rcr(&world, &["rm", "-f", &id]));
    fs::remove_file(&file).expect("there");
    fails(&mut rcr(&world, &["run", "--cidfile", path, &image, "/no/such"]), 127, &[]);
    assert!(!file.exists(), "nothing is left of what could not start");
    assert_no_container(&world);
}

fn a_restart_keeps_one_made_with_rm() {
    let (world, image) = world();
    let before = Snapshot::take();
    let id = ok(&mut rcr(&world, &["run", "-d", "--rm", "--name", "keep", &image, "sh", "-c", PATIENT]));
    for _ in 0..2 {
        let pid = inspect(&world, "keep")["State"]["Pid"].clone();
        assert_eq!(ok(&mut rcr(&world, &["restart", "-t", "5", "keep"])), "keep");
        let again = inspect(&world, "keep");
        assert_eq!((again["Id"].as_str(), &again["State"]["Status"]), (Some(id.as_str()), &json!("running")));
        assert_ne!(again["State"]["Pid"], pid);
    }
    // It is still one that goes with its end.
    ok(&mut rcr(&world, &["stop", "keep"]));
    assert_no_container(&world);
    // One in the foreground is kept too, and runs on in the background.
    let run = ["run", "--rm", "--name", "front", &image, "sh", "-c", PATIENT];
    let mut front = rcr(&world, &run).stdout(Stdio::null()).spawn().expect("rcr starts");
    until("it runs", || status(&world, "front") == "running");
    ok(&mut rcr(&world, &["restart", "-t", "5", "front"]));
    assert_eq!(front.wait().expect("it ends").code(), Some(3));
    assert_eq!(status(&world, "front"), "running");
    ok(&mut rcr(&world, &["rm", "-f", "front"]));
    assert_no_container(&world);
    assert_none_since(&before);
}

fn streams_can_be_opened_again_by_the_containers_user() {
    let (world, image) = world();
    let script = "echo one > /dev/stdout; echo two > /proc/self/fd/1; ln -sf /dev/stdout /tmp/access.log; \
                  echo three >> /tmp/access.log; ln -sf /dev/stderr /tmp/error.log; echo four >> /tmp/error.log";
    for user in ["65534", "alice", "65534:65534", "0"] {
        let run = ["run", "-d", "--name", "web", "-u", user, &image, "sh", "-ec", script];
        ok(&mut rcr(&world, &run));
        assert_eq!(ok(&mut rcr(&world, &["wait", "web"])), "0", "{user}");
        let said = say(&mut rcr(&world, &["logs", "web"]));
        assert_eq!((said.out.as_str(), said.err.as_str()), ("one\ntwo\nthree\n", "four\n"), "{user}");
        // And when it is started again.
        ok(&mut rcr(&world, &["start", "web"]));
        assert_eq!(ok(&mut rcr(&world, &["wait", "web"])), "0", "{user}");
        ok(&mut rcr(&world, &["rm", "web"]));
    }
    assert_no_container(&world);
}

fn streams_that_are_not_attached_are_not_shown() {
    let (world, image) = world();
    let script = "cat; echo out; echo err >&2";
    for (flags, out, err) in [
        (&["-i"][..], "in\nout\n", "err\n"),
        // With -i its standard input would stay open, though nobody has the other end.
        (&["-a", "stdout"], "out\n", ""),
        (&["-a", "stderr"], "", "err\n"),
        (&["-i", "-a", "stdin", "-a", "stdout"], "in\nout\n", ""),
        (&["-a", "STDOUT", "-a", "stderr"], "out\n", "err\n"),
    ] {
        // By itself, and with a monitor in between.
        for more in [&["--rm"][..], &["--sig-proxy=false"]] {
            let words = [&["run", "--name", "talk"], more, flags, &[&image, "sh", "-c", script]].concat();
            let mut run = rcr(&world, &words);
            let mut child = run
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("rcr starts");
            // Who does not take it closes it.
            let _ = std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"in\n");
            let output = child.wait_with_output().expect("it ends");
            let said =
                [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            assert_eq!(said, [out, err], "{flags:?} {more:?}");
            say(&mut rcr(&world, &["rm", "talk"]));
        }
    }
    fails(&mut rcr(&world, &["run", "-a", "stdlog", &image, "true"]), 125, &["stdlog", "stdout"]);
    assert_no_container(&world);
}
