//! Images made by an attacker: layers that write outside, configs that take control. The row names (UP-…, IM-…) are
//! those of the project's catalogue of attacks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::canary::Canary;
use harness::host::Need::{Path as File, Root};
use harness::image::{Layer, Packing, busybox_layout, write_layout};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};
use tar::EntryType;

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("hostile_images":
    layers_never_write_outside [Root],
    whiteouts_of_nothing_and_of_everything_are_refused [Root],
    a_whiteout_device_hides_its_own_lower_file_only [Root, BUSYBOX],
    another_images_diff_ids_poison_nothing [Root],
    volumes_workdirs_and_fixed_files_stay_inside [Root, BUSYBOX],
    passwd_that_blocks_or_floods_ends_soon [Root, BUSYBOX],
    environment_takes_nothing_from_the_host [Root, BUSYBOX],
    users_are_as_typed_or_refused [Root, BUSYBOX],
    newlines_reach_no_file_of_ours [Root, BUSYBOX],
    a_bomb_is_stopped [Root],
    the_store_is_closed_to_others [Root, BUSYBOX],
    names_that_are_paths_are_refused [Root, BUSYBOX],
);

/// A layout `oci:DIR:t` in the world with one layer over nothing.
fn image_of(world: &World, layers: Vec<Layer>, config: Value) -> String {
    let dir = world.path().join("layout");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("writable");
    let layers: Vec<Vec<u8>> = layers.into_iter().map(Layer::into_tar).collect();
    write_layout(&dir, "t", &layers, Packing::Gzip, config);
    format!("oci:{}:t", dir.display())
}

fn layers_never_write_outside() {
    let world = World::new();
    let canary = Canary::new(&world.path().join("canary"));
    let out = canary.path().display().to_string();
    let up = format!("../../../../../../../../..{out}");
    let layer = Layer::new;
    // What the layer tries, and the layers, lowest first.
    let table: Vec<(&str, Vec<Layer>)> = vec![
        (
            "UP-01 file through a link of its name",
            vec![layer().symlink("foo", &format!("{out}/marker")).file("foo", 0o644, b"x")],
        ),
        ("UP-01 hard link", vec![layer().hardlink("foo", &format!("{up}/marker")).file("foo", 0o644, b"x")]),
        (
            "UP-02 directory through a link up",
            vec![layer().symlink("up", "../").dir("up/exploit/foo/", 0o755)],
        ),
        ("UP-03 directory over a link", vec![layer().symlink("foo", &out).dir("foo", 0o777)]),
        (
            "UP-05 parent replaced by a link",
            vec![
                layer()
                    .dir("a/b/", 0o755)
                    .file("a/b/c", 0o644, b"c")
                    .symlink("a/b/c", &out)
                    .symlink("a", &out)
                    .file("a/b/d", 0o644, b"d"),
            ],
        ),
        ("UP-07 absolute link", vec![layer().symlink("escape", &out).file("escape/pwned", 0o644, b"x")]),
        (
            "UP-07 over two layers",
            vec![layer().symlink("escape", &out), layer().file("escape/pwned", 0o644, b"x")],
        ),
        (
            "UP-08 lexical",
            vec![layer().dir("b/", 0o755).symlink("b/l", "../../../../..").file("b/l/x", 0o644, b"x")],
        ),
        (
            "UP-09 metadata through a link",
            vec![layer().symlink("l", &format!("{out}/marker")).hardlink("h", "l").entry(
                b"h",
                EntryType::Regular,
                0o777,
                b"",
                None,
                |_| (),
            )],
        ),
        (
            "UP-10 the root as a link",
            vec![
                layer()
                    .entry(b".", EntryType::Symlink, 0o777, b"", Some(b"/tmp"), |_| ())
                    .file("pwned", 0o644, b"x"),
            ],
        ),
        (
            "UP-10 the root as a file",
            vec![layer().entry(b"./", EntryType::Regular, 0o644, b"x", None, |_| ())],
        ),
        (
            "UP-12 link relative to the working directory",
            vec![layer().hardlink("x", "../../../../etc/passwd")],
        ),
        ("dot dot", vec![layer().file("../pwned", 0o644, b"x")]),
        ("dot dot inside", vec![layer().dir("a/", 0o755).file("a/../../../pwned", 0o644, b"x")]),
        ("absolute", vec![layer().file(&format!("{out}/pwned"), 0o644, b"x")]),
        (
            "whiteout through a link",
            vec![layer().symlink("l", &out), layer().file("l/.wh.marker", 0o644, b"")],
        ),
        (
            "opaque through a link",
            vec![layer().symlink("l", &out), layer().file("l/.wh..wh..opq", 0o644, b"")],
        ),
    ];
    let before = Snapshot::take();
    for (what, layers) in table {
        let image = image_of(&world, layers, json!({}));
        let bundle = world.path().join("bundle");
        let said = say(world.rcr().args(["bundle", &image]).arg(&bundle));
        assert!(!said.err.contains("panicked"), "{what}: {}", said.err);
        let last = said.err.lines().last().unwrap_or("");
        assert!(said.code == 0 || last.starts_with("rcr: "), "{what}: {}", said.err);
        canary.assert_untouched(what);
        assert!(!world.path().join("pwned").exists() && !std::path::Path::new("/pwned").exists(), "{what}");
        let _ = fs::remove_dir_all(&bundle);
        assert_none_since(&before);
    }
}

fn whiteouts_of_nothing_and_of_everything_are_refused() {
    let world = World::new();
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh..."] {
        let image = image_of(&world, vec![Layer::new().dir("d/", 0o755).file(name, 0o644, b"")], json!({}));
        fails(world.rcr().args(["pull", "-q", &image]), 1, &[name]);
    }
}

fn a_whiteout_device_hides_its_own_lower_file_only() {
    // A character device 0:0 is overlay's whiteout. It may do what `.wh.` does, to the image's own lower layers.
    let world = World::new();
    let device = |header: &mut tar::Header| {
        header.set_device_major(0).expect("a device header");
        header.set_device_minor(0).expect("a device header");
    };
    let lower = Layer::busybox().file("etc/keep", 0o644, b"kept");
    let upper = Layer::new().entry(b"etc/keep", EntryType::Char, 0o644, b"", None, device);
    let image = image_of(&world, vec![lower, upper], json!({ "Env": ["PATH=/bin"] }));
    let out =
        ok(world.rcr().args(["run", "--network=none", "--rm", &image, "ls", "/etc"]).stdin(Stdio::null()));
    assert!(!out.lines().any(|l| l == "keep") && out.lines().any(|l| l == "passwd"), "{out}");
}

fn another_images_diff_ids_poison_nothing() {
    // UP-13: B claims A's DiffIDs over other bytes.
    let world = World::new();
    let honest = Layer::new().file("who", 0o644, b"honest").into_tar();
    let evil = Layer::new().file("who", 0o644, b"evil!!").into_tar();
    let dir = world.path().join("evil");
    fs::create_dir(&dir).expect("writable");
    let packed = harness::image::pack(&evil, Packing::Gzip);
    let layer = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": harness::image::put_blob(&dir, &packed), "size": packed.len() });
    let config = json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": [harness::image::sha256(&honest)] } });
    harness::image::write_manifest(&dir, "t", &config, &[layer]);
    fails(world.rcr().args(["pull", "-q", &format!("oci:{}:t", dir.display())]), 1, &["DiffID"]);
    let image = image_of(&world, vec![Layer::new().file("who", 0o644, b"honest")], json!({}));
    ok(world.rcr().args(["bundle", &image]).arg(world.path().join("bundle")));
    assert_eq!(fs::read(world.path().join("bundle/rootfs/who")).expect("unpacked"), b"honest");
}

/// busybox and something hostile on top.
fn boxed(world: &World, hostile: Layer, config: Value) -> String {
    image_of(world, vec![Layer::busybox(), hostile], config)
}

fn volumes_workdirs_and_fixed_files_stay_inside() {
    let world = World::new();
    let canary = Canary::new(&world.path().join("canary"));
    let out = canary.path().display().to_string();
    let up = format!("/../../../../../../..{out}");
    let env = json!(["PATH=/bin"]);
    let table: Vec<(&str, Layer, Value)> = vec![
        ("IM-01 volume above", Layer::new(), json!({ "Env": env, "Volumes": { up.clone(): {} } })),
        (
            "IM-01 volume through a link",
            Layer::new().symlink("v", &out),
            json!({ "Env": env, "Volumes": { "/v": {}, "/v/sub": {} } }),
        ),
        (
            "IM-02 workdir through a link",
            Layer::new().symlink("w", &format!("../..{out}")),
            json!({ "Env": env, "WorkingDir": "/w/x" }),
        ),
        ("IM-02 workdir above", Layer::new(), json!({ "Env": env, "WorkingDir": format!("{up}/made") })),
        (
            "IM-02 etc as a link",
            Layer::new().file(".wh.etc", 0o644, b"").symlink("etc", &out),
            json!({ "Env": env }),
        ),
        (
            "IM-03 fixed files as links",
            Layer::new()
                .file("etc/.wh.passwd", 0o644, b"")
                .symlink("etc/hosts", &format!("{out}/marker"))
                .symlink("etc/resolv.conf", &format!("../../..{out}/ptmx"))
                .symlink("etc/hostname", &format!("{out}/new")),
            json!({ "Env": env }),
        ),
        (
            "RT-16 fixed files as pipes",
            Layer::new().entry(b"etc/hosts", EntryType::Fifo, 0o644, b"", None, |_| ()).entry(
                b"etc/resolv.conf",
                EntryType::Fifo,
                0o644,
                b"",
                None,
                |_| (),
            ),
            json!({ "Env": env }),
        ),
        (
            "RT-16 fixed files as directories",
            Layer::new().dir("etc/hosts/", 0o755).dir("etc/resolv.conf/", 0o755),
            json!({ "Env": env }),
        ),
        ("RT-05 proc as a link", Layer::new().symlink("proc", &out), json!({ "Env": env })),
        ("RT-14 dev as a link", Layer::new().symlink("dev", &out), json!({ "Env": env })),
    ];
    let before = Snapshot::take();
    for (what, hostile, config) in table {
        let image = boxed(&world, hostile, config);
        let start = Instant::now();
        let said = say(world
            .rcr()
            .args(["run", "--network=none", "--rm", &image, "cat", "/etc/hosts", "/marker"])
            .stdin(Stdio::null()));
        assert!(start.elapsed() < Duration::from_secs(5), "{what} took {:?}", start.elapsed());
        assert!(!said.out.contains("untouched"), "{what}: the host's file was read: {}", said.out);
        assert!(!said.err.contains("panicked"), "{what}: {}", said.err);
        canary.assert_untouched(what);
        assert_none_since(&before);
    }
}

fn passwd_that_blocks_or_floods_ends_soon() {
    // IM-04.
    let world = World::new();
    let fifo = world.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("writable");
    let huge = vec![b'a'; 64 << 20];
    let without = || Layer::new().file("etc/.wh.passwd", 0o644, b"");
    for (what, hostile) in [
        ("a pipe in the image", Layer::new().entry(b"etc/passwd", EntryType::Fifo, 0o644, b"", None, |_| ())),
        ("a link to a pipe of the host", Layer::new().symlink("etc/passwd", &fifo.to_string_lossy())),
        ("a link to /dev/zero", Layer::new().symlink("etc/passwd", "/dev/zero")),
        ("one line of 64 MiB", Layer::new().file("etc/passwd", 0o644, &huge)),
        ("a directory", Layer::new().dir("etc/passwd/", 0o755)),
        ("none", without()),
    ] {
        let image = boxed(&world, hostile, json!({ "Env": ["PATH=/bin"] }));
        let _ = say(world.rcr().args(["pull", "-q", &image]));
        let start = Instant::now();
        let said = say(world
            .rcr()
            .args(["run", "--network=none", "--rm", "-u", "alice", &image, "true"])
            .stdin(Stdio::null()));
        assert!(start.elapsed() < Duration::from_secs(2), "{what} took {:?}", start.elapsed());
        assert_eq!(said.code, 125, "{what}: {}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{what}: {}", said.err);
    }
}

fn environment_takes_nothing_from_the_host() {
    // CVE-2026-57231 (IM-06).
    let world = World::new();
    for entry in ["SECRET", "*", "SEC*", "=x", ""] {
        let image = boxed(&world, Layer::new(), json!({ "Env": ["PATH=/bin", entry] }));
        let said = say(world
            .rcr()
            .args(["run", "--network=none", "--rm", &image, "env"])
            .env("SECRET", "of-the-host")
            .stdin(Stdio::null()));
        assert!(!said.out.contains("of-the-host"), "{entry:?} took the host's variable");
        assert!(!said.err.contains("panicked"), "{entry:?}: {}", said.err);
    }
}

fn users_are_as_typed_or_refused() {
    // CVE-2024-40635, CVE-2026-46680 (RT-03): never root unless asked.
    let world = World::new();
    let passwd = Layer::new().file(
        "etc/passwd",
        0o644,
        b"root:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n",
    );
    let nines = "9".repeat(36);
    let dir = image_of(&world, vec![Layer::busybox(), passwd], json!({ "Env": ["PATH=/bin"] }));
    for (user, want) in [
        ("1000", Some("1000")),
        ("2147483648", None),
        ("-1000", None),
        ("405:2147483648", None),
        ("4294967295", None),
        ("4294967296", None),
        (&nines, None),
        ("0:999999999999", None),
    ] {
        let said = say(world
            .rcr()
            .args(["run", "--network=none", "--rm", &format!("--user={user}"), &dir, "id", "-u"])
            .stdin(Stdio::null()));
        match want {
            Some(want) => assert_eq!(said.out.trim(), want, "{user}: {}", said.err),
            None => assert!(said.code == 125 && said.out.is_empty(), "{user}: {said:?}"),
        }
    }
}

fn newlines_reach_no_file_of_ours() {
    // CVE-2022-4318, CVE-2026-15809 (IM-07).
    let world = World::new();
    let evil = "x\nroot2::0:0::/:/bin/sh";
    let show = "cat /etc/passwd /etc/hosts /etc/hostname";
    let image = boxed(&world, Layer::new(), json!({ "Env": ["PATH=/bin", format!("HOME={evil}")] }));
    let said = say(world
        .rcr()
        .args(["run", "--network=none", "--rm", &image, "sh", "-c", show])
        .stdin(Stdio::null()));
    assert!(!said.out.contains("root2"), "{}", said.out);
    let said = say(world
        .rcr()
        .args(["run", "--network=none", "--rm", "--hostname", "h\n6.6.6.6 evil", &image, "sh", "-c", show])
        .stdin(Stdio::null()));
    assert!(said.code == 125 && !said.out.contains("6.6.6.6"), "{said:?}");
}

fn a_bomb_is_stopped() {
    // 2c: entries without end and directories without bottom.
    let world = World::new();
    let mut deep = Layer::new();
    let mut path = String::new();
    while path.len() < 90 {
        path += "d/";
        deep = deep.dir(&path, 0o755);
    }
    let mut header_only = Layer::new();
    header_only =
        header_only.entry(b"huge", EntryType::Regular, 0o644, b"", None, |h| h.set_size(u64::MAX >> 2));
    let start = Instant::now();
    let image = image_of(&world, vec![deep], json!({}));
    ok(world.rcr().args(["pull", "-q", &image]));
    let image = image_of(&world, vec![header_only], json!({}));
    fails(world.rcr().args(["pull", "-q", &image]), 1, &["tar"]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

fn the_store_is_closed_to_others() {
    // CVE-2021-41103, CVE-2024-25621 (IM-12): independent of the umask.
    let world = World::new();
    let image = busybox_layout(&world.path().join("layout"), json!({ "Env": ["PATH=/bin"] }));
    let rcr = world.rcr();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(rcr.get_program()).args(rcr.get_args());
    ok(shell.args(["run", "--network=none", "--rm", &image, "true"]).stdin(Stdio::null()));
    for dir in ["store", "run"] {
        let mode = fs::metadata(world.path().join(dir)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{dir} is open to others: {mode:o}");
    }
}

fn names_that_are_paths_are_refused() {
    // IM-21.
    let world = World::new();
    let image = busybox_layout(&world.path().join("layout"), json!({ "Env": ["PATH=/bin"] }));
    for name in ["../x", "/etc", ".", "a/b", "", "-x", "a b", &"n".repeat(4096)] {
        let said = say(world
            .rcr()
            .args(["run", "--network=none", "--rm", &format!("--name={name}"), &image, "true"])
            .stdin(Stdio::null()));
        assert_eq!(said.code, 125, "{name:?}: {}", said.err);
    }
}
