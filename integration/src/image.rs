//! Images made on the spot: tar layers entry by entry, written as an OCI layout (image-spec image-layout.md).

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A layer under construction: a tar stream, entries in the order of the calls.
pub struct Layer {
    tar: tar::Builder<Vec<u8>>,
}

/// How a layer is packed in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A plain tar.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Layer {
    /// A layer without entries.
    pub fn new() -> Self {
        Self { tar: tar::Builder::new(Vec::new()) }
    }

    /// Adds any entry. `name` is written as it is, also when it is hostile; `adjust` sees the header last.
    pub fn entry(
        mut self,
        name: &[u8],
        kind: tar::EntryType,
        mode: u32,
        body: &[u8],
        link: Option<&[u8]>,
        adjust: fn(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        let field = &mut header.as_old_mut().name;
        assert!(name.len() <= field.len(), "a longer name needs a PAX header");
        field[..name.len()].copy_from_slice(name);
        if let Some(link) = link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(body.len() as u64);
        adjust(&mut header);
        header.set_cksum();
        self.tar.append(&header, body).expect("writing to memory");
        self
    }

    /// Adds a directory.
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(name.as_bytes(), tar::EntryType::Directory, mode, b"", None, |_| ())
    }

    /// Adds a regular file.
    pub fn file(self, name: &str, mode: u32, body: &[u8]) -> Self {
        self.entry(name.as_bytes(), tar::EntryType::Regular, mode, body, None, |_| ())
    }

    /// Adds a symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name.as_bytes(), tar::EntryType::Symlink, 0o777, b"", Some(target.as_bytes()), |_| ())
    }

    /// Adds a hard link to an entry of this or a lower layer.
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(name.as_bytes(), tar::EntryType::Link, 0o644, b"", Some(target.as_bytes()), |_| ())
    }

    /// The finished tar stream.
    pub fn into_tar(self) -> Vec<u8> {
        self.tar.into_inner().expect("writing to memory")
    }

    /// A small userland: Debian's static busybox with its applets, /etc/passwd and /etc/group, /tmp.
    pub fn busybox() -> Self {
        let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        let list = crate::world::ok(std::process::Command::new("/bin/busybox").arg("--list"));
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        let mut layer = Self::new().dir("bin/", 0o755).file("bin/busybox", 0o755, &program);
        for applet in list.lines().filter(|a| *a != "busybox") {
            layer = layer.symlink(&format!("bin/{applet}"), "busybox");
        }
        layer
            .dir("etc/", 0o755)
            .file("etc/passwd", 0o644, passwd)
            .file("etc/group", 0o644, b"root:x:0:\nalice:x:1000:\nwheel:x:10:alice\n")
            .dir("root/", 0o700)
            .dir("home/alice/", 0o755)
            .entry(b"tmp/", tar::EntryType::Directory, 0o1777, b"", None, |_| ())
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

/// `sha256:HEX` of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("writing to memory");
    }
    text
}

/// Packs a tar stream.
pub fn pack(tar: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => tar.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).expect("writing to memory");
            encoder.finish().expect("writing to memory")
        }
        Packing::Zstd => zstd::encode_all(tar, 1).expect("writing to memory"),
    }
}

/// Writes an OCI layout with one image, tagged `tag`: `config` is the image config's `config` object.
/// Gives the manifest's digest.
pub fn write_layout(dir: &Path, tag: &str, layers: &[Vec<u8>], packing: Packing, config: Value) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|tar| sha256(tar)).collect();
    let media_type = match packing {
        Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
        Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let packed: Vec<Value> = layers
        .iter()
        .map(|tar| {
            let bytes = pack(tar, packing);
            json!({ "mediaType": media_type, "digest": put_blob(dir, &bytes), "size": bytes.len() })
        })
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-09-13T12:26:40Z", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": [],
    });
    write_manifest(dir, tag, &config, &packed)
}

/// Writes config, manifest, index and `oci-layout` around layers that are there already.
pub fn write_manifest(dir: &Path, tag: &str, config: &Value, layers: &[Value]) -> String {
    let config = serde_json::to_vec(config).expect("JSON");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": put_blob(dir, &config), "size": config.len() },
    });
    let manifest = serde_json::to_vec(&manifest).expect("JSON");
    let digest = put_blob(dir, &manifest);
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": tag }, "platform": { "os": "linux", "architecture": "amd64" },
        }],
    });
    std::fs::write(dir.join("index.json"), serde_json::to_vec(&index).expect("JSON"))
        .expect("a writable layout");
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a writable layout");
    digest
}

/// Writes a blob and gives its digest.
pub fn put_blob(dir: &Path, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a writable layout");
    std::fs::write(blobs.join(&digest[7..]), bytes).expect("a writable layout");
    digest
}

/// A one-layer busybox image as `oci:DIR:tag`, ready for `rcr run`.
pub fn busybox_layout(dir: &Path, config: Value) -> String {
    write_layout(dir, "latest", &[Layer::busybox().into_tar()], Packing::Gzip, config);
    format!("oci:{}:latest", dir.display())
}
