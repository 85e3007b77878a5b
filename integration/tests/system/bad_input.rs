//! Bad input and bad luck: each gives one line that names the thing and the cause, leaves nothing, and the next try
//! works.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::bundle::Bundle;
use harness::host::Need::{FileSystem, Path as File, Program, Root};
use harness::image::{Layer, Packing, pack, put_blob, sha256, write_layout, write_manifest};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, say};
use harness::{Case, cases, image, registry};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = cases!("bad_input":
    no_such_image_tag_or_platform [Root, Program("docker-registry"), Program("umoci")],
    registry_down [Root],
    layers_that_are_not_what_they_should_be [Root],
    manifests_that_are_no_images [Root],
    config_json_that_is_wrong_names_the_place [Root, File("/bin/busybox")],
    a_full_disk_loses_nothing [Root, File("/bin/busybox"), FileSystem("tmpfs")],
    without_privilege_the_error_says_so [Root, Program("setpriv")],
    an_interrupt_during_a_pull_leaves_nothing [Root],
    an_interrupt_during_a_run_leaves_nothing [Root, File("/bin/busybox")],
    typos_are_answered_with_what_was_meant [],
);

/// What a store holds that is not a whole image: it must be empty after any failure.
fn assert_store_clean(world: &World) {
    ok(world.rcr().args(["system", "fsck"]));
    let staging = world.path().join("store/staging");
    let left: Vec<_> = fs::read_dir(&staging).into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left in the store: {left:?}");
}

fn no_such_image_tag_or_platform() {
    let world = World::new();
    let registry = registry::serve_demo_image(&world);
    let before = Snapshot::take();
    let python = format!("{registry}/library/python");
    let missing = format!("{registry}/no-such-image");
    fails(world.rcr().args(["pull", &missing]), 1, &[&format!("{missing}:latest"), "no such image"]);
    fails(world.rcr().args(["pull", &format!("{python}:no-such-tag")]), 1, &["no-such-tag", "no such"]);
    // A mirror that lacks it is not the last word: the registry itself is asked, and cannot be reached from here.
    fails(world.rcr().args(["pull", "python:no-such-tag"]), 1, &["no-such-tag", &registry]);
    fails(
        world.rcr().args(["pull", "--platform", "linux/s390x", "python:3.8.5-alpine"]),
        1,
        &["linux/s390x"],
    );
    fails(
        world.rcr().args(["run", "--network=none", "--rm", &format!("{python}:no-such-tag"), "true"]),
        125,
        &["no-such-tag"],
    );
    fails(
        world.rcr().args(["run", "--network=none", "--rm", "--pull", "never", "python:3.8.5-alpine", "true"]),
        125,
        &["python:3.8.5-alpine"],
    );
    assert_store_clean(&world);
    assert_none_since(&before);
    ok(world.rcr().args(["pull", "-q", "python:3.8.5-alpine"]));
}

fn registry_down() {
    let world = World::new();
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let start = Instant::now();
    fails(world.rcr().args(["pull", &format!("127.0.0.1:{port}/x")]), 1, &[&port.to_string(), "refused"]);
    assert!(start.elapsed() < Duration::from_secs(30), "a refused connection is not worth half a minute");
    assert_store_clean(&world);
}

/// A layout of one layer whose descriptor, bytes and DiffID are given apart.
fn layout_of(dir: &Path, stored: &[u8], digest: &str, size: usize, diff_id: &str) {
    let real = put_blob(dir, stored);
    if real != digest {
        fs::rename(dir.join("blobs/sha256").join(&real[7..]), dir.join("blobs/sha256").join(&digest[7..]))
            .expect("writable");
    }
    let layer =
        json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size });
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [diff_id] }, "config": {} });
    write_manifest(dir, "latest", &config, &[layer]);
}

fn layers_that_are_not_what_they_should_be() {
    let tar = Layer::new().dir("d/", 0o755).file("d/f", 0o644, &[b'x'; 200_000]).into_tar();
    let good = pack(&tar, Packing::Gzip);
    let (digest, diff_id) = (sha256(&good), sha256(&tar));
    let mut flipped = good.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    let cut = &good[..good.len() / 2];
    let mut cut_tar = tar.clone();
    cut_tar.truncate(1024);
    let cut_tar_gz = pack(&cut_tar, Packing::Gzip);
    let words = pack(b"this is no tar, however long it may be. ".repeat(100).as_slice(), Packing::Gzip);
    let zeros = "sha256:".to_owned() + &"0".repeat(64);
    // (bytes, digest and size the descriptor claims, DiffID the config claims, words of the error)
    type Row<'a> = (&'a str, &'a [u8], &'a str, usize, &'a str, &'a [&'a str]);
    let table: &[Row] = &[
        ("one bit flipped", &flipped, &digest, good.len(), &diff_id, &["sha256"]),
        ("fewer bytes than promised", &good, &digest, good.len() + 1, &diff_id, &["size"]),
        ("more bytes than promised", &good, &digest, good.len() - 1, &diff_id, &["size"]),
        ("another DiffID", &good, &digest, good.len(), &zeros, &["DiffID", &diff_id[7..]]),
        ("gzip cut short", cut, &sha256(cut), cut.len(), &diff_id, &["gzip"]),
        (
            "tar cut inside a file",
            &cut_tar_gz,
            &sha256(&cut_tar_gz),
            cut_tar_gz.len(),
            &sha256(&cut_tar),
            &["tar"],
        ),
        ("no tar at all", &words, &sha256(&words), words.len(), &zeros, &["tar"]),
    ];
    for (what, stored, claimed, size, claimed_diff_id, words) in table {
        let world = World::new();
        let layout = world.path().join("layout");
        fs::create_dir(&layout).expect("writable");
        layout_of(&layout, stored, claimed, *size, claimed_diff_id);
        let before = Snapshot::take();
        let said = say(world.rcr().args(["pull", &format!("oci:{}", layout.display())]));
        assert_eq!(said.code, 1, "{what}: {}", said.err);
        for word in *words {
            assert!(
                said.err.to_lowercase().contains(&word.to_lowercase()),
                "{what}: {word:?} is not in: {}",
                said.err
            );
        }
        assert_eq!(ok(world.rcr().args(["images", "-q"])), "", "{what}: nothing became visible");
        assert_store_clean(&world);
        assert_none_since(&before);
        // The same place with the right bytes works.
        layout_of(&layout, &good, &digest, good.len(), &diff_id);
        ok(world.rcr().args(["pull", "-q", &format!("oci:{}", layout.display())]));
    }
}

fn manifests_that_are_no_images() {
    let documents: &[(&str, Value, &[&str])] = &[
        (
            "an artifact",
            json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": sha256(b"{}"), "size": 2 }, "layers": [] }),
            &["helm"],
        ),
        ("schema 1", json!({ "schemaVersion": 1, "name": "x", "tag": "y", "fsLayers": [] }), &["schema"]),
        (
            "index and manifest at once",
            json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"{}"), "size": 2 }, "layers": [], "manifests": [] }),
            &["ambiguous"],
        ),
        ("nothing", json!({}), &["manifest"]),
        ("null", json!(null), &["manifest"]),
        (
            "a negative size",
            json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"{}"), "size": -1 }, "layers": [] }),
            &["size"],
        ),
    ];
    for (what, document, words) in documents {
        let world = World::new();
        let layout = world.path().join("layout");
        fs::create_dir(&layout).expect("writable");
        put_blob(&layout, b"{}");
        let bytes = document.to_string().into_bytes();
        let digest = put_blob(&layout, &bytes);
        let entry = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": bytes.len() });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(layout.join("index.json"), index.to_string()).expect("writable");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writable");
        let said = say(world.rcr().args(["pull", &format!("oci:{}", layout.display())]));
        assert_eq!(said.code, 1, "{what}: {}", said.err);
        for word in *words {
            assert!(said.err.to_lowercase().contains(word), "{what}: {word:?} is not in: {}", said.err);
        }
        assert!(!said.err.contains("panicked"), "{what}: {}", said.err);
        assert_store_clean(&world);
    }
}

fn config_json_that_is_wrong_names_the_place() {
    let bundle = Bundle::new("exit 0", |_, _| ());
    let file = bundle.dir.join("config.json");
    let good: Value = serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
    type Row = (&'static str, fn(&mut Value) -> Option<String>, &'static [&'static str]);
    let table: &[Row] = &[
        ("empty", |_| Some(String::new()), &["config.json"]),
        ("not JSON", |_| Some("{ \"ociVersion\": ".into()), &["config.json", "line 1"]),
        (
            "a number for args",
            |c| {
                c["process"]["args"] = json!(7);
                None
            },
            &["process.args"],
        ),
        (
            "no process",
            |c| {
                c.as_object_mut()?.remove("process");
                None
            },
            &["process"],
        ),
        (
            "no root path",
            |c| {
                c["root"].as_object_mut()?.remove("path");
                None
            },
            &["root", "path"],
        ),
        (
            "empty args",
            |c| {
                c["process"]["args"] = json!([]);
                None
            },
            &["process.args"],
        ),
        (
            "relative cwd",
            |c| {
                c["process"]["cwd"] = json!("tmp");
                None
            },
            &["process.cwd", "tmp"],
        ),
        (
            "unknown namespace",
            |c| {
                c["linux"]["namespaces"][1]["type"] = json!("bogus");
                None
            },
            &["linux.namespaces[1]"],
        ),
        (
            "namespace path",
            |c| {
                c["linux"]["namespaces"][1]["path"] = json!("/etc/passwd");
                None
            },
            &["linux.namespaces[1]", "/etc/passwd"],
        ),
        (
            "sysctl of the host",
            |c| {
                c["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/x" });
                None
            },
            &["kernel.core_pattern"],
        ),
        (
            "rlimit unknown",
            |c| {
                c["process"]["rlimits"] = json!([{ "type": "RLIMIT_BOGUS", "hard": 1, "soft": 1 }]);
                None
            },
            &["RLIMIT_BOGUS"],
        ),
        (
            "relative destination with dots",
            |c| {
                c["mounts"][0]["destination"] = json!("");
                None
            },
            &["mounts[0]"],
        ),
        (
            "missing rootfs",
            |c| {
                c["root"]["path"] = json!("nowhere");
                None
            },
            &["nowhere"],
        ),
        (
            "missing bind source",
            |c| {
                c["mounts"].as_array_mut()?.push(json!({ "destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"] }));
                None
            },
            &["/no/such/source"],
        ),
    ];
    let before = Snapshot::take();
    for (what, spoil, words) in table {
        let mut config = good.clone();
        let text = spoil(&mut config).unwrap_or_else(|| config.to_string());
        fs::write(&file, text).expect("writable");
        let said = bundle.run("bad");
        assert_eq!(said.code, 1, "{what}: {}", said.err);
        for word in *words {
            assert!(said.err.contains(word), "{what}: {word:?} is not in: {}", said.err);
        }
        assert_none_since(&before);
        assert!(!bundle.world.path().join("state/bad").exists(), "{what}: state is left");
    }
    fs::write(&file, good.to_string()).expect("writable");
    assert_eq!(bundle.run("bad").code, 0);
}

fn a_full_disk_loses_nothing() {
    let world = World::new();
    let store = world.path().join("store");
    fs::create_dir(&store).expect("writable");
    ok(Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&store));
    let layout = world.path().join("layout");
    fs::create_dir(&layout).expect("writable");
    let noise: Vec<u8> =
        (0..8_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let layers = [Layer::busybox().into_tar(), Layer::new().file("big", 0o644, &noise).into_tar()];
    write_layout(&layout, "t", &layers, Packing::Gzip, json!({ "Env": ["PATH=/bin"] }));
    let image = format!("oci:{}:t", layout.display());
    let outcome = std::panic::catch_unwind(|| {
        fails(world.rcr().args(["pull", &image]), 1, &["No space left"]);
        assert_store_clean(&world);
        assert_eq!(ok(world.rcr().args(["images", "-q"])), "");
        ok(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&store));
        ok(world.rcr().args(["pull", "-q", &image]));
        assert_eq!(
            ok(world.rcr().args(["run", "--network=none", "--rm", &image, "wc", "-c", "/big"])),
            "8000000 /big"
        );
    });
    ok(Command::new("umount").arg(&store));
    outcome.unwrap_or_else(|e| std::panic::resume_unwind(e));
}

fn without_privilege_the_error_says_so() {
    let world = World::new();
    ok(Command::new("chmod").arg("755").arg(world.path()));
    let rcr = world.rcr();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(rcr.get_program())
        .args(rcr.get_args());
    fails(command.args(["images"]), 1, &["ermission denied"]);
}

fn an_interrupt_during_a_pull_leaves_nothing() {
    let world = World::new();
    let layout = world.path().join("layout");
    fs::create_dir(&layout).expect("writable");
    let noise: Vec<u8> =
        (0..4_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let digest = write_layout(
        &layout,
        "t",
        &[Layer::new().file("big", 0o644, &noise).into_tar()],
        Packing::Gzip,
        json!({}),
    );
    assert!(digest.starts_with("sha256:"));
    let address = registry::stalling(&layout, 200_000);
    let before = Snapshot::take();
    let mut child = world
        .rcr()
        .args(["pull", &format!("{address}/x:t")])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("rcr starts");
    let staged = || fs::read_dir(world.path().join("store/staging")).into_iter().flatten().count() > 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !staged() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(staged(), "the pull never began to write");
    let pressed = Instant::now();
    ok(Command::new("kill").args(["-INT", &child.id().to_string()]));
    assert_eq!(child.wait().expect("rcr ends").code(), Some(130));
    assert!(pressed.elapsed() < Duration::from_secs(3), "Ctrl-C took {:?}", pressed.elapsed());
    assert_store_clean(&world);
    assert_none_since(&before);
    ok(world.rcr().args(["pull", "-q", &format!("oci:{}:t", layout.display())]));
}

fn an_interrupt_during_a_run_leaves_nothing() {
    let world = World::new();
    let image = image::busybox_layout(&world.path().join("layout"), json!({ "Env": ["PATH=/bin"] }));
    ok(world.rcr().args(["pull", "-q", &image]));
    let before = Snapshot::take();
    let mut command = world.rcr();
    command.args(["run", "--network=none", "--rm", "--init", &image, "sleep", "60"]).stdin(Stdio::null());
    let mut child = command.spawn().expect("rcr starts");
    std::thread::sleep(Duration::from_millis(500));
    ok(Command::new("kill").args(["-INT", &child.id().to_string()]));
    assert_eq!(child.wait().expect("rcr ends").code(), Some(130));
    assert_none_since(&before);
    assert_eq!(ok(world.rcr().args(["ps", "-aq"])), "");
}

fn typos_are_answered_with_what_was_meant() {
    let world = World::new();
    fails(world.rcr().arg("pul"), 1, &["pull"]);
    fails(world.rcr().args(["run", "--nmae", "x", "y"]), 125, &["--name"]);
    fails(world.rcr().args(["pull", "Python"]), 1, &["python"]);
    fails(world.rcr().args(["run", "--memory", "lots", "x"]), 125, &["lots"]);
    fails(world.rcr().args(["run", "--network", "bridge0:x=y", "x"]), 125, &["bridge0:x=y", "ip=", "alias="]);
}
