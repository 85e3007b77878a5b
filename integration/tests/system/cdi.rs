//! Devices by name (CDI): what the files of vendors say reaches the container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as StdPath, PathBuf};

use harness::host::Need::{Path, Root};
use harness::image::busybox_layout;
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, run, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("cdi":
    a_device_by_name_brings_nodes_environment_mounts_and_groups [Root, BUSYBOX, Path("/dev/loop-control")],
    hooks_of_a_device_run_and_find_the_container [Root, BUSYBOX],
    gpus_are_what_nvidias_file_says [Root, BUSYBOX],
    a_start_reads_the_files_anew [Root, BUSYBOX],
    what_is_not_there_or_not_trusted_is_told [Root, BUSYBOX],
    a_device_that_cannot_be_used_leaves_nothing [Root, BUSYBOX],
);

/// A store with an image, and a directory for files of vendors.
struct Vendor {
    world: World,
    image: String,
    dir: PathBuf,
}

impl Vendor {
    fn new() -> Vendor {
        let world = World::new();
        let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
        let image = world.pulled(&busybox_layout(&world.path().join("layout"), config));
        let dir = world.path().join("cdi");
        fs::create_dir(&dir).expect("a new directory");
        Vendor { world, image, dir }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).expect("writable");
    }

    fn device(&self, name: &str, edits: &Value) {
        let device = json!([{ "name": "a", "containerEdits": edits }]);
        let document = json!({ "cdiVersion": "0.7.0", "kind": "vendor.com/thing", "devices": device });
        self.write(name, &document.to_string());
    }

    /// `run FLAGS IMAGE sh -c SCRIPT` that looks for devices here.
    fn run(&self, flags: &[&str], script: &str) -> std::process::Command {
        let dir = self.dir.to_str().expect("a plain path");
        let args =
            [&["--rm", "--cdi-spec-dir", dir], flags, &[self.image.as_str(), "sh", "-c", script]].concat();
        run(&self.world, &args)
    }

    /// A script that a hook runs.
    fn script(&self, name: &str, text: &str) -> String {
        let path = self.world.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        path.to_str().expect("a plain path").to_owned()
    }

    fn inspect(&self, name: &str) -> Value {
        let all: Value = serde_json::from_str(&ok(self.world.rcr().args(["inspect", name]))).expect("JSON");
        all[0].clone()
    }
}

fn a_device_by_name_brings_nodes_environment_mounts_and_groups() {
    let vendor = Vendor::new();
    let library = vendor.world.path().join("library");
    fs::write(&library, "of the host").expect("writable");
    vendor.device(
        "vendor.json",
        &json!({
            "env": ["VENDOR=yes", "OWN=vendor's"],
            "deviceNodes": [
                { "path": "/dev/vendor0", "hostPath": "/dev/null" },
                { "path": "/dev/vendor/1", "hostPath": "/dev/loop-control", "permissions": "r", "fileMode": 0o640, "gid": 44 },
            ],
            "mounts": [{ "hostPath": library, "containerPath": "/usr/lib/vendor/library", "options": ["ro", "bind"] }],
            "additionalGids": [44],
        }),
    );
    let script = "stat -c '%n %F %t:%T %a %g' /dev/vendor0 /dev/vendor/1; echo $VENDOR $OWN; cat /usr/lib/vendor/library; echo; \
                  id -G; true < /dev/vendor/1 && echo opened; echo x > /dev/vendor0 && echo written; \
                  true > /dev/vendor/1 || echo denied; echo x > /usr/lib/vendor/library || echo read-only";
    let out = ok(&mut vendor.run(&["--device", "vendor.com/thing=a", "-e", "OWN=mine"], script));
    for line in [
        "/dev/vendor0 character special file 1:3 666 0",
        "/dev/vendor/1 character special file a:ed 640 44",
        "yes vendor's",
        "of the host",
        "0 44",
        "opened",
        "written",
        "denied",
        "read-only",
    ] {
        assert!(out.lines().any(|other| other == line), "{line}: {out}");
    }
    // What was not asked for is not there; and a privileged one gets it besides all else.
    let out = ok(&mut vendor.run(&[], "ls /dev; echo [$VENDOR]"));
    assert!(!out.contains("vendor") && out.contains("[]"), "{out}");
    let flags = ["--privileged", "--device", "vendor.com/thing=a"];
    ok(&mut vendor.run(&flags, "test -c /dev/vendor0 && test -c /dev/full && true > /dev/vendor/1"));
}

fn hooks_of_a_device_run_and_find_the_container() {
    let vendor = Vendor::new();
    let at = |name: &str| vendor.world.path().join(name);
    // As nvidia-cdi-hook does it: the state on standard input names the bundle, whose config.json names the root.
    let find = "bundle=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/')\n\
                grep -o '\"root\":{\"path\":\"[^\"]*\"' \"$bundle/config.json\" > \"$1.root\"\n\
                echo made > \"$bundle/rootfs/made-by-hook\"\necho \"$2 $HOOK\" > \"$1\"";
    let inside = vendor.script("inside", find);
    let end = vendor.script("end", "cat > /dev/null; echo ended >> \"$1\"");
    let (in_out, end_out) = (at("inside.out"), at("end.out"));
    vendor.device(
        "vendor.json",
        &json!({ "hooks": [
            { "hookName": "createContainer", "path": inside, "args": ["inside", in_out, "word"], "env": ["HOOK=set", "PATH=/bin:/usr/bin"] },
            { "hookName": "poststop", "path": end, "args": ["end", end_out], "env": ["PATH=/bin:/usr/bin"] },
        ] }),
    );
    let out = ok(&mut vendor.run(&["--device", "vendor.com/thing=a"], "cat /made-by-hook"));
    assert_eq!(out, "made");
    let read = |path: &StdPath| fs::read_to_string(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    assert_eq!(read(&in_out), "word set\n");
    assert_eq!(read(&at("inside.out.root")), "\"root\":{\"path\":\"rootfs\"\n");
    assert_eq!(read(&end_out), "ended\n");
    // One that fails keeps the container from starting, and says so.
    let before = Snapshot::take();
    let bad = vendor.script("bad", "echo no such driver >&2; exit 3");
    vendor.device("vendor.json", &json!({ "hooks": [{ "hookName": "createRuntime", "path": bad }] }));
    fails(
        &mut vendor.run(&["--device", "vendor.com/thing=a"], "true"),
        125,
        &["createRuntime", "no such driver"],
    );
    assert_eq!(ok(vendor.world.rcr().args(["ps", "-aq"])), "");
    assert_none_since(&before);
}

fn gpus_are_what_nvidias_file_says() {
    let vendor = Vendor::new();
    // In the shape of `nvidia-ctk cdi generate`, which writes YAML.
    let gpu = |name: &str, node: &str| {
        format!(
            "- name: \"{name}\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia{name}\n      hostPath: {node}\n"
        )
    };
    let all = "- name: all\n  containerEdits:\n    env:\n    - GPUS=all\n";
    let text = format!(
        "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n{}{}{all}containerEdits:\n  env:\n  - NVIDIA_VISIBLE_DEVICES=void\n  \
         deviceNodes:\n  - path: /dev/nvidiactl\n    hostPath: /dev/null\n",
        gpu("0", "/dev/null"),
        gpu("1", "/dev/zero"),
    );
    vendor.write("nvidia.yaml", &text);
    let script = "cd /dev; echo nvidia*; echo $NVIDIA_VISIBLE_DEVICES $GPUS";
    for (flags, want) in [
        (&["--gpus", "all"][..], "nvidiactl\nvoid all"),
        (&["--gpus", "2"], "nvidia0 nvidia1 nvidiactl\nvoid"),
        (&["--gpus", "1"], "nvidia0 nvidiactl\nvoid"),
        (&["--gpus", "\"device=1\",capabilities=compute"], "nvidia1 nvidiactl\nvoid"),
        (&["--gpus", "\"device=0,1\""], "nvidia0 nvidia1 nvidiactl\nvoid"),
        (
            &["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1"],
            "nvidia0 nvidia1 nvidiactl\nvoid",
        ),
    ] {
        assert_eq!(ok(&mut vendor.run(flags, script)), want, "{flags:?}");
    }
    fails(
        &mut vendor.run(&["--gpus", "3"], "true"),
        125,
        &["nvidia.com/gpu=2", "nvidia.yaml", "found nvidia.com/gpu=0, nvidia.com/gpu=1, nvidia.com/gpu=all"],
    );
    // Without a device that is called so it is all of the kind.
    vendor.write("nvidia.yaml", &text.replace(all, ""));
    assert_eq!(ok(&mut vendor.run(&["--gpus", "all"], script)), "nvidia0 nvidia1 nvidiactl\nvoid");
    fs::remove_file(vendor.dir.join("nvidia.yaml")).expect("removed");
    let dir = vendor.dir.to_str().expect("a plain path");
    let words = ["nvidia.com/gpu=all", dir, "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"];
    fails(&mut vendor.run(&["--gpus", "all"], "true"), 125, &words);
}

fn a_start_reads_the_files_anew() {
    let vendor = Vendor::new();
    let dir = vendor.dir.to_str().expect("a plain path");
    let device = |node: &str| {
        vendor.device("v.json", &json!({ "deviceNodes": [{ "path": "/dev/v", "hostPath": node }] }));
    };
    device("/dev/null");
    let flags = [
        "create",
        "--network=none",
        "--name",
        "box",
        "--cdi-spec-dir",
        dir,
        "--device",
        "vendor.com/thing=a",
    ];
    let flags = [&flags[..], &["--gpus", "device=vendor.com/thing=a"]].concat();
    let command = [vendor.image.as_str(), "stat", "-c", "%t:%T", "/dev/v"];
    ok(vendor.world.rcr().args(flags).args(command));
    let requests = vendor.inspect("box")["HostConfig"]["DeviceRequests"].clone();
    assert_eq!(
        requests,
        json!([
            { "Driver": "", "Count": 0, "DeviceIDs": ["vendor.com/thing=a"], "Capabilities": [["gpu"]], "Options": {} },
            { "Driver": "cdi", "Count": 0, "DeviceIDs": ["vendor.com/thing=a"], "Capabilities": null, "Options": {} },
        ])
    );
    assert_eq!(ok(vendor.world.rcr().args(["start", "-a", "box"])), "1:3");
    device("/dev/zero");
    assert_eq!(ok(vendor.world.rcr().args(["start", "-a", "box"])), "1:5");
    fs::remove_file(vendor.dir.join("v.json")).expect("removed");
    fails(vendor.world.rcr().args(["start", "box"]), 1, &["unresolvable CDI device vendor.com/thing=a", dir]);
    // It is what it was, and goes on when the device is there again.
    assert_eq!(vendor.inspect("box")["State"]["Status"], "exited");
    device("/dev/null");
    assert_eq!(ok(vendor.world.rcr().args(["start", "-a", "box"])), "1:3");
    ok(vendor.world.rcr().args(["rm", "box"]));
}

fn what_is_not_there_or_not_trusted_is_told() {
    let vendor = Vendor::new();
    let before = Snapshot::take();
    let dir = vendor.dir.to_str().expect("a plain path").to_owned();
    let flags = ["--device", "vendor.com/thing=a"];
    fails(
        &mut vendor.run(&flags, "true"),
        125,
        &["unresolvable CDI device vendor.com/thing=a", &dir, "found no devices"],
    );
    vendor.device("v.json", &json!({ "env": ["A=1"] }));
    fails(
        &mut vendor.run(&["--device", "vendor.com/thing=b"], "true"),
        125,
        &["v.json", "found vendor.com/thing=a"],
    );
    // Who may write it may run anything as root.
    let path = vendor.dir.join("v.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
    fails(
        &mut vendor.run(&flags, "true"),
        125,
        &["v.json", "others than its owner may write it (mode 666)", "chmod go-w"],
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
    std::os::unix::fs::chown(&path, Some(1000), None).expect("given away");
    fails(&mut vendor.run(&flags, "true"), 125, &["v.json", "user 1000 owns it", "chown root"]);
    std::os::unix::fs::chown(&path, Some(0), None).expect("taken back");
    // A later directory goes before; without any, the usual ones are read.
    let other = vendor.world.path().join("other");
    fs::create_dir(&other).expect("new");
    fs::write(
        other.join("v.yaml"),
        "cdiVersion: 0.3.0\nkind: vendor.com/thing\ndevices:\n- name: a\n  containerEdits: {env: [A=2]}\n",
    )
    .expect("writable");
    let other = other.to_str().expect("a plain path");
    let both = ["--cdi-spec-dir", other, "--device", "vendor.com/thing=a"];
    assert_eq!(ok(&mut vendor.run(&both, "echo $A")), "2");
    let usual = ["--rm", "--device", "rcr.invalid/thing=a", &vendor.image, "true"];
    fails(&mut run(&vendor.world, &usual), 125, &["rcr.invalid/thing=a", "/etc/cdi", "/var/run/cdi"]);
    // Broken files are in the way of nobody else's devices, and are told to who misses one.
    vendor.write(
        "w.yaml",
        "cdiVersion: 0.5.0\nkind: vendor.com/other\ndevices:\n- name: x\n  containerEdits: {envs: [A=1]}\n",
    );
    assert_eq!(ok(&mut vendor.run(&flags, "echo $A")), "1");
    fails(&mut vendor.run(&["--device", "vendor.com/other=x"], "true"), 125, &["w.yaml", "envs"]);
    vendor.write("w.yaml", "a: &a [b, b]\nc: {*a : 1, : }}\n");
    fails(
        &mut vendor.run(&["--device", "vendor.com/other=x"], "true"),
        125,
        &["w.yaml", "no YAML", "line 2"],
    );
    for (flag, value, word) in [
        ("--device", "vendor.com/thing", "wants SRC"),
        ("--device", "thing=a", "VENDOR/CLASS"),
        ("--device", "vendor.com/thing=a:/dev/b", "letters, digits"),
        ("--gpus", "0", "all or a number"),
        ("--gpus", "device=0,1", "exclude"),
        ("--cdi-spec-dir", "", "wants a directory"),
    ] {
        fails(&mut vendor.run(&[flag, value], "true"), 125, &[flag, word]);
    }
    assert_eq!(say(vendor.world.rcr().args(["ps", "-aq"])).out, "");
    assert_none_since(&before);
}

fn a_device_that_cannot_be_used_leaves_nothing() {
    let vendor = Vendor::new();
    let before = Snapshot::take();
    let flags = ["--device", "vendor.com/thing=a"];
    for (edits, words) in [
        (json!({ "deviceNodes": [{ "path": "/dev/none-such" }] }), &["/dev/none-such", "driver"][..]),
        (
            json!({ "deviceNodes": [{ "path": "/dev/v", "hostPath": "/etc/passwd" }] }),
            &["/etc/passwd", "no device"],
        ),
        (json!({ "deviceNodes": [{ "path": "/dev/v", "hostPath": "/dev/null", "type": "b" }] }), &["type b"]),
        (
            json!({ "mounts": [{ "hostPath": "/none-such", "containerPath": "/x", "options": ["bind"] }] }),
            &["/none-such"],
        ),
        (json!({ "hooks": [{ "hookName": "prestart", "path": "/none-such" }] }), &["/none-such"]),
    ] {
        vendor.device("v.json", &edits);
        fails(&mut vendor.run(&flags, "true"), 125, words);
        assert_eq!(ok(vendor.world.rcr().args(["ps", "-aq"])), "", "{edits}");
    }
    assert_none_since(&before);
}
