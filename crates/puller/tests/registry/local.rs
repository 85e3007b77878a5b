//! OCI layouts and archives, well made and hostile.

use std::io::Write;
use std::path::{Path, PathBuf};

use puller::Error;
use serde_json::json;

use crate::fixture::*;
use crate::sink::sha256;

/// Writes an image as an OCI layout with these tags.
fn layout(dir: &Path, images: &[(&Image, Option<&str>)]) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    let put = |bytes: &[u8]| std::fs::write(blobs.join(sha256(bytes).hex()), bytes).unwrap();
    let mut entries = Vec::new();
    for (image, tag) in images {
        put(&image.bytes());
        put(image.config.to_string().as_bytes());
        image.layers.iter().for_each(|l| put(l));
        let mut entry = image.descriptor();
        if let Some(tag) = tag {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        }
        entries.push(entry);
    }
    let index = json!({"schemaVersion": 2, "manifests": entries});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

/// Packs a directory as tools do, `./` in front of each name.
fn tar_of(dir: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", dir).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn pull_from(transport: &str, path: &Path, tag: &str) -> Outcome {
    run(&request(&format!("{transport}:{}{tag}", path.display())))
}

#[test]
fn a_layout_yields_its_image_by_tag() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Image::new(&[b"one", &noise(600_000)]), Image::new(&[b"two"]));
    layout(dir.path(), &[(&one, Some("v1")), (&two, Some("registry.example/team/app:v2"))]);
    let outcome = pull_from("oci", dir.path(), ":v1").good(&one);
    assert_eq!(outcome.result.unwrap().names, []);
    let outcome = pull_from("oci", dir.path(), ":registry.example/team/app:v2").good(&two);
    assert_eq!(outcome.result.unwrap().names[0].to_string(), "registry.example/team/app:v2");
    pull_from("oci", dir.path(), "").bad(&["several images", "v1, registry.example/team/app:v2"]);
    pull_from("oci", dir.path(), ":v3").bad(&["no image with the tag \"v3\"", "v1"]);

    layout(dir.path(), &[(&one, None)]);
    pull_from("oci", dir.path(), "").good(&one);
    let arm = Image::of("arm64", &[b"arm"]);
    layout(dir.path(), &[(&arm, None), (&two, None)]);
    pull_from("oci", dir.path(), "").good(&two);
}

#[test]
fn an_archive_of_a_layout_is_read_plain_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let image = Image::new(&[b"one", &noise(700_000)]);
    layout(dir.path(), &[(&image, Some("v1"))]);
    let plain = tar_of(dir.path());
    let zstd = zstd::stream::encode_all(&plain[..], 1).unwrap();
    let halves = [gzip(&plain[..10_000]), gzip(&plain[10_000..])].concat();
    for bytes in [&plain, &gzip(&plain), &zstd, &halves] {
        let file = write(out.path(), "a", bytes);
        pull_from("oci-archive", &file, "").good(&image);
        pull_from("oci-archive", &file, ":v1").good(&image);
    }
    for (bytes, word) in [
        (gzip(&plain)[..5000].to_vec(), ""),
        (plain[..50_000].to_vec(), "truncated"),
        (b"BZh91AY&SY".to_vec(), "bzip2"),
        (b"\xfd7zXZ\0\0".to_vec(), "xz"),
        (noise(5000), "no tar archive"),
        (Vec::new(), "no oci-layout"),
        (tar_of(out.path()), "no oci-layout"),
    ] {
        let file = write(out.path(), "b", &bytes);
        let outcome = pull_from("oci-archive", &file, "");
        assert!(matches!(outcome.bad(&[word]), Error::Archive { .. }), "{word}");
    }
}

#[test]
fn a_layout_with_wrong_bytes_is_refused() {
    let image = Image::new(&[b"one"]);
    let config = image.config.to_string();
    let dir = tempfile::tempdir().unwrap();
    let put = |digest: &oci::Digest, bytes: &[u8]| {
        layout(dir.path(), &[(&image, None)]);
        std::fs::write(dir.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        pull_from("oci", dir.path(), "")
    };
    put(&sha256(b"one"), b"eno").bad(&["wrong digest"]);
    put(&sha256(b"one"), b"on").bad(&["wrong size"]);
    put(&sha256(b"one"), b"onee").bad(&["wrong size"]);
    put(&sha256(config.as_bytes()), config.replace("amd64", "amd65").as_bytes()).bad(&["wrong digest"]);
    put(&image.digest(), b"{}").bad(&["wrong digest"]);
}

#[test]
fn a_layout_cannot_make_the_reader_hang_or_wander() {
    let image = Image::new(&[b"one"]);
    let dir = tempfile::tempdir().unwrap();
    layout(dir.path(), &[(&image, None)]);
    let blob = dir.path().join("blobs/sha256").join(sha256(b"one").hex());
    std::fs::remove_file(&blob).unwrap();
    pull_from("oci", dir.path(), "").bad(&["No such file"]);
    assert!(std::process::Command::new("mkfifo").arg(&blob).status().unwrap().success());
    pull_from("oci", dir.path(), "").bad(&["not a regular file"]);
    std::fs::remove_file(&blob).unwrap();
    for target in ["/dev/zero", "/proc/self/mem", "/"] {
        std::os::unix::fs::symlink(target, &blob).unwrap();
        pull_from("oci", dir.path(), "").bad(&[]);
        std::fs::remove_file(&blob).unwrap();
    }
    // A link to the right bytes is what build systems make.
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(write(elsewhere.path(), "x", b"one"), &blob).unwrap();
    pull_from("oci", dir.path(), "").good(&image);

    std::fs::write(dir.path().join("index.json"), vec![b' '; 5 << 20]).unwrap();
    pull_from("oci", dir.path(), "").bad(&["at most 4194304"]);
    std::fs::remove_file(dir.path().join("oci-layout")).unwrap();
    pull_from("oci", dir.path(), "").bad(&["no OCI image layout"]);
    pull_from("oci", &dir.path().join("nowhere"), "").bad(&["nowhere", "No such file"]);
}

/// What `docker save` writes, for images given as config, layers and names.
struct Saved {
    builder: tar::Builder<Vec<u8>>,
    entries: Vec<serde_json::Value>,
}

impl Saved {
    fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()), entries: Vec::new() }
    }

    fn file(&mut self, name: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.builder.append_data(&mut header, name, bytes).unwrap();
    }

    fn link(&mut self, kind: tar::EntryType, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(kind);
        self.builder.append_link(&mut header, name, target).unwrap();
    }

    fn image(&mut self, config: &str, names: &[&str], layers: &[&str]) {
        let file = format!("{}.json", sha256(config.as_bytes()).hex());
        self.file(&file, config.as_bytes());
        self.entries.push(json!({"Config": file, "RepoTags": names, "Layers": layers}));
    }

    fn finish(mut self) -> Vec<u8> {
        let list = serde_json::Value::Array(std::mem::take(&mut self.entries)).to_string();
        self.file("manifest.json", list.as_bytes());
        self.builder.into_inner().unwrap()
    }
}

/// A config for plain layers, whose DiffIDs are the digests of the layers themselves.
fn config_of(layers: &[&[u8]]) -> String {
    let ids: Vec<_> = layers.iter().map(|l| sha256(l)).collect();
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ids}}).to_string()
}

#[test]
fn a_saved_image_keeps_its_id_and_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (noise(300_000), noise(1000));
    let config = config_of(&[&first, &second, &first]);
    let mut saved = Saved::new();
    saved.file("aaa/layer.tar", &first);
    saved.file("bbb/layer.tar", &second);
    // Equal layers were saved as a link once.
    saved.link(tar::EntryType::Symlink, "ccc/layer.tar", "../aaa/layer.tar");
    saved.image(
        &config,
        &["python:3.8", "team/app:v1"],
        &["aaa/layer.tar", "./bbb/layer.tar", "ccc/layer.tar"],
    );
    let bytes = saved.finish();
    for packed in [bytes.clone(), gzip(&bytes)] {
        let file = write(dir.path(), "a.tar", &packed);
        let outcome = pull_from("docker-archive", &file, "");
        let pulled = outcome.result.as_ref().unwrap();
        assert_eq!(pulled.config, sha256(config.as_bytes()), "the image ID is docker's");
        assert_eq!(pulled.pinned, None);
        let names: Vec<String> = pulled.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/python:3.8", "docker.io/team/app:v1"]);
        let state = outcome.state();
        assert_eq!(state.committed, Some((pulled.manifest.clone(), pulled.config.clone())));
        assert_eq!(state.announced.len(), 3);
        assert_eq!(state.layers[&sha256(&first)], first);
        let manifest: serde_json::Value = serde_json::from_slice(&state.documents[&pulled.manifest]).unwrap();
        assert_eq!(manifest["layers"][1]["digest"], json!(sha256(&second)));
        drop(state);
        let outcome = pull_from("docker-archive", &file, ":team/app:v1");
        assert_eq!(outcome.result.unwrap().names.len(), 1);
        pull_from("docker-archive", &file, ":team/app:v2")
            .bad(&["no image docker.io/team/app:v2", "docker.io/library/python:3.8"]);
    }
}

#[test]
fn packed_layers_inside_an_archive_are_told_from_plain_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (noise(5000), gzip(&noise(6000)));
    let config = config_of(&[&plain, b"whatever it unpacks to"]);
    let mut saved = Saved::new();
    saved.file("blobs/sha256/1", &plain);
    saved.file("blobs/sha256/2", &packed);
    saved.image(&config, &[], &["blobs/sha256/1", "blobs/sha256/2"]);
    let outcome = pull_from("docker-archive", &write(dir.path(), "a", &saved.finish()), "");
    outcome.result.as_ref().unwrap();
    let state = outcome.state();
    assert_eq!(state.announced[0].media_type, "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(state.announced[1].media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(state.layers[&sha256(&packed)], packed);
}

#[test]
fn a_hostile_archive_reaches_nothing_outside_itself() {
    let dir = tempfile::tempdir().unwrap();
    let secret = write(dir.path(), "secret", b"canary");
    let config = config_of(&[b"canary"]);
    for target in
        [secret.to_str().unwrap(), "../../secret", "../secret", "/etc/passwd", "x/layer.tar", "loop"]
    {
        for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
            let mut saved = Saved::new();
            saved.link(kind, "x/layer.tar", target);
            saved.link(tar::EntryType::Symlink, "x/loop", "layer.tar");
            saved.image(&config, &[], &["x/layer.tar"]);
            let outcome = pull_from("docker-archive", &write(dir.path(), "a", &saved.finish()), "");
            assert!(matches!(outcome.bad(&["x/layer.tar"]), Error::Archive { .. }), "{target}");
        }
    }
    for layer in ["../secret", "/etc/passwd", "x/../../secret", ""] {
        let mut saved = Saved::new();
        saved.image(&config, &[], &[layer]);
        pull_from("docker-archive", &write(dir.path(), "a", &saved.finish()), "").bad(&["there is no"]);
    }
}

#[test]
fn a_saved_image_with_wrong_parts_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let try_list = |list: &str, word: &str| {
        let mut saved = Saved::new();
        saved.file("c.json", config_of(&[b"x"]).as_bytes());
        saved.file("l.tar", b"x");
        saved.file("manifest.json", list.as_bytes());
        let bytes = saved.builder.into_inner().unwrap();
        pull_from("docker-archive", &write(dir.path(), "a", &bytes), "").bad(&[word]);
    };
    try_list("", "at manifest.json");
    try_list("{}", "at manifest.json");
    try_list("[]", "there is no image in it");
    try_list("[{}]", "Config");
    try_list("[{\"Config\":\"c.json\",\"Layers\":null}]", "1 DiffIDs for 0 layers");
    try_list("[{\"Config\":\"c.json\",\"Layers\":[\"l.tar\",\"l.tar\"]}]", "1 DiffIDs for 2 layers");
    try_list("[{\"Config\":\"none\",\"Layers\":[\"l.tar\"]}]", "there is no none in it");
    try_list("[{\"Config\":\"l.tar\",\"Layers\":[\"l.tar\"]}]", "invalid config");
    let twice = "{\"Config\":\"c.json\",\"Layers\":[\"l.tar\"]}";
    try_list(&format!("[{twice},{twice}]"), "2 images in it");

    // Bytes that are not those of the DiffID.
    let mut saved = Saved::new();
    saved.file("l.tar", b"y");
    saved.image(&config_of(&[b"x"]), &[], &["l.tar"]);
    pull_from("docker-archive", &write(dir.path(), "a", &saved.finish()), "").bad(&["wrong digest"]);
    // Not an archive of docker's at all.
    let mut saved = Saved::new();
    saved.file("hello", b"x");
    let bytes = saved.builder.into_inner().unwrap();
    pull_from("docker-archive", &write(dir.path(), "a", &bytes), "")
        .bad(&["there is no manifest.json in it"]);
}

#[test]
fn an_archive_may_come_from_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let layer = noise(400_000);
    let mut saved = Saved::new();
    saved.file("l.tar", &layer);
    saved.image(&config_of(&[&layer]), &["a:b"], &["l.tar"]);
    let bytes = saved.finish();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&fifo, &bytes).unwrap());
        pull_from("docker-archive", &fifo, "")
    });
    assert_eq!(outcome.result.unwrap().names[0].to_string(), "docker.io/library/a:b");
}
