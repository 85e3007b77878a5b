//! Registries on loopback: Debian's docker-registry with the demo's image, and one that misbehaves.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::world::{World, ok};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Debian's docker-registry for the whole test run, with the demo's image pushed as docker.io's `python:3.8.5-alpine`.
static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

struct Shared {
    dir: tempfile::TempDir,
    port: String,
}

/// Writes `registries.conf` of `world` so that docker.io is the registry with the demo's image, which is started
/// and filled at the first call. Gives the registry's `HOST:PORT`.
pub fn serve_demo_image(world: &World) -> String {
    let mut shared = SHARED.lock().expect("no test panicked while it started the registry");
    let shared = shared.get_or_insert_with(|| {
        let dir = tempfile::Builder::new().prefix("rcr-registry-").tempdir_in(cache()).expect("a directory");
        let port = ok(Command::new(script("registry")).arg("start").arg(dir.path()));
        let image = cache().join("demo-image");
        if !image.exists() {
            ok(Command::new(script("demo-image")).arg(&image).arg(cache().join("packages")));
        }
        let push = |name: &str| {
            let layout = format!("{}:3.8.5-alpine", image.display());
            ok(Command::new(script("registry")).arg("push").arg(dir.path()).args([&layout, name]));
        };
        push("library/python:3.8.5-alpine");
        Shared { dir, port }
    });
    ok(Command::new(script("registry"))
        .arg("mirror")
        .arg(shared.dir.path())
        .arg(world.path().join("registries.conf")));
    format!("127.0.0.1:{}", shared.port)
}

/// Stops what [`serve_demo_image`] started. The last act of a test run.
pub fn stop() {
    if let Ok(mut shared) = SHARED.lock()
        && let Some(shared) = shared.take()
    {
        let _ = Command::new(script("registry")).arg("stop").arg(shared.dir.path()).output();
    }
}

/// Where the demo's image is kept between test runs: below cargo's target directory.
fn cache() -> PathBuf {
    let dir = crate::world::target().join("integration");
    std::fs::create_dir_all(&dir).expect("a writable target directory");
    dir
}

/// A registry that serves one OCI layout as any repository and stalls for ever after `stall_after` bytes of each
/// blob over 64 KiB. It ends with the process.
pub fn stalling(layout: &Path, stall_after: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let layout = layout.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let layout = layout.clone();
            thread::spawn(move || answer(stream, &layout, stall_after));
        }
    });
    address
}

fn answer(stream: TcpStream, layout: &Path, stall_after: usize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let path = line.split(' ').nth(1)?.to_owned();
        while reader.read_line(&mut line).ok()? > 2 {}
        let mut stream = &stream;
        let name = path.rsplit('/').next()?;
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.join("index.json")).ok()?).ok()?;
        let manifest = index["manifests"][0]["digest"].as_str()?;
        let digest =
            if path.contains("/manifests/") && !name.starts_with("sha256:") { manifest } else { name };
        let Ok(body) = std::fs::read(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:")))
        else {
            let status = if path == "/v2/" { "200 OK" } else { "404 Not Found" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").ok()?;
            continue;
        };
        let kind = if path.contains("/manifests/") {
            "application/vnd.oci.image.manifest.v1+json"
        } else {
            "application/octet-stream"
        };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len())
            .ok()?;
        if body.len() > 65_536 {
            stream.write_all(&body[..stall_after.min(body.len() - 1)]).ok()?;
            thread::park();
        }
        stream.write_all(&body).ok()?;
    }
}
