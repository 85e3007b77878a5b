//! Credentials: `auth.json`, docker's `config.json`, and the `docker-credential-*` programs.
//!
//! A registry gets what is filed under its own name and nothing else: keys match the whole host, or a path
//! below it component by component (CVE-2021-41092). Secrets are never shown, not even in a parse error.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use oci::Reference;
use serde::Deserialize;

use crate::registries::read_small;
use crate::{Error, Settings};

/// How long a helper may take; one that waits for a passphrase on a terminal nobody sees must not hang a pull.
const HELPER_TIME: Duration = Duration::from_secs(30);
/// Most bytes a helper may print.
const HELPER_OUTPUT_MAX: u64 = 1 << 20;
/// In `credential-helpers`, the name that stands for the auth files.
const AUTH_FILES: &str = "containers-auth.json";

/// What a user logged in with. No `Debug`: it must not reach a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Basic {
        user: String,
        password: String,
    },
    /// An OAuth2 refresh token.
    Identity(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

/// What was found, and what went wrong on the way (for a warning).
pub(crate) struct Lookup {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) trouble: Vec<String>,
}

/// Finds the credentials for a repository. `helpers` are those of `registries.conf`; `stop` ends the wait for
/// a helper early.
pub(crate) fn find(
    settings: &Settings,
    helpers: Option<&[String]>,
    reference: &Reference,
    stop: &dyn Fn() -> bool,
) -> Result<Lookup, Error> {
    let mut lookup = Lookup { credentials: None, trouble: Vec::new() };
    let only_files = [AUTH_FILES.to_owned()];
    for helper in helpers.unwrap_or(&only_files) {
        if helper == AUTH_FILES {
            in_files(settings, reference, stop, &mut lookup)?;
        } else {
            lookup.ask(helper, reference, stop);
        }
        if lookup.credentials.is_some() {
            break;
        }
    }
    Ok(lookup)
}

fn in_files(
    settings: &Settings,
    reference: &Reference,
    stop: &dyn Fn() -> bool,
    lookup: &mut Lookup,
) -> Result<(), Error> {
    let files = settings.auth_file.as_ref().map_or(&settings.auth_files[..], std::slice::from_ref);
    for path in files {
        let Some(file) = read(path, settings.auth_file.is_some())? else { continue };
        let host = reference.registry();
        let helper = file.cred_helpers.iter().find(|(key, _)| is_host(key, host)).map(|(_, helper)| helper);
        let store = Some(&file.creds_store).filter(|s| !s.is_empty());
        if let Some(helper) = helper.or(store) {
            lookup.ask(helper, reference, stop);
        }
        if lookup.credentials.is_none() && helper.is_none() {
            lookup.credentials = entry(&file.auths, reference)
                .map(decode)
                .transpose()
                .map_err(|reason| Error::Settings { path: path.clone(), reason })?
                .flatten();
        }
        if lookup.credentials.is_some() {
            break;
        }
    }
    Ok(())
}

impl Lookup {
    fn ask(&mut self, helper: &str, reference: &Reference, stop: &dyn Fn() -> bool) {
        // `docker login` files docker.io under the address of its long gone index.
        let servers = match reference.registry() {
            "docker.io" => &["https://index.docker.io/v1/", "docker.io"][..],
            host => &[host],
        };
        for server in servers {
            match run_helper(helper, server, HELPER_TIME, stop) {
                Ok(Some(credentials)) => {
                    self.credentials = Some(credentials);
                    return;
                }
                Ok(None) => {}
                Err(reason) => {
                    self.trouble
                        .push(format!("docker-credential-{}: {reason}", crate::error::one_line(helper, 60)));
                    return;
                }
            }
        }
    }
}

fn read(path: &Path, must_exist: bool) -> Result<Option<AuthFile>, Error> {
    let fail = |reason: String| Error::Settings { path: PathBuf::from(path), reason };
    match read_small(path) {
        Ok(None) if must_exist => {
            Err(fail("there is no such file; log in first, for instance with podman login".into()))
        }
        Ok(None) => Ok(None),
        Ok(Some(text)) if text.trim().is_empty() => Ok(None),
        // serde_json's own message may quote a value, and values are secrets here.
        Ok(Some(text)) => serde_json::from_str(&text).map(Some).map_err(|e| {
            fail(format!(
                "not an auth file: a {:?} error at line {}, column {}",
                e.classify(),
                e.line(),
                e.column()
            ))
        }),
        // Another user's file is as good as none, unless it was asked for.
        Err(e) if !must_exist && e.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        Err(e) => Err(fail(e.to_string())),
    }
}

/// The entry with the longest key that the repository lies under.
fn entry<'a>(auths: &'a HashMap<String, Entry>, reference: &Reference) -> Option<&'a Entry> {
    let name = reference.name();
    let mut key = name.as_str();
    while let Some((parent, _)) = key.rsplit_once('/') {
        if let Some(entry) = auths.get(key) {
            return Some(entry);
        }
        key = parent;
    }
    // `key` is the host now. Docker also files hosts under URLs.
    auths.get(key).or_else(|| auths.iter().find(|(k, _)| is_host(k, key)).map(|(_, entry)| entry))
}

/// Whether a key of an auth file means just this host: `host`, `https://host`, `https://host/v1/`.
fn is_host(key: &str, host: &str) -> bool {
    let bare = match key.split_once("://") {
        Some(("http" | "https", rest)) => rest.split('/').next().unwrap_or_default(),
        _ => key,
    };
    let hub = |h: &str| matches!(h, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    bare == host || (hub(bare) && hub(host))
}

fn decode(entry: &Entry) -> Result<Option<Credentials>, String> {
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credentials::Identity(entry.identitytoken.clone())));
    }
    if entry.auth.is_empty() {
        let basic = Credentials::Basic { user: entry.username.clone(), password: entry.password.clone() };
        return Ok(Some(basic).filter(|_| !entry.username.is_empty()));
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(&entry.auth)
        .map_err(|_| "an auth value is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "an auth value is not UTF-8")?;
    let (user, password) = text.split_once(':').ok_or("an auth value is not USER:PASSWORD")?;
    Ok(Some(Credentials::Basic {
        user: user.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    }))
}

/// Asks `docker-credential-HELPER get`. The server's name goes in by stdin and the secret comes out by stdout;
/// neither is ever an argument. `Ok(None)`: it knows no credentials.
fn run_helper(
    helper: &str,
    server: &str,
    time: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Credentials>, String> {
    if helper.is_empty() || !helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err("the name of a credential helper is letters, digits, '.', '_' and '-'".into());
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => "not found in $PATH".into(),
            _ => e.to_string(),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that exits without reading is judged by its status.
        let _ = stdin.write_all(server.as_bytes());
    }
    let stdout = child.stdout.take().ok_or("it has no stdout")?;
    // Not joined: should the helper leave a child behind that holds its stdout, this would never end.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut out = Vec::new();
        let _ = stdout.take(HELPER_OUTPUT_MAX).read_to_end(&mut out);
        let _ = sender.send(out);
    });
    let deadline = Instant::now() + time;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if !stop() && Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            other => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(other
                    .err()
                    .map_or(format!("no answer within {} s", time.as_secs()), |e| e.to_string()));
            }
        }
    };
    let out = receiver.recv_timeout(Duration::from_secs(1)).map_err(|_| "it left its stdout open")?;
    if !status.success() {
        let text = String::from_utf8_lossy(&out);
        return match text.trim() {
            t if t.starts_with("credentials not found") => Ok(None),
            t => Err(crate::error::one_line(&format!("{status}: {t}"), 200)),
        };
    }
    parse_helper(&out).map_err(str::to_owned)
}

fn parse_helper(out: &[u8]) -> Result<Option<Credentials>, &'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Found {
        username: String,
        secret: String,
    }
    let found: Found =
        serde_json::from_slice(out).map_err(|_| "its answer is not the JSON of the protocol")?;
    Ok(match (found.username.as_str(), found.secret.as_str()) {
        ("" | "<token>", "") => None,
        ("<token>", _) => Some(Credentials::Identity(found.secret)),
        _ => Some(Credentials::Basic { user: found.username, password: found.secret }),
    })
}

#[cfg(test)]
mod tests;
