//! Ends before the end: interruptions, and receivers that cannot go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use puller::Error;

use crate::fixture::*;
use crate::mock::{Conn, Request, Server};
use crate::sink::{Sink, sha256};

/// Pulls, sets `cancel` after a moment, and gives the time from then to the end.
fn cancelled(server: &Server, change: impl FnOnce(&mut puller::Request)) -> (Outcome, Duration) {
    let cancel = AtomicBool::new(false);
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    request.limits.idle = Duration::from_secs(20);
    request.limits.header = Duration::from_secs(20);
    change(&mut request);
    std::thread::scope(|scope| {
        let at = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            cancel.store(true, Ordering::Relaxed);
            Instant::now()
        });
        let outcome = run_into(&request, Sink::default(), &cancel);
        let ended = Instant::now();
        let asked = at.join().unwrap();
        assert!(ended > asked, "it ended by itself: {:?}", outcome.result);
        (outcome, ended - asked)
    })
}

fn ends_soon(server: &Server, change: impl FnOnce(&mut puller::Request)) -> Outcome {
    let (outcome, late) = cancelled(server, change);
    assert!(matches!(outcome.bad(&["interrupted"]), Error::Cancelled));
    assert!(late < Duration::from_secs(1), "{late:?}");
    outcome
}

#[test]
fn an_interrupt_ends_a_pull_wherever_it_waits() {
    type Answer = fn(&Request, &mut Conn) -> bool;
    let stages: [Answer; 4] = [
        // Before the header of the manifest.
        |r, _| r.is_manifest(),
        // In the middle of the manifest.
        |r, c| {
            r.is_manifest() && {
                c.head(200, &[("Content-Length", "1000")]);
                c.write(b"{")
            }
        },
        // Before the header of a layer.
        |r, _| r.is_blob() && r.path.contains(sha256(&noise(100_000)).as_str()),
        // In the middle of a layer.
        |r, c| {
            r.path.contains(sha256(&noise(100_000)).as_str()) && {
                c.head(200, &[("Content-Length", "100000")]);
                c.write(&[0; 50_000])
            }
        },
    ];
    for stage in stages {
        let site = Image::new(&[b"one", &noise(100_000), b"three"]).site();
        let server = Server::start(move |r, c| {
            if stage(r, c) {
                c.stall(Duration::from_secs(4));
                c.close();
            } else {
                site.serve(r, c);
            }
        });
        ends_soon(&server, |_| {});
    }
}

#[test]
fn an_interrupt_ends_the_wait_between_two_tries() {
    let server = Server::start(|_, c| c.reply(503, &[], ""));
    ends_soon(&server, |r| {
        r.limits.backoff = Duration::from_secs(30);
        r.limits.backoff_max = Duration::from_secs(30);
    });
}

#[test]
fn an_interrupt_ends_an_endless_stream() {
    let layer = vec![0; 1 << 30];
    let digest = "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14";
    let mut image = Image::new(&[b"x"]);
    image.manifest["layers"][0]["digest"] = digest.into();
    image.manifest["layers"][0]["size"] = layer.len().into();
    let site = image.site();
    let server = Server::start(move |r, c| {
        if r.path.contains(digest) {
            c.head(200, &[("Content-Length", "1073741824")]);
            while c.write(&layer[..65_536]) {
                // Keeps a debug build's client busy for longer than the test waits.
                c.stall(Duration::from_micros(100));
            }
        } else {
            site.serve(r, c);
        }
    });
    ends_soon(&server, |_| {});
}

#[test]
fn an_interrupt_ends_the_wait_for_another_process() {
    let site = Image::new(&[b"one"]).site();
    let server = Server::start(move |r, c| site.serve(r, c));
    let cancel = AtomicBool::new(false);
    let sink = Sink::default();
    sink.0.lock().unwrap().busy = usize::MAX;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            cancel.store(true, Ordering::Relaxed);
        });
        let outcome = run_into(&request(&format!("{}/{REPO}:v1", server.host())), sink, &cancel);
        outcome.bad(&["interrupted"]);
        assert!(outcome.took < Duration::from_millis(1200));
    });
}

#[test]
fn a_receiver_that_fails_ends_the_pull_with_its_reason() {
    let layers: Vec<Vec<u8>> = (0..6).map(|n| noise(10_000 + n)).collect();
    let image = Image::new(&layers.iter().map(|l| &l[..]).collect::<Vec<_>>());
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    let sink = Sink::default();
    sink.0.lock().unwrap().broken = Some("No space left on device (os error 28)");
    let outcome = run_into(&request(&format!("{}/{REPO}:v1", server.host())), sink, &AtomicBool::new(false));
    let error = outcome.bad(&["store layer sha256:", "No space left on device"]);
    assert!(matches!(error, Error::Sink { .. }));
    assert_eq!(outcome.retries(), 0);
    assert!(outcome.state().opened <= 4, "the other layers were not begun");
}

#[test]
fn one_bad_layer_ends_the_others_at_once() {
    let slow = noise(1_000_000);
    let image = Image::new(&[b"bad", &slow]);
    let mut site = image.site();
    site.put(&blob(&sha256(b"bad")), BLOB, b"dab".to_vec());
    let path = blob(&sha256(&slow));
    let server = Server::start(move |r, c| {
        if r.bare() == path {
            c.head(200, &[("Content-Length", "1000000")]);
            while c.write(&slow[..1000]) {
                c.stall(Duration::from_millis(20));
            }
        } else {
            site.serve(r, c);
        }
    });
    let outcome = pull(&server);
    outcome.bad(&["wrong digest"]);
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

#[test]
fn after_a_failure_the_next_pull_works() {
    let image = Image::new(&[b"one", &noise(50_000)]);
    let site = image.site();
    let server = Server::start(move |r, c| match r.is_blob() && r.nth == 0 && r.from().is_none() {
        true => c.reply(403, &[], ""),
        false => site.serve(r, c),
    });
    let mut sink = Sink::default();
    for _ in 0..5 {
        let outcome =
            run_into(&request(&format!("{}/{REPO}:v1", server.host())), sink, &AtomicBool::new(false));
        if outcome.result.is_ok() {
            return drop(outcome.good(&image));
        }
        sink = outcome.sink;
    }
    panic!("it never worked");
}
