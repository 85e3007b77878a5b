//! Holds what ARCHITECTURE.md says about the crates: who may depend on whom, what `rcr-runtime` never links,
//! and where `unsafe` may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The import arrows: crate → the crates of this workspace that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("rcr-sys", &[]),
    ("rcr-oci", &[]),
    ("rcr-puller", &["rcr-oci"]),
    ("rcr-store", &["rcr-oci", "rcr-sys"]),
    ("rcr-runtime", &["rcr-oci", "rcr-sys"]),
    ("rcr-network", &["rcr-oci", "rcr-sys"]),
    ("rcr-engine", &["rcr-oci", "rcr-sys", "rcr-puller", "rcr-store", "rcr-runtime", "rcr-network"]),
    ("rcr-monitor", &["rcr-sys"]),
    ("rcr-cli", &["rcr-engine"]),
    ("rcr-integration", &["rcr-sys"]),
];

/// What the drop-in for runc must not link, directly or through others: HTTP, TLS, executors, threads' pools.
const NOT_IN_RUNTIME: &[&str] = &[
    "tokio",
    "hyper",
    "reqwest",
    "rustls",
    "native-tls",
    "openssl",
    "openssl-sys",
    "h2",
    "rayon",
    "async-std",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("integration/ is in the workspace").to_owned()
}

fn metadata() -> Value {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Name of each package, and for each the IDs of what it depends on other than for tests.
fn graph(metadata: &Value) -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let names = metadata["packages"].as_array().expect("packages");
    let names = names.iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let mut edges = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
        let deps = node["deps"].as_array().expect("deps").iter();
        let real = deps
            .filter(|d| d["dep_kinds"].as_array().expect("dep_kinds").iter().any(|k| k["kind"].is_null()));
        edges.insert(text(&node["id"]), real.map(|d| text(&d["pkg"])).collect());
    }
    (names, edges)
}

#[test]
fn crates_import_along_the_arrows_only() {
    let metadata = metadata();
    let (names, edges) = graph(&metadata);
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|id| names[id.as_str().expect("an ID")].as_str())
        .collect();
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, listed, "ARROWS lists each crate of the workspace");
    for (id, deps) in &edges {
        let Some((name, allowed)) = ARROWS.iter().find(|(name, _)| *name == names[id]) else {
            continue;
        };
        for dep in deps.iter().map(|d| names[d].as_str()).filter(|d| members.contains(d)) {
            assert!(allowed.contains(&dep), "{name} imports {dep}; allowed are {allowed:?}");
        }
    }
}

#[test]
fn the_runtime_links_no_http_no_tls_no_executor() {
    let metadata = metadata();
    let (names, edges) = graph(&metadata);
    let start = names.iter().find(|(_, name)| *name == "rcr-runtime").expect("rcr-runtime").0;
    let (mut seen, mut todo) = (BTreeSet::new(), vec![start]);
    while let Some(id) = todo.pop() {
        if seen.insert(id) {
            todo.extend(&edges[id]);
            let name = names[id].as_str();
            assert!(!NOT_IN_RUNTIME.contains(&name), "rcr-runtime links {name}");
        }
    }
    assert!(seen.len() > 3, "the graph was walked");
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_stands_in_sys_only() {
    let mut files = Vec::new();
    for dir in ["crates", "integration"] {
        rust_files(&workspace().join(dir), &mut files);
    }
    assert!(files.len() > 10, "the tree was walked");
    for file in files.iter().filter(|f| !f.starts_with(workspace().join("crates/sys"))) {
        if file.ends_with("integration/tests/architecture.rs") {
            continue;
        }
        let text = std::fs::read_to_string(file).expect("a readable file");
        let file = file.display();
        assert!(!text.contains("allow(unsafe_code)"), "{file} switches the fence off");
        assert!(!text.contains("unsafe {"), "{file} has an unsafe block");
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let mut manifests: Vec<PathBuf> = std::fs::read_dir(workspace().join("crates"))
        .expect("crates/")
        .map(|e| e.expect("an entry").path().join("Cargo.toml"))
        .collect();
    manifests.push(workspace().join("integration/Cargo.toml"));
    for manifest in manifests {
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        assert!(text.contains("[lints]\nworkspace = true"), "{}", manifest.display());
    }
}
