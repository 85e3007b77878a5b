//! Other people's engines, from Debian, with rcr-runtime in runc's place. One module per engine; each with its own
//! cases, and one that runs many containers.

pub(crate) mod containerd;
pub(crate) mod cri;
pub(crate) mod docker;
pub(crate) mod podman;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::bundle::Bundle;
use harness::host::Need::{Path as File, Root};
use harness::image::busybox_layout;
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{Said, World, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = cases!("clients":
    create_start_state_kill_delete_by_hand [Root, File("/bin/busybox")],
);

fn create_start_state_kill_delete_by_hand() {
    let Bundle { world, dir: bundle } =
        Bundle::new("trap 'exit 0' TERM; while :; do sleep 0.1; done", |_, _| ());
    let before = Snapshot::take();
    let pid_file = world.path().join("pid");
    let quiet = |command: &mut Command| {
        ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    };
    let status =
        || -> Value { serde_json::from_str(&ok(world.runtime().args(["state", "cycle"]))).expect("JSON") };
    quiet(
        world
            .runtime()
            .arg("create")
            .arg("--bundle")
            .arg(&bundle)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg("cycle"),
    );
    let created = status();
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], "cycle");
    assert_eq!(created["bundle"], bundle.to_string_lossy().as_ref());
    assert_eq!(created["pid"].to_string(), fs::read_to_string(&pid_file).expect("a pid file"));
    fails(world.runtime().arg("create").arg("--bundle").arg(&bundle).arg("cycle"), 1, &["exist"]);
    quiet(world.runtime().args(["start", "cycle"]));
    assert_eq!(status()["status"], "running");
    fails(world.runtime().args(["start", "cycle"]), 1, &["running"]);
    fails(world.runtime().args(["delete", "cycle"]), 1, &["cycle"]);
    assert!(ok(world.runtime().args(["list", "-q"])).lines().any(|l| l == "cycle"));
    quiet(world.runtime().args(["pause", "cycle"]));
    assert_eq!(status()["status"], "paused");
    quiet(world.runtime().args(["resume", "cycle"]));
    let said =
        say(world.runtime().args(["exec", "cycle", "/bin/sh", "-c", "echo in; exit 9"]).stdin(Stdio::null()));
    assert_eq!((said.code, said.out.as_str()), (9, "in\n"), "{}", said.err);
    quiet(world.runtime().args(["kill", "cycle", "KILL"]));
    let deadline = Instant::now() + Duration::from_secs(5);
    while status()["status"] != "stopped" {
        assert!(Instant::now() < deadline, "still {}", status());
        std::thread::sleep(Duration::from_millis(20));
    }
    quiet(world.runtime().args(["delete", "cycle"]));
    fails(world.runtime().args(["state", "cycle"]), 1, &["does not exist"]);
    assert_none_since(&before);
}

/// A busybox image that runs `command`, as an archive of skopeo's `transport` with the name `image`.
pub(crate) fn archive(world: &World, transport: &str, image: &str, command: &[&str]) -> PathBuf {
    let layout = world.path().join("layout");
    let from = busybox_layout(&layout, json!({ "Cmd": command, "Env": ["PATH=/bin"] }));
    let file = world.path().join("box.tar");
    // skopeo adds to a file that is there.
    let _ = fs::remove_file(&file);
    let to = format!("{transport}:{}:{image}", file.display());
    ok(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &from, &to]));
    file
}

/// Runs a command on a terminal, with the steps of terminal.py.
fn on_terminal(world: &World, steps: &str, command: &Command) -> Said {
    let file = world.path().join("steps");
    fs::write(&file, steps).expect("writable");
    let mut all = Command::new("python3");
    all.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/terminal.py"));
    all.arg(command.get_program()).args(command.get_args());
    all.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    say(all.stdin(fs::File::open(&file).expect("readable")))
}

/// Waits for the terminal's first size and then for another, reads a line, and exits with 4.
const SIZED: &str = "sized() { until [ \"$(stty size 2>&1)\" = \"$1\" ]; do sleep 0.1; done; echo sized $1; }; \
    tty; sized '24 80'; sleep 0.5; echo now; sized '33 99'; read x; echo got $x; exit 4";

/// The other side of [`SIZED`]. Clients begin to watch their terminal when the process runs already.
const RESIZED: &str = "expect /dev/pts/\nexpect sized 24 80\nexpect now\nresize 33 99\nexpect sized 33 99\n\
    send words\nexpect got words\n";

/// Waits until something holds: engines poll, so a minute at most.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A command that must fail as `docker run` does for a program it can't start.
fn cannot_start(mut command: Command, code: i32, words: &str) {
    let said = say(command.stdin(Stdio::null()));
    assert_eq!(said.code, code, "{}{}", said.out, said.err);
    assert!(said.err.contains(words), "{words:?} is not in: {}", said.err);
}

/// The content of a cgroup's file as the host sees it: `v1` of the controller's hierarchy, or `v2`.
fn cgroup_value(pid: &Value, controller: &str, v1: &str, v2: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a live process");
    let of = |wanted: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            controllers.split(',').any(|c| c == wanted).then(|| fields.next().unwrap_or_default().to_owned())
        })
    };
    let file = match of(controller) {
        Some(path) => format!("/sys/fs/cgroup/{controller}{path}/{v1}"),
        None => format!("/sys/fs/cgroup{}/{v2}", of("").expect("a cgroup")),
    };
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned()
}

/// The link of a namespace of the process that the host knows as `pid`.
fn namespace(pid: &Value, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap_or_else(|e| panic!("{kind} of {pid}: {e}"))
}

/// Runs containers in a row and then at once, and checks that nothing is left: 20 and 5 of them, or 100 and 20 with
/// `RCR_STRESS=full`. `run` makes the container of a number, from beginning to end.
fn many(client: &str, run: impl Fn(usize) + Sync) {
    let full = std::env::var_os("RCR_STRESS").is_some_and(|value| value == "full");
    let (in_a_row, at_once) = if full { (100, 20) } else { (20, 5) };
    // The first one makes what engines keep: networks, parents of cgroups.
    run(0);
    let before = Snapshot::take();
    let start = Instant::now();
    (1..=in_a_row).for_each(&run);
    let row = start.elapsed();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let run = &run;
        for number in 0..at_once {
            scope.spawn(move || run(1000 + number));
        }
    });
    println!("{client}: {in_a_row} in a row {row:.1?}, {at_once} at once {:.1?}", start.elapsed());
    assert_none_since(&before);
}
