//! Images to serve, and a pull with short limits whose outcome can be looked into.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use oci::{Digest, Platform};
use puller::{Error, Event, Limits, Pulled, Request, Settings};
use serde_json::{Value, json};

use crate::mock::{Server, Site};
use crate::sink::{Sink, State, sha256};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const BLOB: &str = "application/octet-stream";

/// The repository that every test uses.
pub const REPO: &str = "team/app";

/// An image as documents that a test may bend before it serves them.
#[derive(Clone)]
pub struct Image {
    pub manifest: Value,
    pub config: Value,
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    /// An image for linux/amd64 with these layers; the config follows them, the manifest follows both.
    pub fn new(layers: &[&[u8]]) -> Self {
        Self::of("amd64", layers)
    }

    pub fn of(architecture: &str, layers: &[&[u8]]) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|l| sha256(&[b"unpacked ", *l].concat())).collect();
        let config = json!({
            "os": "linux", "architecture": architecture,
            "config": {"Cmd": null}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let descriptor = |bytes: &[u8], media_type: &str| json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(config.to_string().as_bytes(), CONFIG),
            "layers": layers.iter().map(|l| descriptor(l, LAYER)).collect::<Vec<_>>(),
        });
        Self { manifest, config, layers: layers.iter().map(|l| l.to_vec()).collect() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    pub fn digest(&self) -> Digest {
        sha256(&self.bytes())
    }

    /// Its descriptor for an index.
    pub fn descriptor(&self) -> Value {
        let platform = json!({"os": "linux", "architecture": self.config["architecture"]});
        json!({"mediaType": MANIFEST, "digest": self.digest(), "size": self.bytes().len(), "platform": platform})
    }

    /// Adds its blobs and its manifest under its digest to a site.
    pub fn put(&self, site: &mut Site) {
        let config = self.config.to_string();
        site.put(&blob(&sha256(config.as_bytes())), BLOB, config);
        for layer in &self.layers {
            site.put(&blob(&sha256(layer)), BLOB, layer.clone());
        }
        site.put(&manifest(self.digest().as_str()), MANIFEST, self.bytes());
    }

    /// A site with this image under the tag `v1`.
    pub fn site(&self) -> Site {
        let mut site = Site::default();
        self.put(&mut site);
        site.put(&manifest("v1"), MANIFEST, self.bytes());
        site
    }
}

pub fn blob(digest: &Digest) -> String {
    format!("/v2/{REPO}/blobs/{digest}")
}

pub fn manifest(version: &str) -> String {
    format!("/v2/{REPO}/manifests/{version}")
}

/// Incompressible bytes.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(step).collect()
}

/// What came of a pull.
pub struct Outcome {
    pub result: Result<Pulled, Error>,
    pub sink: Sink,
    pub events: Vec<Event>,
    pub took: Duration,
}

impl Outcome {
    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.sink.0.lock().unwrap()
    }

    /// The image is committed with all its layers, and nothing was left open.
    #[track_caller]
    pub fn good(self, image: &Image) -> Self {
        let pulled = self.result.as_ref().unwrap_or_else(|e| panic!("{e}\n{:#?}", self.events));
        assert_eq!(pulled.manifest, image.digest());
        let state = self.state();
        assert_eq!(state.committed, Some((image.digest(), sha256(image.config.to_string().as_bytes()))));
        for layer in &image.layers {
            assert_eq!(state.layers.get(&sha256(layer)), Some(layer));
        }
        drop(state);
        self
    }

    /// Nothing is committed, every writer that was not finished was dropped, and the error says this.
    #[track_caller]
    pub fn bad(&self, words: &[&str]) -> &Error {
        let error = self.result.as_ref().map(|p| panic!("it worked: {p:?}\n{:#?}", self.events)).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(next) = cause {
            text += &format!(": {next}");
            cause = next.source();
        }
        for word in words {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
        assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
        let state = self.state();
        assert_eq!(state.committed, None);
        assert_eq!(state.opened, state.dropped + state.layers.len(), "a writer is still open");
        error
    }

    pub fn retries(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::Retrying { .. })).count()
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|e| if let Event::Warning(text) = e { Some(&**text) } else { None })
            .collect()
    }
}

/// A request with few waits and no settings of this host.
pub fn request(source: &str) -> Request {
    Request {
        settings: Settings::default(),
        platform: Some(platform("linux/amd64")),
        limits: Limits {
            connect: Duration::from_secs(2),
            header: Duration::from_secs(5),
            idle: Duration::from_secs(3),
            tries: 4,
            backoff: Duration::from_millis(2),
            backoff_max: Duration::from_millis(50),
        },
        ..Request::new(source.parse().unwrap())
    }
}

/// A request that reads a settings file, which goes with it.
pub struct WithFile {
    request: Request,
    _file: tempfile::TempPath,
}

impl WithFile {
    pub fn new(source: &str, content: &str, settings: impl FnOnce(std::path::PathBuf) -> Settings) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&file, content).unwrap();
        let mut request = request(source);
        request.settings = settings(file.to_path_buf());
        Self { request, _file: file }
    }
}

impl std::ops::Deref for WithFile {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl std::ops::DerefMut for WithFile {
    fn deref_mut(&mut self) -> &mut Request {
        &mut self.request
    }
}

pub fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// Pulls `REPO:v1` from a server.
pub fn pull(server: &Server) -> Outcome {
    run(&request(&format!("{}/{REPO}:v1", server.host())))
}

/// The same for tests of stalls, impatient: a loaded machine may stall by itself, so other tests have more time.
pub fn pull_hastily(server: &Server) -> Outcome {
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    request.limits.connect = Duration::from_millis(200);
    request.limits.header = Duration::from_millis(500);
    request.limits.idle = Duration::from_millis(400);
    run(&request)
}

pub fn run(request: &Request) -> Outcome {
    run_into(request, Sink::default(), &AtomicBool::new(false))
}

pub fn run_into(request: &Request, sink: Sink, cancel: &AtomicBool) -> Outcome {
    let events = Mutex::new(Vec::new());
    let start = Instant::now();
    let result = puller::pull(request, &sink, &|event| events.lock().unwrap().push(event), cancel);
    Outcome { result, sink, events: events.into_inner().unwrap(), took: start.elapsed() }
}
