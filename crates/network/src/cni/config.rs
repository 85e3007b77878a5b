//! Lists of plugins: `NAME.conflist`, or `NAME.conf` with one plugin.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// Where lists and plugins are.
#[derive(Debug, Clone)]
pub struct Place {
    /// Directory of the lists.
    pub lists: PathBuf,
    /// Directories of the plugins.
    pub plugins: Vec<PathBuf>,
}

impl Place {
    /// The usual ones, unless the variables of CNI's own tool, `NETCONFPATH` and `CNI_PATH`, name others.
    pub fn usual(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let given = |name| var(name).filter(|value| !value.is_empty());
        let plugins = given("CNI_PATH").map(|path| std::env::split_paths(&path).collect());
        Self {
            lists: given("NETCONFPATH").map_or_else(|| "/etc/cni/net.d".into(), PathBuf::from),
            plugins: plugins.unwrap_or_else(|| vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()]),
        }
    }
}

/// A list of plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) name: String,
    version: String,
    pub(super) plugins: Vec<Map<String, Value>>,
}

/// The versions of the specification whose results look alike.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

impl Config {
    /// The list of this name. Of several files with one name the first in the order of their own names counts.
    pub(super) fn find(dir: &Path, name: &str) -> Result<Self, Error> {
        let files = match files(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            files => files.map_err(Error::io(format!("list {dir:?}")))?,
        };
        let (mut others, mut broken) = (Vec::new(), None);
        for file in files {
            match read(&file) {
                Ok(list) => match list.get("name").and_then(Value::as_str) {
                    Some(found) if found == name => {
                        return Self::of(list, name)
                            .map_err(|why| Error::Invalid(format!("network cni:{name}: {file:?}: {why}")));
                    }
                    Some(other) => others.push(other.to_owned()),
                    None => broken = broken.or(Some(format!("{file:?} has no name"))),
                },
                Err(why) => broken = broken.or(Some(format!("{file:?}: {why}"))),
            }
        }
        let there = match (others.as_slice(), broken) {
            (_, Some(broken)) => broken,
            ([], None) => "there are none; write a list of CNI plugins there".to_owned(),
            (others, None) => format!("there are {}", others.join(", ")),
        };
        let name: String = name.chars().take(100).collect();
        Err(Error::Invalid(format!("no network cni:{name} in {dir:?}: {there}")))
    }

    fn of(mut list: Map<String, Value>, name: &str) -> Result<Self, String> {
        let version = list.get("cniVersion").and_then(Value::as_str).unwrap_or("none").to_owned();
        if !VERSIONS.contains(&version.as_str()) {
            return Err(format!("cniVersion is {version:?}, wants one of {}", VERSIONS.join(", ")));
        }
        let plugins = match list.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err("plugins is no list".to_owned()),
            None => vec![Value::Object(list)],
        };
        let object = |plugin: Value| match plugin {
            Value::Object(plugin) if plugin.get("type").is_some_and(is_type) => Ok(plugin),
            Value::Object(_) => Err("a plugin has no type that could be a program's name".to_owned()),
            _ => Err("a plugin is no object".to_owned()),
        };
        let plugins: Vec<_> = plugins.into_iter().map(object).collect::<Result<_, _>>()?;
        if plugins.is_empty() {
            return Err("it has no plugins".to_owned());
        }
        Ok(Self { name: name.to_owned(), version, plugins })
    }

    pub(super) fn has_capability(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| has(plugin, capability))
    }

    /// What a plugin reads on its standard input.
    pub(super) fn request(
        &self,
        plugin: &Map<String, Value>,
        runtime: &Map<String, Value>,
        before: Option<&Value>,
    ) -> Map<String, Value> {
        let mut request = plugin.clone();
        let told: Map<String, Value> = runtime
            .iter()
            .filter(|(capability, _)| has(plugin, capability))
            .map(|(capability, value)| (capability.clone(), value.clone()))
            .collect();
        request.remove("capabilities");
        request.insert("cniVersion".to_owned(), self.version.as_str().into());
        request.insert("name".to_owned(), self.name.as_str().into());
        if !told.is_empty() {
            request.insert("runtimeConfig".to_owned(), Value::Object(told));
        }
        if let Some(before) = before {
            request.insert("prevResult".to_owned(), before.clone());
        }
        request
    }
}

/// Not a path: the plugin is one of the directories that are for them.
fn is_type(kind: &Value) -> bool {
    kind.as_str().is_some_and(|kind| !matches!(kind, "" | "." | "..") && !kind.contains(['/', '\0']))
}

fn has(plugin: &Map<String, Value>, capability: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(capability)).and_then(Value::as_bool).unwrap_or(false)
}

fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if matches!(path.extension().and_then(|e| e.to_str()), Some("conflist" | "conf" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Map<String, Value>, String> {
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| format!("it is no JSON object: {e}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(files: &[(&str, &str)], name: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        Config::find(dir.path(), name).map_err(|e| e.to_string())
    }

    #[test]
    fn lists_and_single_plugins() {
        let list = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
        let single = r#"{"cniVersion":"0.4.0","name":"one","type":"macvlan","capabilities":{"ips":true}}"#;
        let files = [("20-net.conflist", list), ("10-one.conf", single), ("README", "no list")];
        let net = find(&files, "net").unwrap();
        assert!(net.plugins.len() == 2 && net.has_capability("portMappings") && !net.has_capability("ips"));
        let one = find(&files, "one").unwrap();
        let runtime = json!({ "ips": ["10.0.0.5"], "portMappings": [] });
        let request = one.request(&one.plugins[0], runtime.as_object().unwrap(), Some(&json!({ "a": 1 })));
        assert_eq!(
            Value::Object(request),
            json!({
                "cniVersion": "0.4.0", "name": "one", "type": "macvlan",
                "runtimeConfig": { "ips": ["10.0.0.5"] }, "prevResult": { "a": 1 },
            })
        );
        let plain = net.request(&net.plugins[0], runtime.as_object().unwrap(), None);
        assert!(!plain.contains_key("runtimeConfig") && !plain.contains_key("prevResult"));
        // The first file counts.
        let second = list.replace("bridge", "ptp");
        let both = find(&[("b.conflist", list), ("a.conflist", second.as_str())], "net").unwrap();
        assert_eq!(both.plugins[0]["type"], "ptp");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |rest: &str| format!(r#"{{"cniVersion":"1.0.0","name":"net",{rest}}}"#);
        for (text, words) in [
            ("{", &["\"", "a.conflist", "no JSON object"][..]),
            (r#"{"cniVersion":"1.0.0","plugins":[]}"#, &["a.conflist", "no name"]),
            (r#"{"name":"other","plugins":[]}"#, &["no network cni:net", "there are other"]),
            (r#"{"name":"net","type":"bridge"}"#, &["cniVersion is \"none\"", "1.0.0"]),
            (r#"{"cniVersion":"0.2.0","name":"net","type":"bridge"}"#, &["0.2.0", "0.3.0"]),
            (&with(r#""plugins":[]"#), &["no plugins"]),
            (&with(r#""plugins":{}"#), &["no list"]),
            (&with(r#""plugins":[1]"#), &["no object"]),
            (&with(r#""plugins":[{"type":"../sh"}]"#), &["type"]),
            (&with(r#""plugins":[{}]"#), &["type"]),
        ] {
            let said = find(&[("a.conflist", text)], "net").unwrap_err();
            assert!(words.iter().all(|word| said.contains(word)), "{text}: {said}");
        }
        assert!(find(&[], "net").unwrap_err().contains("there are none"));
        let missing = Config::find(Path::new("/no/such"), "net").unwrap_err().to_string();
        assert!(missing.contains("/no/such") && missing.contains("there are none"), "{missing}");
    }

    #[test]
    fn places_are_cnis() {
        let usual = Place::usual(|_| None);
        assert_eq!(usual.lists, Path::new("/etc/cni/net.d"));
        assert_eq!(usual.plugins, [Path::new("/opt/cni/bin"), Path::new("/usr/lib/cni")]);
        let given = Place::usual(|name| (name == "CNI_PATH").then(|| "/a:/b".into()));
        assert_eq!(given.plugins, [Path::new("/a"), Path::new("/b")]);
    }
}
