//! Registries that behave.

use oci::{Digest, Reference};
use puller::{Error, Event};
use serde_json::json;

use crate::fixture::*;
use crate::mock::Server;
use crate::sink::{Sink, sha256};

#[test]
fn an_image_of_several_layers_arrives_whole() {
    let (big, equal) = (noise(3_000_000), noise(70_000));
    let image = Image::new(&[&big, b"two", &equal, b"", &equal, b"last"]);
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    let outcome = pull(&server).good(&image);
    let pulled = outcome.result.as_ref().unwrap();
    assert_eq!(pulled.pinned, Some(image.digest()));
    assert_eq!(pulled.names, [format!("{}/{REPO}:v1", server.host()).parse::<Reference>().unwrap()]);
    // One request each, the equal layers together: nothing is fetched twice.
    assert_eq!(server.count(|r| r.is_manifest()), 1);
    assert_eq!(server.count(|r| r.is_blob()), 1 + 5);
    let done = |i| outcome.events.contains(&Event::LayerDone { index: i });
    let present = |i| outcome.events.contains(&Event::LayerPresent { index: i });
    assert!((0..6).all(|i| done(i) || present(i)), "{:?}", outcome.events);
    let bytes = |e: &Event| match e {
        Event::LayerProgress { index: 0, bytes } => Some(*bytes),
        _ => None,
    };
    assert_eq!(outcome.events.iter().filter_map(bytes).max(), Some(3_000_000));
    let announced = outcome.events.iter().find_map(|e| if let Event::Layers(l) = e { Some(l) } else { None });
    assert_eq!(announced.unwrap().len(), 6);
}

#[test]
fn what_is_in_the_store_is_not_fetched_again() {
    let image = Image::new(&[b"one", b"two"]);
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    let sink = pull(&server).good(&image).sink;
    let before = server.requests().len();
    let again = request(&format!("{}/{REPO}@{}", server.host(), image.digest()));
    let outcome = run_into(&again, sink, &std::sync::atomic::AtomicBool::new(false)).good(&image);
    assert_eq!(server.requests().len(), before, "pinned and present needs no request at all");
    assert!(outcome.events.contains(&Event::LayerPresent { index: 1 }));
}

#[test]
fn no_compressed_transfer_is_asked_for() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    pull(&server).good(&image);
    for request in server.requests() {
        assert_eq!(request.header("accept-encoding"), None, "{}", request.path);
        assert!(request.header("user-agent").unwrap().starts_with("rcr/"));
    }
}

#[test]
fn a_pinned_digest_is_asked_for_and_checked() {
    let image = Image::new(&[b"one"]);
    let mut site = image.site();
    let other = Image::new(&[b"other"]);
    let wrong = sha256(b"something else");
    site.put(&manifest(wrong.as_str()), MANIFEST, other.bytes());
    other.put(&mut site);
    let server = Server::start(move |r, c| site.serve(r, c));
    // Tag and digest: the digest decides.
    run(&request(&format!("{}/{REPO}:v1@{}", server.host(), image.digest()))).good(&image);
    let outcome = run(&request(&format!("{}/{REPO}@{wrong}", server.host())));
    let error = outcome.bad(&["wrong digest", wrong.as_str(), other.digest().as_str()]);
    assert!(matches!(error, Error::WrongDigest { .. }));
}

#[test]
fn a_sha512_digest_works_as_well() {
    use sha2::Digest as _;
    let image = Image::new(&[b"one"]);
    let mut site = image.site();
    let pin = Digest::from_hash(oci::Algorithm::Sha512, &sha2::Sha512::digest(image.bytes()));
    site.put(&manifest(pin.as_str()), MANIFEST, image.bytes());
    let server = Server::start(move |r, c| site.serve(r, c));
    // The recording sink knows sha256 alone; that it is reached with the right digest is what counts.
    let outcome = run(&request(&format!("{}/{REPO}@{pin}", server.host())));
    outcome.bad(&["store manifest sha512:"]);
}

#[test]
fn docker_schema_2_is_read_like_oci() {
    let mut image = Image::new(&[b"one"]);
    image.manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
    image.manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
    image.manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    let mut site = image.site();
    site.put(
        &manifest("v1"),
        "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
        image.bytes(),
    );
    let server = Server::start(move |r, c| site.serve(r, c));
    pull(&server).good(&image);
    let asked = server.requests()[0].header("accept").unwrap().to_owned();
    assert!(asked.contains("manifest.list.v2+json") && asked.contains("image.index.v1+json"), "{asked}");
}

#[test]
fn a_layer_that_another_process_fetches_is_waited_for() {
    let image = Image::new(&[b"one", b"two"]);
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    let sink = Sink::default();
    sink.0.lock().unwrap().busy = 5;
    let request = request(&format!("{}/{REPO}:v1", server.host()));
    let outcome = run_into(&request, sink, &std::sync::atomic::AtomicBool::new(false)).good(&image);
    assert!(outcome.events.iter().any(|e| matches!(e, Event::LayerWaiting { .. })));
}

#[test]
fn an_image_without_layers_is_an_image() {
    let image = Image::new(&[]);
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    pull(&server).good(&image);
}
