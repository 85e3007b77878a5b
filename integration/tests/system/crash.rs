//! kill -9 at random moments: the store stays whole and the next command leaves nothing of what died.

use std::time::Instant;

use harness::host::Need::{Path, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::moments::{kill_after, moments};
use harness::world::{World, ok};
use harness::{Case, cases, image, registry};
use serde_json::json;

pub(crate) const CASES: &[Case] = cases!("crash":
    kill_9_at_50_moments_of_a_pull [Root, Program("docker-registry"), Program("umoci")],
    kill_9_at_50_moments_of_a_run [Root, Path("/bin/busybox")],
);

fn kill_9_at_50_moments_of_a_pull() {
    let world = World::new();
    registry::serve_demo_image(&world);
    let pull = |world: &World| {
        let mut command = world.rcr();
        command.args(["pull", "-q", "python:3.8.5-alpine"]);
        command
    };
    let start = Instant::now();
    ok(&mut pull(&world));
    let whole = start.elapsed();
    ok(world.rcr().args(["rmi", "python:3.8.5-alpine"]));
    let before = Snapshot::take();
    for moment in moments(50) {
        kill_after(&mut pull(&world), whole.mul_f64(moment), || ());
        ok(world.rcr().args(["system", "fsck"]));
        let staged = std::fs::read_dir(world.path().join("store/staging")).into_iter().flatten().count();
        assert_eq!(staged, 0, "killed at {moment:.2} of a pull, staging is not empty");
        // Every other time from nothing again, so that late moments are reached too.
        let _ = world.rcr().args(["rmi", "python:3.8.5-alpine"]).output();
        ok(world.rcr().args(["system", "prune", "-f"]));
    }
    ok(&mut pull(&world));
    let out = ok(world.rcr().args([
        "run",
        "--network=none",
        "--rm",
        "python:3.8.5-alpine",
        "python3",
        "-c",
        "print(6*7)",
    ]));
    assert_eq!(out, "42");
    assert_none_since(&before);
}

fn kill_9_at_50_moments_of_a_run() {
    let world = World::new();
    let image = image::busybox_layout(&world.path().join("layout"), json!({ "Env": ["PATH=/bin"] }));
    ok(world.rcr().args(["pull", "-q", &image]));
    let id = ok(world.rcr().args(["images", "-q"]));
    let run = |world: &World| {
        let mut command = world.rcr();
        command.args([
            "run",
            "--network=none",
            "--rm",
            "--memory",
            "64m",
            "-v",
            "/data",
            &id,
            "sh",
            "-c",
            "exec sleep 0.02",
        ]);
        command
    };
    ok(&mut run(&world));
    let before = Snapshot::take();
    let start = Instant::now();
    ok(&mut run(&world));
    let whole = start.elapsed();
    for moment in moments(50) {
        kill_after(&mut run(&world), whole.mul_f64(moment), || ());
        // The next command of any kind cleans up.
        assert_eq!(ok(world.rcr().args(["ps", "-aq"])), "", "killed at {moment:.2} of a run");
        assert_none_since(&before);
        ok(world.rcr().args(["system", "fsck"]));
    }
    let containers = std::fs::read_dir(world.path().join("store/containers")).into_iter().flatten().count();
    assert_eq!(containers, 0, "records of dead containers");
    ok(&mut run(&world));
}
