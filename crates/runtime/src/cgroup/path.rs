//! Where a container's cgroup shall be: `linux.cgroupsPath`, or the container's id.

use super::{Hierarchy, Mode, Version};
use crate::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A checked `linux.cgroupsPath`: without `..`, so that it can't leave its hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupPath {
    /// Below the mount point of each hierarchy.
    Absolute(PathBuf),
    /// Below the caller's own cgroup; on pure v2 beside it, because there a cgroup that holds processes can't
    /// hand controllers to its children (cgroups(7), "no internal processes").
    Relative(PathBuf),
}

impl CgroupPath {
    /// From `linux.cgroupsPath`; without one the container's `id`.
    ///
    /// # Errors
    /// The path has a `..` or a NUL, or names no directory.
    pub fn new(cgroups_path: Option<&Path>, id: &str) -> Result<CgroupPath, Error> {
        let path = match cgroups_path {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => Path::new(id),
        };
        let refuse = |why: &str| {
            Err(Error::new(format!("linux.cgroupsPath: {path:?} {why}")).kind(ErrorKind::Invalid))
        };
        // crun's 1.28 hardening: `..` is refused, even where it stays inside.
        if path.components().any(|c| c == Component::ParentDir) {
            return refuse("contains \"..\"");
        }
        if path.as_os_str().as_bytes().contains(&0) {
            return refuse("contains a NUL");
        }
        let clean: PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
        if clean.as_os_str().is_empty() {
            return refuse("is the root of the hierarchy, which can't be a container's");
        }
        Ok(if path.is_absolute() { CgroupPath::Absolute(clean) } else { CgroupPath::Relative(clean) })
    }

    /// The directory in one hierarchy of a host that mounts them as `mode` says. `None`: the path is relative
    /// and the caller's own cgroup can't be seen there.
    pub fn within(&self, hierarchy: &Hierarchy, mode: Mode) -> Option<PathBuf> {
        match self {
            CgroupPath::Absolute(path) => Some(hierarchy.mountpoint.join(path)),
            CgroupPath::Relative(path) => {
                let own = hierarchy.own.as_deref()?;
                let above = match hierarchy.version {
                    Version::V2 if mode == Mode::V2 && own != hierarchy.mountpoint => own.parent()?,
                    _ => own,
                };
                Some(above.join(path))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(version: Version, own: &str) -> Hierarchy {
        Hierarchy {
            version,
            controllers: Vec::new(),
            mountpoint: PathBuf::from("/sys/fs/cgroup"),
            own: Some(PathBuf::from(own)),
        }
    }

    #[test]
    fn absolute_paths_are_below_the_mount_relative_ones_below_the_caller() {
        let absolute = CgroupPath::new(Some(Path::new("//box/./a/")), "id").unwrap();
        let relative = CgroupPath::new(Some(Path::new("box/a")), "id").unwrap();
        let none = CgroupPath::new(None, "id").unwrap();
        let empty = CgroupPath::new(Some(Path::new("")), "id").unwrap();
        assert_eq!(none, empty);
        let v1 = hierarchy(Version::V1, "/sys/fs/cgroup/own");
        assert_eq!(absolute.within(&v1, Mode::V1).unwrap(), Path::new("/sys/fs/cgroup/box/a"));
        assert_eq!(relative.within(&v1, Mode::V1).unwrap(), Path::new("/sys/fs/cgroup/own/box/a"));
        assert_eq!(none.within(&v1, Mode::Hybrid).unwrap(), Path::new("/sys/fs/cgroup/own/id"));
    }

    #[test]
    fn on_pure_v2_a_relative_path_is_beside_the_caller() {
        let path = CgroupPath::new(None, "id").unwrap();
        let below = hierarchy(Version::V2, "/sys/fs/cgroup/user.slice/own.scope");
        assert_eq!(path.within(&below, Mode::V2).unwrap(), Path::new("/sys/fs/cgroup/user.slice/id"));
        assert_eq!(
            path.within(&below, Mode::Hybrid).unwrap(),
            Path::new("/sys/fs/cgroup/user.slice/own.scope/id")
        );
        let root = hierarchy(Version::V2, "/sys/fs/cgroup");
        assert_eq!(path.within(&root, Mode::V2).unwrap(), Path::new("/sys/fs/cgroup/id"));
        let unseen = Hierarchy { own: None, ..root };
        assert_eq!(path.within(&unseen, Mode::V2), None);
    }

    #[test]
    fn paths_that_climb_are_refused() {
        for bad in [
            "..",
            "/..",
            "../outside",
            "./../outside",
            "./foo/../foo",
            "foo/..",
            "foo/../../outside",
            "foo/bar/../../../outside",
            "/foo/../../../../etc",
            "/",
            "//",
            ".",
            "a\0b",
        ] {
            let error = CgroupPath::new(Some(Path::new(bad)), "id").unwrap_err();
            assert_eq!(error.what(), ErrorKind::Invalid, "{bad:?}");
            assert!(error.to_string().starts_with("linux.cgroupsPath"), "{error}");
        }
        assert!(CgroupPath::new(None, "..").is_err());
    }
}
