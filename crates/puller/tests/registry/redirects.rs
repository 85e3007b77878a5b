//! Redirects: credentials stay with the registry (catalogue RG-03).

use crate::auth::{config_json, with_auth};
use crate::fixture::*;
use crate::mock::{Request, Server};

/// A registry with Basic authentication whose blobs are redirected to `target(path)`.
fn redirecting(status: u16, target: impl Fn(&str) -> String + Send + Sync + 'static) -> (Image, Server) {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server = Server::start(move |r, c| {
        if r.header("authorization").is_none() {
            return c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "");
        }
        match r.is_blob() {
            true => c.reply(status, &[("Location", &target(&r.path))], ""),
            false => site.serve(r, c),
        }
    });
    (image, server)
}

fn logged_in(server: &Server) -> WithFile {
    with_auth(&format!("{}/{REPO}:v1", server.host()), &config_json(&server.host(), "user", "s3cret"))
}

#[test]
fn a_blob_store_elsewhere_gets_the_request_but_not_the_credentials() {
    for status in [301, 302, 303, 307, 308] {
        let image = Image::new(&[b"one"]);
        let site = image.site();
        let store = Server::start_at("127.0.0.2:0", None, move |r, c| site.serve(r, c));
        let host = store.host();
        let (image, server) = redirecting(status, move |path| format!("http://{host}{path}?signature=1"));
        run(&logged_in(&server)).good(&image);
        assert_eq!(store.requests().len(), 2);
        for request in store.requests() {
            assert_eq!(request.header("authorization"), None);
            assert_eq!(request.method, "GET");
        }
    }
}

#[test]
fn another_port_of_the_same_host_is_elsewhere() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let store = Server::start(move |r, c| site.serve(r, c));
    let host = store.host();
    let (image, server) = redirecting(307, move |path| format!("http://{host}{path}"));
    run(&logged_in(&server)).good(&image);
    assert_eq!(store.count(|r| r.header("authorization").is_some()), 0);
}

#[test]
fn a_way_back_to_the_registry_does_not_bring_the_credentials_back() {
    // registry → store → the same store → registry → the same registry: no credentials after the first hop.
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server_host = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let back = server_host.clone();
    let store = Server::start_at("127.0.0.2:0", None, move |r, c| {
        let to = match r.path.strip_suffix("?again") {
            None => format!("{}?again", r.path),
            Some(path) => format!("http://{}{path}?back", back.get().unwrap()),
        };
        c.reply(307, &[("Location", &to)], "");
    });
    let away = store.host();
    let server = Server::start(move |r, c| {
        if let Some(path) = r.path.strip_suffix("?back") {
            return c.reply(307, &[("Location", &format!("{path}?home"))], "");
        }
        if r.path.ends_with("?home") {
            return site.serve(r, c);
        }
        if r.header("authorization").is_none() {
            return c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "");
        }
        match r.is_blob() {
            true => c.reply(307, &[("Location", &format!("http://{away}{}", r.path))], ""),
            false => site.serve(r, c),
        }
    });
    server_host.set(server.host()).unwrap();
    run(&logged_in(&server)).good(&image);
    assert_eq!(store.requests().len(), 4);
    let returned: Vec<Request> = server.requests().into_iter().filter(|r| r.path.contains('?')).collect();
    assert_eq!(returned.len(), 4);
    assert!(store.requests().iter().chain(&returned).all(|r| r.header("authorization").is_none()));
}

#[test]
fn a_relative_redirect_stays_and_keeps_the_credentials() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server = Server::start(move |r, c| {
        if r.header("authorization").is_none() {
            return c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "");
        }
        match r.path.strip_prefix("/moved") {
            Some(path) => site.serve(&Request { path: path.to_owned(), ..r.clone() }, c),
            None if r.is_blob() => c.reply(302, &[("Location", &format!("/moved{}", r.path))], ""),
            None => site.serve(r, c),
        }
    });
    run(&logged_in(&server)).good(&image);
}

#[test]
fn a_range_survives_a_redirect() {
    let layer = noise(400_000);
    let image = Image::new(&[&layer]);
    let (site, whole) = (image.site(), layer.clone());
    let store = Server::start_at("127.0.0.2:0", None, move |r, c| match (r.from(), r.path.len()) {
        (None, _) if r.path.contains(crate::sink::sha256(&whole).as_str()) => {
            c.head(200, &[("Content-Length", "400000")]);
            c.write(&whole[..100_000]);
            c.close();
        }
        _ => site.serve(r, c),
    });
    let host = store.host();
    let site = image.site();
    let server = Server::start(move |r, c| match r.is_blob() {
        true => c.reply(307, &[("Location", &format!("http://{host}{}", r.path))], ""),
        false => site.serve(r, c),
    });
    pull(&server).good(&image);
    assert_eq!(store.requests().iter().filter_map(Request::from).collect::<Vec<_>>(), [100_000]);
}

#[test]
fn loops_and_long_chains_end() {
    let (_, server) = redirecting(302, |path| path.to_owned());
    run(&logged_in(&server)).bad(&["more than 10 redirects"]);
    assert!(server.requests().len() < 20);
}

#[test]
fn redirects_that_lead_nowhere_good_are_refused() {
    for (target, word) in [
        ("file:///etc/passwd", "a redirect to a file URL"),
        ("ftp://127.0.0.1/x", "a redirect to a ftp URL"),
        ("javascript:alert(1)", "a redirect to a javascript URL"),
        ("http://user:pw@127.0.0.1/x", "user name"),
        ("http://", "no URL"),
        ("http://[::1/x", "no URL"),
    ] {
        let (_, server) = redirecting(302, move |_| target.to_owned());
        run(&logged_in(&server)).bad(&[word]);
    }
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server =
        Server::start(move |r, c| if r.is_blob() { c.reply(302, &[], "") } else { site.serve(r, c) });
    pull(&server).bad(&["without a Location"]);
}

#[test]
fn a_challenge_from_elsewhere_is_not_answered() {
    let store = Server::start_at("127.0.0.2:0", None, |_, c| {
        c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "");
    });
    let host = store.host();
    let (_, server) = redirecting(307, move |path| format!("http://{host}{path}"));
    run(&logged_in(&server)).bad(&["unauthorized"]);
    assert_eq!(store.requests().len(), 1);
    assert_eq!(store.count(|r| r.header("authorization").is_some()), 0);
}
