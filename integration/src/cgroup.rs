//! The files of a container's cgroup, in whichever hierarchies this host has.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bundle::Bundle;

/// A container's cgroup, which need not exist.
pub struct Cgroup {
    /// Below the mount points.
    path: PathBuf,
}

impl Cgroup {
    /// That of a bundle with an absolute `linux.cgroupsPath`.
    pub fn of(bundle: &Bundle) -> Self {
        let config = fs::read(bundle.dir.join("config.json")).expect("readable");
        let config: Value = serde_json::from_slice(&config).expect("JSON");
        let path = config["linux"]["cgroupsPath"].as_str().expect("a cgroupsPath");
        Self { path: Path::new(path).strip_prefix("/").expect("absolute").to_owned() }
    }

    /// Where `file` is, if some hierarchy has it.
    pub fn find(&self, file: &str) -> Option<PathBuf> {
        let top = PathBuf::from("/sys/fs/cgroup");
        let mut all: Vec<PathBuf> =
            fs::read_dir(&top).expect("cgroups").flatten().map(|e| e.path()).collect();
        // The unified hierarchy has some files also of controllers that are elsewhere.
        all.sort_by_key(|dir| dir.ends_with("unified"));
        all.insert(0, top);
        all.into_iter().find_map(|dir| Some(dir.join(&self.path).join(file)).filter(|path| path.exists()))
    }

    /// The content of `file`, without white space at its end; empty where there is none.
    pub fn read(&self, file: &str) -> String {
        let text = self.find(file).and_then(|path| fs::read_to_string(path).ok());
        text.unwrap_or_default().trim_end().to_owned()
    }

    /// The content of the first of these files that is there: the same limit under v1's and v2's name.
    pub fn either(&self, files: [&str; 2]) -> String {
        files.into_iter().map(|file| self.read(file)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// Whether `controller` (v2's name) is on in the unified hierarchy.
    pub fn is_v2(&self, controller: &str) -> bool {
        self.find("cgroup.controllers")
            .and_then(|path| fs::read_to_string(path).ok())
            .is_some_and(|list| list.split_whitespace().any(|c| c == controller))
    }
}
