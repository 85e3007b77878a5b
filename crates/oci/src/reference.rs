//! Image references with docker's normalisation: `python` means `docker.io/library/python:latest`.
//!
//! The grammar is that of distribution/reference. Own code rather than `oci_spec::distribution::Reference`
//! because that one spends 30 ms compiling a regular expression at first use, longer than a whole container
//! takes, and knows neither IPv6 hosts nor the length of a digest.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// Longest repository name, host included (distribution/reference `NameTotalLengthMax`).
const NAME_MAX: usize = 255;
/// Longest tag.
const TAG_MAX: usize = 128;

/// A fully qualified name of an image: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {text:?}: {reason}")]
pub struct ParseReferenceError {
    /// The text as it was given, cut to 300 characters.
    pub text: String,
    /// What is wrong, and where it is plain what was meant, the cure.
    pub reason: String,
}

impl Reference {
    /// Registry host with its port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Repository path in that registry: `library/python`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only where a digest alone was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest the image is pinned to.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, the part a `registries.conf` prefix is matched against.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn version(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// The name as docker's users type it: `python:3.8.5-alpine`, without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseReferenceError { text: text.chars().take(300).collect(), reason })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty; wants NAME[:TAG][@DIGEST]".into());
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("an image name has no {scheme}:// in front"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    if digest.is_none() && rest.len() == 64 && rest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("64 hex digits are an image ID, not a name".into());
    }
    let (registry, path) = split_registry(rest);
    let (path, tag) = match path.split_once(':') {
        Some((path, tag)) => (path, Some(check_tag(tag)?)),
        None => (path, None),
    };
    check_registry(&registry)?;
    if path.is_empty() {
        return Err("there is no repository name in it".into());
    }
    for component in path.split('/') {
        check_component(component)?;
    }
    let repository = match (registry.as_str(), path.contains('/')) {
        ("docker.io", false) => format!("library/{path}"),
        _ => path.to_owned(),
    };
    if registry.len() + 1 + repository.len() > NAME_MAX {
        return Err(format!("the name is longer than {NAME_MAX} characters"));
    }
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag,
    };
    Ok(Reference { registry, repository, tag, digest })
}

/// The part before the first slash is a host if it looks like one: a dot, a colon, brackets, an upper-case
/// letter, or `localhost` (distribution/reference `splitDockerDomain`).
fn split_registry(rest: &str) -> (String, &str) {
    if let Some((host, path)) = rest.split_once('/') {
        let looks_like_host = host.contains(['.', ':', '['])
            || host == "localhost"
            || host.bytes().any(|b| b.is_ascii_uppercase());
        if looks_like_host {
            let host =
                if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
            return (host.to_owned(), path);
        }
    }
    ("docker.io".to_owned(), rest)
}

fn check_registry(registry: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("registry {registry:?} {why}"));
    let (host, port) = match registry.strip_prefix('[') {
        Some(v6) => {
            let Some((address, after)) = v6.split_once(']') else {
                return bad("has no closing bracket");
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return bad("is not an IPv6 address");
            }
            match after {
                "" => return Ok(()),
                _ => ("", after.strip_prefix(':').or(Some(""))),
            }
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    if let Some(port) = port
        && port.parse::<u16>().map_or(true, |n| n == 0 || port.starts_with(['+', '0']))
    {
        return bad("has no port number from 1 to 65535 after its colon");
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if !registry.starts_with('[') && !host.split('.').all(label) {
        return bad("is not a host name");
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<String, String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if tag.is_empty() || tag.len() > TAG_MAX || tag.starts_with(['.', '-']) || !tag.bytes().all(ok) {
        return Err(format!("tag {tag:?} is not 1 to {TAG_MAX} letters, digits, '_', '.' or '-'"));
    }
    Ok(tag.to_owned())
}

/// `[a-z0-9]+(separator [a-z0-9]+)*` with separators `.`, `_`, `__` and any number of `-`.
fn check_component(component: &str) -> Result<(), String> {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if component.bytes().any(|b| b.is_ascii_uppercase()) {
        let cure = component.to_ascii_lowercase();
        return Err(format!("repository names are lower case; did you mean {cure:?}?"));
    }
    let separators_ok = component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
    let ends_ok = component.bytes().next().is_some_and(alnum) && component.bytes().last().is_some_and(alnum);
    if !separators_ok || !ends_ok {
        return Err(format!("{component:?} is not a component of a repository name"));
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn normalises_as_docker_does() {
        let pinned = format!("docker.io/library/a:t@{D}");
        let bare_pin = format!("docker.io/library/a@{D}");
        let table = [
            ("python:3.8.5-alpine", "docker.io/library/python:3.8.5-alpine"),
            ("python", "docker.io/library/python:latest"),
            ("a/b", "docker.io/a/b:latest"),
            ("index.docker.io/a", "docker.io/library/a:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("h:5000/x/y:t", "h:5000/x/y:t"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("[::1]/x", "[::1]/x:latest"),
            ("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest"),
            (&format!("a:t@{D}"), &pinned),
            (&format!("a@{D}"), &bare_pin),
        ];
        for (input, want) in table {
            assert_eq!(input.parse::<Reference>().unwrap().to_string(), want, "{input}");
        }
        assert_eq!("python".parse::<Reference>().unwrap().familiar(), "python:latest");
        assert_eq!("a/b".parse::<Reference>().unwrap().familiar(), "a/b:latest");
    }

    #[test]
    fn refuses_what_could_bend_a_url_or_a_path() {
        let long = "a".repeat(300);
        let id = "a".repeat(64);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            "a/./b",
            "a%2e",
            "a?b",
            "a#b",
            "user:pw@host/x",
            "Python",
            "a:",
            "a:-x",
            "a:b:c",
            "h:0/x",
            "h:99999/x",
            "h:+80/x",
            "h:/x",
            "-h.x/y",
            "[::1/x",
            "[zz]/x",
            "[::1]x/y",
            "ex ample/x",
            "a@sha256:12",
            "a@",
            "https://x/y",
            "hé.x/y",
            ".a",
            "a.",
            "a..b",
            "a___b",
            &long,
            &id,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        let hint = "Python".parse::<Reference>().unwrap_err().to_string();
        assert!(hint.contains("did you mean \"python\""), "{hint}");
    }
}
