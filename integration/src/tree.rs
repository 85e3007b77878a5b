//! A directory tree as a list of lines that say everything an image promises about it, for comparing two of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Describes every entry below `root`, itself included: path → type, mode, owner, mtime (ns), size and hash of the
/// content, link target, device number, xattrs, and the first path of its hard-link group.
pub fn describe(root: &Path) -> BTreeMap<String, String> {
    let (mut entries, mut groups) = (BTreeMap::new(), BTreeMap::new());
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let path = root.join(&relative);
        let name = relative.as_os_str().as_bytes().escape_ascii().to_string();
        let meta = std::fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let kind = meta.file_type();
        let mut line = format!("mode={:o} owner={}:{} ", meta.mode() & 0o7777, meta.uid(), meta.gid());
        // The mtime of the root is when it was made: no layer of most images says anything about it.
        if !name.is_empty() {
            write!(line, "mtime={}.{:09} ", meta.mtime(), meta.mtime_nsec()).expect("a string");
        }
        if kind.is_dir() {
            line += "dir";
            let children = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            todo.extend(children.map(|c| relative.join(c.expect("an entry").file_name())));
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).expect("a link");
            write!(line, "link to {}", target.as_os_str().as_bytes().escape_ascii()).expect("a string");
        } else if kind.is_file() {
            let body = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            write!(line, "file size={} {}", body.len(), crate::image::sha256(&body)).expect("a string");
        } else if kind.is_char_device() || kind.is_block_device() {
            let letter = if kind.is_char_device() { 'c' } else { 'b' };
            write!(line, "{letter} {}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev()))
                .expect("a string");
        } else {
            line += if kind.is_fifo() { "fifo" } else { "socket" };
        }
        let mut names: Vec<_> = xattr::list(&path).into_iter().flatten().collect();
        names.sort();
        for key in names.iter().filter(|k| is_the_images(k)) {
            let value = xattr::get(&path, key).ok().flatten().unwrap_or_default();
            write!(line, " {}={}", key.to_string_lossy(), value.escape_ascii()).expect("a string");
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            groups.entry((meta.dev(), meta.ino())).or_insert_with(Vec::new).push(name.clone());
        }
        entries.insert(name, line);
    }
    for mut names in groups.into_values() {
        names.sort();
        let shown = format!(" hardlinks={}", names.join("|"));
        for name in names {
            *entries.get_mut(&name).expect("described above") += &shown;
        }
    }
    entries
}

/// Overlay's own marks and the host's labels are not the image's.
fn is_the_images(key: &OsStr) -> bool {
    let key = key.as_bytes();
    !key.starts_with(b"trusted.overlay.") && !key.starts_with(b"user.overlay.") && key != b"security.selinux"
}

/// Panics with the entries that differ, `ours` beside `theirs`.
pub fn assert_same(ours: (&str, &Path), theirs: (&str, &Path)) {
    assert_same_lines((ours.0, &describe(ours.1)), (theirs.0, &describe(theirs.1)));
}

/// The same for trees that were described before.
pub fn assert_same_lines(ours: (&str, &BTreeMap<String, String>), theirs: (&str, &BTreeMap<String, String>)) {
    let (left, right) = (ours.1, theirs.1);
    let mut difference = String::new();
    for path in left.keys().chain(right.keys().filter(|k| !left.contains_key(*k))) {
        let (a, b) = (left.get(path), right.get(path));
        if a != b {
            let show = |line: Option<&String>| line.cloned().unwrap_or_else(|| "(absent)".into());
            write!(difference, "\n/{path}\n  {}: {}\n  {}: {}", ours.0, show(a), theirs.0, show(b))
                .expect("a string");
        }
    }
    assert!(difference.is_empty(), "the trees differ:{}", difference.chars().take(6000).collect::<String>());
}
