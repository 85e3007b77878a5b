//! `registries.conf` (version 2) and its drop-in files: which places an image may be fetched from.
//!
//! Short names and `unqualified-search-registries` are not used: a name without a registry means docker.io, as
//! docker has it, so that one name never means two images.

use std::path::{Path, PathBuf};

use oci::Reference;
use serde::Deserialize;

use crate::Error;
use crate::error::one_line;

/// Largest settings file that is read.
const FILE_MAX: u64 = 4 << 20;

/// The merged settings.
#[derive(Debug, Default)]
pub(crate) struct Registries {
    tables: Vec<Table>,
    /// Credential helpers for all registries; `containers-auth.json` stands for the auth files.
    pub(crate) helpers: Option<Vec<String>>,
}

/// A place to try for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Registry and repository as this place names them, with the tag and digest that were asked for.
    pub(crate) reference: Reference,
    /// `None`: nobody has said.
    pub(crate) insecure: Option<bool>,
    pub(crate) mirror: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    registry: Vec<Table>,
    credential_helpers: Option<Vec<String>>,
    /// Version 1's table.
    registries: Option<toml::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    insecure: Option<bool>,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    #[serde(default)]
    location: String,
    insecure: Option<bool>,
    #[serde(default)]
    pull_from_mirror: String,
}

impl Registries {
    /// Reads and merges `files`, later ones overriding tables of the same prefix. Missing files are skipped.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, Error> {
        let mut merged = Self::default();
        for path in files {
            let fail = |reason: String| Error::Settings { path: path.clone(), reason };
            let Some(text) = read_small(path).map_err(|e| fail(e.to_string()))? else { continue };
            merged.add(&text).map_err(fail)?;
        }
        Ok(merged)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let file: File = toml::from_str(text).map_err(|e| one_line(&e.to_string(), 300))?;
        if file.registries.is_some() {
            return Err(
                "this is version 1 of the format; write [[registry]] tables (containers-registries.conf(5))"
                    .into(),
            );
        }
        if file.credential_helpers.is_some() {
            self.helpers = file.credential_helpers;
        }
        for mut table in file.registry {
            check(&mut table)?;
            self.tables.retain(|t| t.prefix != table.prefix);
            self.tables.push(table);
        }
        Ok(())
    }

    /// The places to try for `reference`, in order; the last one is the image's own.
    pub(crate) fn places(&self, reference: &Reference) -> Result<Vec<Place>, Error> {
        let own = |insecure| Place { reference: reference.clone(), insecure, mirror: false };
        let name = reference.to_string();
        let best = self.tables.iter().filter_map(|t| Some((matched(&t.prefix, &name)?, t)));
        let Some((length, table)) = best.max_by_key(|(length, _)| *length) else {
            return Ok(vec![own(None)]);
        };
        if table.blocked {
            return Err(Error::Blocked { name, prefix: table.prefix.clone() });
        }
        let rewrite = |location: &str, insecure, mirror| {
            if location.is_empty() {
                return Ok(Place { mirror, ..own(insecure) });
            }
            let text = format!("{location}{}", &name[length..]);
            let reference = text.parse().map_err(|e| Error::Settings {
                path: "registries.conf".into(),
                reason: format!("location {location:?} of prefix {:?}: {e}", table.prefix),
            })?;
            Ok(Place { reference, insecure, mirror })
        };
        let mut places = Vec::new();
        for mirror in &table.mirror {
            let wanted = match mirror.pull_from_mirror.as_str() {
                _ if table.mirror_by_digest_only => reference.digest().is_some(),
                "digest-only" => reference.digest().is_some(),
                "tag-only" => reference.digest().is_none(),
                _ => true,
            };
            if wanted {
                places.push(rewrite(&mirror.location, mirror.insecure, true)?);
            }
        }
        places.push(rewrite(&table.location, table.insecure, false)?);
        Ok(places)
    }
}

/// Fills in what a table leaves out; fails with the reason.
fn check(table: &mut Table) -> Result<(), String> {
    for text in [&mut table.prefix, &mut table.location] {
        *text = text.trim_end_matches('/').to_owned();
    }
    if table.prefix.is_empty() {
        table.prefix.clone_from(&table.location);
    }
    let prefix = &table.prefix;
    if prefix.is_empty() {
        return Err("a [[registry]] table has neither prefix nor location".into());
    }
    if prefix.contains("://") || table.location.contains("://") {
        return Err(format!(
            "[[registry]] {prefix:?}: a prefix or location is a host with a path, not a URL"
        ));
    }
    if let Some(host) = prefix.strip_prefix("*.") {
        if host.contains(['/', ':', '*', '@']) {
            return Err(format!("[[registry]] {prefix:?}: after *. there is just a host name"));
        }
    } else if prefix.contains('*') {
        return Err(format!("[[registry]] {prefix:?}: a wildcard is only allowed as a leading *."));
    }
    for mirror in &mut table.mirror {
        mirror.location = mirror.location.trim_end_matches('/').to_owned();
        if mirror.location.is_empty() || mirror.location.contains("://") {
            return Err(format!("[[registry]] {prefix:?}: a mirror needs a location, HOST[:PORT][/PATH]"));
        }
        match mirror.pull_from_mirror.as_str() {
            "" => {}
            "all" | "digest-only" | "tag-only" if !table.mirror_by_digest_only => {}
            "all" | "digest-only" | "tag-only" => {
                return Err(format!(
                    "[[registry]] {prefix:?}: has both mirror-by-digest-only and pull-from-mirror"
                ));
            }
            other => return Err(format!("[[registry]] {prefix:?}: unknown pull-from-mirror {other:?}")),
        }
    }
    Ok(())
}

/// How many bytes of `name` the prefix covers: all before the separator, or for `*.` the host.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = &name[..name.find(['/', ':', '@']).unwrap_or(name.len())];
        return host.ends_with(domain).then_some(host.len());
    }
    let rest = name.strip_prefix(prefix)?;
    // `example.com` is not a prefix of `example.com:5000/x`: that is another server.
    let end = if prefix.contains('/') { &['/', ':', '@'][..] } else { &['/'][..] };
    (rest.is_empty() || rest.starts_with(end)).then_some(prefix.len())
}

/// The text of a settings file; `None` where there is none.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Option<String>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::other(format!("larger than {FILE_MAX} bytes")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn places(conf: &str, name: &str) -> Vec<String> {
        let mut registries = Registries::default();
        registries.add(conf).unwrap();
        let places = registries.places(&name.parse().unwrap()).unwrap();
        places
            .iter()
            .map(|p| format!("{}{}", p.reference, if p.insecure == Some(true) { " insecure" } else { "" }))
            .collect()
    }

    #[test]
    fn no_table_means_the_name_itself() {
        assert_eq!(places("unqualified-search-registries = ['x.io']", "a"), ["docker.io/library/a:latest"]);
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_wins() {
        let conf = r#"
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "localhost:5000"
            insecure = true
            [[registry.mirror]]
            location = "mirror.io/hub"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "docker.io/special"
            location = "other.io/s"
            [[registry]]
            prefix = "*.corp"
            insecure = true
        "#;
        assert_eq!(
            places(conf, "python:3"),
            ["localhost:5000/library/python:3 insecure", "docker.io/library/python:3"]
        );
        assert_eq!(
            places(conf, &format!("python@{D}")),
            [
                format!("localhost:5000/library/python@{D} insecure"),
                format!("mirror.io/hub/library/python@{D}"),
                format!("docker.io/library/python@{D}")
            ]
        );
        assert_eq!(places(conf, "special/x"), ["other.io/s/x:latest"]);
        assert_eq!(places(conf, "specialx/x").len(), 2);
        assert_eq!(places(conf, "a.b.corp/x"), ["a.b.corp/x:latest insecure"]);
        assert_eq!(places(conf, "notcorp.io/x"), ["notcorp.io/x:latest"]);
    }

    #[test]
    fn a_host_is_not_a_prefix_of_the_same_host_with_a_port() {
        let conf = "[[registry]]\nlocation = 'example.com'\ninsecure = true";
        assert_eq!(places(conf, "example.com:5000/x"), ["example.com:5000/x:latest"]);
        assert_eq!(places(conf, "example.com.evil/x"), ["example.com.evil/x:latest"]);
        assert_eq!(places(conf, "example.com/x"), ["example.com/x:latest insecure"]);
        let conf = "[[registry]]\nprefix = 'h.io/a'\nlocation = 'g.io/b'";
        assert_eq!(places(conf, "h.io/a:t"), ["g.io/b:t"]);
    }

    #[test]
    fn drop_ins_override_by_prefix() {
        let mut registries = Registries::default();
        registries.add("[[registry]]\nlocation='a.io'\nblocked=true\n[[registry]]\nlocation='b.io'").unwrap();
        let name: Reference = "a.io/x".parse().unwrap();
        assert!(matches!(registries.places(&name), Err(Error::Blocked { .. })));
        registries.add("[[registry]]\nprefix='a.io'\nlocation='c.io'").unwrap();
        assert_eq!(registries.places(&name).unwrap()[0].reference.to_string(), "c.io/x:latest");
    }

    #[test]
    fn refuses_what_containers_image_refuses() {
        for bad in [
            "[[registry]]",
            "[[registry]]\nprefix='*.a.io/x'",
            "[[registry]]\nprefix='a.*.io'",
            "[[registry]]\nlocation='https://a.io'",
            "[[registry]]\nlocation='a.io'\n[[registry.mirror]]\ninsecure=true",
            "[[registry]]\nlocation='a.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='b.io'\npull-from-mirror='all'",
            "[[registry]]\nlocation='a.io'\n[[registry.mirror]]\nlocation='b.io'\npull-from-mirror='some'",
            "[registries.search]\nregistries=['a']",
            "[[registry]\n",
            "[[registry]]\nlocation='a.io'\ninsecure='yes'",
        ] {
            assert!(Registries::default().add(bad).is_err(), "{bad}");
        }
    }
}
