//! A CDI specification as it is written (SPEC.md of github.com/cncf-tags/container-device-interface, versions 0.3.0 to 1.1.0).

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Versions that there are.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// One file: devices of a kind, and what all of them bring along. Fields that are not known make it invalid, as SPEC.md wants.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document {
    cdi_version: String,
    /// `VENDOR/CLASS`.
    pub(super) kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, Value>,
    pub(super) devices: Vec<Named>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Named {
    #[serde(deserialize_with = "word")]
    pub(super) name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, Value>,
    pub(super) container_edits: Edits,
}

/// What changes in a container's spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) hooks: Vec<Hook>,
    pub(super) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<IntelRdt>,
    pub(super) additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) path: PathBuf,
    /// Where the host has it, if elsewhere.
    #[serde(default)]
    pub(super) host_path: Option<PathBuf>,
    /// `b`, `c`, `u` or `p`; the host's if there is none.
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) major: i64,
    #[serde(default)]
    pub(super) minor: i64,
    #[serde(default)]
    pub(super) file_mode: Option<u32>,
    /// Of `r`, `w` and `m`, or `none`; all if there are none.
    #[serde(default)]
    pub(super) permissions: Option<String>,
    #[serde(default)]
    pub(super) uid: Option<u32>,
    #[serde(default)]
    pub(super) gid: Option<u32>,
}

/// A network device of the host that moves into the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

/// A program that is run at some point of the container's life.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    #[serde(default)]
    pub(super) timeout: Option<i64>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
}

/// Shares of caches and memory bandwidth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(super) clos_id: Option<String>,
    #[serde(rename = "l3CacheSchema")]
    pub(super) l3_cache_schema: Option<String>,
    #[serde(rename = "memBwSchema")]
    pub(super) mem_bw_schema: Option<String>,
    pub(super) schemata: Option<Vec<String>>,
    #[serde(rename = "enableMonitoring")]
    pub(super) enable_monitoring: Option<bool>,
    /// Dropped in 1.1.0.
    #[serde(rename = "enableCMT")]
    pub(super) enable_cmt: Option<bool>,
    #[serde(rename = "enableMBM")]
    pub(super) enable_mbm: Option<bool>,
}

/// A name that YAML takes for a number is meant as a name.
fn word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!("wants a name, has {other}"))),
    }
}

/// A field that is null is not there, for Go.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        Value::Object(map) => {
            let there = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        other => other,
    }
}

impl Document {
    /// Reads and checks it.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn new(value: Value) -> Result<Document, String> {
        let document: Document = serde_json::from_value(without_nulls(value)).map_err(|e| e.to_string())?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        let version = self.cdi_version.strip_prefix('v').unwrap_or(&self.cdi_version);
        if !VERSIONS.contains(&version) {
            return Err(format!("cdiVersion {version:?} is not known; wants 0.3.0 to 1.1.0"));
        }
        check_kind(&self.kind).map_err(|why| format!("kind {:?}: {why}", self.kind))?;
        if self.devices.is_empty() {
            return Err("it has no devices".to_owned());
        }
        self.container_edits.check().map_err(|why| format!("containerEdits: {why}"))?;
        let mut names = HashSet::new();
        for device in &self.devices {
            let name = &device.name;
            let bad = |why: &str| Err(format!("device {name:?}: {why}"));
            if !is_device(name) {
                return bad("its name wants letters, digits, _ - . and :, a letter or digit first and last");
            }
            if !names.insert(name) {
                return bad("it is there twice");
            }
            if device.container_edits == Edits::default() {
                return bad("its containerEdits are empty");
            }
            device.container_edits.check().or_else(|why| bad(&why))?;
        }
        Ok(())
    }
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        let env = self.env.iter().chain(self.hooks.iter().flat_map(|hook| &hook.env));
        for entry in env {
            if entry.find('=').is_none_or(|at| at == 0) || entry.contains('\0') {
                return Err(format!("env {entry:?}: wants KEY=VALUE"));
            }
        }
        for node in &self.device_nodes {
            let path = &node.path;
            if !path.is_absolute() {
                return Err(format!("deviceNodes: path {path:?} wants to be absolute"));
            }
            if let Some(kind) = node.kind.as_deref().filter(|kind| !["", "b", "c", "u", "p"].contains(kind)) {
                return Err(format!("deviceNodes: {path:?}: type {kind:?} wants b, c, u or p"));
            }
            let access = node.permissions.as_deref().unwrap_or_default();
            if access != "none" && !access.chars().all(|c| "rwm".contains(c)) {
                return Err(format!(
                    "deviceNodes: {path:?}: permissions {access:?} want some of r, w and m, or none"
                ));
            }
        }
        for hook in &self.hooks {
            let (name, path) = (&hook.hook_name, &hook.path);
            if !super::HOOKS.contains(&name.as_str()) {
                return Err(format!("hooks: hookName {name:?} wants one of {}", super::HOOKS.join(", ")));
            }
            if !path.is_absolute() {
                return Err(format!("hooks: {name}: path {path:?} wants to be absolute"));
            }
        }
        for mount in &self.mounts {
            if mount.host_path.as_os_str().is_empty() || !mount.container_path.is_absolute() {
                let (from, to) = (&mount.host_path, &mount.container_path);
                return Err(format!("mounts: {from:?} at {to:?}: wants two paths, the second absolute"));
            }
        }
        let closid = self.intel_rdt.as_ref().and_then(|rdt| rdt.clos_id.as_deref()).unwrap_or_default();
        if closid != "/"
            && ([".", ".."].contains(&closid) || closid.contains(['/', '\n']) || closid.len() > 4095)
        {
            return Err(format!("intelRdt: closID {closid:?} wants the name of a directory"));
        }
        match self
            .net_devices
            .iter()
            .find(|device| device.name.is_empty() || device.host_interface_name.is_empty())
        {
            Some(_) => Err("netDevices: each wants hostInterfaceName and name".to_owned()),
            None => Ok(()),
        }
    }
}

/// `VENDOR/CLASS`.
fn check_kind(kind: &str) -> Result<(), &'static str> {
    let is_word = |word: &str| {
        let mut bytes = word.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            && word.ends_with(|last: char| last.is_ascii_alphanumeric())
    };
    let both = kind.split_once('/').is_some_and(|(vendor, class)| is_word(vendor) && is_word(class));
    both.then_some(()).ok_or(
        "wants VENDOR/CLASS of letters, digits, _ - and ., a letter first, for instance nvidia.com/gpu",
    )
}

fn is_device(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(edge)
        && name.ends_with(edge)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
}

/// Whether a text is the name of a device, `VENDOR/CLASS=NAME`.
///
/// # Errors
/// It looks like one and is none: why.
pub fn is_qualified(text: &str) -> Result<bool, String> {
    let Some((kind, name)) = text.split_once('=').filter(|_| !text.starts_with('/')) else {
        return Ok(false);
    };
    check_kind(kind)?;
    is_device(name).then_some(true).ok_or_else(|| {
        format!("the name {name:?} of the device wants letters, digits, _ - . and :, a letter or digit first and last")
    })
}
