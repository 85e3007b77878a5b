//! Volumes and `--mount`: made, filled, shared, listed, removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use harness::host::Need::{Path as File, Root};
use harness::image::{Layer, Packing, write_layout};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, run};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("volumes":
    volumes_are_made_listed_inspected_and_removed [Root],
    an_empty_volume_is_filled_once_and_what_is_used_stays [Root, BUSYBOX],
    mounts_in_the_long_form [Root, BUSYBOX],
    volumes_of_other_containers [Root, BUSYBOX],
    what_killed_removals_leave_goes_with_the_next [Root],
);

fn world() -> (World, String) {
    let world = World::new();
    let layer = Layer::busybox().dir("data/", 0o751).file("data/seed", 0o640, b"seed\n");
    let dir = world.path().join("layout");
    fs::create_dir(&dir).expect("writable");
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    write_layout(&dir, "t", &[layer.into_tar()], Packing::Gzip, config);
    let id = world.pulled(&format!("oci:{}:t", dir.display()));
    (world, id)
}

fn volume(world: &World, args: &[&str]) -> Command {
    let mut command = world.rcr();
    command.arg("volume").args(args).stdin(Stdio::null());
    command
}

fn volumes_are_made_listed_inspected_and_removed() {
    let world = World::new();
    assert_eq!(ok(&mut volume(&world, &["create", "--label", "a=1", "--label", "b", "one"])), "one");
    assert_eq!(ok(&mut volume(&world, &["create", "--label", "other", "one"])), "one", "docker: no error");
    let made_up = ok(&mut volume(&world, &["create"]));
    assert!(made_up.len() == 64 && made_up.bytes().all(|b| b.is_ascii_hexdigit()), "{made_up}");
    ok(&mut volume(&world, &["create", "two"]));
    let list = ok(&mut volume(&world, &["ls"]));
    assert!(list.starts_with("DRIVER    VOLUME NAME\n") && list.contains("local     one\n"), "{list}");
    let quiet = |args: &[&str]| ok(volume(&world, &["ls", "-q"]).args(args));
    assert_eq!(quiet(&["--filter", "label=a=1"]), "one");
    assert_eq!(quiet(&["--filter", "name=^t"]), "two");
    assert_eq!(quiet(&["--filter", "dangling=false"]), "");
    assert_eq!(
        ok(&mut volume(&world, &["ls", "--filter", "name=one", "--format", "{{.Name}} {{.Labels}}"])),
        "one a=1,b="
    );
    let found: Value = serde_json::from_str(&ok(&mut volume(&world, &["inspect", "one"]))).expect("JSON");
    assert_eq!((&found[0]["Name"], &found[0]["Labels"]), (&json!("one"), &json!({ "a": "1", "b": "" })));
    let place = found[0]["Mountpoint"].as_str().expect("a path");
    assert_eq!(fs::metadata(place).expect("a directory").permissions().mode() & 0o777, 0o755);
    fails(&mut volume(&world, &["create", "a/b"]), 1, &["invalid volume name \"a/b\""]);
    fails(&mut volume(&world, &["create", "-o", "type=nfs", "x"]), 125, &["\"type\"", "not supported"]);
    fails(&mut volume(&world, &["create", "-d", "nfs", "x"]), 125, &["local is the only driver"]);
    fails(&mut volume(&world, &["rm", "none"]), 1, &["no such volume: none"]);
    fails(&mut volume(&world, &["inspect", "../images"]), 1, &["no such volume: ../images"]);
    ok(&mut volume(&world, &["rm", "-f", "none"]));
    fails(&mut volume(&world, &["prune"]), 1, &["add -f"]);
    // Without -a only those that nobody named.
    let pruned = ok(&mut volume(&world, &["prune", "-f"]));
    assert!(pruned.contains(&made_up) && pruned.contains("Total reclaimed space: "), "{pruned}");
    assert_eq!(quiet(&[]), "one\ntwo");
    ok(&mut volume(&world, &["prune", "-af", "--filter", "label!=a"]));
    assert_eq!(quiet(&[]), "one");
    assert_eq!(ok(&mut volume(&world, &["rm", "one"])), "one");
    assert_eq!(fs::read_dir(world.path().join("store/volumes")).expect("there").count(), 0);
}

fn an_empty_volume_is_filled_once_and_what_is_used_stays() {
    let (world, image) = world();
    let before = Snapshot::take();
    ok(&mut volume(&world, &["create", "v"]));
    let show = "stat -c '%a' /data; cat /data/*";
    assert_eq!(
        ok(&mut run(&world, &["--name", "aa", "-v", "v:/data", &image, "sh", "-c", show])),
        "751\nseed"
    );
    ok(&mut run(&world, &["--rm", "-v", "v:/data", &image, "sh", "-c", "echo mine > /data/seed"]));
    assert_eq!(ok(&mut run(&world, &["--rm", "-v", "v:/data", &image, "cat", "/data/seed"])), "mine");
    fails(&mut volume(&world, &["rm", "v"]), 1, &["volume v", "in use by aa"]);
    assert_eq!(ok(&mut volume(&world, &["ls", "-qf", "dangling=false"])), "v");
    assert_eq!(ok(&mut volume(&world, &["prune", "-af"])), "Total reclaimed space: 0B");
    // Empty, but another container has it: filled in its place, not exchanged.
    ok(&mut run(&world, &["--name", "bb", "-v", "w:/nothing", &image, "true"]));
    let inode = || {
        fs::metadata(world.path().join("store/volumes/w/_data"))
            .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
    };
    let old = inode().expect("there");
    assert_eq!(ok(&mut run(&world, &["--rm", "-v", "w:/data", &image, "cat", "/data/seed"])), "seed");
    assert_eq!(inode().expect("there"), old);
    assert_eq!(ok(&mut run(&world, &["--rm", "-v", "x:/data:nocopy", &image, "ls", "/data"])), "");
    ok(world.rcr().args(["rm", "aa", "bb"]));
    ok(&mut volume(&world, &["rm", "v", "w", "x"]));
    assert_none_since(&before);
}

fn mounts_in_the_long_form() {
    let (world, image) = world();
    let host = world.path().join("host");
    fs::create_dir(&host).expect("writable");
    fs::write(host.join("file"), "of the host\n").expect("writable");
    let bind = |more: &str| format!("type=bind,source={},target=/m{more}", host.display());
    let with = |mount: &str, script: &str| {
        ok(&mut run(&world, &["--rm", "--mount", mount, &image, "sh", "-c", script]))
    };
    assert_eq!(with(&bind(""), "cat /m/file; echo x > /m/made"), "of the host");
    assert!(host.join("made").exists());
    assert_eq!(
        with(&bind(",readonly"), "echo x 2>&1 > /m/file || echo refused").lines().last(),
        Some("refused")
    );
    let options = |mount: &str| with(mount, "grep ' /m ' /proc/self/mountinfo");
    assert!(
        options(&bind(",bind-propagation=rslave")).contains(" master:")
            || options(&bind(",bind-propagation=rslave")).contains(" /m ")
    );
    let missing = world.path().join("missing");
    let flag = format!("type=bind,src={},dst=/m", missing.display());
    fails(
        &mut run(&world, &["--rm", "--mount", &flag, &image, "true"]),
        125,
        &["does not exist", "missing", "-v"],
    );
    assert!(!missing.exists());
    let short = format!("{}:/m", missing.display());
    ok(&mut run(&world, &["--rm", "-v", &short, &image, "true"]));
    assert!(missing.is_dir(), "-v makes it");
    assert_eq!(with("type=volume,source=named,target=/data", "cat /data/seed"), "seed");
    assert_eq!(with("type=volume,source=bare,target=/data,volume-nocopy", "ls /data"), "");
    let tmpfs =
        with("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0711", "stat -c %a /t; df -k /t | tail -1");
    assert!(tmpfs.starts_with("711\n") && tmpfs.contains(" 1024 "), "{tmpfs}");
    fails(
        &mut run(&world, &["--mount", "type=bind,target=/x", &image]),
        125,
        &["--mount", "source is required"],
    );
    ok(&mut volume(&world, &["rm", "named", "bare"]));
}

fn volumes_of_other_containers() {
    let (world, image) = world();
    ok(&mut run(
        &world,
        &[
            "--name",
            "first",
            "-v",
            "/data",
            "-v",
            "n:/n",
            &image,
            "sh",
            "-c",
            "echo 1 > /data/one; echo 2 > /n/two",
        ],
    ));
    let from = |args: &[&str]| ok(&mut run(&world, args));
    assert_eq!(from(&["--rm", "--volumes-from", "first", &image, "cat", "/data/one", "/n/two"]), "1\n2");
    let refused = "(echo x > /data/one) 2>/dev/null || echo refused; cat /data/one";
    assert_eq!(from(&["--rm", "--volumes-from", "first:ro", &image, "sh", "-c", refused]), "refused\n1");
    // The user's own mount wins.
    assert_eq!(from(&["--rm", "--volumes-from", "first", "--tmpfs", "/n", &image, "ls", "/n"]), "");
    from(&["--name", "second", "--volumes-from", "first", &image, "true"]);
    let count = || fs::read_dir(world.path().join("store/volumes")).expect("there").count();
    ok(world.rcr().args(["rm", "-v", "first"]));
    assert_eq!(count(), 2, "second still has the anonymous one");
    ok(world.rcr().args(["rm", "-v", "second"]));
    assert_eq!(ok(&mut volume(&world, &["ls", "-q"])), "n");
    fails(&mut run(&world, &["--volumes-from", "nobody", &image]), 125, &["no such container: nobody"]);
    fails(&mut run(&world, &["--volumes-from", "nobody:rx", &image]), 125, &["invalid mode \"rx\""]);
}

fn what_killed_removals_leave_goes_with_the_next() {
    let world = World::new();
    ok(&mut volume(&world, &["create", "v"]));
    let volumes = world.path().join("store/volumes");
    fs::create_dir_all(volumes.join(".garbage-1/_data/deep")).expect("writable");
    fs::write(volumes.join(".garbage-1/_data/file"), "x").expect("writable");
    assert_eq!(ok(&mut volume(&world, &["ls", "-q"])), "v");
    ok(&mut volume(&world, &["rm", "v"]));
    assert_eq!(fs::read_dir(&volumes).expect("there").count(), 0);
}
