//! File trees as values, to compare.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use store::{Image, Overlay};

/// Everything a layer can say about a path, as text for readable differences.
pub(crate) type Tree = BTreeMap<String, String>;

/// A merged view of an image; the mount is gone when this is.
pub(crate) struct Merged {
    pub(crate) mount: OwnedFd,
}

impl Merged {
    pub(crate) fn new(image: &Image) -> Self {
        let lower: Vec<&Path> = image.layers.iter().map(PathBuf::as_path).collect();
        let mount = store::overlay(&Overlay { lower: &lower, upper: None, source: "test" }).unwrap();
        Self { mount }
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.mount.as_raw_fd()))
    }

    pub(crate) fn tree(&self) -> Tree {
        read(&self.path())
    }
}

/// The tree of an image.
pub(crate) fn merged(image: &Image) -> Tree {
    Merged::new(image).tree()
}

/// Reads a tree. The root is `.`.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut links = BTreeMap::new();
    walk(&root.join("."), ".", &mut tree, &mut links);
    tree
}

fn walk(path: &Path, name: &str, tree: &mut Tree, links: &mut BTreeMap<u64, String>) {
    let meta = path.symlink_metadata().unwrap();
    let mut text = describe(path, &meta);
    if meta.nlink() > 1 && !meta.is_dir() {
        let first = links.entry(meta.ino()).or_insert_with(|| name.to_owned());
        text += &format!(" same-as={first}");
    }
    tree.insert(name.to_owned(), text);
    if meta.is_dir() {
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for child in names {
            let shown = child.as_bytes().escape_ascii();
            let shown = if name == "." { shown.to_string() } else { format!("{name}/{shown}") };
            walk(&path.join(&child), &shown, tree, links);
        }
    }
}

fn describe(path: &Path, meta: &Metadata) -> String {
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("link {}", std::fs::read_link(path).unwrap().as_os_str().as_bytes().escape_ascii())
    } else if kind.is_file() {
        let bytes = std::fs::read(path).unwrap();
        match bytes.len() {
            0..40 => format!("file {}", bytes.escape_ascii()),
            n => format!("file of {n} {}", crate::image::sha256(&bytes).short()),
        }
    } else if kind.is_char_device() {
        format!("char {:x}", meta.rdev())
    } else if kind.is_block_device() {
        format!("block {:x}", meta.rdev())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        "socket".to_owned()
    };
    let mut text = format!(
        "{what} {:o} {}:{} {}.{:09}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    for (name, value) in xattrs(path) {
        text += &format!(" {name}={}", value.escape_ascii());
    }
    text
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut all: Vec<_> = sys::xattr::llist(&path)
        .unwrap_or_default()
        .into_iter()
        .map(|name| {
            let value = sys::xattr::lget(&path, &name).unwrap().unwrap_or_default();
            (name.to_string_lossy().into_owned(), value)
        })
        .collect();
    all.sort();
    all
}

/// What one tree has that another has not, line by line.
pub(crate) fn difference(ours: &Tree, theirs: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, text) in ours {
        if theirs.get(path) != Some(text) {
            lines.push(format!("ours:   {path}: {text}"));
        }
    }
    for (path, text) in theirs {
        if ours.get(path) != Some(text) {
            lines.push(format!("theirs: {path}: {text}"));
        }
    }
    lines
}
