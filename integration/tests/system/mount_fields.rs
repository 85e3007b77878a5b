//! Fields of `mounts[]` and of the root file system whose effect is seen in the container's mount table.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::Stage;
use harness::world::{Said, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("mount_fields":
    uid_mappings_show_other_owners [Root, BUSYBOX],
    idmap_follows_the_user_namespace [Root, BUSYBOX],
    a_fuse_that_root_alone_may_see_is_bound [Root, BUSYBOX, FileNeed("/dev/fuse"), Program("unshare")],
    ridmap_reaches_what_is_mounted_below [Root, BUSYBOX, Program("unshare")],
    recursive_attributes_reach_what_is_mounted_below [Root, BUSYBOX, Program("unshare")],
    recursive_attributes_can_be_cleared [Root, BUSYBOX, Program("unshare")],
    tmpcopyup_keeps_what_was_there [Root, BUSYBOX],
    rootfs_propagation_of_every_kind [Root, BUSYBOX, Program("unshare")],
    mounts_propagate_as_they_are_asked_to [Root, BUSYBOX, Program("unshare")],
    no_pivot_enters_the_same_root [Root, BUSYBOX],
);

/// Runs the bundle in a mount namespace where `prepare` has been done, its mounts shared.
fn run_after(stage: &Stage, prepare: &str) -> Said {
    let runtime = stage.world.runtime();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "shared", "sh", "-euc"]);
    unshare.arg(format!("cd \"$0\"; {prepare}; exec \"$@\"")).arg(&stage.dir);
    unshare.arg(runtime.get_program()).args(runtime.get_args()).args(["run", "box"]);
    say(unshare.stdin(Stdio::null()))
}

fn add(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().expect("mounts").push(mount);
}

fn ids(inside: u32, outside: u32, size: u32) -> Value {
    json!([{ "containerID": inside, "hostID": outside, "size": size }])
}

fn source(dir: &Path) -> std::path::PathBuf {
    let source = dir.join("source");
    fs::create_dir(&source).expect("writable");
    for (name, owner) in [("root", 0), ("user", 1000)] {
        fs::write(source.join(name), name).expect("writable");
        chown(source.join(name), Some(owner), Some(owner)).expect("root may");
    }
    source
}

const OWNERS: &str = "stat -c '%n %u:%g' /m/*";

fn uid_mappings_show_other_owners() {
    let before = Snapshot::take();
    let stage = Stage::new(OWNERS, |config, dir| {
        let source = source(dir);
        add(
            config,
            json!({ "destination": "/m", "type": "bind", "source": source, "options": ["bind"],
                    "uidMappings": ids(0, 5000, 65536), "gidMappings": ids(0, 7000, 65536) }),
        );
    });
    let said = stage.run("box");
    assert_eq!(said.out, "/m/root 5000:7000\n/m/user 6000:8000\n", "{}", said.err);
    // What has no mapping shows as nobody's.
    let stage = Stage::new(OWNERS, |config, dir| {
        let source = source(dir);
        add(
            config,
            json!({ "destination": "/m", "type": "bind", "source": source, "options": ["bind", "idmap"],
                    "uidMappings": ids(1000, 0, 1), "gidMappings": ids(1000, 0, 1) }),
        );
    });
    let said = stage.run("box");
    assert_eq!(said.out, "/m/root 65534:65534\n/m/user 0:0\n", "{}", said.err);
    assert_none_since(&before);
}

fn idmap_follows_the_user_namespace() {
    for (options, expected) in [
        (json!(["bind", "idmap"]), "/m/root 0:0\n/m/user 1000:1000\n"),
        (json!(["bind"]), "/m/root 65534:65534\n/m/user 65534:65534\n"),
    ] {
        let stage = Stage::new(OWNERS, |config, dir| {
            let source = source(dir);
            chown(dir.join("rootfs"), Some(100_000), Some(100_000)).expect("root may");
            config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = ids(0, 100_000, 65536);
            config["linux"]["gidMappings"] = ids(0, 100_000, 65536);
            config["root"]["readonly"] = json!(false);
            fs::create_dir(dir.join("rootfs/m")).expect("writable");
            add(config, json!({ "destination": "/m", "type": "bind", "source": source, "options": options }));
        });
        let said = stage.run("box");
        assert_eq!(said.out, expected, "{options}: {}", said.err);
    }
}

/// Like sshfs, which leaves out `allow_other`.
fn a_fuse_that_root_alone_may_see_is_bound() {
    let stage = Stage::new("stat /m; grep ' /m fuse' /proc/mounts", |config, dir| {
        chown(dir.join("rootfs"), Some(100_000), Some(100_000)).expect("root may");
        fs::create_dir(dir.join("source")).expect("writable");
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({ "type": "user" }));
        config["linux"]["uidMappings"] = ids(0, 100_000, 65536);
        config["linux"]["gidMappings"] = ids(0, 100_000, 65536);
        config["root"]["readonly"] = json!(false);
        add(
            config,
            json!({ "destination": "/m", "type": "bind", "source": "source", "options": ["bind", "ro"] }),
        );
    });
    let options = "fd=3,rootmode=40000,user_id=0,group_id=0";
    let said = run_after(&stage, &format!("exec 3<>/dev/fuse; mount -i -t fuse -o {options} served source"));
    assert!(said.out.starts_with("served /m fuse ro,"), "{}{}", said.out, said.err);
    assert!(said.err.contains("Permission denied"), "{}", said.err);
}

fn ridmap_reaches_what_is_mounted_below() {
    for (word, expected) in [("idmap", "0:0"), ("ridmap", "5000:5000")] {
        let stage = Stage::new("stat -c %u:%g /m /m/sub", |config, dir| {
            fs::create_dir_all(dir.join("source/sub")).expect("writable");
            add(
                config,
                json!({ "destination": "/m", "type": "bind", "source": "source", "options": ["rbind", word],
                        "uidMappings": ids(0, 5000, 10), "gidMappings": ids(0, 5000, 10) }),
            );
        });
        let said = run_after(&stage, "mount -t tmpfs tmpfs source/sub");
        assert_eq!(said.out, format!("5000:5000\n{expected}\n"), "{word}: {}", said.err);
    }
}

/// The attributes of /m and /m/sub.
const ATTRIBUTES: &str =
    "sed -n 's,^[^ ]* [^ ]* [^ ]* [^ ]* \\(/m[^ ]*\\) \\([^ ]*\\) .*,\\1 \\2,p' /proc/self/mountinfo";

fn recursive(words: &[&str], below: &str) -> Said {
    let stage = Stage::new(ATTRIBUTES, |config, dir| {
        fs::create_dir_all(dir.join("source/sub")).expect("writable");
        let options = [&["rbind"], words].concat();
        add(config, json!({ "destination": "/m", "type": "bind", "source": "source", "options": options }));
    });
    run_after(&stage, &format!("mount -t tmpfs tmpfs source/sub; mount -o remount,bind,{below} source/sub"))
}

fn recursive_attributes_reach_what_is_mounted_below() {
    for (word, attribute) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow"),
    ] {
        let said = recursive(&[word], "rw");
        for place in ["/m", "/m/sub"] {
            let line = said.out.lines().find(|line| line.split(' ').next() == Some(place));
            let line = line.unwrap_or_else(|| panic!("{place}: {}{}", said.out, said.err));
            let attributes = line.split(' ').nth(1).expect("attributes");
            assert!(attributes.split(',').any(|a| a == attribute), "{word} {place}: {attributes}");
        }
    }
    // Without the r it is the top's alone.
    let said = recursive(&["ro", "nosuid"], "rw");
    let sub = said.out.lines().find(|line| line.starts_with("/m/sub ")).expect("mounted");
    assert!(sub.starts_with("/m/sub rw") && !sub.contains("nosuid"), "{sub}");
}

fn recursive_attributes_can_be_cleared() {
    let all = "ro,nosuid,nodev,noexec,noatime,nodiratime";
    for (words, gone) in [
        (&["rrw"][..], "ro"),
        (&["rsuid"], "nosuid"),
        (&["rdev"], "nodev"),
        (&["rexec"], "noexec"),
        (&["ratime"], "noatime"),
        (&["rrelatime"], "noatime"),
        (&["rstrictatime"], "noatime"),
        (&["rdiratime"], "nodiratime"),
        (&["rro", "rrw"], "ro"),
    ] {
        let said = recursive(words, all);
        let sub = said.out.lines().find(|line| line.starts_with("/m/sub "));
        let sub = sub.unwrap_or_else(|| panic!("{words:?}: {}{}", said.out, said.err));
        let has: Vec<&str> = sub.split(' ').nth(1).expect("attributes").split(',').collect();
        assert!(!has.contains(&gone), "{words:?}: {sub}");
        for kept in all.split(',').filter(|a| *a != gone) {
            assert!(has.contains(&kept), "{words:?} took {kept} too: {sub}");
        }
    }
}

fn tmpcopyup_keeps_what_was_there() {
    let script = "cd /data; cat file dir/deep; stat -c '%a %u:%g' file . dir; readlink link; touch new && rm file; \
                  grep -c '/data tmpfs\\| /data .* tmpfs' /proc/self/mountinfo";
    let stage = Stage::new(script, |config, dir| {
        let data = dir.join("rootfs/data");
        fs::create_dir_all(data.join("dir")).expect("writable");
        fs::write(data.join("file"), "one\n").expect("writable");
        fs::write(data.join("dir/deep"), "two\n").expect("writable");
        fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o4711)).expect("changed");
        chown(data.join("dir"), Some(12), Some(34)).expect("root may");
        symlink("/etc/passwd", data.join("link")).expect("writable");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1750)).expect("changed");
        add(
            config,
            json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
        );
    });
    let said = stage.run("box");
    assert_eq!(said.out, "one\ntwo\n4711 0:0\n1750 0:0\n755 12:34\n/etc/passwd\n1\n", "{}", said.err);
    assert!(stage.rootfs().join("data/file").exists(), "the image's own stays");
    assert!(!stage.rootfs().join("data/new").exists());
}

/// The optional fields of the mount at a place: `shared:1`, `master:2`, `unbindable`, without their numbers.
fn propagation_of(place: &str) -> String {
    format!(
        "awk '$5 == \"{place}\" {{ for (i = 7; $i != \"-\"; i++) printf \"%s \", $i; print \".\" }}' \
         /proc/self/mountinfo | sed 's/:[0-9]*//g; s/ *\\.$//' | tail -n1"
    )
}

fn rootfs_propagation_of_every_kind() {
    for (word, root) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let stage = Stage::new(&propagation_of("/"), |config, _| {
            config["linux"]["rootfsPropagation"] = json!(word);
            if word == "runbindable" {
                // Then nothing of the host can be bound, the v1 hierarchies neither; so it is under runc.
                let mounts = config["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|mount| mount["type"] != "cgroup");
                config["linux"]["readonlyPaths"] = json!([]);
                config["linux"]["maskedPaths"] = json!([]);
            }
        });
        let said = run_after(&stage, "true");
        // What was shared on the host may be both.
        let has: Vec<&str> = said.out.split_whitespace().collect();
        assert_eq!(said.code, 0, "{word}: {}", said.err);
        match root {
            "" => assert_eq!(has, Vec::<&str>::new(), "{word}"),
            root => assert!(has.contains(&root), "{word}: {has:?}"),
        }
    }
    // Only a slave sees what the host mounts later.
    let stage = Stage::new(&propagation_of("/"), |_, _| ());
    assert_eq!(run_after(&stage, "true").out.trim(), "");
    // Whatever the kind, and on whichever mount the root lies, nothing comes out of the container.
    for word in ["private", "slave", "shared", "unbindable", "rslave"] {
        let stage = Stage::new("mount -t tmpfs tmpfs /tmp; true", |config, _| {
            config["linux"]["rootfsPropagation"] = json!(word);
        });
        let runtime = stage.world.runtime();
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "shared", "sh", "-euc"]);
        unshare.arg("mount --bind . .; cd \"$PWD\"; mount --make-shared .; n=$(wc -l < /proc/self/mountinfo); \"$@\"; \
                     test $n = $(wc -l < /proc/self/mountinfo)");
        unshare.arg("sh").arg(runtime.get_program()).args(runtime.get_args()).args(["run", "box"]);
        let said = say(unshare.current_dir(&stage.dir).stdin(Stdio::null()));
        assert_eq!(said.code, 0, "{word}: {}{}", said.out, said.err);
    }
    let stage = Stage::new("true", |config, _| config["linux"]["rootfsPropagation"] = json!("odd"));
    let said = stage.run("box");
    assert!(said.code == 1 && said.err.contains("linux.rootfsPropagation: "), "{}", said.err);
    let stage = Stage::new("true", |config, _| config["linux"]["rootfsPropagation"] = json!("private"));
    let mut run = stage.world.runtime();
    let said =
        say(run.args(["run", "--no-pivot", "--bundle"]).arg(&stage.dir).arg("box").stdin(Stdio::null()));
    assert!(said.code == 1 && said.err.contains("not safe without pivot_root"), "{}", said.err);
}

fn mounts_propagate_as_they_are_asked_to() {
    for (word, expected) in
        [("private", ""), ("slave", "master"), ("shared", "shared"), ("unbindable", "unbindable")]
    {
        for recursive in [false, true] {
            let script = format!("{}; {}", propagation_of("/m"), propagation_of("/m/sub"));
            let option = format!("{}{word}", if recursive { "r" } else { "" });
            let stage = Stage::new(&script, |config, dir| {
                fs::create_dir_all(dir.join("source/sub")).expect("writable");
                let options = json!(["rbind", option]);
                add(
                    config,
                    json!({ "destination": "/m", "type": "bind", "source": "source", "options": options }),
                );
            });
            let prepare = "mount -t tmpfs tmpfs source; mkdir source/sub; mount -t tmpfs tmpfs source/sub";
            let said = run_after(&stage, prepare);
            let lines: Vec<&str> = said.out.lines().collect();
            assert_eq!(lines.len(), 2, "{option}: {}{}", said.out, said.err);
            // What is not named is a slave, as all that comes from the host.
            for (line, expected) in
                [(lines[0], expected), (lines[1], if recursive { expected } else { "master" })]
            {
                let fields: Vec<&str> = line.split_whitespace().collect();
                assert!(
                    fields.contains(&expected) || fields.is_empty() && expected.is_empty(),
                    "{option}: {lines:?}"
                );
            }
        }
    }
}

fn no_pivot_enters_the_same_root() {
    let before = Snapshot::take();
    let stage = Stage::new("ls /; cat /proc/1/comm; grep -c . /proc/self/mountinfo", |_, _| ());
    let mut run = stage.world.runtime();
    let said =
        say(run.args(["run", "--no-pivot", "--bundle"]).arg(&stage.dir).arg("box").stdin(Stdio::null()));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("bin\ndev\netc\nproc\nsys\ntmp\nsh\n"), "{}", said.out);
    assert_none_since(&before);
}
