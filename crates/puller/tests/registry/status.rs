//! Statuses: what is tried again, what is not, and what the user reads (catalogue 2d).

use std::time::Duration;

use puller::{Error, Event};

use crate::fixture::*;
use crate::mock::{Request, Server};

/// Answers the first `times` requests for the manifest with a status, then as it should.
fn flapping(status: u16, times: usize, headers: &'static [(&'static str, &'static str)]) -> (Image, Server) {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server = Server::start(move |r, c| {
        if r.is_manifest() && r.nth < times {
            c.reply(
                status,
                headers,
                "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"slow down\"}]}",
            );
        } else {
            site.serve(r, c);
        }
    });
    (image, server)
}

#[test]
fn server_errors_are_tried_again_a_few_times() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (image, server) = flapping(status, 3, &[]);
        let outcome = pull(&server).good(&image);
        assert_eq!(outcome.retries(), 3, "{status}");
        let (_, server) = flapping(status, 100, &[]);
        let outcome = pull(&server);
        outcome.bad(&["TOOMANYREQUESTS: slow down"]);
        assert_eq!(server.count(Request::is_manifest), 4, "{status}");
    }
}

#[test]
fn retry_after_is_honoured_and_capped() {
    for (value, least) in
        [("1000000000", 45), ("0", 0), ("soon", 0), ("-5", 0), ("Fri, 31 Dec 2100 23:59:59 GMT", 45)]
    {
        let (image, server) = {
            let image = Image::new(&[b"one"]);
            let site = image.site();
            let server = Server::start(move |r, c| {
                if r.is_manifest() && r.nth == 0 {
                    c.reply(429, &[("Retry-After", value)], "");
                } else {
                    site.serve(r, c);
                }
            });
            (image, server)
        };
        let outcome = pull(&server).good(&image);
        let Some(Event::Retrying { after, error, .. }) =
            outcome.events.iter().find(|e| matches!(e, Event::Retrying { .. }))
        else {
            panic!("no retry: {:?}", outcome.events)
        };
        assert!(
            *after >= Duration::from_millis(least) && *after <= Duration::from_millis(50),
            "{value}: {after:?}"
        );
        assert!(error.contains("rate limited"), "{error}");
    }
}

#[test]
fn a_rate_limit_that_stays_is_named() {
    let (_, server) = flapping(429, 100, &[("Retry-After", "7")]);
    let outcome = pull(&server);
    let error = outcome.bad(&["rate limited", "slow down", "it asks for 7 s", "log in"]);
    assert!(matches!(error, Error::RateLimited { .. }));
}

#[test]
fn other_refusals_are_final_and_distinct() {
    for (status, word) in
        [(400, "HTTP 400"), (403, "access denied"), (405, "HTTP 405"), (410, "HTTP 410"), (418, "HTTP 418")]
    {
        let (_, server) = flapping(status, 100, &[]);
        pull(&server).bad(&[word]);
        assert_eq!(server.count(Request::is_manifest), 1, "{status}");
    }
}

#[test]
fn a_missing_tag_is_named_with_its_neighbours() {
    let image = Image::new(&[b"one"]);
    let mut site = image.site();
    site.put(
        &format!("/v2/{REPO}/tags/list"),
        "application/json",
        "{\"name\":\"x\",\"tags\":[\"3.8\",\"3.8.5-alpine\",\"latest\",\"edge\",\"slim\",\"nightly\",\"a\\u001b[1m\"]}",
    );
    let server = Server::start(move |r, c| site.serve(r, c));
    let outcome = run(&request(&format!("{}/{REPO}:3.8.5-alpin", server.host())));
    let error = outcome.bad(&["no such image", "3.8.5-alpin", "did you mean the tag 3.8.5-alpine"]);
    assert!(matches!(error, Error::NotFound { .. }));
    // A repository that is not there has no tags, and that is no second error.
    run(&request(&format!("{}/team/nothing:v1", server.host()))).bad(&["no such image", "team/nothing:v1"]);
}

#[test]
fn what_a_registry_says_cannot_drive_the_terminal() {
    let evil = "{\"errors\":[{\"code\":\"DENIED\\u001b]0;pwned\\u0007\",\"message\":\"line\\r\\nrcr: all is well\\u202e\"}]}";
    let server = Server::start(move |_, c| c.reply(403, &[], evil));
    let error = pull(&server).bad(&["DENIED\\u{1b}]0;pwned\\u{7}", "line  rcr"]).to_string();
    assert!(!error.contains('\n') && error.len() < 500);
}

#[test]
fn error_bodies_are_capped_and_html_is_left_out() {
    let server =
        Server::start(|_, c| c.reply(403, &[("Content-Type", "text/html")], "<html>a login page</html>"));
    let text = pull(&server).bad(&["access denied"]).to_string();
    assert!(!text.contains("html"), "{text}");

    let server = Server::start(|_, c| {
        c.head(403, &[("Content-Length", "104857600")]);
        while c.write(&[b'x'; 65_536]) {}
    });
    let outcome = pull(&server);
    outcome.bad(&["access denied"]);
    assert!(server.sent() < 16 << 20, "{} bytes were taken", server.sent());

    // A body that never comes does not hold the error back for long.
    let server = Server::start(|_, c| {
        c.head(403, &[("Content-Length", "100")]);
        c.stall(Duration::from_secs(3));
    });
    let outcome = pull_hastily(&server);
    outcome.bad(&["access denied"]);
    assert!(outcome.took < Duration::from_millis(2900));
}

#[test]
fn warnings_of_the_registry_are_passed_on_once() {
    let image = Image::new(&[b"one", b"two"]);
    let site = image.site();
    let server = Server::start(move |r, c| {
        let (media_type, body) = &site.0[r.bare()];
        c.reply(200, &[("Content-Type", media_type), ("Warning", "299 - \"end of life on Friday\"")], body);
    });
    let outcome = pull(&server).good(&image);
    let warnings = outcome.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with("end of life on Friday"));
}

#[test]
fn a_registry_that_is_down_is_an_error_at_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = run(&request(&format!("{closed}/{REPO}:v1")));
    let error = outcome.bad(&["connection refused", "is the registry running?"]);
    assert!(matches!(error, Error::Unreachable { .. }));
    assert_eq!(outcome.retries(), 0);
    assert!(outcome.took < Duration::from_secs(1));
}

#[test]
fn a_host_that_does_not_exist_is_an_error_at_once() {
    let outcome = run(&request(&format!("no-such-host.invalid/{REPO}:v1")));
    outcome.bad(&["reach no-such-host.invalid"]);
    assert_eq!(outcome.retries(), 0);
}

#[test]
fn a_registry_that_dies_in_the_middle_is_tried_again() {
    // The server accepts nothing more after the manifest and the config.
    let image = Image::new(&[&noise(1000)]);
    let site = image.site();
    let server = Server::start(move |r, c| {
        let layer = r.is_blob()
            && !r.path.contains(&crate::sink::sha256(image.config.to_string().as_bytes()).to_string());
        if layer { c.close() } else { site.serve(r, c) }
    });
    let outcome = pull(&server);
    outcome.bad(&[]);
    assert_eq!(outcome.retries(), 3);
}
