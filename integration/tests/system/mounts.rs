//! Mounts whose source or destination is not simply there: in the root, behind dangling links, in the host's mount
//! namespace, shared with the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::bundle::Bundle;
use harness::canary::Canary;
use harness::host::Need::{Path as File, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{Said, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = cases!("mounts":
    a_source_in_the_root_is_what_earlier_mounts_made_of_it [Root, File("/bin/busybox")],
    a_link_in_such_a_source_stays_inside [Root, File("/bin/busybox")],
    what_a_dangling_destination_names_is_made_inside [Root, File("/bin/busybox")],
    a_user_namespace_cannot_loosen_a_mount_of_the_host [Root, File("/bin/busybox"), Program("unshare")],
    a_read_only_root_needs_no_mount_namespace [Root, File("/bin/busybox"), Program("unshare")],
    a_failed_create_unmounts_a_root_of_the_host [Root, File("/bin/busybox"), Program("unshare")],
    a_process_that_fails_early_is_heard [Root, File("/bin/busybox"), File("/proc/self/ns/time")],
    a_slave_root_gets_what_the_host_mounts [Root, File("/bin/busybox"), Program("unshare")],
);

/// The first id of the tests' user namespace.
const FIRST: u32 = 100_000;

fn add(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().expect("mounts").push(mount);
}

fn bind(config: &mut Value, source: &Path, destination: impl AsRef<Path>) {
    let destination = destination.as_ref();
    add(config, json!({ "source": source, "destination": destination, "options": ["rbind", "rprivate"] }));
}

/// Gives the bundle a user namespace, and its root to that namespace's root.
fn with_user_namespace(bundle: &mut Bundle) {
    bundle.adjust(|config, _| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": FIRST, "size": 65_536 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    ok(Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()));
    ok(Command::new("chmod").arg("755").arg(bundle.world.path()));
}

/// Runs `runtime run` in a mount namespace of its own, so that what stays mounted there goes with it. `first` is done
/// in it before.
fn run_aside(bundle: &Bundle, propagation: &str, first: &str, id: &str) -> Said {
    let runtime = bundle.world.runtime();
    let script = format!("{first}\nexec \"$0\" \"$@\"");
    let mut run = Command::new("unshare");
    run.args(["--mount", "--propagation", propagation, "sh", "-euc", &script]);
    run.arg(runtime.get_program()).args(runtime.get_args());
    say(run.args(["run", "--bundle"]).arg(&bundle.dir).arg(id).stdin(Stdio::null()))
}

fn a_source_in_the_root_is_what_earlier_mounts_made_of_it() {
    for (users, owners) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut bundle =
            Bundle::new("cat /final/below/file; stat -c %u /final/file /final/below/file", |_, _| ());
        for dir in ["rootfs/mnt", "rootfs/final", "secret/one/below", "secret/two"] {
            fs::create_dir_all(bundle.dir.join(dir)).expect("writable");
        }
        fs::write(bundle.dir.join("secret/one/file"), "one\n").expect("writable");
        fs::write(bundle.dir.join("secret/two/file"), "two\n").expect("writable");
        if users {
            with_user_namespace(&mut bundle);
            ok(Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.dir.join("secret")));
            // Nobody but the host's root may look for them.
            ok(Command::new("chown").arg("0:0").arg(bundle.dir.join("secret")));
            ok(Command::new("chmod").arg("700").arg(bundle.dir.join("secret")));
        }
        bundle.adjust(|config, dir| {
            bind(config, &dir.join("secret/one"), "/mnt");
            bind(config, &dir.join("secret/two"), "/mnt/below");
            // Both as the host names them: runc's callers may.
            let (source, destination) = (dir.join("rootfs/mnt"), dir.join("rootfs/final"));
            bind(config, &source, destination);
            if owners {
                let owner = if users { FIRST } else { 0 };
                let map = json!([{ "containerID": owner, "hostID": FIRST + 7, "size": 65_000 }]);
                let last = config["mounts"].as_array_mut().expect("mounts").last_mut().expect("just pushed");
                last["uidMappings"] = map.clone();
                last["gidMappings"] = map;
            }
        });
        let before = Snapshot::take();
        let said = bundle.run("inside");
        assert_eq!(said.code, 0, "users {users}, owners {owners}: {}", said.err);
        // The map is that of the top mount alone.
        let (top, below) = match (users, owners) {
            (false, false) | (true, false) => ("0", "0"),
            (false, true) => ("100007", "0"),
            (true, true) => ("7", "0"),
        };
        assert_eq!(said.out, format!("two\n{top}\n{below}\n"), "users {users}, owners {owners}");
        assert_none_since(&before);
    }
}

fn a_link_in_such_a_source_stays_inside() {
    for users in [false, true] {
        let mut bundle = Bundle::new("cat /shown/marker; ls /shown", |_, _| ());
        let canary = Canary::new(&bundle.world.path().join("canary"));
        fs::create_dir(bundle.rootfs().join("shown")).expect("writable");
        symlink(canary.path(), bundle.rootfs().join("out")).expect("writable");
        // What the link means inside the root.
        let inside = bundle.rootfs().join(canary.path().strip_prefix("/").expect("absolute"));
        fs::create_dir_all(&inside).expect("writable");
        fs::write(inside.join("marker"), "the image's\n").expect("writable");
        if users {
            with_user_namespace(&mut bundle);
        }
        bundle.adjust(|config, dir| bind(config, &dir.join("rootfs/out"), "/shown"));
        let said = bundle.run("linked");
        assert_eq!((said.code, said.out.as_str()), (0, "the image's\nmarker\n"), "{}", said.err);
        canary.assert_untouched("a link as a bind mount's source");
    }
}

fn what_a_dangling_destination_names_is_made_inside() {
    let bundle = Bundle::new("cat /tmp/a/b/c/hosts; ls -d /var/new/tmpfs; cat /etc/hosts", |config, dir| {
        bind(config, &dir.join("hosts"), "/etc/hosts");
        add(config, json!({ "type": "tmpfs", "source": "tmpfs", "destination": "/up/tmpfs" }));
    });
    fs::write(bundle.dir.join("hosts"), "mounted\n").expect("writable");
    let canary = Canary::new(&bundle.world.path().join("canary"));
    let root = bundle.rootfs();
    symlink("/tmp/a/b", root.join("jump")).expect("writable");
    symlink("/jump/c/hosts", root.join("etc/hosts")).expect("writable");
    // As many steps up as anyone likes end at the root.
    symlink("../../../../../../var/new", root.join("up")).expect("writable");
    let said = bundle.run("dangling");
    assert_eq!((said.code, said.out.as_str()), (0, "mounted\n/var/new/tmpfs\nmounted\n"), "{}", said.err);
    assert_eq!(fs::metadata(root.join("tmp/a/b/c/hosts")).expect("made").len(), 0, "a mount point only");
    assert!(!Path::new("/var/new").exists() && !Path::new("/tmp/a/b").exists(), "made on the host");
    canary.assert_untouched("a dangling destination");
    // A circle is an error, not a hang.
    fs::remove_file(root.join("jump")).expect("writable");
    symlink("/jump/x", root.join("jump")).expect("writable");
    let said = bundle.run("circle");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("(ELOOP)"), "{}", said.err);
}

fn a_user_namespace_cannot_loosen_a_mount_of_the_host() {
    let script = "mount -o remount,bind,rw /vol 2>/dev/null && echo remounted; echo x > /vol/new && echo written; ls /vol";
    for (options, code, out) in [
        (json!(["rbind"]), 0, "file\n"),
        // Not named, so kept.
        (json!(["rbind", "nosuid"]), 0, "file\n"),
        // Named, so an error.
        (json!(["rbind", "rw"]), 1, ""),
    ] {
        let mut bundle = Bundle::new(script, |config, dir| {
            for set in ["bounding", "permitted", "effective"] {
                config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
            }
            add(config, json!({ "source": dir.join("vol"), "destination": "/vol", "options": options }));
        });
        let vol = bundle.dir.join("vol");
        fs::create_dir(&vol).expect("writable");
        fs::create_dir(bundle.rootfs().join("vol")).expect("writable");
        with_user_namespace(&mut bundle);
        let mount = format!(
            "mount -t tmpfs -o mode=777 none {0}; touch {0}/file; mount -o remount,bind,ro {0}",
            vol.display()
        );
        let said = run_aside(&bundle, "private", &mount, "held");
        assert_eq!((said.code, said.out.as_str()), (code, out), "{options}: {}", said.err);
        if code != 0 {
            assert!(said.err.contains("operation not permitted"), "{}", said.err);
        }
    }
}

fn a_read_only_root_needs_no_mount_namespace() {
    let bundle =
        Bundle::new("echo x > /file; cut -d' ' -f4 /proc/self/mountinfo | head -n 1; id -u", |config, _| {
            config["linux"]["namespaces"]
                .as_array_mut()
                .expect("namespaces")
                .retain(|n| n["type"] != "mount");
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
        });
    let before = Snapshot::take();
    let said = run_aside(&bundle, "private", ":", "chrooted");
    assert!(said.err.contains("can't create /file: Read-only file system"), "{}", said.err);
    assert!(said.out.ends_with("0\n"), "{}", said.out);
    assert!(!bundle.rootfs().join("file").exists());
    // The host's own mount of the same file system is as it was.
    fs::write(bundle.rootfs().join("other"), "").expect("still writable");
    assert_none_since(&before);
}

fn a_failed_create_unmounts_a_root_of_the_host() {
    // The program is not there; a hook fails when everything is mounted.
    for (program, hook) in [("/no/such", "/bin/true"), ("/bin/true", "/bin/false")] {
        let bundle = Bundle::new("", |config, _| {
            config["linux"]["namespaces"]
                .as_array_mut()
                .expect("namespaces")
                .retain(|n| n["type"] != "mount");
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
            config["process"]["args"] = json!([program]);
            config["hooks"] = json!({ "createRuntime": [{ "path": hook }] });
        });
        let runtime = bundle.world.runtime();
        let mut run = Command::new("unshare");
        run.args(["--mount", "sh", "-uc", "\"$@\"; echo $? $(grep -c rootfs /proc/self/mountinfo)", "sh"]);
        run.arg(runtime.get_program()).args(runtime.get_args());
        let said = say(run.args(["run", "--bundle"]).arg(&bundle.dir).arg("failed").stdin(Stdio::null()));
        assert_eq!(said.out, "1 0\n", "{program} {hook}: {}", said.err);
    }
}

fn a_process_that_fails_early_is_heard() {
    // Before it takes the mounts that are sent to it.
    let mut bundle = Bundle::new("", |config, _| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": i64::MAX } });
    });
    with_user_namespace(&mut bundle);
    let before = Snapshot::take();
    for _ in 0..20 {
        let said = bundle.run("early");
        assert_eq!(said.code, 1);
        assert!(said.err.contains("create time namespace") && said.err.contains("(ERANGE)"), "{}", said.err);
    }
    assert_none_since(&before);
}

fn a_slave_root_gets_what_the_host_mounts() {
    // The process says when it is there, the host mounts, and the process looks.
    let script =
        "touch /ready; for i in $(seq 500); do [ -e /vol/mounted ] && break; sleep 0.01; done; ls /vol";
    for (propagation, seen) in [("slave", "mounted\n"), ("rslave", "mounted\n"), ("private", "")] {
        let bundle = Bundle::new(script, |config, _| {
            config["root"]["readonly"] = json!(false);
            config["linux"]["rootfsPropagation"] = json!(propagation);
        });
        let vol = bundle.rootfs().join("vol");
        fs::create_dir(&vol).expect("writable");
        let mount = format!(
            "(while ! [ -e {0}/ready ]; do sleep 0.01; done; mount -t tmpfs none {1}; touch {1}/mounted) &",
            bundle.rootfs().display(),
            vol.display()
        );
        let said = run_aside(&bundle, "shared", &mount, "slave");
        assert_eq!((said.code, said.out.as_str()), (0, seen), "{propagation}: {}", said.err);
    }
}
