use super::*;

fn settings(dir: &Path, files: &[&str]) -> Settings {
    let mut auth_files = Vec::new();
    for (n, text) in files.iter().enumerate() {
        let path = dir.join(n.to_string());
        std::fs::write(&path, text).unwrap();
        auth_files.push(path);
    }
    Settings { auth_files, ..Settings::default() }
}

/// The password found for a name, in files of `{"auths": {key: {"auth": base64("u:PASSWORD")}}}`.
fn found(files: &[&[(&str, &str)]], name: &str) -> Option<String> {
    let texts: Vec<String> = files
        .iter()
        .map(|entries| {
            let auth = |p: &str| base64::engine::general_purpose::STANDARD.encode(format!("u:{p}"));
            let auths: serde_json::Map<_, _> = entries
                .iter()
                .map(|(k, p)| ((*k).to_owned(), serde_json::json!({"auth": auth(p)})))
                .collect();
            serde_json::json!({"auths": auths}).to_string()
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &texts.iter().map(String::as_str).collect::<Vec<_>>());
    match find(&settings, None, &name.parse().unwrap(), &|| false).unwrap().credentials {
        Some(Credentials::Basic { password, .. }) => Some(password),
        _ => None,
    }
}

#[test]
fn the_longest_path_below_the_very_host_wins() {
    let file: &[(&str, &str)] =
        &[("r.io", "host"), ("r.io/a", "a"), ("r.io/a/b", "ab"), ("other.io", "other")];
    for (name, want) in [
        ("r.io/a/b/c", Some("ab")),
        ("r.io/a/b", Some("ab")),
        ("r.io/a/bb", Some("a")),
        ("r.io/ab", Some("host")),
        ("r.io/x", Some("host")),
        ("r.io:5000/x", None),
        ("r.io.evil/x", None),
        ("evil-r.io/x", None),
        ("x.r.io/x", None),
    ] {
        assert_eq!(found(&[file], name).as_deref(), want, "{name}");
    }
    // An entry for a path is not one for its host.
    assert_eq!(found(&[&[("r.io/a", "a")]], "r.io/b"), None);
}

#[test]
fn docker_files_hosts_under_urls() {
    for key in ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://registry-1.docker.io"]
    {
        assert_eq!(found(&[&[(key, "hub")]], "python").as_deref(), Some("hub"), "{key}");
    }
    assert_eq!(found(&[&[("https://r.io/v2/", "p")]], "r.io/x").as_deref(), Some("p"));
    assert_eq!(found(&[&[("https://r.io.evil/r.io", "p")]], "r.io/x"), None);
    assert_eq!(found(&[&[("https://docker.io.evil/v1/", "p")]], "python"), None);
}

#[test]
fn the_first_file_with_an_entry_wins() {
    assert_eq!(
        found(&[&[("a.io", "1")], &[("r.io", "2")], &[("r.io", "3")]], "r.io/x").as_deref(),
        Some("2")
    );
}

#[test]
fn entries_of_every_form_are_read() {
    let form = |json: &str| {
        let entry: Entry = serde_json::from_str(json).unwrap();
        decode(&entry)
    };
    let basic =
        |user: &str, password: &str| Credentials::Basic { user: user.into(), password: password.into() };
    assert!(form("{\"auth\":\"dTpwOnE=\"}").unwrap() == Some(basic("u", "p:q")));
    assert!(form("{\"username\":\"u\",\"password\":\"p\"}").unwrap() == Some(basic("u", "p")));
    assert!(
        form("{\"auth\":\"dTpw\",\"identitytoken\":\"t\"}").unwrap()
            == Some(Credentials::Identity("t".into()))
    );
    assert!(form("{}").unwrap().is_none());
    for bad in ["{\"auth\":\"***\"}", "{\"auth\":\"dTA=\"}", "{\"auth\":\"//8=\"}"] {
        assert!(form(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_broken_file_is_named_and_never_quoted() {
    let dir = tempfile::tempdir().unwrap();
    for text in
        ["{\"auths\":{\"r.io\":\"s3cret\"}}", "s3cret", "{\"auths\":{\"r.io\":{\"auth\":[\"s3cret\"]}}}"]
    {
        let settings = settings(dir.path(), &[text]);
        let error = find(&settings, None, &"r.io/x".parse().unwrap(), &|| false).err().unwrap().to_string();
        assert!(error.contains("line 1") && !error.contains("s3cret"), "{error}");
    }
    // One that was asked for must be there.
    let settings = Settings { auth_file: Some(dir.path().join("none")), ..Settings::default() };
    assert!(find(&settings, None, &"r.io/x".parse().unwrap(), &|| false).is_err());
    let settings = Settings { auth_files: vec![dir.path().join("none")], ..Settings::default() };
    assert!(find(&settings, None, &"r.io/x".parse().unwrap(), &|| false).unwrap().credentials.is_none());
}

#[test]
fn a_helpers_answer_is_basic_or_an_identity() {
    let identity = parse_helper(b"{\"ServerURL\":\"x\",\"Username\":\"<token>\",\"Secret\":\"t\"}").unwrap();
    assert!(identity == Some(Credentials::Identity("t".into())));
    assert!(parse_helper(b"{\"Username\":\"\",\"Secret\":\"\"}").unwrap().is_none());
    for bad in ["", "null", "{\"Username\":\"s3cret\"}", "{\"Username\":1,\"Secret\":2}"] {
        assert!(!parse_helper(bad.as_bytes()).err().unwrap().contains("s3cret"));
    }
}
