//! A guard against decay: how many system calls the frequent things take. Unlike times, a busy machine does not change
//! them. The limits are a quarter above what was counted when they were set, on a host with ten cgroup hierarchies.

use std::fs;
use std::process::{Command, Stdio};

use harness::bundle::Bundle;
use harness::host::Need::{Path as File, Program, Root};
use harness::image::{Layer, Packing, busybox_layout, write_layout};
use harness::world::{World, ok, run};
use harness::{Case, cases};
use serde_json::json;

pub(crate) const CASES: &[Case] = cases!("counts":
    of_a_bundles_run [Root, Program("strace"), File("/bin/busybox")],
    of_exec [Root, Program("strace"), File("/bin/busybox")],
    of_an_images_run [Root, Program("strace"), File("/bin/busybox")],
    of_unpacking_a_file [Root, Program("strace")],
);

/// Seen: 954.
const RUN: usize = 1200;
/// Seen: 457.
const EXEC: usize = 570;
/// Seen: 1340.
const IMAGE: usize = 1700;
/// Seen: 6.9 for each file.
const FILE_TENTHS: usize = 86;

/// System calls of a command and of all that it starts.
pub(crate) fn count(world: &World, command: &Command) -> usize {
    let table = world.path().join("calls");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-c", "-o"]).arg(&table).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    ok(traced.stdin(Stdio::null()));
    // "100.00    0.021    16    1348    79 total": share, seconds, microseconds a call, calls, errors.
    let text = fs::read_to_string(&table).expect("strace writes it");
    let total = text.lines().find(|line| line.ends_with(" total")).unwrap_or_else(|| panic!("{text}"));
    total.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

fn assert_at_most(limit: usize, what: &str, counted: usize) {
    // One that does almost nothing was not what was meant.
    assert!(
        (limit / 4..=limit).contains(&counted),
        "{what}: {counted} system calls, at most {limit} expected"
    );
}

fn of_a_bundles_run() {
    let bundle = Bundle::new("", |config, _| config["process"]["args"] = json!(["/bin/true"]));
    let mut command = bundle.world.runtime();
    command.args(["run", "--bundle"]).arg(&bundle.dir).arg("rcr-counts");
    assert_at_most(RUN, "run", count(&bundle.world, &command));
}

fn of_exec() {
    let bundle = Bundle::new("exec sleep 600", |_, _| {});
    let id = format!("rcr-counts-{}", std::process::id());
    let mut run = bundle.world.runtime();
    run.args(["run", "--detach", "--bundle"]).arg(&bundle.dir).arg(&id);
    // Not a pipe, which the container would keep open.
    let status = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("it starts").success());
    let mut command = bundle.world.runtime();
    command.args(["exec", &id, "/bin/true"]);
    let counted = count(&bundle.world, &command);
    ok(bundle.world.runtime().args(["delete", "--force", &id]));
    assert_at_most(EXEC, "exec", counted);
}

fn of_an_images_run() {
    let world = World::new();
    let layout = busybox_layout(&world.path().join("layout"), json!({ "Env": ["PATH=/bin"] }));
    let image = world.pulled(&layout);
    let command = run(&world, &["--rm", &image, "true"]);
    assert_at_most(IMAGE, "run of an image", count(&world, &command));
}

fn of_unpacking_a_file() {
    let world = World::new();
    let pull = |name: &str, files: usize| {
        let layout = world.path().join(name);
        fs::create_dir_all(&layout).expect("writable");
        let layer = (0..files).fold(Layer::new(), |layer, n| layer.file(&format!("{name}-{n}"), 0o644, b"x"));
        write_layout(&layout, "1", &[layer.into_tar()], Packing::Gzip, json!({}));
        let mut command = world.rcr();
        command.args(["pull", "-q", &format!("oci:{}:1", layout.display())]);
        count(&world, &command)
    };
    let (few, many) = (pull("few", 10), pull("many", 1010));
    let tenths = many.saturating_sub(few) / 100;
    assert!((30..=FILE_TENTHS).contains(&tenths), "{tenths} tenths of a system call for each file");
}
