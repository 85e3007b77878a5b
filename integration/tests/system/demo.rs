//! The main job: an image from a registry, under the name users type, to Python's output.

use std::process::Stdio;

use harness::host::Need::{Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, ok, say};
use harness::{Case, cases, registry};
use serde_json::Value;

pub(crate) const CASES: &[Case] = cases!("demo":
    pull_run_list_and_remove [Root, Program("docker-registry"), Program("umoci")],
);

fn pull_run_list_and_remove() {
    let world = World::new();
    registry::serve_demo_image(&world);
    let before = Snapshot::take();
    let image = "python:3.8.5-alpine";
    let id = ok(world.rcr().args(["pull", "-q", image]));
    assert!(
        id.starts_with("sha256:") && id.len() == 71 && !id.contains('\n'),
        "-q prints the image ID only: {id}"
    );
    let python = |code: &str| {
        let mut command = world.rcr();
        command.args(["run", "--network=none", "--rm", image, "python3", "-c", code]).stdin(Stdio::null());
        command
    };
    assert_eq!(ok(&mut python("print(6*7)")), "42");
    assert_eq!(say(&mut python("import sys; sys.exit(7)")).code, 7);
    // The whiteouts of its top layer: a removed file and a replaced directory.
    let code =
        "import json, os; print(os.path.exists('/usr/local/bin/python3'), sorted(os.listdir('/srv/app')))";
    assert_eq!(ok(&mut python(code)), "False ['hello.py']");
    let listed = ok(world.rcr().args(["images", "--format", "json"]));
    let row: Value = serde_json::from_str(listed.lines().next().expect("a row")).expect("JSON");
    let row = row.as_array().map_or(&row, |rows| &rows[0]).clone();
    assert_eq!(row["Repository"], "python");
    assert_eq!(row["Tag"], "3.8.5-alpine");
    let inspected: Value = serde_json::from_str(&ok(world.rcr().args(["inspect", image]))).expect("JSON");
    assert_eq!(inspected[0]["Id"], id.as_str());
    assert_eq!(inspected[0]["Config"]["StopSignal"], "SIGINT");
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(5));
    // A second pull has nothing to fetch.
    let again = ok(world.rcr().args(["pull", image]));
    assert!(!again.is_empty());
    ok(world.rcr().args(["rmi", image]));
    assert_eq!(ok(world.rcr().args(["images", "-q"])), "");
    let layers = std::fs::read_dir(world.path().join("store/layers/sha256")).into_iter().flatten().count();
    assert_eq!(layers, 0, "layers of no image");
    assert_none_since(&before);
}
