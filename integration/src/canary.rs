//! A place outside every container whose least change betrays an escape.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory with known content, owners, modes and times.
pub struct Canary {
    dir: PathBuf,
    before: BTreeMap<String, String>,
}

impl Canary {
    /// Makes it in `dir`, which must not exist.
    pub fn new(dir: &Path) -> Self {
        fs::create_dir(dir).expect("a new directory");
        fs::write(dir.join("marker"), "untouched").expect("writable");
        fs::write(dir.join("ptmx"), "untouched").expect("writable");
        fs::create_dir(dir.join("sub")).expect("writable");
        fs::set_permissions(dir.join("marker"), fs::Permissions::from_mode(0o640)).expect("its owner");
        let mut canary = Self { dir: dir.to_owned(), before: BTreeMap::new() };
        canary.before = canary.look();
        canary
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    fn look(&self) -> BTreeMap<String, String> {
        let mut seen = crate::tree::describe(&self.dir);
        for path in [&self.dir, &self.dir.join("sub")] {
            let time = fs::metadata(path).and_then(|m| m.modified()).expect("still there");
            seen.insert(format!("time of {}", path.display()), format!("{time:?}"));
        }
        seen
    }

    /// Panics if anything about it changed.
    pub fn assert_untouched(&self, what: &str) {
        let now = self.look();
        assert_eq!(self.before, now, "{what}: something outside the container changed");
    }
}
