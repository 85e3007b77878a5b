use serde_json::{Value, json};

use super::*;

fn document(kind: &str, devices: &Value, edits: &Value) -> Document {
    Document::new(json!({
        "cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": edits,
        "annotations": { "a": "b" },
    }))
    .unwrap()
}

fn device(name: &str, env: &str) -> Value {
    json!({ "name": name, "containerEdits": { "env": [env] } })
}

fn registry(dirs: Vec<Vec<Document>>) -> Registry {
    let mut registry = Registry::default();
    for (number, documents) in dirs.into_iter().enumerate() {
        let path = |at: usize| PathBuf::from(format!("/dir{number}/{at}.json"));
        registry.add(documents.into_iter().enumerate().map(|(at, one)| (path(at), one)).collect());
        registry.dirs.push((PathBuf::from(format!("/dir{number}")), vec!["0.json".to_owned()]));
    }
    registry
}

fn env(registry: &Registry, names: &[&str]) -> Result<Vec<String>, String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Ok(registry.edits(&names)?.into_iter().flat_map(|edits| edits.env).collect())
}

#[test]
fn the_last_directory_wins_and_edits_of_a_document_come_once_and_first() {
    let early = document(
        "v.com/c",
        &json!([device("a", "A=early"), device("b", "B=early")]),
        &json!({ "env": ["E=1"] }),
    );
    let late = document("v.com/c", &json!([device("a", "A=late")]), &json!({ "env": ["L=1"] }));
    let both = registry(vec![vec![early], vec![late]]);
    assert_eq!(env(&both, &["v.com/c=a"]).unwrap(), ["L=1", "A=late"]);
    let all = env(&both, &["v.com/c=b", "v.com/c=a", "v.com/c=b"]).unwrap();
    assert_eq!(all, ["E=1", "B=early", "L=1", "A=late"]);
    // No device is called so: all of the kind.
    assert_eq!(env(&both, &["v.com/c=all"]).unwrap(), ["L=1", "A=late", "E=1", "B=early"]);
    let said = env(&both, &["v.com/c=x"]).unwrap_err();
    assert_eq!(
        said,
        "unresolvable CDI device v.com/c=x: read /dir0 (0.json) and /dir1 (0.json); found v.com/c=a, v.com/c=b"
    );
    assert!(env(&both, &["v.com/other=all"]).unwrap_err().contains("unresolvable"));
    assert!(env(&both, &["nvidia.com/gpu=0"]).unwrap_err().contains("nvidia-ctk cdi generate --output="));
}

#[test]
fn what_two_files_of_a_directory_have_is_nobodys() {
    let one = || document("v.com/c", &json!([device("a", "A=1")]), &json!({}));
    let twice = registry(vec![vec![one(), one()]]);
    let said = env(&twice, &["v.com/c=a"]).unwrap_err();
    assert!(said.contains("found no devices; left out v.com/c=a is in \"/dir0/0.json\" and in"), "{said}");
    // A later directory settles it.
    let settled = registry(vec![
        vec![one(), one()],
        vec![document("v.com/c", &json!([device("a", "A=2")]), &json!({}))],
    ]);
    assert_eq!(env(&settled, &["v.com/c=a"]).unwrap(), ["A=2"]);
}

#[test]
fn documents_that_are_none_say_why() {
    let good = json!({ "cdiVersion": "1.0.0", "kind": "v.com/c", "devices": [device("a", "A=1")] });
    assert!(Document::new(good.clone()).is_ok());
    let with = |path: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        Document::new(bad).unwrap_err()
    };
    let edits = "/devices/0/containerEdits";
    for (path, value, want) in [
        ("/cdiVersion", json!("2.0.0"), "wants 0.3.0 to 1.1.0"),
        ("/kind", json!("c"), "VENDOR/CLASS"),
        ("/kind", json!("v.com/c/d"), "VENDOR/CLASS"),
        ("/devices", json!([]), "no devices"),
        ("/devices", json!([device("a", "A=1"), device("a", "A=2")]), "twice"),
        ("/devices/0/name", json!("-a"), "letter or digit first"),
        ("/devices/0/name", json!(["a"]), "wants a name"),
        (edits, json!({}), "empty"),
        (edits, json!({ "oops": 1 }), "oops"),
        (edits, json!({ "env": ["A"] }), "KEY=VALUE"),
        (edits, json!({ "deviceNodes": [{ "path": "dev/x" }] }), "absolute"),
        (edits, json!({ "deviceNodes": [{ "path": "/dev/x", "type": "a" }] }), "b, c, u or p"),
        (edits, json!({ "deviceNodes": [{ "path": "/dev/x", "permissions": "rx" }] }), "r, w and m"),
        (edits, json!({ "hooks": [{ "hookName": "late", "path": "/x" }] }), "hookName"),
        (edits, json!({ "hooks": [{ "hookName": "poststop", "path": "x" }] }), "absolute"),
        (edits, json!({ "mounts": [{ "hostPath": "", "containerPath": "/x" }] }), "two paths"),
        (edits, json!({ "mounts": [{ "hostPath": "/x" }] }), "containerPath"),
        (edits, json!({ "intelRdt": { "closID": "../x" } }), "closID"),
        (edits, json!({ "netDevices": [{ "hostInterfaceName": "", "name": "x" }] }), "netDevices"),
        (edits, json!({ "additionalGids": [-1] }), "-1"),
    ] {
        let said = with(path, value);
        assert!(said.contains(want), "{path}: {said}");
    }
    // Null is as good as nothing, and a number may be a name.
    let nulls = json!({ "cdiVersion": "v0.3.0", "kind": "v.com/c", "containerEdits": null,
        "devices": [{ "name": 0, "containerEdits": { "env": ["A=1"], "mounts": null, "hooks": null } }] });
    assert_eq!(Document::new(nulls).unwrap().devices[0].name, "0");
}

#[test]
fn names_of_devices() {
    assert_eq!(is_qualified("nvidia.com/gpu=0"), Ok(true));
    assert_eq!(is_qualified("nvidia.com/gpu=GPU-1a:0"), Ok(true));
    assert_eq!(is_qualified("/dev/a=b"), Ok(false));
    assert_eq!(is_qualified("/dev/snd"), Ok(false));
    for bad in ["gpu=0", "a/b=", "a/b=/dev/x", "1/b=c", "a/b.=c", "a/b=c d"] {
        assert!(is_qualified(bad).is_err(), "{bad}");
    }
    let request = |driver: &str, count, ids: &[&str]| DeviceRequest {
        driver: driver.to_owned(),
        count,
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..DeviceRequest::default()
    };
    assert_eq!(request("cdi", 0, &["v.com/c=a"]).names(), ["v.com/c=a"]);
    assert_eq!(request("", -1, &[]).names(), ["nvidia.com/gpu=all"]);
    assert_eq!(request("", 2, &[]).names(), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
    assert_eq!(request("nvidia", 0, &["3", "x.com/gpu=1"]).names(), ["nvidia.com/gpu=3", "x.com/gpu=1"]);
}

#[test]
fn edits_change_the_spec() {
    let mut spec: Spec = serde_json::from_value(json!({
        "ociVersion": "1.2.0",
        "process": { "user": { "uid": 1000, "gid": 100, "additionalGids": [5] }, "cwd": "/", "args": ["x"],
            "env": ["PATH=/bin", "V=old"] },
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/usr/lib/x", "type": "bind", "source": "/old", "options": ["bind"] },
            { "destination": "/proc", "type": "proc", "source": "proc" },
        ],
        "linux": { "devices": [{ "path": "/dev/v0", "type": "c", "major": 9, "minor": 9 }] },
    }))
    .unwrap();
    let document = document(
        "v.com/c",
        &json!([{ "name": "a", "containerEdits": {
            "env": ["V=new"],
            "deviceNodes": [
                { "path": "/dev/v0", "hostPath": "/dev/null" },
                { "path": "/dev/v1", "hostPath": "/dev/zero", "permissions": "r", "uid": 7, "fileMode": 416 },
                { "path": "/dev/v2", "type": "c", "major": 511, "minor": 3, "permissions": "none" },
                { "path": "/dev/pipe", "type": "p" },
            ],
            "mounts": [
                { "hostPath": "/host", "containerPath": "/usr/lib/x", "options": ["ro", "bind"] },
                { "hostPath": "/top", "containerPath": "/top", "type": "tmpfs" },
            ],
            "additionalGids": [0, 44, 44],
            "intelRdt": { "closID": "guaranteed", "l3CacheSchema": "L3:0=f" },
        } }]),
        &json!({ "hooks": [
            { "hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "env": ["A=1"], "timeout": 5 },
            { "hookName": "poststop", "path": "/bin/end" },
        ] }),
    );
    let mut edits = registry(vec![vec![document]]).edits(&["v.com/c=a".to_owned()]).unwrap();
    for node in edits.iter_mut().flat_map(|edits| &mut edits.device_nodes) {
        node.complete().unwrap();
    }
    apply(&edits, &mut spec);
    let spec = serde_json::to_value(&spec).unwrap();
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "V=new"]));
    assert_eq!(spec["process"]["user"]["additionalGids"], json!([5, 44]));
    let devices = spec["linux"]["devices"].as_array().unwrap();
    let of = |path: &str| devices.iter().find(|device| device["path"] == path).unwrap();
    assert_eq!(devices.len(), 4);
    assert_eq!((&of("/dev/v0")["major"], &of("/dev/v0")["minor"]), (&json!(1), &json!(3)));
    // Not said, it is the process's.
    assert_eq!((&of("/dev/v0")["uid"], &of("/dev/v0")["gid"]), (&json!(1000), &json!(100)));
    assert_eq!((&of("/dev/v1")["uid"], &of("/dev/v1")["fileMode"]), (&json!(7), &json!(416)));
    assert_eq!(of("/dev/pipe")["type"], "p");
    let rules = spec["linux"]["resources"]["devices"].clone();
    assert_eq!(
        rules,
        json!([
            { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "r" },
        ])
    );
    let mounts: Vec<_> =
        spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    assert_eq!(mounts, ["/proc", "/top", "/usr/lib/x"]);
    assert_eq!(spec["mounts"][2]["source"], "/host");
    assert_eq!(
        spec["hooks"]["createContainer"],
        json!([{ "path": "/bin/hook", "args": ["hook", "x"], "env": ["A=1"], "timeout": 5 }])
    );
    assert_eq!(spec["hooks"]["poststop"], json!([{ "path": "/bin/end" }]));
    assert_eq!(spec["linux"]["intelRdt"], json!({ "closID": "guaranteed", "l3CacheSchema": "L3:0=f" }));
    let mut untouched = Spec::default();
    apply(&[], &mut untouched);
    assert_eq!(untouched, Spec::default());
}

#[test]
fn nodes_must_be_there_and_be_what_is_said() {
    let complete = |node: Value| {
        let mut node: Node = serde_json::from_value(node).unwrap();
        node.complete().map(|()| node)
    };
    let said = complete(json!({ "path": "/dev/none-such" })).unwrap_err();
    assert!(said.contains("/dev/none-such") && said.contains("driver"), "{said}");
    assert!(complete(json!({ "path": "/dev/none-such", "type": "c", "major": 1, "minor": 2 })).is_ok());
    assert!(complete(json!({ "path": "/dev/v", "hostPath": "/etc" })).unwrap_err().contains("no device"));
    assert!(
        complete(json!({ "path": "/dev/v", "hostPath": "/dev/null", "type": "b" }))
            .unwrap_err()
            .contains("type b")
    );
    let kept = complete(json!({ "path": "/dev/v", "hostPath": "/dev/null", "fileMode": 384 })).unwrap();
    assert_eq!((kept.major, kept.minor, kept.file_mode), (1, 3, Some(0o600)));
}

#[test]
fn files_are_read_that_nobody_else_may_write() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let json = r#"{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"env":["A=1"]}}]}"#;
    let yaml = "---\ncdiVersion: 0.5.0\nkind: v.com/y\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/null\n";
    fs::write(at("a.json"), json).unwrap();
    fs::write(at("b.yaml"), yaml).unwrap();
    fs::write(at("c.yml"), "not read").unwrap();
    symlink(at("a.json"), at("z.json")).unwrap();
    let names = |registry: &Registry| registry.devices.keys().cloned().collect::<Vec<_>>();
    let found = Registry::read(vec![at("none"), dir.path().to_owned()]);
    // By two names it is there twice.
    assert_eq!(names(&found), ["v.com/y=0"], "{:?}", found.problems);
    fs::remove_file(at("z.json")).unwrap();
    fs::set_permissions(at("a.json"), fs::Permissions::from_mode(0o666)).unwrap();
    nix::unistd::mkfifo(&at("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at("dir.yaml")).unwrap();
    fs::write(at("long.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    fs::write(at("bytes.yaml"), b"\xff").unwrap();
    fs::write(at("cut.json"), "{").unwrap();
    let found = Registry::read(vec![dir.path().to_owned()]);
    assert_eq!(names(&found), ["v.com/y=0"]);
    let said = found.missing("v.com/c=a");
    for want in [
        "a.json\": others than its owner may write it (mode 666)",
        "fifo.json\": it is no regular file",
        "dir.yaml\": it is no regular file",
        "long.json\": it is longer than",
        "bytes.yaml\": it is no text",
        "cut.json\": it is no JSON",
    ] {
        assert!(said.contains(want), "{want}: {said}");
    }
    let resolved = resolve(
        &[DeviceRequest {
            driver: "cdi".to_owned(),
            ids: vec!["v.com/y=0".to_owned()],
            ..DeviceRequest::default()
        }],
        &[dir.path().to_owned()],
    );
    assert_eq!(resolved.unwrap()[1].device_nodes[0].minor, 3);
}
