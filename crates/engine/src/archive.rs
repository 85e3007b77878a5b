//! Images as archives: `save` and `load`; and their names: `tag`.
//!
//! The store keeps layers unpacked, so `save` packs them anew. A layer's digest may then be another than that of the
//! archive it came from, and with it the image's ID.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci::Reference;
use puller::Source;
use serde_json::{Value, json};
use store::{Image, Store, Tree};
use tar::{Builder, Header};

use crate::commit::{measure, temporary};
use crate::leftover::enter;
use crate::{Engine, Error, Event, PulledImage, image};

/// How `save` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// As `docker save`.
    Docker,
    /// A tar of an OCI image layout.
    Oci,
}

/// Gives an image one more name; one that has the name already loses it.
///
/// # Errors
/// [`Error::NoSuchImage`].
pub fn tag(engine: &Engine, source: &str, name: &Reference) -> Result<(), Error> {
    enter(engine)?;
    let store = Store::open(&engine.root)?;
    let found = image::find(&store, source, None)?.ok_or_else(|| Error::NoSuchImage(source.to_owned()))?;
    Ok(store.tag(name, &found.id)?)
}

/// Writes images, with the names they are asked for by.
///
/// # Errors
/// [`Error::NoSuchImage`]; `out` cannot be written.
pub fn save(
    engine: &Engine,
    images: &[String],
    format: ArchiveFormat,
    out: &mut dyn Write,
) -> Result<(), Error> {
    enter(engine)?;
    let store = Store::open(&engine.root)?;
    let mut chosen: Vec<(Image, Vec<Reference>)> = Vec::new();
    for wanted in images {
        let found = image::find(&store, wanted, None)?.ok_or_else(|| Error::NoSuchImage(wanted.clone()))?;
        let names = image::names_of(&store, &found)?;
        let asked = wanted.parse::<Reference>().ok().filter(|name| names.contains(name));
        match chosen.iter_mut().find(|(image, _)| image.id == found.id) {
            Some((_, names)) => names.extend(asked),
            None => chosen.push((found, asked.into_iter().collect())),
        }
    }
    let mut archive = Archive { engine, format, out: Builder::new(out), written: BTreeSet::new() };
    let packed = chosen.iter().map(|(image, names)| Ok((archive.image(image)?, names.as_slice())));
    let packed = packed.collect::<Result<Vec<_>, Error>>()?;
    match format {
        ArchiveFormat::Docker => archive.docker_index(&packed)?,
        ArchiveFormat::Oci => archive.oci_index(&packed)?,
    }
    archive.out.finish().map_err(Error::io("write the archive"))
}

/// An image in the archive.
struct Packed {
    config: Vec<u8>,
    /// HEX of the config.
    id: String,
    /// HEX and length of each layer.
    layers: Vec<(String, u64)>,
}

struct Archive<'a, W: Write> {
    engine: &'a Engine,
    format: ArchiveFormat,
    out: Builder<W>,
    /// What is in it already: images share layers.
    written: BTreeSet<String>,
}

impl<W: Write> Archive<'_, W> {
    fn image(&mut self, image: &Image) -> Result<Packed, Error> {
        let mut config: Value = serde_json::from_slice(&image.raw_config)
            .map_err(|e| Error::Invalid(format!("config of image {}: {e}", image.id)))?;
        // An image without layers has one empty directory here.
        let count = config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
        let (mut layers, mut digests) = (Vec::new(), Vec::new());
        for dir in image.layers.iter().take(count) {
            let (file, digest, size) = measure(self.pack(dir)?)?;
            let path = match self.format {
                ArchiveFormat::Docker => format!("{}.tar", digest.hex()),
                ArchiveFormat::Oci => format!("blobs/sha256/{}", digest.hex()),
            };
            self.file(&path, size, file)?;
            layers.push((digest.hex().to_owned(), size));
            digests.push(digest);
        }
        let same = config["rootfs"]["diff_ids"] == json!(digests);
        config["rootfs"]["diff_ids"] = json!(digests);
        let config = if same { image.raw_config.clone() } else { config.to_string().into_bytes() };
        let (id, size) = store::digest_of(config.as_slice()).map_err(Error::io("hash the config"))?;
        let path = match self.format {
            ArchiveFormat::Docker => format!("{}.json", id.hex()),
            ArchiveFormat::Oci => format!("blobs/sha256/{}", id.hex()),
        };
        self.file(&path, size, config.as_slice())?;
        Ok(Packed { config, id: id.hex().to_owned(), layers })
    }

    fn pack(&self, dir: &Path) -> Result<File, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(dir, flags, Mode::empty())
            .map_err(|e| Error::io(format!("open {dir:?}"))(e.into()))?;
        Ok(store::pack(opened.as_fd(), Tree::Layer, &|_, _| true, temporary(self.engine)?)?)
    }

    fn file(&mut self, path: &str, size: u64, content: impl Read) -> Result<(), Error> {
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        let written = self.out.append_data(&mut header, path, content);
        written.map_err(Error::io("write the archive"))
    }

    fn json(&mut self, path: &str, value: &Value) -> Result<(), Error> {
        let text = value.to_string();
        self.file(path, text.len() as u64, text.as_bytes())
    }

    fn docker_index(&mut self, images: &[(Packed, &[Reference])]) -> Result<(), Error> {
        let entry = |(packed, names): &(Packed, &[Reference])| {
            json!({
                "Config": format!("{}.json", packed.id),
                "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
                "Layers": packed.layers.iter().map(|(hex, _)| format!("{hex}.tar")).collect::<Vec<_>>(),
            })
        };
        self.json("manifest.json", &images.iter().map(entry).collect())
    }

    fn oci_index(&mut self, images: &[(Packed, &[Reference])]) -> Result<(), Error> {
        let mut list = Vec::new();
        for (packed, names) in images {
            let layers = packed.layers.iter().map(|(hex, size)| {
                let kind = "application/vnd.oci.image.layer.v1.tar";
                json!({ "mediaType": kind, "digest": format!("sha256:{hex}"), "size": size })
            });
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": format!("sha256:{}", packed.id),
                    "size": packed.config.len(),
                },
                "layers": layers.collect::<Vec<_>>(),
            })
            .to_string();
            let (digest, size) =
                store::digest_of(manifest.as_bytes()).map_err(Error::io("hash the manifest"))?;
            self.file(&format!("blobs/sha256/{}", digest.hex()), size, manifest.as_bytes())?;
            let descriptor = json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            });
            for name in *names {
                let mut named = descriptor.clone();
                named["annotations"] = json!({ "org.opencontainers.image.ref.name": name.to_string() });
                list.push(named);
            }
            if names.is_empty() {
                list.push(descriptor);
            }
        }
        self.json("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        self.json("index.json", &json!({ "schemaVersion": 2, "manifests": list }))
    }
}

/// Reads the images of an archive that `save`, docker or podman wrote; `None` reads standard input.
///
/// # Errors
/// It is no such archive; its images are not what their digests say.
pub fn load(
    engine: &Engine,
    path: Option<&Path>,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<Vec<PulledImage>, Error> {
    enter(engine)?;
    let store = Store::open(&engine.root)?;
    // Kept open until the end: it has no name.
    let mut held = None;
    let path: PathBuf = match path {
        Some(path) => path.to_owned(),
        None => {
            let file = held.insert(temporary(engine)?);
            std::io::copy(&mut std::io::stdin().lock(), file).map_err(Error::io("read standard input"))?;
            PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
        }
    };
    let mut loaded: Vec<PulledImage> = Vec::new();
    for source in sources(&path)? {
        let (pulled, _sink) = image::fetch_from(&store, source, events, cancel)?;
        match loaded.iter_mut().find(|image| image.id == pulled.id) {
            Some(image) => image.names.extend(pulled.names),
            None => loaded.push(pulled),
        }
    }
    Ok(loaded)
}

/// The images of an archive. What is compressed is taken for one of docker's with one image.
fn sources(path: &Path) -> Result<Vec<Source>, Error> {
    let one = |name| Source::DockerArchive { path: path.to_owned(), name };
    let list = member(path, "manifest.json")?;
    let list: Vec<Value> = match list.map(|text| serde_json::from_slice(&text)) {
        Some(Ok(list)) => list,
        Some(Err(_)) => return Ok(vec![one(None)]),
        None => {
            let index = member(path, "index.json")?;
            let Some(index) = index.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
                return Ok(vec![one(None)]);
            };
            let tag =
                |m: &Value| m["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
            let of = |m: &Value| Source::OciArchive { path: path.to_owned(), tag: tag(m) };
            return Ok(index["manifests"].as_array().into_iter().flatten().map(of).collect());
        }
    };
    let tags = list.iter().flat_map(|entry| entry["RepoTags"].as_array().into_iter().flatten());
    let named: Vec<Source> = tags
        .filter_map(Value::as_str)
        .filter_map(|tag| tag.parse().ok())
        .map(|name| one(Some(name)))
        .collect();
    Ok(if named.is_empty() { vec![one(None)] } else { named })
}

/// A small file of a tar; `None` if there is none, or no tar.
fn member(path: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let file = File::open(path).map_err(Error::io(format!("open {path:?}")))?;
    let mut archive = tar::Archive::new(file);
    let Ok(entries) = archive.entries_with_seek() else { return Ok(None) };
    for entry in entries {
        let Ok(entry) = entry else { return Ok(None) };
        let found = entry.path_bytes();
        if found.strip_prefix(b"./").unwrap_or(&found) == name.as_bytes() {
            let mut text = Vec::new();
            entry.take(4 << 20).read_to_end(&mut text).map_err(Error::io(format!("read {path:?}")))?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}
