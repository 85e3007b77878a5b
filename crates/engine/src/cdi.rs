//! Devices by name (Container Device Interface; SPEC.md of github.com/cncf-tags/container-device-interface): what files of
//! vendors say that a container needs for `--device VENDOR/CLASS=NAME` and `--gpus`.
//!
//! The files are read anew at each start, as docker and podman do, because devices come and go.

mod document;
mod yaml;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use oci::runtime::{
    Hook, Hooks, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIntelRdt, LinuxNetDevice,
    Mount, Spec,
};
use serde::{Deserialize, Serialize};

pub(crate) use document::Edits;
pub use document::is_qualified;

use crate::{Error, process};
use document::{Document, Node};

/// Where files are looked for; what a later directory says of a device goes before. docker's and podman's.
const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Longest file that is read; nvidia-ctk's have some 20 KiB.
const LONGEST: u64 = 1 << 20;
/// How many devices an error names.
const NAMED: usize = 20;
/// Kinds of hooks (config.md, "POSIX-platform Hooks").
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// What the devices of `--gpus` are called.
const GPU: &str = "nvidia.com/gpu";

/// Devices that are asked for by name, as docker's API has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// `cdi`: `ids` are whole names; `nvidia` or empty: those of GPUs.
    pub driver: String,
    /// How many GPUs, the first ones; -1 for all.
    pub count: i64,
    /// Which devices.
    pub ids: Vec<String>,
    /// What they must be able to do; the files of vendors know no such thing.
    pub capabilities: Vec<String>,
}

impl DeviceRequest {
    /// The names of the devices.
    fn names(&self) -> Vec<String> {
        let gpu = |id: &dyn std::fmt::Display| format!("{GPU}={id}");
        match (self.driver.as_str(), self.count) {
            ("cdi", _) => self.ids.clone(),
            (_, -1) => vec![gpu(&"all")],
            (_, 0) => self
                .ids
                .iter()
                .map(|id| if is_qualified(id) == Ok(true) { id.clone() } else { gpu(id) })
                .collect(),
            (_, count) => (0..count).map(|number| gpu(&number)).collect(),
        }
    }
}

/// What the devices asked for change in a container's spec, in this order; files in `dirs`, or in the usual directories if
/// there are none.
///
/// # Errors
/// There is no such device: which directories were read, and what is there.
pub(crate) fn resolve(requests: &[DeviceRequest], dirs: &[PathBuf]) -> Result<Vec<Edits>, Error> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let usual = || DIRS.iter().map(PathBuf::from).collect();
    let registry = Registry::read(if dirs.is_empty() { usual() } else { dirs.to_vec() });
    let names: Vec<String> = requests.iter().flat_map(DeviceRequest::names).collect();
    let mut edits = registry.edits(&names).map_err(Error::Invalid)?;
    for node in edits.iter_mut().flat_map(|edits| &mut edits.device_nodes) {
        node.complete().map_err(Error::Invalid)?;
    }
    Ok(edits)
}

/// Everything that the files say.
#[derive(Debug, Default)]
struct Registry {
    /// Each directory, and what was found in it.
    dirs: Vec<(PathBuf, Vec<String>)>,
    documents: Vec<(PathBuf, Document)>,
    /// By whole name: the document, and the device in it.
    devices: BTreeMap<String, (usize, usize)>,
    /// Files that cannot be used, and devices that two files of one directory have.
    problems: Vec<String>,
}

impl Registry {
    fn read(dirs: Vec<PathBuf>) -> Registry {
        let mut registry = Registry::default();
        for dir in dirs {
            let mut names = match fs::read_dir(&dir) {
                Ok(entries) => {
                    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
                }
                Err(e) if e.kind() == ErrorKind::NotFound => vec![],
                Err(e) => {
                    registry.problems.push(format!("list {dir:?}: {e}"));
                    vec![]
                }
            };
            names.retain(|name| name.ends_with(".json") || name.ends_with(".yaml"));
            names.sort();
            let documents = names.iter().filter_map(|name| {
                let path = dir.join(name);
                match read(&path) {
                    Ok(document) => Some((path, document)),
                    Err(why) => {
                        tracing::debug!("left out: {path:?}: {why}");
                        registry.problems.push(format!("{path:?}: {why}"));
                        None
                    }
                }
            });
            let documents = documents.collect();
            registry.add(documents);
            registry.dirs.push((dir, names));
        }
        registry
    }

    /// Adds the documents of one directory, which go before those of earlier ones. What two of them have is nobody's.
    fn add(&mut self, documents: Vec<(PathBuf, Document)>) {
        let first = self.documents.len();
        let mut twice = HashSet::new();
        for (path, document) in documents {
            let number = self.documents.len();
            for (at, device) in document.devices.iter().enumerate() {
                let name = format!("{}={}", document.kind, device.name);
                let before = self.devices.insert(name.clone(), (number, at));
                if let Some((other, _)) = before.filter(|(other, _)| *other >= first) {
                    let other = &self.documents[other].0;
                    self.problems.push(format!("{name} is in {other:?} and in {path:?}"));
                    twice.insert(name);
                }
            }
            self.documents.push((path, document));
        }
        self.devices.retain(|name, _| !twice.contains(name));
    }

    /// The edits of a document come once, before those of its devices.
    fn edits(&self, names: &[String]) -> Result<Vec<Edits>, String> {
        let mut places = Vec::new();
        for name in names {
            match (self.devices.get(name), name.strip_suffix("=all")) {
                (Some(place), _) => places.push(*place),
                (None, Some(kind)) => {
                    let of_kind =
                        self.devices.iter().filter(|(name, _)| name.split('=').next() == Some(kind));
                    let before = places.len();
                    places.extend(of_kind.map(|(_, place)| *place));
                    if places.len() == before {
                        return Err(self.missing(name));
                    }
                }
                (None, None) => return Err(self.missing(name)),
            }
        }
        let mut seen = HashSet::new();
        let mut edits = Vec::new();
        for (document, device) in places {
            let found = &self.documents[document].1;
            if seen.insert((document, None)) {
                edits.push(found.container_edits.clone());
            }
            if seen.insert((document, Some(device))) {
                edits.push(found.devices[device].container_edits.clone());
            }
        }
        Ok(edits)
    }

    fn missing(&self, name: &str) -> String {
        let shown: String = name.chars().take(200).collect();
        let dirs = self.dirs.iter().map(|(dir, files)| match files.as_slice() {
            [] => format!("{} (no *.json, no *.yaml)", dir.display()),
            files => format!("{} ({})", dir.display(), files.join(", ")),
        });
        let mut text =
            format!("unresolvable CDI device {shown}: read {}", dirs.collect::<Vec<_>>().join(" and "));
        let found: Vec<&str> = self.devices.keys().map(String::as_str).collect();
        text += &match found.len() {
            0 => "; found no devices".to_owned(),
            count if count > NAMED => format!("; found {count} devices: {}, …", found[..NAMED].join(", ")),
            _ => format!("; found {}", found.join(", ")),
        };
        if !self.problems.is_empty() {
            text += &format!("; left out {}", self.problems.join(", "));
        }
        let of_gpus = |name: &str| name.starts_with(GPU);
        if of_gpus(name) && !found.into_iter().any(of_gpus) {
            text += "; let NVIDIA's container toolkit write what this host has \
                     (nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)";
        }
        text
    }
}

/// Reads a file. Its hooks run as who runs rcr, so nobody else may have written it.
fn read(path: &Path) -> Result<Document, String> {
    // Without O_NONBLOCK a FIFO would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|e| e.to_string())?;
    check_owner(&file.metadata().map_err(|e| e.to_string())?)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let value = match path.extension().is_some_and(|extension| extension == "json") {
        true => serde_json::from_str(&text).map_err(|e| format!("it is no JSON: {e}"))?,
        false => yaml::parse(&text).map_err(|e| format!("it is no YAML: {e}"))?,
    };
    Document::new(value)
}

fn check_owner(stat: &Metadata) -> Result<(), String> {
    if !stat.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let own = nix::unistd::geteuid().as_raw();
    if ![0, own].contains(&stat.uid()) {
        return Err(format!("user {} owns it, who could make a hook run as root; chown root it", stat.uid()));
    }
    // The group root is root.
    let writers = if stat.gid() == 0 { 0o002 } else { 0o022 };
    match stat.mode() & writers {
        0 => Ok(()),
        _ => Err(format!(
            "others than its owner may write it (mode {:o}), who could make a hook run as root; chmod go-w it",
            stat.mode() & 0o7777
        )),
    }
}

impl Node {
    /// Takes from the host what is not said: kind, numbers and mode (moby and podman by `fillMissingInfo` of
    /// container-edits_unix.go). A device that is described in full need not be there.
    fn complete(&mut self) -> Result<(), String> {
        let host_path =
            self.host_path.as_ref().filter(|path| !path.as_os_str().is_empty()).unwrap_or(&self.path);
        let kind = self.kind.as_deref().filter(|kind| !kind.is_empty());
        let whole = kind.is_some_and(|kind| self.major != 0 || kind == "p");
        let at = |why: String| format!("CDI device node {}: {why}", host_path.display());
        let found = match fs::metadata(host_path) {
            Ok(found) => found,
            Err(_) if whole => return Ok(()),
            Err(e) => {
                return Err(at(format!("{e}; is its driver loaded, and is the CDI file of this host?")));
            }
        };
        let kind_there = match found.file_type() {
            kind if kind.is_block_device() => "b",
            kind if kind.is_char_device() => "c",
            kind if kind.is_fifo() => "p",
            _ if whole => return Ok(()),
            _ => return Err(at("it is no device".to_owned())),
        };
        self.file_mode = self.file_mode.or(Some(found.mode() & 0o7777));
        if whole {
            return Ok(());
        }
        // An unbuffered character device (mknod(1)).
        let same = |kind: &str| kind == kind_there || (kind, kind_there) == ("u", "c");
        if let Some(kind) = kind.filter(|kind| !same(kind)) {
            return Err(at(format!("the CDI file says type {kind}, the host has {kind_there}")));
        }
        self.major = libc::major(found.rdev()).into();
        self.minor = libc::minor(found.rdev()).into();
        self.kind = Some(kind.unwrap_or(kind_there).to_owned());
        Ok(())
    }

    fn kind(&self) -> LinuxDeviceType {
        match self.kind.as_deref() {
            Some("b") => LinuxDeviceType::B,
            Some("u") => LinuxDeviceType::U,
            Some("p") => LinuxDeviceType::P,
            _ => LinuxDeviceType::C,
        }
    }
}

/// Makes the edits in a spec, in CDI's order; what is there already under the same name is replaced.
pub(crate) fn apply(all: &[Edits], spec: &mut Spec) {
    if all.is_empty() {
        return;
    }
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    let mut ids = (0, 0);
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        let edits = all.iter().flat_map(|edits| &edits.env);
        edits.for_each(|entry| process::set_variable(&mut env, entry));
        process.set_env(Some(env));
        let user = process.user_mut();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        for gid in all.iter().flat_map(|edits| &edits.additional_gids).filter(|gid| **gid != 0) {
            if !groups.contains(gid) {
                groups.push(*gid);
            }
        }
        user.set_additional_gids(Some(groups));
        ids = (user.uid(), user.gid());
    }
    for edits in all {
        edits.device_nodes.iter().for_each(|node| add_node(&mut linux, node, ids));
        for mount in &edits.mounts {
            mounts.retain(|other| other.destination() != &mount.container_path);
            mounts.push(to_mount(mount));
        }
        edits.hooks.iter().for_each(|hook| add_hook(&mut hooks, hook));
        if let Some(rdt) = &edits.intel_rdt {
            linux.set_intel_rdt(Some(to_intel_rdt(rdt)));
        }
        if !edits.net_devices.is_empty() {
            let mut devices: HashMap<_, _> = linux.net_devices().clone().unwrap_or_default();
            for device in &edits.net_devices {
                let mut moved = LinuxNetDevice::default();
                moved.set_name(Some(device.name.clone()));
                devices.insert(device.host_interface_name.clone(), moved);
            }
            linux.set_net_devices(Some(devices));
        }
    }
    if all.iter().any(|edits| !edits.mounts.is_empty()) {
        // What is mounted on goes before what is mounted there.
        mounts.sort_by_key(|mount| mount.destination().components().count());
    }
    if hooks != Hooks::default() {
        spec.set_hooks(Some(hooks));
    }
    spec.set_linux(Some(linux)).set_mounts(Some(mounts));
}

fn add_node(linux: &mut Linux, node: &Node, (uid, gid): (u32, u32)) {
    let mut device = LinuxDevice::default();
    device
        .set_path(node.path.clone())
        .set_typ(node.kind())
        .set_major(node.major)
        .set_minor(node.minor)
        .set_file_mode(node.file_mode)
        .set_uid(node.uid.or(Some(uid)))
        .set_gid(node.gid.or(Some(gid)));
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|other| other.path() != device.path());
    devices.push(device);
    linux.set_devices(Some(devices));
    let access = node.permissions.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    if !matches!(node.kind(), LinuxDeviceType::B | LinuxDeviceType::C) || access == "none" {
        return;
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(node.kind())).set_major(Some(node.major)).set_minor(Some(node.minor));
    rule.set_access(Some(access.to_owned()));
    let mut resources = linux.resources().clone().unwrap_or_default();
    let rules = resources.devices().iter().flatten().cloned().chain([rule]).collect();
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
}

fn to_mount(from: &document::Mount) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(from.container_path.clone())
        .set_source(Some(from.host_path.clone()))
        .set_typ(from.kind.clone())
        .set_options(Some(from.options.clone()));
    mount
}

fn add_hook(hooks: &mut Hooks, from: &document::Hook) {
    let mut hook = Hook::default();
    hook.set_path(from.path.clone())
        .set_args(Some(from.args.clone()).filter(|all| !all.is_empty()))
        .set_env(Some(from.env.clone()).filter(|all| !all.is_empty()))
        .set_timeout(from.timeout);
    let list = match from.hook_name.as_str() {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        // A document with another one is none.
        _ => hooks.poststop_mut(),
    };
    list.get_or_insert_default().push(hook);
}

fn to_intel_rdt(from: &document::IntelRdt) -> LinuxIntelRdt {
    let mut rdt = LinuxIntelRdt::default();
    rdt.set_clos_id(from.clos_id.clone())
        .set_l3_cache_schema(from.l3_cache_schema.clone())
        .set_mem_bw_schema(from.mem_bw_schema.clone())
        .set_schemata(from.schemata.clone())
        .set_enable_cmt(from.enable_cmt)
        .set_enable_mbm(from.enable_mbm)
        .set_enable_monitoring(from.enable_monitoring);
    rdt
}

#[cfg(test)]
mod tests;
