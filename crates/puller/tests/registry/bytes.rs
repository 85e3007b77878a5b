//! Blobs whose bytes are wrong, too many, too few, too slow, or arrive in the wrong piece (catalogue 2d).

use std::time::Duration;

use puller::Error;

use crate::fixture::*;
use crate::mock::{Conn, Request, Server};
use crate::sink::sha256;

/// A server whose answers for the one layer are the test's; all else is as it should be.
fn with_blob(layer: &[u8], answer: impl Fn(&Request, &mut Conn) + Send + Sync + 'static) -> (Image, Server) {
    let image = Image::new(&[layer]);
    let (site, path) = (image.site(), blob(&sha256(layer)));
    let server = Server::start(move |r, c| if r.bare() == path { answer(r, c) } else { site.serve(r, c) });
    (image, server)
}

fn is_range(request: &Request) -> bool {
    request.from().is_some()
}

#[test]
fn one_wrong_bit_is_refused_and_not_asked_for_again() {
    let layer = noise(100_000);
    let mut wrong = layer.clone();
    wrong[50_000] ^= 1;
    let (_, server) = with_blob(&layer, move |_, c| c.reply(200, &[], &wrong));
    let outcome = pull(&server);
    outcome.bad(&["wrong digest", sha256(&layer).as_str()]);
    assert_eq!(server.count(Request::is_blob), 2, "config and layer once each");
}

#[test]
fn a_wrong_config_is_refused() {
    let image = Image::new(&[b"one"]);
    let mut site = image.site();
    let config = image.config.to_string();
    let wrong = config.replace("amd64", "amd65");
    site.put(&blob(&sha256(config.as_bytes())), BLOB, wrong);
    let server = Server::start(move |r, c| site.serve(r, c));
    assert!(matches!(pull(&server).bad(&["wrong digest"]), Error::WrongDigest { .. }));
}

#[test]
fn a_body_longer_than_its_descriptor_is_cut_off_at_once() {
    let layer = noise(10_000);
    let more = [&layer[..], &noise(5_000_000)].concat();
    let (_, server) = with_blob(&layer, move |_, c| c.reply(200, &[], &more));
    assert!(matches!(pull(&server).bad(&["wrong size", "expected 10000"]), Error::WrongSize { .. }));
}

#[test]
fn an_endless_body_without_a_length_is_cut_off_at_the_size() {
    let layer = noise(10_000);
    let start = layer.clone();
    let (_, server) = with_blob(&layer, move |_, c| {
        c.head(200, &[("Transfer-Encoding", "chunked")]);
        c.write(b"2710\r\n");
        c.write(&start);
        c.write(b"\r\n");
        for _ in 0..10_000 {
            if !c.write(&[b"1000\r\n", &[0; 4096][..], b"\r\n"].concat()) {
                return;
            }
        }
    });
    pull(&server).bad(&["wrong size", "got more"]);
    assert!(server.sent() < 20_000_000, "{} bytes were taken", server.sent());
}

#[test]
fn a_body_shorter_than_its_descriptor_is_refused() {
    let layer = noise(10_000);
    let less = layer[..9_999].to_vec();
    let (_, server) = with_blob(&layer, move |_, c| c.reply(200, &[], &less));
    pull(&server).bad(&["wrong size", "expected 10000 bytes, got 9999"]);
}

#[test]
fn a_cut_body_is_resumed_where_it_broke_off() {
    let layer = noise(2_000_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |r, c| {
        let from = r.from().unwrap_or(0);
        let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
        let length = (whole.len() - from).to_string();
        let status = if from == 0 { 200 } else { 206 };
        c.head(status, &[("Content-Length", &length), ("Content-Range", &range)]);
        // A third each time, then the connection is closed.
        let end = if r.nth < 2 { (from + 700_000).min(whole.len()) } else { whole.len() };
        c.write(&whole[from..end]);
        c.close();
    });
    let outcome = pull(&server).good(&image);
    assert!(outcome.retries() >= 2, "{:?}", outcome.events);
    let resumed: Vec<_> = server.requests().iter().filter_map(Request::from).collect();
    assert_eq!(resumed, [700_000, 1_400_000]);
    assert_eq!(outcome.state().opened, 1, "one writer takes it all");
}

#[test]
fn a_cut_chunked_body_is_resumed() {
    let layer = noise(100_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |r, c| match r.from() {
        None => {
            c.head(200, &[("Transfer-Encoding", "chunked")]);
            c.write(b"186a0\r\n");
            c.write(&whole[..60_000]);
            c.close();
        }
        Some(from) => {
            let range = format!("bytes {from}-99999/100000");
            c.chunked(206, &[("Content-Range", &range)], &whole[from..]);
        }
    });
    pull(&server).good(&image);
}

#[test]
fn a_connection_lost_on_every_try_ends_with_an_error() {
    let layer = noise(1_000);
    let (_, server) = with_blob(&layer, |_, c| c.close());
    let outcome = pull(&server);
    outcome.bad(&["reach 127.0.0.1"]);
    assert_eq!(outcome.retries(), 3);
    assert_eq!(server.count(Request::is_blob), 1 + 4);
}

#[test]
fn progress_gives_the_tries_back_but_not_without_end() {
    // Each answer brings 1.2 MB: five breaks are more than four tries.
    let layer = noise(7_000_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |r, c| {
        let from = r.from().unwrap_or(0);
        let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
        c.head(if from == 0 { 200 } else { 206 }, &[("Content-Range", &range)]);
        c.write(&whole[from..(from + 1_200_000).min(whole.len())]);
        c.close();
    });
    pull(&server).good(&image);

    // The same without ranges: each answer starts over, and so none of them gets further.
    let whole = layer.clone();
    let (_, server) = with_blob(&layer, move |_, c| {
        c.head(200, &[]);
        c.write(&whole[..1_200_000]);
        c.close();
    });
    let outcome = pull(&server);
    outcome.bad(&["ended at byte 1200000 of 7000000"]);
    assert!(server.count(Request::is_blob) < 8);
}

#[test]
fn a_server_that_ignores_ranges_is_read_again_from_the_start() {
    let layer = noise(500_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |r, c| {
        c.head(200, &[("Content-Length", "500000")]);
        c.write(&whole[..if r.nth == 0 { 300_000 } else { whole.len() }]);
        if r.nth == 0 {
            c.close();
        }
    });
    let outcome = pull(&server).good(&image);
    assert_eq!(outcome.state().opened, 1, "what was written is skipped, not written twice");
}

#[test]
fn a_wrong_content_range_is_never_spliced() {
    for wrong in [
        "bytes 0-499999/500000",
        "bytes 300000-499999/600000",
        "bytes 300000-600000/*",
        "bytes x-y/z",
        "300000",
        "",
    ] {
        let layer = noise(500_000);
        let whole = layer.clone();
        let (image, server) = with_blob(&layer, move |r, c| match r.from() {
            // Bytes that do not belong there.
            Some(from) => c.reply(206, &[("Content-Range", wrong)], &whole[..whole.len() - from]),
            None => {
                c.head(200, &[("Content-Length", "500000")]);
                c.write(&whole[..if r.nth == 0 { 300_000 } else { whole.len() }]);
                c.close();
            }
        });
        let outcome = pull(&server).good(&image);
        assert_eq!(outcome.state().opened, 1, "{wrong}: the bytes reached the receiver");
        assert_eq!(server.count(is_range), 1, "{wrong}: the server is not asked for a range again");
    }
}

#[test]
fn a_refused_range_means_the_whole_again() {
    let layer = noise(500_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |r, c| match r.from() {
        Some(_) => c.reply(416, &[("Content-Range", "bytes */500000")], ""),
        None => {
            c.head(200, &[("Content-Length", "500000")]);
            c.write(&whole[..if r.nth == 0 { 300_000 } else { whole.len() }]);
            c.close();
        }
    });
    pull(&server).good(&image);
}

#[test]
fn halves_that_do_not_fit_are_fetched_once_more_in_one_piece() {
    let layer = noise(500_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |r, c| match (r.from(), r.nth) {
        (None, 0) => {
            // The start of something else, and then the line breaks.
            c.head(200, &[("Content-Length", "500000"), ("ETag", "\"a\"")]);
            c.write(&vec![7; 300_000]);
            c.close();
        }
        (Some(from), _) => {
            c.reply(
                206,
                &[("Content-Range", "bytes 300000-499999/500000"), ("ETag", "\"b\"")],
                &whole[from..],
            );
        }
        _ => c.reply(200, &[], &whole),
    });
    let outcome = pull(&server).good(&image);
    let state = outcome.state();
    assert_eq!((state.opened, state.dropped), (2, 1));
}

#[test]
fn a_stall_after_most_of_the_body_is_resumed() {
    let layer = noise(100_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |r, c| match r.from() {
        None => {
            c.head(200, &[("Content-Length", "100000")]);
            c.write(&whole[..90_000]);
            c.stall(Duration::from_secs(3));
            c.close();
        }
        Some(from) => {
            c.reply(206, &[("Content-Range", &format!("bytes {from}-99999/100000"))], &whole[from..])
        }
    });
    let outcome = pull_hastily(&server).good(&image);
    assert!(outcome.took < Duration::from_millis(2900), "{:?}", outcome.took);
}

#[test]
fn a_byte_now_and_then_is_a_stall() {
    let layer = noise(100_000);
    let (_, server) = with_blob(&layer, |_, c| {
        c.head(200, &[("Content-Length", "100000")]);
        for _ in 0..200 {
            c.stall(Duration::from_millis(50));
            if !c.write(b"x") {
                return;
            }
        }
    });
    let outcome = pull_hastily(&server);
    // On a busy machine a gap may be long enough to count by itself: "no data for 0.4 s".
    outcome.bad(&[" 0.4 s"]);
    assert!(outcome.took < Duration::from_secs(9), "{:?}", outcome.took);
}

#[test]
fn a_header_that_never_comes_is_a_timeout() {
    let layer = noise(1_000);
    let (_, server) = with_blob(&layer, |_, c| {
        for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().cycle().take(120) {
            c.stall(Duration::from_millis(50));
            if !c.write(&[*byte]) {
                return;
            }
        }
    });
    let outcome = pull_hastily(&server);
    outcome.bad(&["no answer within"]);
    assert!(outcome.took < Duration::from_secs(6), "{:?}", outcome.took);
}

#[test]
fn a_chunked_body_without_a_length_is_fine() {
    let layer = noise(50_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |_, c| c.chunked(200, &[], &whole));
    pull(&server).good(&image);
}

#[test]
fn a_body_that_ends_with_the_connection_is_fine() {
    let layer = noise(50_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |_, c| {
        c.write(b"HTTP/1.0 200 OK\r\n\r\n");
        c.write(&whole);
        c.close();
    });
    pull(&server).good(&image);
}

#[test]
fn a_content_encoding_is_not_undone() {
    // The digest is over the bytes as they were pushed, whatever the header says.
    let layer = [&[0x1f, 0x8b][..], &noise(1000)].concat();
    let whole = layer.clone();
    let (image, server) =
        with_blob(&layer, move |_, c| c.reply(200, &[("Content-Encoding", "gzip")], &whole));
    pull(&server).good(&image);
}

#[test]
fn two_lengths_and_nonsense_are_no_http() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 1000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let (_, server) = with_blob(&noise(1_000), move |_, c| {
            c.write(head.as_bytes());
            c.close();
        });
        pull(&server).bad(&["reach 127.0.0.1"]);
    }
}

#[test]
fn a_length_beside_chunked_encoding_smuggles_nothing() {
    // RFC 9112 6.3: the encoding wins; whichever is taken, the digest must hold.
    let layer = noise(4_000);
    let whole = layer.clone();
    let (image, server) = with_blob(&layer, move |_, c| {
        c.head(200, &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")]);
        c.write(b"fa0\r\n");
        c.write(&whole);
        c.write(b"\r\n0\r\n\r\n");
        c.close();
    });
    let outcome = pull(&server);
    if outcome.result.is_ok() {
        outcome.good(&image);
    } else {
        outcome.bad(&[]);
    }
}

#[test]
fn a_blob_that_is_not_there_is_named_with_its_repository() {
    let layer = noise(1_000);
    let (_, server) = with_blob(&layer, |_, c| {
        c.reply(404, &[], "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"gone\"}]}")
    });
    let outcome = pull(&server);
    let error = outcome.bad(&[sha256(&layer).as_str(), REPO, "BLOB_UNKNOWN: gone", "pushed again"]);
    assert!(matches!(error, Error::NoBlob { .. }));
}

#[test]
fn foreign_urls_are_never_visited() {
    // CVE-2020-15157: they would be asked with the registry's credentials.
    let evil = Server::start(|_, c| {
        c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "");
    });
    let mut image = Image::new(&[b"one"]);
    image.manifest["layers"][0]["urls"] = serde_json::json!([format!("http://{}/b", evil.host())]);
    image.manifest["layers"][0]["mediaType"] =
        serde_json::json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let mut site = image.site();
    let server = {
        let site = site.clone();
        Server::start(move |r, c| site.serve(r, c))
    };
    pull(&server).good(&image);
    site.0.remove(&blob(&sha256(b"one")));
    let server = Server::start(move |r, c| site.serve(r, c));
    pull(&server).bad(&["BLOB_UNKNOWN"]);
    assert_eq!(evil.requests().len(), 0);
}
