//! The file that `--pid-file` asks for.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Error;

/// Writes `pid`, so that a reader sees all of it or no file. A link at `path` is replaced, not followed.
pub(crate) fn write(path: &Path, pid: i32) -> Result<(), Error> {
    let fail = |e: std::io::Error| Error::new(format!("write pid file {path:?}")).because(e);
    let name =
        path.file_name().ok_or_else(|| Error::new(format!("write pid file {path:?}: not a file name")))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let open = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
    let written = open
        .and_then(|mut file: File| file.write_all(pid.to_string().as_bytes()))
        .and_then(|()| rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = remove_file(&temporary);
    }
    written.map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_link_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (canary, path) = (dir.path().join("canary"), dir.path().join("pid"));
        std::fs::write(&canary, "untouched").unwrap();
        std::os::unix::fs::symlink(&canary, &path).unwrap();
        write(&path, 42).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "42");
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(write(Path::new("/no/such/dir/pid"), 1).is_err());
    }
}
