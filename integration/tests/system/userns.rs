//! User namespaces of `run` and `create`: what the container calls 0 is nobody on the host, and its files are kept by its
//! own ids.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use harness::host::Need::{Kernel, Path as File, Program, Root};
use harness::image::{Layer, Packing, write_layout};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, run, say};
use harness::{Case, cases};
use serde_json::{Value, json};

use crate::detached::{assert_no_container, inspect, rcr, until};

pub(crate) const BUSYBOX: harness::host::Need = File("/bin/busybox");
/// Since when overlay takes id-mapped layers.
pub(crate) const MAPPED: harness::host::Need = Kernel(5, 19);

pub(crate) const CASES: &[Case] = cases!("userns":
    root_inside_is_nobody_outside [Root, BUSYBOX, MAPPED],
    files_are_kept_by_the_containers_ids [Root, BUSYBOX, MAPPED],
    what_is_made_of_it_has_the_containers_ids [Root, BUSYBOX, MAPPED],
    cp_translates_owners [Root, BUSYBOX, MAPPED],
    set_user_id_programs_work [Root, BUSYBOX, MAPPED],
    root_inside_has_no_rights_over_a_bind [Root, BUSYBOX, MAPPED],
    volumes_are_shared_by_containers_with_other_maps [Root, BUSYBOX, MAPPED],
    twenty_at_once_have_ids_of_their_own [Root, BUSYBOX, MAPPED],
    ids_are_given_back_and_run_out [Root, BUSYBOX, MAPPED, Program("unshare"), File("/etc/subuid"), File("/etc/subgid")],
    ids_by_name_and_by_map [Root, BUSYBOX, MAPPED, Program("unshare"), File("/etc/subuid"), File("/etc/subgid")],
);

const MAP: &str = "--uidmap=0:200000:65536";

/// A world with an image of two layers, and the image's ID.
pub(crate) fn world() -> (World, String) {
    let world = World::new();
    let id = pulled(&world, json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] }));
    (world, id)
}

pub(crate) fn pulled(world: &World, config: Value) -> String {
    let owned = |header: &mut tar::Header| {
        header.set_uid(1000);
        header.set_gid(1000);
    };
    let layer = Layer::new()
        .dir("data/", 0o750)
        .entry(b"data/alices", tar::EntryType::Regular, 0o600, b"hers\n", None, owned)
        .dir("gone/", 0o755)
        .file("gone/file", 0o644, b"x");
    let dir = world.path().join("layout");
    let layers = [Layer::busybox().into_tar(), layer.into_tar()];
    write_layout(&dir, "latest", &layers, Packing::Gzip, config);
    world.pulled(&format!("oci:{}:latest", dir.display()))
}

/// `run --rm FLAGS IMAGE sh -c SCRIPT`.
pub(crate) fn sh(world: &World, image: &str, flags: &[&str], script: &str) -> String {
    ok(&mut run(world, &[&["--rm"], flags, &[image, "sh", "-c", script]].concat()))
}

/// A container in the background that has run `script` and stays; its process on the host.
pub(crate) fn background(world: &World, name: &str, flags: &[&str], image: &str, script: &str) -> i64 {
    let script = format!("set -e; {script}\ntouch /tmp/ready; exec sleep 1000");
    ok(&mut rcr(world, &[&["run", "-d", "--name", name], flags, &[image, "sh", "-c", &script]].concat()));
    until("it is ready", || {
        assert_eq!(
            inspect(world, name)["State"]["Status"],
            "running",
            "{:?}",
            say(&mut rcr(world, &["logs", name]))
        );
        say(&mut rcr(world, &["exec", name, "test", "-e", "/tmp/ready"])).code == 0
    });
    inspect(world, name)["State"]["Pid"].as_i64().expect("a number")
}

pub(crate) fn exec(world: &World, name: &str, script: &str) -> String {
    ok(&mut rcr(world, &["exec", name, "sh", "-c", script]))
}

pub(crate) fn remove(world: &World, name: &str) {
    ok(&mut rcr(world, &["rm", "-f", "-v", name]));
}

/// First id on the host and how many, of the users that a container has.
pub(crate) fn block(world: &World, name: &str) -> (u64, u64) {
    let config = inspect(world, name)["HostConfig"].clone();
    let text = config["IDMappings"]["UidMap"][0].as_str().unwrap_or_else(|| panic!("{config}")).to_owned();
    let numbers: Vec<u64> = text.split(':').map(|n| n.parse().expect("a number")).collect();
    assert_eq!(numbers[0], 0);
    (numbers[1], numbers[2])
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    (stat.uid(), stat.gid())
}

fn root_inside_is_nobody_outside() {
    let (world, image) = world();
    let before = Snapshot::take();
    let pid = background(&world, "box", &["--userns", "auto"], &image, "");
    let (first, size) = block(&world, "box");
    assert!(first >= 1 << 20 && size == 65_536, "{first} {size}");
    for map in ["uid_map", "gid_map"] {
        let text = fs::read_to_string(format!("/proc/{pid}/{map}")).expect("it runs");
        let numbers: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(numbers, ["0", &first.to_string(), "65536"], "{map}");
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains(&format!("Uid:\t{first}\t{first}\t{first}\t{first}\n")), "{status}");
    let own = fs::read_link("/proc/self/ns/user").expect("a namespace").display().to_string();
    assert_ne!(exec(&world, "box", "readlink /proc/self/ns/user"), own);
    assert_eq!(
        exec(&world, "box", "id -u; id -g; cat /proc/self/uid_map | tr -s ' '"),
        format!("0\n0\n 0 {first} 65536")
    );
    // All that every container has is its root's, and can be used.
    let places =
        "/ /bin /etc/passwd /etc/hosts /etc/resolv.conf /etc/hostname /dev /dev/shm /dev/pts /tmp /dev/fd/";
    let owners = exec(&world, "box", &format!("stat -c '%u:%g %n' {places}"));
    assert!(owners.lines().all(|line| line.starts_with("0:0 ")), "{owners}");
    assert_eq!(
        exec(
            &world,
            "box",
            "echo 10.0.0.1 other >> /etc/hosts; tail -1 /etc/hosts; echo x > /dev/shm/x; echo y > /dev/null; head -c1 /dev/zero | wc -c"
        ),
        "10.0.0.1 other\n1"
    );
    assert_eq!(
        exec(
            &world,
            "box",
            "su alice -c 'id -u; cat /etc/resolv.conf > /dev/null; echo x > /tmp/alices; stat -c %u:%g /tmp/alices'"
        ),
        "1000\n1000:1000"
    );
    let config = inspect(&world, "box")["HostConfig"].clone();
    assert_eq!(
        (&config["UsernsMode"], &config["IDMappings"]["GidMap"][0]),
        (&json!("private"), &json!(format!("0:{first}:65536")))
    );
    assert_eq!(ok(&mut rcr(&world, &["exec", "-u", "alice", "box", "id", "-u"])), "1000");
    let said = say(&mut rcr(&world, &["exec", "-u", "70000", "box", "id", "-u"]));
    assert!(said.code != 0 && said.err.contains("70000"), "{said:?}");
    remove(&world, "box");
    assert_no_container(&world);
    // Without one nothing is said.
    ok(&mut rcr(&world, &["create", "--name", "plain", "--userns", "host", &image]));
    let config = inspect(&world, "plain")["HostConfig"].clone();
    assert!(config["UsernsMode"] == "" && config.get("IDMappings").is_none(), "{config}");
    remove(&world, "plain");
    assert_none_since(&before);
}

fn files_are_kept_by_the_containers_ids() {
    let (world, image) = world();
    let before = Snapshot::take();
    let script =
        "echo new > /made; mkdir /dir; ln -s x /link; mkfifo /fifo; echo a > /alices; chown 1000:1000 /alices
        chown 5:6 /etc/passwd; rm -r /gone; rm /bin/vi; echo more >> /data/alices; chmod 4711 /alices";
    background(&world, "box", &[MAP, "--gidmap=0:300000:65536"], &image, script);
    assert_eq!(
        exec(&world, "box", "stat -c %u:%g /made /alices /etc/passwd /data/alices"),
        "0:0\n1000:1000\n5:6\n1000:1000"
    );
    assert_eq!(exec(&world, "box", "test -e /bin/vi || test -e /gone || echo gone"), "gone");
    let id = inspect(&world, "box")["Id"].as_str().expect("an ID").to_owned();
    let upper = world.path().join("store/containers").join(&id).join("upper");
    for (path, ids) in [
        ("made", (0, 0)),
        ("dir", (0, 0)),
        ("link", (0, 0)),
        ("fifo", (0, 0)),
        ("alices", (1000, 1000)),
        ("etc/passwd", (5, 6)),
        ("data/alices", (1000, 1000)),
        ("bin/vi", (0, 0)),
    ] {
        assert_eq!(owner(&upper.join(path)), ids, "{path} on disk");
    }
    let pid = inspect(&world, "box")["State"]["Pid"].as_i64().expect("a number");
    let seen = |path: &str| owner(Path::new(&format!("/proc/{pid}/root/{path}")));
    assert_eq!((seen("made"), seen("alices")), ((200_000, 300_000), (201_000, 301_000)));
    let changes = ok(&mut rcr(&world, &["diff", "box"]));
    assert!(
        changes.contains("D /gone") && changes.contains("D /bin/vi") && changes.contains("A /made"),
        "{changes}"
    );
    remove(&world, "box");
    assert_none_since(&before);
}

fn what_is_made_of_it_has_the_containers_ids() {
    let (world, image) = world();
    background(
        &world,
        "box",
        &["--userns=auto"],
        &image,
        "echo a > /alices; chown 1000:10 /alices; echo r > /roots",
    );
    let tar = world.path().join("box.tar");
    ok(&mut rcr(&world, &["export", "-o", tar.to_str().expect("UTF-8"), "box"]));
    let mut archive = tar::Archive::new(fs::File::open(&tar).expect("written"));
    let mut found = 0;
    for entry in archive.entries().expect("a tar") {
        let entry = entry.expect("an entry");
        let (uid, gid) = (entry.header().uid().expect("a number"), entry.header().gid().expect("a number"));
        let wanted = match entry.path_bytes().as_ref() {
            b"alices" => (1000, 10),
            b"data/alices" => (1000, 1000),
            _ => (0, 0),
        };
        assert_eq!((uid, gid), wanted, "{:?}", entry.path());
        found += 1;
    }
    assert!(found > 10, "{found}");
    let made = ok(&mut rcr(&world, &["commit", "box"]));
    remove(&world, "box");
    let script = "stat -c %u:%g /alices /roots /data/alices /bin/busybox";
    let owners = "1000:10\n0:0\n1000:1000\n0:0";
    assert_eq!(sh(&world, &made, &[], script), owners, "without a user namespace");
    assert_eq!(sh(&world, &made, &["--userns=auto"], script), owners, "with another one");
}

fn cp_translates_owners() {
    let (world, image) = world();
    let here = world.path().join("here");
    fs::create_dir(&here).expect("new");
    fs::write(here.join("file"), "from the host").expect("writable");
    chown(here.join("file"), Some(1000), Some(1000)).expect("root");
    let path = |name: &str| here.join(name).display().to_string();
    let flags = ["--userns", "auto:size=2000", "-v", "vol:/vol", "--tmpfs", "/mem"];
    background(
        &world,
        "box",
        &flags,
        &image,
        "echo x > /alices; chown 1000:10 /alices; mkdir -p /tree; echo y > /tree/y",
    );
    for place in ["/", "/vol/", "/mem/", "/tmp/"] {
        ok(&mut rcr(&world, &["cp", &path("file"), &format!("box:{place}")]));
        assert_eq!(
            exec(&world, "box", &format!("stat -c %u:%g {place}file; cat {place}file")),
            "0:0\nfrom the host"
        );
        ok(&mut rcr(&world, &["cp", "-a", &path("file"), &format!("box:{place}kept")]));
        assert_eq!(exec(&world, "box", &format!("stat -c %u:%g {place}kept")), "1000:1000");
    }
    ok(&mut rcr(&world, &["cp", &path(""), "box:/dir"]));
    assert_eq!(exec(&world, "box", "stat -c %u:%g /dir /dir/file"), "0:0\n0:0");
    ok(&mut rcr(&world, &["cp", "-a", "box:/alices", &path("alices")]));
    ok(&mut rcr(&world, &["cp", "box:/alices", &path("mine")]));
    assert_eq!((owner(&here.join("alices")), owner(&here.join("mine"))), ((1000, 10), (0, 0)));
    // Who has no id in there cannot own anything there.
    chown(here.join("file"), Some(5000), Some(5000)).expect("root");
    fails(&mut rcr(&world, &["cp", "-a", &path("file"), "box:/other"]), 1, &["no user 5000", "leave out -a"]);
    // As a tar, out and in.
    let pack = format!(
        "{} --root {} --runroot {}",
        rcr(&world, &[]).get_program().display(),
        world.path().join("store").display(),
        world.path().join("run").display()
    );
    let listed =
        ok(Command::new("sh").args(["-c", &format!("{pack} cp box:/alices - | tar --numeric-owner -tv")]));
    assert!(listed.contains(" 1000/10 "), "{listed}");
    let listed =
        ok(Command::new("sh").args(["-c", &format!("{pack} cp box:/tree/. - | tar --numeric-owner -tv")]));
    assert!(listed.contains(" 0/0 "), "{listed}");
    ok(Command::new("sh").args(["-c", &format!("{pack} cp -a box:/alices - | {pack} cp -a - box:/mem")]));
    assert_eq!(exec(&world, "box", "stat -c %u:%g /mem/alices"), "1000:10");
    // What does not run is looked at on the disk, where the container's own ids are.
    ok(&mut rcr(&world, &["stop", "-t", "0", "box"]));
    ok(&mut rcr(&world, &["cp", &path("mine"), "box:/later"]));
    ok(&mut rcr(&world, &["cp", &path("mine"), "box:/vol/later"]));
    ok(&mut rcr(&world, &["start", "box"]));
    assert_eq!(exec(&world, "box", "stat -c %u:%g /later /vol/later"), "0:0\n0:0");
    remove(&world, "box");
}

fn set_user_id_programs_work() {
    let (world, image) = world();
    let script = "mkdir /s; cp /bin/busybox /s/ping; chown 0:0 /s/ping; chmod 4755 /s/ping";
    background(&world, "box", &["--userns=auto"], &image, script);
    let (first, _) = block(&world, "box");
    // busybox keeps its rights as ping only.
    let script = "/s/ping -c 50 127.0.0.1 > /dev/null & sleep 0.3; grep Uid: /proc/$!/status; kill $!";
    let uids = ok(&mut rcr(&world, &["exec", "-u", "alice", "box", "sh", "-c", script]));
    assert_eq!(uids.split_whitespace().collect::<Vec<_>>()[1..3], ["1000", "0"], "{uids}");
    assert!(first > 1000);
    remove(&world, "box");
}

fn root_inside_has_no_rights_over_a_bind() {
    let (world, image) = world();
    let before = Snapshot::take();
    let dir = world.path().join("hosts");
    fs::create_dir(&dir).expect("new");
    for (name, mode, uid) in
        [("secret", 0o600, 0), ("public", 0o644, 0), ("mine", 0o600, 200_000), ("suid", 0o4755, 0)]
    {
        let file = dir.join(name);
        fs::write(&file, name).expect("writable");
        chown(&file, Some(uid), Some(uid)).expect("root");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("root");
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("root");
    let bind = format!("{}:/b", dir.display());
    let attacks = "id -u; for f in secret public suid; do
            for c in \"echo x >> /b/$f\" \"chown 0:0 /b/$f\" \"chmod 777 /b/$f\" \"rm -f /b/$f\" \"mv /b/$f /b/x\" \"touch /b/$f\"; do
                sh -c \"$c\" 2> /dev/null && echo \"$c works\"
            done
        done
        touch /b/new 2> /dev/null && echo new; mkdir /b/d 2> /dev/null && echo d; cat /b/secret 2> /dev/null
        mknod /b/null c 1 3 2> /dev/null && echo node; ln /b/public /b/l 2> /dev/null && echo link
        mount -o remount,bind,rw /b 2> /dev/null && echo remount
        cat /b/public; stat -c ' %u' /b/public; cat /b/mine; stat -c ' %u' /b/mine; echo more >> /b/mine";
    for flags in [&[][..], &["--cap-add=ALL"], &["--privileged"]] {
        let before: Vec<_> =
            ["secret", "public", "suid"].map(|f| (fs::read(dir.join(f)).ok(), owner(&dir.join(f)))).into();
        fs::write(dir.join("mine"), "mine").expect("root");
        let flags = [&[MAP, "-v", &bind], flags].concat();
        let said = sh(&world, &image, &flags, attacks);
        let said: Vec<&str> = said.lines().filter(|line| *line != "remount").collect();
        assert_eq!(said, ["0", "public 65534", "mine 0"], "{flags:?}");
        let after: Vec<_> =
            ["secret", "public", "suid"].map(|f| (fs::read(dir.join(f)).ok(), owner(&dir.join(f)))).into();
        assert_eq!(before, after, "{flags:?}");
        assert_eq!(fs::read(dir.join("mine")).expect("there"), b"minemore\n");
        assert_eq!(fs::read_dir(&dir).expect("there").count(), 4);
    }
    // Asked for, it is seen by the container's ids, and what root makes there is the host's root's.
    let mapped = format!("{bind}:idmap");
    let script =
        "cat /b/secret; stat -c ' %u' /b/public; echo new > /b/new; rm /b/public; stat -c %u /b/mine";
    assert_eq!(sh(&world, &image, &[MAP, "-v", &mapped], script), "secret 0\n65534");
    assert_eq!(owner(&dir.join("new")), (0, 0));
    assert!(!dir.join("public").exists());
    let long = format!("type=bind,source={},target=/b,idmap", dir.display());
    assert_eq!(sh(&world, &image, &[MAP, "--mount", &long], "stat -c %u /b/secret; rm /b/new"), "0");
    fails(&mut run(&world, &["--rm", "-v", &mapped, &image]), 125, &["idmap", "\"/b\"", "--userns auto"]);
    assert_none_since(&before);
}

fn volumes_are_shared_by_containers_with_other_maps() {
    let (world, image) = world();
    // The volume starts with what the image has there, by the image's ids.
    let script =
        "stat -c %u:%g:%a /data /data/alices; cat /data/alices; echo from a > /data/a; chown 7:7 /data/a";
    background(&world, "aa", &[MAP, "-v", "shared:/data"], &image, script);
    assert_eq!(ok(&mut rcr(&world, &["logs", "aa"])), "0:0:750\n1000:1000:600\nhers");
    let there = world.path().join("store/volumes/shared/_data");
    assert_eq!(
        (owner(&there), owner(&there.join("alices")), owner(&there.join("a"))),
        ((0, 0), (1000, 1000), (7, 7))
    );
    let script = "stat -c %u:%g /data/alices /data/a; echo from b > /data/b; cat /data/a";
    assert_eq!(
        sh(&world, &image, &["--uidmap=0:400000:65536", "-v", "shared:/data"], script),
        "1000:1000\n7:7\nfrom a"
    );
    assert_eq!(sh(&world, &image, &["-v", "shared:/data"], "stat -c %u:%g /data/a /data/b"), "7:7\n0:0");
    assert_eq!(
        sh(
            &world,
            &image,
            &["--userns=auto", "--volumes-from", "aa:ro"],
            "cat /data/b; touch /data/c 2>&1 | grep -c Read-only"
        ),
        "from b\n1"
    );
    assert_eq!(exec(&world, "aa", "cat /data/b; stat -c %u:%g /data/b"), "from b\n0:0");
    remove(&world, "aa");
    // One without a name goes with its container.
    assert_eq!(
        sh(
            &world,
            &image,
            &["--userns=auto", "-v", "/data"],
            "stat -c %u /data/alices; touch /data/x; stat -c %u /data/x"
        ),
        "1000\n0"
    );
    let left = ok(&mut rcr(&world, &["volume", "ls", "-q"]));
    assert_eq!(left, "shared");
}

fn twenty_at_once_have_ids_of_their_own() {
    let (world, image) = world();
    let before = Snapshot::take();
    let names: Vec<String> = (0..20).map(|n| format!("box{n}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let words = ["run", "-d", "--userns=auto", "--name", name, &image, "sleep", "1000"];
            rcr(&world, &words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("rcr starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut firsts = BTreeSet::new();
    for name in &names {
        let (first, size) = block(&world, name);
        assert_eq!(size, 65_536);
        firsts.insert(first);
        let pid = inspect(&world, name)["State"]["Pid"].as_i64().expect("a number");
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("it runs");
        assert!(map.split_whitespace().nth(1) == Some(&first.to_string()), "{map}");
    }
    let firsts: Vec<u64> = firsts.into_iter().collect();
    assert_eq!(firsts.len(), 20, "each has a block of its own");
    assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] == 65_536), "without holes: {firsts:?}");
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    ok(&mut rcr(&world, &[&["rm", "-f"], &all[..]].concat()));
    assert_no_container(&world);
    assert_none_since(&before);
}

/// rcr where /etc/subuid and /etc/subgid say something else.
fn with_subids(world: &World, subids: &str, args: &[&str]) -> Command {
    let file = world.path().join("subids");
    fs::write(&file, subids).expect("writable");
    let own = rcr(world, args);
    let mut command = Command::new("unshare");
    let script =
        format!("for f in /etc/subuid /etc/subgid; do mount --bind {} $f; done; exec \"$@\"", file.display());
    command
        .args(["-m", "--propagation", "private", "sh", "-c", &script, "-"])
        .arg(own.get_program())
        .args(own.get_args());
    for (key, value) in own.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command.stdin(Stdio::null());
    command
}

fn ids_are_given_back_and_run_out() {
    let (world, image) = world();
    let pool = "alice:100000:65536\ncontainers:3000000:131072\n";
    let create = |name: &str, userns: &str| {
        with_subids(&world, pool, &["create", "--name", name, "--userns", userns, &image])
    };
    ok(&mut create("one", "auto"));
    ok(&mut create("two", "auto:size=1000"));
    assert_eq!((block(&world, "one"), block(&world, "two")), ((3_000_000, 65_536), (3_065_536, 1000)));
    fails(&mut create("three", "auto"), 1, &["no 65536 uids", "\"containers\" in /etc/subuid", "size=N"]);
    assert_eq!(ok(&mut rcr(&world, &["ps", "-aq"])).lines().count(), 2, "nothing is left of it");
    remove(&world, "one");
    ok(&mut create("three", "auto"));
    assert_eq!(block(&world, "three").0, 3_000_000, "what is gone has given its ids back");
    // Ids that somebody has asked for are nobody else's either.
    ok(&mut rcr(&world, &["create", "--name", "mine", "--uidmap=0:3066536:1000", "--gidmap=0:5:1", &image]));
    ok(&mut create("four", "auto:size=10"));
    assert_eq!(block(&world, "four"), (3_067_536, 10));
    ok(&mut create("five", "auto:size=100,uidmapping=5:777:2"));
    let ranges = inspect(&world, "five")["HostConfig"]["IDMappings"]["UidMap"].clone();
    assert_eq!(ranges, json!(["0:3067546:5", "5:777:2", "7:3067551:93"]));
    for name in ["two", "three", "mine", "four", "five"] {
        remove(&world, name);
    }
}

fn ids_by_name_and_by_map() {
    let (world, image) = world();
    let map = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '";
    assert_eq!(
        sh(&world, &image, &["--uidmap=0:200000:1000", "--uidmap", "1000:5000"], map),
        " 0 200000 1000\n 1000 5000 1\n 0 200000 1000\n 1000 5000 1"
    );
    assert_eq!(
        sh(&world, &image, &["--userns=private", "--uidmap=0:200000:1000", "--gidmap=0:0:4294967295"], map),
        " 0 200000 1000\n 0 0 4294967295"
    );
    assert_eq!(sh(&world, &image, &["--userns=private"], "wc -l < /proc/self/uid_map"), "1");
    // Terminals have a group of their own only where there is one.
    assert_eq!(
        sh(&world, &image, &["--uidmap=0:200000:2"], "id -u; test -c /dev/pts/ptmx && echo pts"),
        "0\npts"
    );
    let all = "bob:700000:100\nbob:800000:50\n";
    let words = ["run", "--rm", "--subuidname", "bob", &image, "sh", "-c", map];
    let shown = ok(&mut with_subids(&world, all, &words));
    assert_eq!(shown, " 0 700000 100\n 100 800000 50\n 0 700000 100\n 100 800000 50");
    let words = ["run", "--rm", "--subgidname", "carol", &image];
    fails(&mut with_subids(&world, all, &words), 125, &["\"carol\"", "/etc/subuid", "carol:100000:65536"]);
}
