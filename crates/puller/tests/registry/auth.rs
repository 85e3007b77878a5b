//! Authentication: challenges, tokens, realms, and where credentials come from (catalogue RG-02, RG-04, 2d).

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine;
use puller::{Error, Settings};

use crate::fixture::*;
use crate::mock::{Conn, Request, Server, Site};

/// An auth file with one entry.
pub fn config_json(key: &str, user: &str, password: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    serde_json::json!({"auths": {key: {"auth": auth}}}).to_string()
}

/// A request with this auth file.
pub fn with_auth(source: &str, auth: &str) -> WithFile {
    WithFile::new(source, auth, |path| Settings { auth_file: Some(path), ..Settings::default() })
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A registry that gives tokens itself: `token(request)` answers at `/token`, and `good(header)` says whether an
/// Authorization header will do.
fn bearer(
    site: Site,
    good: impl Fn(&str) -> bool + Send + Sync + 'static,
    token: impl Fn(&Request, &mut Conn) + Send + Sync + 'static,
) -> Server {
    let own = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let host = own.clone();
    let server = Server::start(move |r, c| {
        if r.bare() == "/token" {
            return token(r, c);
        }
        if r.header("authorization").is_some_and(&good) {
            return site.serve(r, c);
        }
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"srv\",scope=\"ignored\"",
            host.get().unwrap()
        );
        c.reply(
            401,
            &[("WWW-Authenticate", &challenge)],
            "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"who?\"}]}",
        );
    });
    own.set(server.host()).unwrap();
    server
}

fn tokens(r: &Request) -> bool {
    r.bare() == "/token"
}

#[test]
fn basic_credentials_are_sent_when_asked_for_and_to_nobody_else() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let want = basic("user", "pa:ss");
    let server = Server::start(move |r, c| match r.header("authorization") {
        None => c.reply(401, &[("WWW-Authenticate", "Basic realm=\"Registry Realm\"")], ""),
        Some(header) => {
            assert_eq!(header, want);
            site.serve(r, c);
        }
    });
    let name = format!("{}/{REPO}:v1", server.host());
    run(&with_auth(&name, &config_json(&server.host(), "user", "pa:ss"))).good(&image);
    assert_eq!(server.count(|r| r.header("authorization").is_none()), 1, "once asked, always sent");

    let outcome = run(&with_auth(&name, &config_json("other.example", "user", "pa:ss")));
    let error = outcome.bad(&["unauthorized", "there are no credentials for", "podman login"]);
    assert!(matches!(error, Error::Unauthorized { .. }));
}

#[test]
fn wrong_credentials_are_an_error_after_one_round() {
    let server = Server::start(|_, c| c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""));
    let outcome =
        run(&with_auth(&format!("{}/{REPO}:v1", server.host()), &config_json(&server.host(), "u", "s3cret")));
    let text = outcome.bad(&["unauthorized", "were not accepted", "log in again"]).to_string();
    assert!(!text.contains("s3cret"));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn an_anonymous_token_is_fetched_once_for_all_layers() {
    let image = Image::new(&[b"one", b"two", b"three", b"four"]);
    let server = bearer(
        image.site(),
        |h| h == "Bearer t0ken",
        |_, c| c.reply(200, &[], "{\"token\":\"t0ken\",\"expires_in\":300}"),
    );
    pull(&server).good(&image);
    let asked: Vec<_> = server.requests().into_iter().filter(tokens).collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?service=srv&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn a_token_is_fetched_with_the_users_credentials() {
    let image = Image::new(&[b"one"]);
    let server = bearer(
        image.site(),
        |h| h == "Bearer t",
        |r, c| {
            assert_eq!(r.header("authorization"), Some(&*basic("me", "pw")));
            assert!(r.path.contains("account=me"));
            c.reply(200, &[], "{\"access_token\":\"t\"}");
        },
    );
    run(&with_auth(&format!("{}/{REPO}:v1", server.host()), &config_json(&server.host(), "me", "pw")))
        .good(&image);
    let bearer_only =
        |r: &Request| !tokens(r) && r.header("authorization").is_some_and(|h| h.starts_with("Basic"));
    assert_eq!(server.count(bearer_only), 0, "the password goes to the token server alone");
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    let image = Image::new(&[b"one"]);
    let server = bearer(
        image.site(),
        |h| h == "Bearer t",
        |r, c| {
            assert_eq!(r.method, "POST");
            assert!(r.body.contains("grant_type=refresh_token"), "{}", r.body);
            assert!(r.body.contains("refresh_token=r3fresh%26x"), "{}", r.body);
            assert!(!r.path.contains("r3fresh"));
            c.reply(200, &[], "{\"access_token\":\"t\"}");
        },
    );
    let auth =
        serde_json::json!({"auths": {server.host(): {"auth": "", "identitytoken": "r3fresh&x"}}}).to_string();
    run(&with_auth(&format!("{}/{REPO}:v1", server.host()), &auth)).good(&image);
}

#[test]
fn a_token_that_ends_in_the_middle_is_renewed() {
    // Each token is good for three requests.
    let image = Image::new(&[b"one", b"two", b"three", b"four", b"five", b"six"]);
    let used = std::sync::Mutex::new(std::collections::HashMap::<String, usize>::new());
    let server = bearer(
        image.site(),
        move |h| {
            let mut used = used.lock().unwrap();
            let n = used.entry(h.to_owned()).or_default();
            *n += 1;
            *n <= 3
        },
        |r, c| c.reply(200, &[], format!("{{\"token\":\"t{}\",\"expires_in\":300}}", r.nth)),
    );
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    request.jobs = 2;
    run(&request).good(&image);
    assert!((2..=4).contains(&server.count(tokens)), "{}", server.count(tokens));
}

#[test]
fn a_token_is_renewed_when_its_time_is_up() {
    let image = Image::new(&[b"one", b"two"]);
    let (site, last) = (image.site(), crate::sink::sha256(b"two"));
    let own = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let host = own.clone();
    let server = Server::start(move |r, c| {
        if r.bare() == "/token" {
            return c.reply(200, &[], format!("{{\"token\":\"t{}\",\"expires_in\":1}}", r.nth));
        }
        if r.header("authorization").is_none() {
            let challenge = format!("Bearer realm=\"http://{}/token\"", host.get().unwrap());
            return c.reply(401, &[("WWW-Authenticate", &challenge)], "");
        }
        // The config and the first layer take a second together.
        if r.is_blob() && !r.path.contains(last.as_str()) {
            c.stall(Duration::from_millis(500));
        }
        site.serve(r, c);
    });
    own.set(server.host()).unwrap();
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    request.jobs = 1;
    run(&request).good(&image);
    assert_eq!(server.count(tokens), 2);
    let last = server.requests().into_iter().rfind(Request::is_blob).unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer t1"), "renewed without another 401");
}

#[test]
fn odd_lifetimes_mean_a_minute() {
    for life in ["0", "-5", "null", "0.5", "1e300"] {
        let image = Image::new(&[b"one", b"two"]);
        let server = bearer(
            image.site(),
            |h| h == "Bearer t",
            move |_, c| {
                c.reply(200, &[], format!("{{\"token\":\"t\",\"expires_in\":{life}}}"));
            },
        );
        pull(&server).good(&image);
        assert_eq!(server.count(tokens), 1, "{life}");
    }
}

#[test]
fn token_servers_that_fail_are_named() {
    type Answer = fn(&Request, &mut Conn);
    let cases: [(Answer, &[&str]); 8] = [
        (
            |_, c| c.reply(200, &[("Content-Type", "text/html")], "<html>"),
            &["get a token", "not the JSON of a token"],
        ),
        (|_, c| c.reply(200, &[], "{}"), &["has no token"]),
        (|_, c| c.reply(200, &[], "{\"token\":\"\"}"), &["has no token"]),
        (|_, c| c.reply(200, &[], "{\"token\":\"a\\nb: c\"}"), &["characters that no header may have"]),
        (|_, c| c.reply(200, &[], "{\"token\":7,\"x\":\"s3cret\"}"), &["not the JSON of a token"]),
        (
            |_, c| c.reply(401, &[], "{\"details\":\"incorrect username or password\"}"),
            &["unauthorized", "incorrect username"],
        ),
        (|_, c| c.reply(500, &[], "oops"), &["HTTP 500", "oops"]),
        (|_, c| c.reply(404, &[], ""), &["a token", "HTTP 404"]),
    ];
    for (answer, words) in cases {
        let server = bearer(Site::default(), |_| false, answer);
        let text = pull(&server).bad(words).to_string();
        assert!(!text.contains("s3cret"), "{text}");
        assert!(server.requests().len() <= 8, "{}", server.requests().len());
    }
}

#[test]
fn a_token_server_that_recovers_is_tried_again() {
    let image = Image::new(&[b"one"]);
    let server = bearer(
        image.site(),
        |h| h == "Bearer t",
        |r, c| {
            if r.nth < 2 { c.reply(503, &[], "") } else { c.reply(200, &[], "{\"token\":\"t\"}") }
        },
    );
    assert_eq!(pull(&server).good(&image).retries(), 2);
}

#[test]
fn a_huge_token_is_not_taken_into_memory() {
    let server = bearer(
        Site::default(),
        |_| false,
        |_, c| {
            c.head(200, &[("Transfer-Encoding", "chunked")]);
            for _ in 0..3200 {
                if !c.write(&[b"10000\r\n", &[b' '; 65_536][..], b"\r\n"].concat()) {
                    return;
                }
            }
        },
    );
    pull(&server).bad(&["larger than 1 MiB"]);
    assert!(server.sent() < 16 << 20, "{} bytes were taken", server.sent());
}

#[test]
fn a_registry_that_always_says_401_is_left_after_two_rounds() {
    let server =
        bearer(Site::default(), |_| false, |r, c| c.reply(200, &[], format!("{{\"token\":\"t{}\"}}", r.nth)));
    let outcome = pull(&server);
    outcome.bad(&["unauthorized", "who?"]);
    assert_eq!(server.count(Request::is_manifest), 3);
    assert_eq!(server.count(tokens), 2);

    // With a challenge that is new each time, or none, or nonsense.
    for challenge in [
        None,
        Some("Digest realm=\"x\", nonce=\"1\"".to_owned()),
        Some("Bearer".to_owned()),
        Some("Bearer realm=\"unclosed".to_owned()),
        Some("Bearer realm=".to_owned()),
        Some("=".to_owned()),
        Some(",,,".to_owned()),
        Some(format!("Bearer realm=\"{}\"", "x".repeat(65_536))),
        Some("Negotiate, Bearer realm=\"a\", realm=\"b\"".to_owned()),
    ] {
        let server = Server::start(move |_, c| match &challenge {
            Some(text) => c.reply(401, &[("WWW-Authenticate", text)], ""),
            None => c.reply(401, &[], ""),
        });
        pull(&server).bad(&[]);
        assert!(server.requests().len() <= 4, "{}", server.requests().len());
    }
}

#[test]
fn of_two_challenges_bearer_is_taken() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let own = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let host = own.clone();
    let server = Server::start(move |r, c| match (r.bare(), r.header("authorization")) {
        ("/token", _) => c.reply(200, &[], "{\"token\":\"t\"}"),
        (_, Some("Bearer t")) => site.serve(r, c),
        _ => {
            let bearer = format!(
                "Basic realm=\"x\", bearer Realm=\"http://{}/token\" , Service=srv",
                host.get().unwrap()
            );
            c.reply(401, &[("Www-Authenticate", "Negotiate"), ("WWW-Authenticate", &bearer)], "");
        }
    });
    own.set(server.host()).unwrap();
    pull(&server).good(&image);
}

#[test]
fn realms_elsewhere_get_nothing() {
    let evil = Server::start_at("127.0.0.2:0", None, |_, c| c.reply(200, &[], "{\"token\":\"t\"}"));
    let evil_here = Server::start(|_, c| c.reply(200, &[], "{\"token\":\"t\"}"));
    let (there, here) = (evil.host(), evil_here.host());
    for (realm, word) in [
        (format!("http://{there}/token"), "plain http"),
        (format!("http://{here}/token"), "plain http"),
        ("http://auth.example.com/token".to_owned(), "plain http"),
        (format!("https://{there}/token"), "private network"),
        ("https://169.254.169.254/latest/meta-data".to_owned(), "private network"),
        ("https://10.0.0.1/token".to_owned(), "private network"),
        ("https://192.168.1.1/token".to_owned(), "private network"),
        ("https://0.0.0.0/token".to_owned(), "private network"),
        ("https://[::1]/token".to_owned(), "private network"),
        ("https://[::ffff:10.0.0.1]/token".to_owned(), "private network"),
        ("https://[fd00::1]/token".to_owned(), "private network"),
        ("https://localhost/token".to_owned(), "private network"),
        ("https://2130706434/token".to_owned(), "private network"),
        ("https://reg@evil.example/token".to_owned(), "user name"),
        ("file:///etc/passwd".to_owned(), "without a host"),
        ("ftp://example.com/".to_owned(), "neither https nor http"),
        ("/token".to_owned(), "no URL"),
        (String::new(), "no URL"),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        let server = Server::start(move |_, c| c.reply(401, &[("WWW-Authenticate", &challenge)], ""));
        let request =
            with_auth(&format!("{}/{REPO}:v1", server.host()), &config_json(&server.host(), "u", "p"));
        let outcome = run(&request);
        outcome.bad(&["wants a token from", word]);
    }
    assert_eq!(evil.requests().len() + evil_here.requests().len(), 0);
}

#[test]
fn a_declared_insecure_registry_may_have_its_token_server_on_another_port() {
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let tokens = Server::start(|_, c| c.reply(200, &[], "{\"token\":\"t\"}"));
    let host = tokens.host();
    let server = Server::start(move |r, c| match r.header("authorization") {
        Some("Bearer t") => site.serve(r, c),
        _ => c.reply(401, &[("WWW-Authenticate", &format!("Bearer realm=\"http://{host}/t\""))], ""),
    });
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    request.tls_verify = Some(false);
    run(&request).good(&image);
}

#[test]
fn a_token_server_cannot_redirect_credentials_away() {
    let evil = Server::start_at("127.0.0.2:0", None, |_, c| c.reply(200, &[], "{\"token\":\"t\"}"));
    let to = format!("http://{}/token", evil.host());
    let image = Image::new(&[b"one"]);
    let server =
        bearer(image.site(), |h| h == "Bearer t", move |_, c| c.reply(307, &[("Location", &to)], ""));
    let name = format!("{}/{REPO}:v1", server.host());
    run(&with_auth(&name, &config_json(&server.host(), "u", "p"))).good(&image);
    assert_eq!(evil.count(|r| r.header("authorization").is_some()), 0);
    let auth = serde_json::json!({"auths": {server.host(): {"identitytoken": "r3fresh"}}}).to_string();
    let before = evil.requests().len();
    run(&with_auth(&name, &auth)).bad(&["redirected a request that holds credentials"]);
    assert_eq!(evil.requests().len(), before);
}

#[test]
fn a_helper_is_asked_by_stdin_and_its_answer_used() {
    // $PATH is set for a second process that runs this very test: a process cannot safely change its own.
    let Some(dir) = std::env::var_os("PULLER_TEST_HELPERS").map(std::path::PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "auth::a_helper_is_asked_by_stdin_and_its_answer_used", "--nocapture"])
            .env("PATH", path)
            .env("PULLER_TEST_HELPERS", dir.path())
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && output.contains("1 passed"),
            "{output}{}",
            String::from_utf8_lossy(&child.stderr)
        );
        return;
    };
    let log = dir.join("log");
    let script = |name: &str, body: &str| {
        let path = dir.join(format!("docker-credential-rcrtest-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("rcrtest-{name}")
    };
    let echo = script(
        "good",
        &format!(
            "echo \"$@\" >> {0}; cat >> {0}; echo '{{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"p\"}}'",
            log.display()
        ),
    );
    let none = script("none", "cat >/dev/null; echo credentials not found in native keychain; exit 1");
    let fails = script("fails", "echo broken; exit 3");
    let garbage = script("garbage", "cat >/dev/null; echo '{\"Username\":\"s3cret\"'");
    // One that never answers is ended with the pull.
    let hangs = script("hangs", "exec sleep 60");
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let want = basic("u", "p");
    let server = Server::start(move |r, c| match r.header("authorization") {
        Some(header) if header == want => site.serve(r, c),
        _ => c.reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""),
    });
    let name = format!("{}/{REPO}:v1", server.host());
    let helpers = |helper: &str| serde_json::json!({"credHelpers": {server.host(): helper}}).to_string();
    run(&with_auth(&name, &helpers(&echo))).good(&image);
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        format!("get\n{}", server.host()),
        "get by argument, the host by stdin"
    );
    let store = serde_json::json!({"credsStore": echo}).to_string();
    run(&with_auth(&name, &store)).good(&image);
    run(&with_auth(&name, &helpers(&none))).bad(&["there are no credentials"]);
    for (helper, word) in [
        (&*fails, "exit status: 3: broken"),
        (&*garbage, "not the JSON"),
        ("rcrtest-missing", "not found in $PATH"),
        ("../evil", "letters, digits"),
    ] {
        let outcome = run(&with_auth(&name, &helpers(helper)));
        let text = outcome.bad(&["unauthorized", word]).to_string();
        assert!(!text.contains("s3cret"));
        assert!(outcome.warnings()[0].contains(word), "{:?}", outcome.warnings());
    }
    let cancel = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let outcome = run_into(&with_auth(&name, &helpers(&hangs)), crate::sink::Sink::default(), &cancel);
        outcome.bad(&["interrupted"]);
        assert!(outcome.took < Duration::from_millis(1300), "{:?}", outcome.took);
    });
}
