//! Mirrors and the settings that name them.

use puller::{Error, Event, Settings};

use crate::fixture::*;
use crate::mock::{Request, Server};
use crate::sink::sha256;

/// A request for `source` with this `registries.conf`.
fn with_conf(source: &str, conf: &str) -> WithFile {
    WithFile::new(source, conf, |path| Settings { registries: vec![path], ..Settings::default() })
}

fn conf(prefix: &str, location: &str, mirrors: &[&str]) -> String {
    let mut text = format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\n");
    for mirror in mirrors {
        text += &format!("[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n");
    }
    text
}

fn failures(outcome: &Outcome) -> Vec<String> {
    let failed = |e: &Event| match e {
        Event::MirrorFailed { location, error } => Some(format!("{location}: {error}")),
        _ => None,
    };
    outcome.events.iter().filter_map(failed).collect()
}

#[test]
fn the_first_mirror_that_has_it_serves_it_under_its_own_name() {
    let image = Image::new(&[b"one"]);
    let empty = Server::start(|_, c| c.reply(404, &[], ""));
    let site = image.site();
    // The mirror has the repository below a path of its own.
    let mirror = Server::start(move |r, c| {
        let path = r.path.replace("/v2/hub/", "/v2/");
        site.serve(&Request { path, ..r.clone() }, c);
    });
    let origin = Server::start(|_, _| {});
    let text = conf("example.com", &origin.host(), &[&empty.host(), &format!("{}/hub", mirror.host())]);
    let outcome = run(&with_conf(&format!("example.com/{REPO}:v1"), &text)).good(&image);
    assert_eq!(outcome.result.as_ref().unwrap().names[0].to_string(), format!("example.com/{REPO}:v1"));
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(failures(&outcome).len(), 1);
    assert!(mirror.requests().iter().all(|r| r.path.starts_with("/v2/hub/team/app/")));
}

#[test]
fn docker_hubs_names_go_to_a_mirror_too() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let mirror = Server::start(move |r, c| {
        let path = r.path.replace("library/python", REPO);
        site.serve(&Request { path, ..r.clone() }, c);
    });
    let text = conf("docker.io", "docker.io", &[&mirror.host()]);
    let outcome = run(&with_conf("python:v1", &text)).good(&image);
    assert_eq!(outcome.result.as_ref().unwrap().names[0].to_string(), "docker.io/library/python:v1");
}

#[test]
fn a_mirror_with_a_wrong_layer_is_left_for_the_next_place() {
    let image = Image::new(&[b"one", b"two"]);
    let mut site = image.site();
    site.put(&blob(&sha256(b"two")), BLOB, b"2wo".to_vec());
    let mirror = Server::start(move |r, c| site.serve(r, c));
    let site = image.site();
    let origin = Server::start(move |r, c| site.serve(r, c));
    let text = conf("example.com", &origin.host(), &[&mirror.host()]);
    let outcome = run(&with_conf(&format!("example.com/{REPO}:v1"), &text)).good(&image);
    assert!(failures(&outcome)[0].contains("wrong digest"), "{:?}", failures(&outcome));
    assert_eq!(origin.requests().len(), 1, "just the one layer comes from the origin");
    assert_eq!(outcome.state().dropped, 1);
}

#[test]
fn a_mirror_that_lost_a_layer_is_left_for_the_next_place() {
    let image = Image::new(&[b"one", b"two"]);
    let mut site = image.site();
    site.0.remove(&blob(&sha256(b"two")));
    let mirror = Server::start(move |r, c| site.serve(r, c));
    let site = image.site();
    let origin = Server::start(move |r, c| site.serve(r, c));
    run(&with_conf(
        &format!("example.com/{REPO}:v1"),
        &conf("example.com", &origin.host(), &[&mirror.host()]),
    ))
    .good(&image);
}

#[test]
fn a_mirror_with_a_wrong_manifest_for_a_digest_is_left() {
    let image = Image::new(&[b"one"]);
    let mut site = image.site();
    site.put(&manifest(image.digest().as_str()), MANIFEST, Image::new(&[b"evil"]).bytes());
    let mirror = Server::start(move |r, c| site.serve(r, c));
    let site = image.site();
    let origin = Server::start(move |r, c| site.serve(r, c));
    let text = conf("example.com", &origin.host(), &[&mirror.host()]);
    let outcome = run(&with_conf(&format!("example.com/{REPO}@{}", image.digest()), &text)).good(&image);
    assert!(failures(&outcome)[0].contains("wrong digest"));
}

#[test]
fn when_all_places_fail_the_user_reads_all_reasons() {
    let mirror = Server::start(|_, c| c.reply(403, &[], ""));
    let origin = Server::start(|_, c| c.reply(404, &[], ""));
    let text = conf("example.com", &origin.host(), &[&mirror.host()]);
    let outcome = run(&with_conf(&format!("example.com/{REPO}:v1"), &text));
    let error = outcome.bad(&["no such image", "mirrors failed before", "access denied", &mirror.host()]);
    assert!(matches!(error, Error::Mirrors { .. }));
}

#[test]
fn credentials_go_to_the_place_they_are_filed_under() {
    let image = Image::new(&[b"one"]);
    let mirror = Server::start(|_, c| c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""));
    let site = image.site();
    let origin = Server::start(move |r, c| match r.header("authorization") {
        Some(_) => site.serve(r, c),
        None => c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""),
    });
    let mut request = with_conf(
        &format!("{}/{REPO}:v1", origin.host()),
        &conf(&origin.host(), &origin.host(), &[&mirror.host()]),
    );
    let auth = crate::auth::with_auth("x", &crate::auth::config_json(&origin.host(), "u", "p"));
    request.settings.auth_file = auth.settings.auth_file.clone();
    run(&request).good(&image);
    assert_eq!(mirror.count(|r| r.header("authorization").is_some()), 0);
}

#[test]
fn a_blocked_registry_is_not_contacted() {
    let server = Server::start(|_, _| {});
    let text = format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", server.host());
    let outcome = run(&with_conf(&format!("{}/{REPO}:v1", server.host()), &text));
    assert!(matches!(outcome.bad(&["blocked", "registries.conf"]), Error::Blocked { .. }));
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn loopback_declared_secure_is_never_plain() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = false\n", server.host());
    run(&with_conf(&format!("{}/{REPO}:v1", server.host()), &text)).bad(&["TLS", "the server speaks no TLS"]);
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    request.tls_verify = Some(true);
    run(&request).bad(&["TLS"]);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_settings_file_that_is_wrong_is_named_with_its_line() {
    let outcome = run(&with_conf("example.com/x", "[[registry]]\nlocation = 'a.io'\nblocked = 'yes'\n"));
    assert!(matches!(outcome.bad(&["line 3", "blocked"]), Error::Settings { .. }));
}
