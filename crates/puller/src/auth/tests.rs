use super::*;

fn bearer(realm: &str, service: &str, error: &str) -> Challenge {
    Challenge::Bearer { realm: realm.into(), service: service.into(), error: error.into() }
}

#[test]
fn reads_challenges_as_registries_write_them() {
    let table = [
        ("Basic realm=\"Registry Realm\"", vec![Challenge::Basic]),
        ("basic", vec![Challenge::Basic]),
        (
            "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a:pull\"",
            vec![bearer("https://auth.docker.io/token", "registry.docker.io", "")],
        ),
        (
            "Bearer realm = \"r\" , service=s,error=\"insufficient_scope\" , Basic realm=\"x, y=\\\"z\\\"\"",
            vec![bearer("r", "s", "insufficient_scope"), Challenge::Basic],
        ),
        ("Negotiate, NTLM, BEARER Realm=r", vec![bearer("r", "", "")]),
        ("Bearer realm=\"a\",realm=\"b\"", vec![]),
        ("Bearer realm=\"a\\", vec![]),
        ("Bearer realm=\"a", vec![]),
        ("realm=\"a\"", vec![]),
        ("", vec![]),
        (" ,, ", vec![]),
        ("=,=", vec![]),
        ("Bearer", vec![bearer("", "", "")]),
    ];
    for (text, want) in table {
        assert_eq!(parse(text), want, "{text}");
    }
}

#[test]
fn challenges_are_bounded() {
    let mut headers = HeaderMap::new();
    for _ in 0..20 {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    }
    assert_eq!(challenges(&headers).len(), 8);
    let long = format!("Bearer realm=\"{}\"", "x".repeat(HEADER_MAX));
    headers.insert(WWW_AUTHENTICATE, long.parse().unwrap());
    assert!(challenges(&headers).is_empty());
}

#[test]
fn realms_are_https_public_or_the_registry_itself() {
    let plain = Url::parse("http://127.0.0.1:5000/").unwrap();
    let tls = Url::parse("https://reg.example:5000/").unwrap();
    let private = Url::parse("https://10.0.0.5:5050/").unwrap();
    for (realm, registry, insecure, good) in [
        ("https://auth.example/token", &tls, false, true),
        ("https://auth.example/token?x=1", &plain, false, true),
        ("https://reg.example/token", &tls, false, true),
        ("http://127.0.0.1:5000/token", &plain, false, true),
        ("http://127.0.0.1:5001/token", &plain, false, false),
        ("http://127.0.0.1:5001/token", &plain, true, true),
        ("http://127.0.0.2:5000/token", &plain, true, false),
        ("http://reg.example:5000/token", &tls, false, false),
        ("http://reg.example:5000/token", &tls, true, false),
        ("https://10.0.0.5/jwt", &private, false, true),
        ("https://10.0.0.6/jwt", &private, false, false),
        ("https://127.0.0.1/x", &tls, true, false),
        ("https://localhost/x", &tls, false, false),
        ("https://u:p@auth.example/", &tls, false, false),
        ("data:text/plain,x", &tls, false, false),
    ] {
        assert_eq!(check_realm(realm, registry, insecure).is_ok(), good, "{realm} for {registry}");
    }
}

#[test]
fn tokens_live_as_long_as_they_say_and_a_minute_if_they_do_not() {
    for (body, seconds) in [
        ("{\"token\":\"a\"}", 54),
        ("{\"access_token\":\"a\",\"expires_in\":300}", 270),
        ("{\"token\":\"\",\"access_token\":\"a\",\"expires_in\":0}", 54),
        ("{\"token\":\"a\",\"expires_in\":-1}", 54),
        ("{\"token\":\"a\",\"expires_in\":1e18}", 77_760),
    ] {
        let token = read_token(body.as_bytes()).map_err(str::to_owned).unwrap();
        let left = token.ends.duration_since(Instant::now()).as_secs_f64();
        assert!((f64::from(seconds) - left).abs() < 1.0, "{body}: {left}");
        assert!(token.header.is_sensitive());
    }
}
