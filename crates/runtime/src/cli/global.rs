//! The global flags, and what they amount to.

use std::env;
use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions, read_link, set_permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;

use super::flags::{Flag, Parsed, boolean};
use crate::{Error, ErrorKind};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::switch("debug", "enable debug logging"),
    Flag::value("log", "set the log file to write logs to (default is '/dev/stderr')"),
    Flag::value("log-format", "set the log format ('text' (default), or 'json')"),
    Flag::value(
        "root",
        "root directory for storage of container state, on a tmpfs (default: \"/run/rcr-runtime\")",
    ),
    Flag::switch(
        "systemd-cgroup",
        "enable systemd cgroup support, expects cgroupsPath to be \"slice:prefix:name\"",
    ),
    Flag::value(
        "rootless",
        "ignore cgroup permission errors ('true', 'false', or 'auto') (default: \"auto\")",
    ),
    Flag::switch("version", "print the version").or("v"),
];

/// The last value of a global flag, which may stand before the command or after it.
pub(crate) fn value<'a>(before: &'a Parsed, after: &'a Parsed, name: &str) -> Option<&'a OsStr> {
    after.value(name).or_else(|| before.value(name))
}

/// What holds for every command.
#[derive(Debug)]
pub(crate) struct Global {
    /// Directory of the containers' state directories, absolute.
    pub(crate) root: PathBuf,
    /// `--root` was given.
    pub(crate) root_given: bool,
    pub(crate) systemd_cgroup: bool,
    /// `None`: decide from the user and user namespace.
    pub(crate) rootless: Option<bool>,
}

impl Global {
    pub(crate) fn new(before: &Parsed, after: &Parsed) -> Result<Global, Error> {
        let invalid = |message: String| Error::new(message).kind(ErrorKind::Invalid);
        let given = value(before, after, "root");
        let root = match given {
            Some(root) => {
                let root = absolute(Path::new(root))?;
                if root == Path::new("/") {
                    return Err(invalid("option --root argument should not be set to /".to_owned()));
                }
                root
            }
            None => default_root()?,
        };
        let rootless = match value(before, after, "rootless").map(OsStr::to_str) {
            None | Some(Some("" | "auto")) => None,
            Some(text) => match text.and_then(|text| boolean(text.as_bytes())) {
                Some(rootless) => Some(rootless),
                None => {
                    let text = text.unwrap_or("(not UTF-8)");
                    return Err(invalid(format!(
                        "invalid --rootless value {text:?}: not true, false or auto"
                    )));
                }
            },
        };
        let systemd_cgroup = value(before, after, "systemd-cgroup").is_some_and(|v| v == "true");
        Ok(Global { root, root_given: given.is_some(), systemd_cgroup, rootless })
    }
}

/// `path` from the root, without `.` and `..`, looking at no file.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let path = match path.is_absolute() {
        true => path.to_owned(),
        false => {
            env::current_dir().map_err(|e| Error::new("find the working directory").because(e))?.join(path)
        }
    };
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    Ok(clean)
}

/// /run/rcr-runtime, or a directory of the user's own below `$XDG_RUNTIME_DIR`.
fn default_root() -> Result<PathBuf, Error> {
    let system = PathBuf::from("/run/rcr-runtime");
    let Some(runtime_dir) = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) else {
        return Ok(system);
    };
    // Root of the host keeps /run even in a login session, whose XDG_RUNTIME_DIR goes when the session ends; root of
    // a user namespace is an ordinary user.
    let real_root = geteuid().is_root() && in_first_user_namespace();
    if real_root || geteuid().is_root() && env::var_os("USER").is_some_and(|user| user == "root") {
        return Ok(system);
    }
    let root = Path::new(&runtime_dir).join("rcr-runtime");
    let fail = |e| {
        Error::new(format!("make {root:?} (the path in $XDG_RUNTIME_DIR must be writable by the user)"))
            .because(e)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(fail)?;
    // The XDG base directory specification: files without the sticky bit may be cleaned away.
    set_permissions(&root, Permissions::from_mode(0o1700)).map_err(fail)?;
    Ok(root)
}

/// The first user namespace has a fixed inode number (PROC_USER_INIT_INO).
fn in_first_user_namespace() -> bool {
    read_link("/proc/self/ns/user").is_ok_and(|link| link == Path::new("user:[4026531837]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_without_looking_at_files() {
        for (path, clean) in [("/a/../b/./c", "/b/c"), ("/../..", "/"), ("/run/x/", "/run/x")] {
            assert_eq!(absolute(Path::new(path)).unwrap(), Path::new(clean));
        }
    }
}
