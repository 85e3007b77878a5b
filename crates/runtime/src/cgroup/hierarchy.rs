//! The cgroup hierarchies of this host, from /proc/self/mountinfo and /proc/self/cgroup.

use crate::Error;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Which of the two kernel interfaces a hierarchy speaks (cgroups(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy of its own for a few controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

/// How the host mounts its hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only v1 hierarchies.
    V1,
    /// v1 hierarchies, and the unified one beside them.
    Hybrid,
    /// Only the unified hierarchy.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Interface.
    pub version: Version,
    /// What it controls: `["cpu", "cpuacct"]`, `["name=systemd"]`; empty for v2, whose controllers differ by
    /// directory (`cgroup.controllers`).
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The cgroup that is seen at `mountpoint`; `/` unless only a part of the hierarchy is mounted.
    pub root: PathBuf,
    /// The caller's own cgroup, as a directory at or below `mountpoint`; `None` if it lies outside of what is
    /// mounted.
    pub own: Option<PathBuf>,
}

/// All mounted hierarchies, in the order of /proc/self/cgroup (v2 last).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
}

impl Hierarchies {
    /// What the calling process sees.
    ///
    /// # Errors
    /// /proc can't be read, or no cgroup hierarchy is mounted.
    pub fn detect() -> Result<Hierarchies, Error> {
        let read = |path: &str| {
            fs::read(path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|e| Error::new(format!("read {path:?}")).because(e))
        };
        let own = read("/proc/self/cgroup")?;
        // mountinfo has a line for every mount of every container on the host, and takes the kernel a
        // microsecond each to write.
        match Hierarchies::usual(&own) {
            Some(hierarchies) => Ok(hierarchies),
            None => Hierarchies::parse(&read("/proc/self/mountinfo")?, &own),
        }
    }

    /// From the text of /proc/self/cgroup alone, if all hierarchies are mounted where systemd mounts them, as a
    /// whole.
    fn usual(own: &str) -> Option<Hierarchies> {
        let top = Path::new("/sys/fs/cgroup");
        let only_v2 = kind(top)? == CGROUP2_SUPER_MAGIC;
        let mut list = Vec::new();
        for line in own.lines() {
            let (version, controllers, inside) = own_line(line)?;
            let (mountpoint, magic) = match (version, &controllers[..]) {
                (Version::V2, _) if only_v2 => (top.to_owned(), CGROUP2_SUPER_MAGIC),
                (Version::V2, _) => (top.join("unified"), CGROUP2_SUPER_MAGIC),
                (Version::V1, _) if only_v2 => return None,
                (Version::V1, [name]) => {
                    (top.join(name.strip_prefix("name=").unwrap_or(name)), CGROUP_SUPER_MAGIC)
                }
                (Version::V1, names) => (top.join(names.join(",")), CGROUP_SUPER_MAGIC),
            };
            let mut hierarchy =
                Hierarchy { version, controllers, mountpoint, root: PathBuf::from("/"), own: None };
            hierarchy.own = hierarchy.dir(Path::new(inside));
            // Where only a part is mounted, the path from the root leads nowhere.
            if kind(&hierarchy.mountpoint)? != magic || kind(hierarchy.own.as_deref()?)? != magic {
                return None;
            }
            list.push(hierarchy);
        }
        (!list.is_empty()).then_some(Hierarchies { list })
    }

    /// The same from the text of /proc/PID/mountinfo and /proc/PID/cgroup.
    ///
    /// # Errors
    /// No cgroup hierarchy is mounted.
    pub fn parse(mountinfo: &str, own: &str) -> Result<Hierarchies, Error> {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut list = Vec::new();
        for line in own.lines() {
            let Some((version, controllers, path)) = own_line(line) else { continue };
            let best = mounts.iter().filter(|m| m.has(version, &controllers)).min_by_key(|m| m.rank());
            if let Some(mount) = best {
                let (mountpoint, root) = (mount.mountpoint.clone(), mount.root.clone());
                let mut hierarchy = Hierarchy { version, controllers, mountpoint, root, own: None };
                hierarchy.own = hierarchy.dir(Path::new(path));
                list.push(hierarchy);
            }
        }
        if list.is_empty() {
            return Err(Error::new("no cgroup hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup"));
        }
        Ok(Hierarchies { list })
    }

    /// How the host mounts them.
    pub fn mode(&self) -> Mode {
        let v1 = self.list.iter().any(|h| h.version == Version::V1);
        match (v1, self.unified()) {
            (true, None) => Mode::V1,
            (true, Some(_)) => Mode::Hybrid,
            (false, _) => Mode::V2,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.list.iter()
    }

    /// The unified hierarchy.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.list.iter().find(|h| h.version == Version::V2)
    }

    /// The v1 hierarchy with `controller` (`memory`, `name=systemd`).
    pub fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.list.iter().find(|h| h.version == Version::V1 && h.controllers.iter().any(|c| c == controller))
    }
}

impl Hierarchy {
    /// The directory of the cgroup that /proc/PID/cgroup calls `path`, if it can be seen.
    pub fn dir(&self, path: &Path) -> Option<PathBuf> {
        // Outside of the reader's cgroup namespace the kernel writes `/../..`.
        if path.components().any(|c| c == Component::ParentDir) {
            return None;
        }
        let inside = path.strip_prefix(&self.root).ok()?;
        Some(if inside.as_os_str().is_empty() {
            self.mountpoint.clone()
        } else {
            self.mountpoint.join(inside)
        })
    }
}

/// What a line of /proc/PID/cgroup says: `4:memory:/a/b`, `1:name=systemd:/`, `0::/a`.
fn own_line(line: &str) -> Option<(Version, Vec<String>, &str)> {
    // Only the path may contain colons.
    let mut fields = line.splitn(3, ':').skip(1);
    let (names, path) = (fields.next()?, fields.next()?);
    Some(match names {
        "" => (Version::V2, Vec::new(), path),
        names => (Version::V1, names.split(',').map(str::to_owned).collect(), path),
    })
}

/// The type of the file system at `path`.
fn kind(path: &Path) -> Option<FsType> {
    statfs(path).ok().map(|s| s.filesystem_type())
}

/// A cgroup or cgroup2 line of mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    version: Version,
    root: PathBuf,
    mountpoint: PathBuf,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        // 31 23 0:28 ROOT MOUNTPOINT OPTIONS [optional fields] - TYPE SOURCE SUPER-OPTIONS
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let (root, mountpoint) = (left.nth(3)?, left.next()?);
        let mut right = right.split(' ');
        let version = match right.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = right.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Mount { version, root: unescape(root), mountpoint: unescape(mountpoint), options })
    }

    fn has(&self, version: Version, controllers: &[String]) -> bool {
        self.version == version && controllers.iter().all(|c| self.options.contains(c))
    }

    /// Lower is better, where one hierarchy is mounted several times.
    fn rank(&self) -> (bool, bool) {
        (!self.mountpoint.starts_with("/sys/fs/cgroup"), self.root != Path::new("/"))
    }
}

/// Undoes mountinfo's octal escapes of blank, tab, newline and backslash (`\040`).
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).filter(|d| bytes[i] == b'\\' && d.iter().all(u8::is_ascii_digit));
        match octal.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_hosts_have_both_kinds() {
        let own = "3:name=systemd:/\n2:memory:/box/1\n1:cpu,cpuacct:/\n0::/\n";
        let h = Hierarchies::parse(HYBRID, own).unwrap();
        assert_eq!(h.mode(), Mode::Hybrid);
        assert_eq!(h.iter().count(), 4);
        assert_eq!(h.v1("cpuacct").unwrap().mountpoint, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(h.v1("memory").unwrap().own.as_deref(), Some(Path::new("/sys/fs/cgroup/memory/box/1")));
        assert_eq!(h.v1("name=systemd").unwrap().mountpoint, Path::new("/sys/fs/cgroup/systemd"));
        assert_eq!(h.unified().unwrap().own.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert!(h.v1("hugetlb").is_none());
    }

    #[test]
    fn a_pure_v2_host_has_one() {
        let mounts = "25 24 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let h = Hierarchies::parse(mounts, "0::/user.slice/session-1.scope\n").unwrap();
        assert_eq!(h.mode(), Mode::V2);
        let own = h.unified().unwrap().own.clone().unwrap();
        assert_eq!(own, Path::new("/sys/fs/cgroup/user.slice/session-1.scope"));
    }

    #[test]
    fn a_mount_of_a_subtree_shows_only_what_is_below_it() {
        let mounts = "25 24 0:22 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let own = |path: &str| {
            let h = Hierarchies::parse(mounts, &format!("4:memory:{path}\n")).unwrap();
            h.v1("memory").unwrap().own.clone()
        };
        assert_eq!(own("/docker/ab/c"), Some(PathBuf::from("/sys/fs/cgroup/memory/c")));
        assert_eq!(own("/docker/ab"), Some(PathBuf::from("/sys/fs/cgroup/memory")));
        assert_eq!(own("/docker/abc"), None);
        assert_eq!(own("/../x"), None);
    }

    #[test]
    fn the_usual_place_wins_over_other_mounts_of_the_same_hierarchy() {
        let mounts = "\
1 0 0:1 / /mnt/cg\\040two rw - cgroup2 none rw
2 0 0:1 / /sys/fs/cgroup rw - cgroup2 none rw
";
        let h = Hierarchies::parse(mounts, "0::/\n").unwrap();
        assert_eq!(h.unified().unwrap().mountpoint, Path::new("/sys/fs/cgroup"));
        let h = Hierarchies::parse(mounts.lines().next().unwrap(), "0::/\n").unwrap();
        assert_eq!(h.unified().unwrap().mountpoint, Path::new("/mnt/cg two"));
    }

    #[test]
    fn controllers_that_are_not_mounted_are_left_out_and_none_at_all_is_an_error() {
        let h = Hierarchies::parse(HYBRID, "4:devices:/\n2:memory:/\n").unwrap();
        assert_eq!(h.mode(), Mode::V1);
        assert_eq!(h.iter().count(), 1);
        assert!(Hierarchies::parse("", "0::/\n").is_err());
        assert!(Hierarchies::parse("x\n1 2 3 - cgroup\n", "0:\n\n").is_err());
    }
}
