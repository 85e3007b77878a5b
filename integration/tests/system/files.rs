//! Files of containers: cp, diff, export, commit; and images as archives: tag, save, load.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Program, Root};
use harness::image::{Layer, Packing, write_layout};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, run, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("files":
    files_are_copied_by_dockers_rules [Root, BUSYBOX],
    tars_are_copied_in_and_out [Root, BUSYBOX],
    owners_that_no_file_can_have_are_refused [Root, BUSYBOX],
    links_in_a_container_never_lead_out [Root, BUSYBOX],
    a_running_container_that_swaps_paths_gains_nothing [Root, BUSYBOX],
    volumes_of_stopped_containers_are_reached [Root, BUSYBOX],
    changes_are_listed [Root, BUSYBOX],
    an_export_is_what_the_container_sees [Root, BUSYBOX],
    a_committed_image_runs_and_is_sound [Root, BUSYBOX],
    saved_images_are_loaded_again [Root, BUSYBOX],
    saved_images_are_what_others_read [Root, BUSYBOX, Program("skopeo"), Program("umoci")],
);

fn world() -> (World, String) {
    let world = World::new();
    let layer = Layer::busybox()
        .dir("data/", 0o751)
        .file("data/seed", 0o640, b"seed\n")
        .dir("gone/", 0o755)
        .file("gone/a", 0o644, b"a")
        .file("gone/b", 0o644, b"b");
    let dir = world.path().join("layout");
    fs::create_dir(&dir).expect("writable");
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin", "KEPT=yes"], "Labels": { "base": "1" } });
    write_layout(&dir, "t", &[layer.into_tar()], Packing::Gzip, config);
    let id = world.pulled(&format!("oci:{}:t", dir.display()));
    (world, id)
}

fn cp(world: &World, args: &[&str]) -> Command {
    let mut command = world.rcr();
    command.arg("cp").args(args).stdin(Stdio::null());
    command
}

/// A container that has ended after a script.
fn ended(world: &World, name: &str, image: &str, script: &str) {
    ok(&mut run(world, &["--name", name, image, "sh", "-c", script]));
}

fn background(world: &World, name: &str, image: &str, script: &str) -> Child {
    let child = run(world, &["--name", name, image, "sh", "-c", script]).spawn().expect("rcr starts");
    let deadline = Instant::now() + Duration::from_secs(15);
    let up = || {
        let found: Value =
            serde_json::from_str(&say(world.rcr().args(["inspect", name])).out).unwrap_or_default();
        found[0]["State"]["Pid"].as_i64().is_some_and(|pid| pid > 0)
    };
    while !up() {
        assert!(Instant::now() < deadline, "{name} never ran");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn end(world: &World, name: &str, mut child: Child) {
    ok(world.rcr().args(["rm", "-f", name]));
    child.wait().expect("a child");
}

fn files_are_copied_by_dockers_rules() {
    let (world, image) = world();
    let before = Snapshot::take();
    let host = world.path().join("host");
    fs::create_dir_all(host.join("tree/sub")).expect("writable");
    fs::write(host.join("tree/sub/file"), "text\n").expect("writable");
    fs::set_permissions(host.join("tree/sub/file"), fs::Permissions::from_mode(0o4750)).expect("writable");
    symlink("sub/file", host.join("tree/link")).expect("writable");
    let at = |name: &str| host.join(name).display().to_string();
    ended(&world, "stopped", &image, "true");
    let child = background(&world, "running", &image, "exec sleep 120");
    for name in ["stopped", "running"] {
        let inside = |path: &str| format!("{name}:{path}");
        let back = |path: &str, to: &str| ok(&mut cp(&world, &[&inside(path), &at(to)]));
        // A directory into one that is there, under a new name, and its contents alone.
        ok(&mut cp(&world, &[&at("tree"), &inside("/tmp")]));
        ok(&mut cp(&world, &[&at("tree"), &inside("/new")]));
        ok(&mut cp(&world, &[&at("tree/."), &inside("/home")]));
        for (path, to) in [("/tmp/tree", "one"), ("/new", "two"), ("/home/sub", "three")] {
            back(path, to);
        }
        assert_eq!(fs::read_to_string(host.join("one/sub/file")).expect("copied"), "text\n");
        assert_eq!(fs::read_link(host.join("one/link")).expect("a link").display().to_string(), "sub/file");
        let stat = fs::metadata(host.join("two/sub/file")).expect("copied");
        assert_eq!(stat.mode() & 0o7777, 0o750, "no set-user-ID bit without -a");
        assert!(host.join("three/file").exists());
        ok(&mut cp(&world, &["-a", &inside("/data/seed"), &at("seed")]));
        assert_eq!(fs::metadata(host.join("seed")).expect("copied").mode() & 0o777, 0o640);
        ok(&mut cp(&world, &["-L", &inside("/tmp/tree/link"), &at("followed")]));
        assert!(fs::symlink_metadata(host.join("followed")).expect("copied").is_file());
        // Over a file, and into a directory.
        ok(&mut cp(&world, &[&at("seed"), &inside("/data/seed")]));
        ok(&mut cp(&world, &[&at("seed"), &inside("/bin")]));
        back("/bin/seed", "again");
        for (from, to, why) in [
            (inside("/none"), at("x"), "no such path"),
            (at("none"), inside("/tmp"), "no such path"),
            (at("seed"), inside("/none/x"), "no such directory"),
            (at("seed"), inside("/none/"), "no such directory"),
            (at("tree"), inside("/data/seed"), "cannot copy a directory"),
        ] {
            fails(&mut cp(&world, &[&from, &to]), 1, &[why]);
        }
        for name in ["one", "two", "three"] {
            fs::remove_dir_all(host.join(name)).expect("removable");
        }
    }
    let owners = "stat -c %u:%g /tmp/tree/sub/file /data/seed";
    fails(&mut cp(&world, &["nobody:/x", "/tmp"]), 1, &["no such container: nobody"]);
    fails(&mut cp(&world, &["a", "b"]), 1, &["CONTAINER:PATH"]);
    end(&world, "running", child);
    let committed = ok(world.rcr().args(["commit", "stopped"]));
    assert_eq!(ok(&mut run(&world, &["--rm", &committed, "sh", "-c", owners])), "0:0\n0:0");
    ok(world.rcr().args(["rm", "stopped"]));
    assert_none_since(&before);
}

fn tars_are_copied_in_and_out() {
    let (world, image) = world();
    ended(
        &world,
        "box",
        &image,
        "mkdir -p /d/sub; echo 1 > /d/sub/one; ln /d/sub/one /d/two; ln -s /etc /d/etc",
    );
    let out = cp(&world, &["box:/d", "-"]).output().expect("rcr runs");
    let mut names = Vec::new();
    for entry in tar::Archive::new(out.stdout.as_slice()).entries().expect("a tar") {
        let entry = entry.expect("a tar");
        names.push(format!("{} {:?}", entry.path().expect("a path").display(), entry.header().entry_type()));
    }
    assert_eq!(
        names,
        ["d/ Directory", "d/etc Symlink", "d/sub/ Directory", "d/sub/one Regular", "d/two Link"]
    );
    let into = |tar: &[u8], place: &str| {
        let mut command = cp(&world, &["-", place]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rcr runs");
        // It may refuse before it has read all.
        let _ = child.stdin.take().expect("a pipe").write_all(tar);
        let out = child.wait_with_output().expect("rcr ends");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    assert_eq!(into(&out.stdout, "box:/tmp"), (Some(0), String::new()));
    ok(&mut cp(&world, &["box:/tmp/d/two", &world.path().join("two").display().to_string()]));
    assert_eq!(fs::read_to_string(world.path().join("two")).expect("copied"), "1\n");
    let hostile = Layer::new().file("../../../escape", 0o644, b"x").into_tar();
    let (code, said) = into(&hostile, "box:/tmp");
    assert!(code == Some(1) && said.contains("leads out of it"), "{said}");
    let (code, said) = into(&out.stdout, "box:/none");
    assert!(code == Some(1) && said.contains("no such directory"), "{said}");
    ok(world.rcr().args(["rm", "box"]));
}

/// CVE-2018-15664, CVE-2019-14271: whatever links the container has, no path leaves its root.
fn owners_that_no_file_can_have_are_refused() {
    let (world, image) = world();
    ended(&world, "box", &image, "true");
    let copy = |flags: &[&str], tar: &[u8]| {
        let mut child = cp(&world, &[flags, &["-", "box:/tmp"]].concat());
        let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rcr starts");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), tar).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let entry =
        |adjust| Layer::new().entry(b"f", tar::EntryType::Regular, 0o4755, b"x", None, adjust).into_tar();
    for (tar, number) in [
        (entry(|header| header.set_uid(1 << 32)), "4294967296"),
        (entry(|header| header.set_gid((1 << 32) + 7)), "4294967303"),
        // What chown(2) takes for none.
        (entry(|header| header.set_uid(u64::from(u32::MAX))), "4294967295"),
    ] {
        let (code, said) = copy(&["-a"], &tar);
        assert_eq!(code, Some(1), "{said}");
        for word in ["\"f\"", number, "leave out -a"] {
            assert!(said.contains(word), "{said}");
        }
        assert_eq!(
            ok(&mut cp(&world, &["box:/tmp", "-"])).matches("f\0").count(),
            0,
            "nothing is made of it"
        );
        // Without -a it is root's, and loses its set-user-ID bit.
        assert_eq!(copy(&[], &tar), (Some(0), String::new()));
        let out = cp(&world, &["box:/tmp/f", "-"]).output().expect("rcr runs");
        let mut archive = tar::Archive::new(out.stdout.as_slice());
        let found = archive.entries().expect("a tar").next().expect("an entry").expect("an entry");
        let header = found.header();
        assert_eq!(
            (header.uid().ok(), header.gid().ok(), header.mode().ok()),
            (Some(0), Some(0), Some(0o755))
        );
        ok(world.rcr().args(["rm", "box"]));
        ended(&world, "box", &image, "true");
    }
}

fn links_in_a_container_never_lead_out() {
    let (world, image) = world();
    let secret = world.path().join("secret");
    fs::create_dir(&secret).expect("writable");
    fs::write(secret.join("key"), "of the host\n").expect("writable");
    let outside = secret.display().to_string();
    let script = format!(
        "ln -s {outside} /abs; ln -s ../../../../../../..{outside} /rel; ln -s {outside}/key /file; mkdir -p {outside}; \
         echo inside > {outside}/key; ln -s /proc/self/root /magic; ln -s {outside}/made /dangling"
    );
    ended(&world, "stopped", &image, &script);
    let child = background(&world, "running", &image, &format!("{script}; exec sleep 120"));
    std::thread::sleep(Duration::from_millis(300));
    let file = world.path().join("file");
    fs::write(&file, "written\n").expect("writable");
    let (file, got) = (file.display().to_string(), world.path().join("got").display().to_string());
    for name in ["stopped", "running"] {
        for path in ["/abs/key", "/rel/key"] {
            ok(&mut cp(&world, &[&format!("{name}:{path}"), &got]));
            assert_eq!(fs::read_to_string(&got).expect("copied"), "inside\n", "{name}:{path}");
        }
        ok(&mut cp(&world, &["-L", &format!("{name}:/file"), &got]));
        assert_eq!(fs::read_to_string(&got).expect("copied"), "inside\n");
        for place in ["/abs/new", "/rel/key", "/file", "/abs/", "/dangling"] {
            say(&mut cp(&world, &[&file, &format!("{name}:{place}")]));
        }
        say(&mut cp(&world, &[&file, &format!("{name}:/magic{outside}/magic")]));
        let names: Vec<_> =
            fs::read_dir(&secret).expect("there").map(|e| e.expect("an entry").file_name()).collect();
        assert_eq!(names, ["key"], "{name}");
        assert_eq!(fs::read_to_string(secret.join("key")).expect("there"), "of the host\n", "{name}");
    }
    end(&world, "running", child);
    ok(world.rcr().args(["rm", "stopped"]));
}

fn a_running_container_that_swaps_paths_gains_nothing() {
    let (world, image) = world();
    let secret = world.path().join("secret");
    fs::create_dir(&secret).expect("writable");
    fs::write(secret.join("f"), "of the host\n").expect("writable");
    let mode = || fs::metadata(secret.join("f")).expect("there").mode();
    let old = mode();
    let outside = secret.display();
    let script = format!(
        "mkdir -p /w/real; echo x > /w/real/f; cd /w; while :; do ln -sfn {outside} d; rm d; mv real d; mv d real; \
         ln -s {outside}/f real/f.new; mv real/f.new real/f; rm -f real/f; echo x > real/f; done"
    );
    let child = background(&world, "swap", &image, &script);
    let tree = world.path().join("tree");
    fs::create_dir_all(tree.join("d")).expect("writable");
    fs::write(tree.join("d/f"), "from outside\n").expect("writable");
    fs::set_permissions(tree.join("d/f"), fs::Permissions::from_mode(0o777)).expect("writable");
    let from = format!("{}/.", tree.display());
    let single = tree.join("d/f").display().to_string();
    for round in 0..40 {
        let got = world.path().join(format!("got{round}"));
        say(&mut cp(&world, &[&from, "swap:/w"]));
        say(&mut cp(&world, &[&single, "swap:/w/real/f"]));
        say(&mut cp(&world, &["-L", "swap:/w/d/f", &got.display().to_string()]));
        if let Ok(text) = fs::read_to_string(&got) {
            assert_ne!(text, "of the host\n");
        }
        assert_eq!(fs::read_to_string(secret.join("f")).expect("there"), "of the host\n");
        assert_eq!(mode(), old);
    }
    end(&world, "swap", child);
}

fn volumes_of_stopped_containers_are_reached() {
    let (world, image) = world();
    ok(&mut run(
        &world,
        &["--name", "vv", "-v", "vol:/data", "-v", "ro:/ro:ro", &image, "sh", "-c", "echo new > /data/new"],
    ));
    let got = world.path().join("got").display().to_string();
    ok(&mut cp(&world, &["vv:/data/new", &got]));
    assert_eq!(fs::read_to_string(&got).expect("copied"), "new\n");
    ok(&mut cp(&world, &[&got, "vv:/data/back"]));
    assert!(world.path().join("store/volumes/vol/_data/back").exists());
    fails(&mut cp(&world, &[&got, "vv:/ro/x"]), 1, &["mounted read-only"]);
    ok(world.rcr().args(["rm", "vv"]));
}

fn changes_are_listed() {
    let (world, image) = world();
    let script = "echo x >> /data/seed; rm -r /gone; mkdir /gone; echo c > /gone/c; mkdir /made; touch /made/file; \
                  chmod 700 /home; ln -s x /link";
    ok(&mut run(&world, &["--name", "cc", "--init", "-v", "/point", &image, "sh", "-c", script]));
    let want = "C /data\nC /data/seed\nC /gone\nD /gone/a\nD /gone/b\nA /gone/c\nC /home\nA /link\nA /made\nA /made/file";
    assert_eq!(ok(world.rcr().args(["diff", "cc"])), want);
    ok(world.rcr().args(["rm", "-v", "cc"]));
    ended(&world, "none", &image, "true");
    assert_eq!(ok(world.rcr().args(["diff", "none"])), "");
    ok(world.rcr().args(["rm", "none"]));
}

/// What `find` and `stat` say in the container, against the tar.
fn an_export_is_what_the_container_sees() {
    let (world, image) = world();
    let long = "d".repeat(180);
    let script = format!(
        "mkdir -p /t/{long}; echo deep > /t/{long}/{long}; ln /data/seed /t/hard; ln -s /a/b /t/soft; mkfifo /t/fifo; \
         mknod /t/null c 1 3; chown 3000000:1 /t/null; touch -d '2001-02-03 00:00:00' /t/fifo; rm /gone/a; chmod 4711 /t/{long}/{long}"
    );
    ended(&world, "ee", &image, &script);
    let file = world.path().join("out.tar");
    ok(world.rcr().args(["export", "-o"]).arg(&file).arg("ee"));
    let unpacked = world.path().join("unpacked");
    fs::create_dir(&unpacked).expect("writable");
    ok(Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(&unpacked));
    let stat = |path: &str| {
        let path = unpacked.join(path);
        ok(Command::new("stat").args(["-c", "%F %a %u:%g %t:%T %h"]).arg(path))
    };
    assert_eq!(stat("t/null"), "character special file 644 3000000:1 1:3 1");
    assert_eq!(stat("t/hard"), "regular file 640 0:0 0:0 2");
    assert_eq!(stat(&format!("t/{long}/{long}")), "regular file 4711 0:0 0:0 1");
    assert_eq!(fs::metadata(unpacked.join("t/fifo")).expect("there").mtime(), 981_158_400);
    assert_eq!(fs::read_link(unpacked.join("t/soft")).expect("a link").display().to_string(), "/a/b");
    assert!(!unpacked.join("gone/a").exists() && unpacked.join("gone/b").exists());
    let out = world.rcr().args(["export", "ee"]).output().expect("rcr runs");
    assert!(out.stdout == fs::read(&file).expect("there"), "the same twice");
    fails(world.rcr().args(["export", "-o", "/none/x", "ee"]), 1, &["/none/x"]);
    ok(world.rcr().args(["rm", "ee"]));
}

fn a_committed_image_runs_and_is_sound() {
    let (world, image) = world();
    let before = Snapshot::take();
    let script =
        "echo new > /data/seed; rm /gone/a; mkdir -p /opaque; rm -r /home; mkdir /home; echo o > /home/only";
    ok(&mut run(&world, &["--name", "cc", "-e", "MINE=1", &image, "sh", "-c", script]));
    let id = ok(world.rcr().args([
        "commit",
        "-a",
        "Jane",
        "-m",
        "why",
        "-c",
        "CMD [\"cat\", \"/data/seed\"]",
        "-c",
        "EXPOSE 80",
        "--change",
        "LABEL a=b",
        "cc",
        "made:1",
    ]));
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(ok(&mut run(&world, &["--rm", "made:1"])), "new");
    let look = "ls /gone /home; echo $MINE $KEPT; test -e /gone/a || echo gone";
    assert_eq!(
        ok(&mut run(&world, &["--rm", &id, "sh", "-c", look])),
        "/gone:\nb\n\n/home:\nonly\n1 yes\ngone"
    );
    let found: Value = serde_json::from_str(&ok(world.rcr().args(["inspect", "made:1"]))).expect("JSON");
    assert_eq!((&found[0]["Id"], &found[0]["Author"]), (&json!(id), &json!("Jane")));
    assert_eq!(found[0]["Config"]["Labels"], json!({ "base": "1", "a": "b" }));
    assert_eq!(found[0]["Config"]["ExposedPorts"], json!({ "80/tcp": {} }));
    assert_eq!(found[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
    assert_eq!(ok(world.rcr().args(["system", "fsck"])), "");
    // Once more on top, of a container that runs.
    let child = background(&world, "rr", "made:1", "echo again > /again; exec sleep 120");
    std::thread::sleep(Duration::from_millis(300));
    let second = ok(world.rcr().args(["commit", "rr"]));
    assert_eq!(ok(&mut run(&world, &["--rm", &second, "cat", "/again", "/data/seed"])), "again\nnew");
    end(&world, "rr", child);
    fails(world.rcr().args(["commit", "-c", "RUN x", "cc"]), 1, &["invalid change \"RUN x\""]);
    fails(world.rcr().args(["commit", "none"]), 1, &["no such container: none"]);
    ok(world.rcr().args(["rm", "cc"]));
    // The base may go: the new image holds its layers.
    ok(world.rcr().args(["rmi", "-f", &image]));
    ok(world.rcr().args(["system", "prune", "-f"]));
    assert_eq!(ok(&mut run(&world, &["--rm", "made:1"])), "new");
    assert_eq!(ok(world.rcr().args(["system", "fsck"])), "");
    assert_none_since(&before);
}

fn saved_images_are_loaded_again() {
    let (world, image) = world();
    ok(world.rcr().args(["tag", &image, "one:a"]));
    ok(world.rcr().args(["tag", "one:a", "two:b"]));
    fails(world.rcr().args(["tag", "none", "x"]), 1, &["no such image: none"]);
    ended(&world, "cc", "one:a", "rm /gone/a; echo 3 > /three");
    ok(world.rcr().args(["commit", "cc", "three:c"]));
    ok(world.rcr().args(["rm", "cc"]));
    for format in ["docker-archive", "oci-archive"] {
        let file = world.path().join("images.tar");
        ok(world
            .rcr()
            .args(["save", "--format", format, "-o"])
            .arg(&file)
            .args(["one:a", "two:b", "three:c"]));
        let other = World::new();
        let said = ok(other.rcr().arg("load").arg("-i").arg(&file));
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["Loaded image: one:a", "Loaded image: three:c", "Loaded image: two:b"],
            "{format}"
        );
        assert_eq!(ok(&mut run(&other, &["--rm", "two:b", "cat", "/data/seed"])), "seed");
        assert_eq!(ok(&mut run(&other, &["--rm", "three:c", "sh", "-c", "cat /three; ls /gone"])), "3\nb");
        assert_eq!(ok(other.rcr().args(["system", "fsck"])), "");
        // What was packed here stays what it is.
        let ids = |world: &World| ok(world.rcr().args(["images", "-q", "--no-trunc", "three"]));
        let back = other.path().join("back.tar");
        ok(other.rcr().args(["save", "-o"]).arg(&back).arg("three:c"));
        let third = World::new();
        ok(third.rcr().arg("load").stdin(fs::File::open(&back).expect("there")));
        assert_eq!(ids(&third), ids(&other));
    }
    fails(world.rcr().args(["save", "none"]), 1, &["no such image: none"]);
    let nothing = world.path().join("nothing");
    fs::write(&nothing, "no tar").expect("writable");
    assert_eq!(say(world.rcr().arg("load").arg("-i").arg(&nothing)).code, 1);
    fails(world.rcr().args(["save", "-o"]).arg(&nothing).arg("none"), 1, &["no such image"]);
    assert_eq!(
        fs::read_to_string(&nothing).expect("there"),
        "no tar",
        "a file stays until the new one is whole"
    );
}

/// umoci unpacks what rcr saved to what the container saw.
fn saved_images_are_what_others_read() {
    let (world, image) = world();
    ended(
        &world,
        "cc",
        &image,
        "echo 1 > /data/seed; rm /gone/a; rm -r /home; mkdir -m 711 /home; ln /data/seed /hard",
    );
    ok(world.rcr().args(["commit", "cc", "made:1"]));
    let file = world.path().join("made.tar");
    ok(world.rcr().args(["save", "-o"]).arg(&file).arg("made:1"));
    let layout = world.path().join("others");
    ok(Command::new("skopeo")
        .args(["copy", "--insecure-policy", "-q"])
        .arg(format!("docker-archive:{}", file.display()))
        .arg(format!("oci:{}:made", layout.display())));
    let bundle = world.path().join("bundle");
    ok(Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:made", layout.display()))
        .arg(&bundle));
    let root = bundle.join("rootfs");
    assert_eq!(fs::read_to_string(root.join("hard")).expect("there"), "1\n");
    assert_eq!(fs::metadata(root.join("data/seed")).expect("there").nlink(), 2);
    assert_eq!(fs::metadata(root.join("home")).expect("there").mode() & 0o777, 0o711);
    assert!(
        !root.join("gone/a").exists() && root.join("gone/b").exists() && !root.join("home/alice").exists()
    );
    ok(world.rcr().args(["rm", "cc"]));
}
