//! From `mounts[]` to steps.

use std::ffi::CString;
use std::path::{Component, Path, PathBuf};

use oci::runtime::Mount as SpecMount;
use sys::clone::namespace;
use sys::mount::attr;

use super::namespace::ranges;
use super::option::{Options, ms};
use super::{
    Bind, BindAttr, IdMap, IdMapping, Mount, OnProc, Place, Planner, Source, Step, Tree, c_string, invalid,
};
use crate::Error;
use crate::cgroup::Mode;

/// The files of /proc that lxcfs replaces, and a few that are written to by those who may: no other place in /proc may be
/// covered (CVE-2019-16884).
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Longest path with its NUL, in bytes.
const PATH_MAX: usize = 4096;

/// Longest option value that fsconfig(2) takes, in bytes.
const FSCONFIG_MAX: usize = 255;

/// `path` without `.`, `..`, and doubled or trailing slashes, always absolute. Links are not resolved: the child does
/// that inside the root.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

impl Planner<'_> {
    /// All of `mounts[]`.
    pub(super) fn mounts(&mut self) -> Result<(), Error> {
        let spec = self.spec;
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let at = format!("mounts[{index}]");
            let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
            let target =
                self.within_root(&clean(mount.destination()))?.unwrap_or_else(|| clean(mount.destination()));
            if target == Path::new("/") {
                return Err(invalid(format!("{at}.destination"), "a mount on the root is not supported"));
            }
            if mount.typ().as_deref() == Some("bind") {
                options.flags |= ms::BIND;
            }
            if options.has(ms::REMOUNT) && !options.has(ms::BIND)
                || options.has(ms::REMOUNT) && mount.source().is_none()
            {
                let step = Step::Remount(Box::new(self.new_mount(&at, mount, &options, &target)?));
                self.steps.push(step);
            } else if options.has(ms::BIND) {
                self.bind(&at, mount, options, &target)?;
            } else {
                self.file_system(&at, mount, options, &target)?;
            }
        }
        Ok(())
    }

    fn file_system(
        &mut self,
        at: &str,
        mount: &SpecMount,
        mut options: Options,
        path: &Path,
    ) -> Result<(), Error> {
        if options.idmap.is_some() || mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(invalid(at, "id-mapped mounts are only supported for bind-mounts"));
        }
        match mount.typ().as_deref() {
            Some("cgroup") => return self.cgroup(at, mount, &options, path),
            // Devices are made in it, so it becomes read-only when all is done.
            Some("tmpfs") if options.has(ms::RDONLY) => {
                options.flags &= !ms::RDONLY;
                self.read_only_later.push(c_string(at, path.as_os_str())?);
            }
            _ if path == Path::new("/dev") && options.has(ms::RDONLY) => {
                options.flags &= !ms::RDONLY;
                self.read_only_later.push(c_string(at, path.as_os_str())?);
            }
            _ => {}
        }
        let step = Step::Mount(Box::new(self.new_mount(at, mount, &options, path)?));
        self.steps.push(step);
        Ok(())
    }

    fn new_mount(&self, at: &str, mount: &SpecMount, options: &Options, path: &Path) -> Result<Mount, Error> {
        let fstype = mount.typ().as_deref().unwrap_or_default();
        if fstype.is_empty() && !options.has(ms::REMOUNT) {
            return Err(invalid(format!("{at}.type"), "must be set for a mount that is no bind mount"));
        }
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        let pseudo = matches!(fstype, "proc" | "sysfs");
        let mut data = options.split_data();
        if let Some(label) = self.mount_label.as_deref()
            && !pseudo
            && fstype != "mqueue"
            && !options.has(ms::REMOUNT)
        {
            data.push(("context".to_owned(), Some(label.to_owned())));
        }
        let sets_mode = data.iter().any(|(key, _)| key == "mode");
        let long = data.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.len() > FSCONFIG_MAX));
        let mut pairs = Vec::new();
        for word in options.superblock() {
            pairs.push((word.to_owned(), None));
        }
        pairs.extend(data);
        let options_at = format!("{at}.options");
        let long = if long {
            let words: Vec<String> = pairs
                .iter()
                .map(|(key, value)| value.as_ref().map_or_else(|| key.clone(), |v| format!("{key}={v}")))
                .collect();
            Some((options.flags, c_string(&options_at, words.join(","))?))
        } else {
            None
        };
        let pairs = pairs.into_iter().map(|(key, value)| {
            Ok((c_string(&options_at, key)?, value.map(|v| c_string(&options_at, v)).transpose()?))
        });
        Ok(Mount {
            fstype: c_string(&format!("{at}.type"), fstype)?,
            source: c_string(&format!("{at}.source"), source.as_os_str())?,
            options: pairs.collect::<Result<_, Error>>()?,
            attr: options.attr(),
            propagation: options.propagation.clone(),
            target: target(at, path, What::of(fstype))?,
            keep_mode: fstype == "tmpfs" && !sets_mode,
            copy_up: options.copy_up,
            instead: None,
            long,
        })
    }

    fn bind(&mut self, at: &str, mount: &SpecMount, options: Options, path: &Path) -> Result<(), Error> {
        if let Some(word) = options.data.first() {
            let why = format!("bind mounts cannot have any filesystem-specific options applied ({word})");
            return Err(invalid(format!("{at}.options"), why));
        }
        let source = mount.source().as_deref().filter(|s| !s.as_os_str().is_empty());
        let source = source.ok_or_else(|| invalid(format!("{at}.source"), "must be set for a bind mount"))?;
        let source = self.args.bundle.join(source);
        let named = options.flags & !(ms::BIND | ms::REC | ms::REMOUNT);
        let attr = (named != 0 || options.cleared != 0).then(|| BindAttr {
            set: options.attr(),
            clear: super::option::attr_of(options.cleared) & !attr::ATIME_MASK,
            times: named & ms::TIMES != 0,
        });
        let recursive = options.has(ms::REC);
        let id_maps = self.mount_id_maps(at, mount, &options)?;
        let source = match self.within_root(&clean(&source))? {
            Some(inside) => self.inside_source(at, &inside, recursive, id_maps)?,
            None => self.bind_source(at, &source, recursive, id_maps)?,
        };
        let target = target(at, path, What::Bind)?;
        self.steps.push(Step::Bind(Box::new(Bind {
            source,
            recursive,
            attr,
            recursive_attr: options.recursive,
            propagation: options.propagation,
            target,
        })));
        Ok(())
    }

    /// A path of the host that lies in the root file system, as the container has it. For what is mounted there, such a
    /// path is as good as one of the container's: libcontainer takes both.
    fn within_root(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let root = self.root_path()?;
        if root == Path::new("/") {
            return Ok(None);
        }
        Ok(path.strip_prefix(&root).ok().map(|rest| Path::new("/").join(rest)))
    }

    /// A source in the root file system is what earlier mounts have made of it by then; only the child's mount namespace
    /// has that. A link in it is the image's, and must not lead to a file of the host.
    fn inside_source(
        &self,
        at: &str,
        path: &Path,
        recursive: bool,
        id_maps: Option<(IdMapping, bool)>,
    ) -> Result<Source, Error> {
        let path = c_string(&format!("{at}.source"), path.as_os_str())?;
        if id_maps.is_none() && !self.parent_opens() {
            return Ok(Source::Inside(path));
        }
        Ok(Source::InsideByParent(Box::new(Tree { path, recursive, propagation: None, id_maps })))
    }

    /// In a new user namespace the child may not see the source (a directory above it is not for others), and what it
    /// binds carries locked attributes: the parent opens it, when it has the right to.
    pub(super) fn bind_source(
        &mut self,
        at: &str,
        source: &Path,
        recursive: bool,
        id_maps: Option<(IdMapping, bool)>,
    ) -> Result<Source, Error> {
        let path = c_string(&format!("{at}.source"), source.as_os_str())?;
        if id_maps.is_none() && !self.parent_opens() {
            return Ok(Source::Path(path));
        }
        let tree = Tree { path: path.clone(), recursive, propagation: self.tree_propagation, id_maps };
        Ok(Source::Opened(self.open_tree(tree), path))
    }

    fn mount_id_maps(
        &self,
        at: &str,
        mount: &SpecMount,
        options: &Options,
    ) -> Result<Option<(IdMapping, bool)>, Error> {
        let given = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
        if options.idmap.is_none() && !given {
            return Ok(None);
        }
        if self.host.euid != 0 {
            return Err(invalid(at, "id-mapped mounts are not supported for rootless containers"));
        }
        let (uid, gid) = if given {
            (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref())
        } else {
            if let Some(path) = self.namespaces.joined(namespace::USER) {
                let path = c_string("linux.namespaces", path.as_os_str())?;
                return Ok(Some((IdMapping::Namespace(path), options.idmap.unwrap_or(false))));
            }
            let linux = self.spec.linux().as_ref();
            (linux.and_then(|l| l.uid_mappings().as_deref()), linux.and_then(|l| l.gid_mappings().as_deref()))
        };
        let (uid, gid) = (uid.unwrap_or_default(), gid.unwrap_or_default());
        if uid.is_empty() || gid.is_empty() {
            return Err(invalid(at, "id-mapped mounts must have both uid and gid mappings specified"));
        }
        let map = IdMapping::Ranges(IdMap { uid: ranges(uid), gid: ranges(gid) });
        Ok(Some((map, options.idmap.unwrap_or(false))))
    }

    /// `cgroup` is what the host has: the unified hierarchy, or a tmpfs with one mount per v1 hierarchy in it.
    fn cgroup(&mut self, at: &str, mount: &SpecMount, options: &Options, path: &Path) -> Result<(), Error> {
        if self.host.cgroups.mode() == Mode::V2 {
            return self.cgroup2(at, mount, options, path);
        }
        let mut top = SpecMount::default();
        top.set_typ(Some("tmpfs".to_owned())).set_source(Some(PathBuf::from("tmpfs")));
        let plain = ms::NOSUID | ms::NODEV | ms::NOEXEC;
        let top_options = Options {
            flags: plain,
            data: vec!["mode=755".to_owned()],
            propagation: options.propagation.clone(),
            ..Options::default()
        };
        let tmpfs = self.new_mount(at, &top, &top_options, path)?;
        self.steps.push(Step::Mount(Box::new(tmpfs)));
        let flags = plain | options.flags & ms::RDONLY;
        let host = self.host;
        let hierarchies: Vec<_> = host.cgroups.iter().filter(|h| !h.controllers.is_empty()).collect();
        // /proc/self/cgroup names the last mounted first.
        for hierarchy in hierarchies.into_iter().rev() {
            let name = hierarchy.mountpoint.file_name().unwrap_or_default();
            let place = path.join(name);
            if self.new_cgroup_namespace() {
                let mut one = SpecMount::default();
                let name = hierarchy.controllers.iter().find_map(|c| c.strip_prefix("name="));
                one.set_typ(Some("cgroup".to_owned())).set_source(Some(name.unwrap_or("cgroup").into()));
                let options = Options { flags, data: hierarchy.controllers.clone(), ..Options::default() };
                let mut one = self.new_mount(at, &one, &options, &place)?;
                one.options.retain(|(key, _)| key.as_c_str() != c"ro");
                self.steps.push(Step::Mount(Box::new(one)));
            } else if let Some(dir) = self.cgroup_path(at)?.within(hierarchy, host.cgroups.mode()) {
                let rootless = host.euid != 0 || host.in_user_namespace;
                let source = match &hierarchy.own {
                    // Without privileges it may not have been possible to make it; then this is where the process is.
                    Some(own) if rootless => {
                        Source::Either(c_string(at, dir.as_os_str())?, c_string(at, own.as_os_str())?)
                    }
                    _ => self.bind_source(at, &dir, true, None)?,
                };
                let attr = Some(BindAttr { set: super::option::attr_of(flags), clear: 0, times: false });
                self.steps.push(Step::Bind(Box::new(Bind {
                    source,
                    recursive: true,
                    attr,
                    recursive_attr: None,
                    propagation: options.propagation.clone(),
                    target: target(at, &place, What::Bind)?,
                })));
            }
            for controller in hierarchy.controllers.iter().filter(|_| hierarchy.controllers.len() > 1) {
                let at_ = c_string(at, path.join(controller).as_os_str())?;
                self.steps.push(Step::Link { to: c_string(at, name)?, at: at_, replace: false });
            }
        }
        if options.has(ms::RDONLY) {
            self.steps.push(Step::ReadOnlyMount(c_string(at, path.as_os_str())?));
        }
        Ok(())
    }

    fn cgroup2(&mut self, at: &str, mount: &SpecMount, options: &Options, path: &Path) -> Result<(), Error> {
        let mut one = mount.clone();
        one.set_typ(Some("cgroup2".to_owned()));
        let mut step = self.new_mount(at, &one, options, path)?;
        step.options.retain(|(key, _)| key.as_c_str() != c"ro");
        // A user namespace without a cgroup namespace of its own may not mount it; then it is shown, as the host has
        // it, or as far as the container's own cgroup goes.
        if let Some(unified) = self.host.cgroups.unified() {
            let own = self.cgroup_path(at)?.within(unified, Mode::V2);
            let shown = if self.new_cgroup_namespace() { own } else { Some(unified.mountpoint.clone()) };
            step.instead = shown.map(|dir| c_string(at, dir.as_os_str())).transpose()?;
        }
        self.steps.push(Step::Mount(Box::new(step)));
        Ok(())
    }
}

/// What is going to be mounted, as far as the rules for /proc and /sys care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Proc,
    Sysfs,
    Bind,
    Other,
}

impl What {
    fn of(fstype: &str) -> What {
        match fstype {
            "proc" => What::Proc,
            "sysfs" => What::Sysfs,
            _ => What::Other,
        }
    }
}

/// The place of a mount.
pub(super) fn target(at: &str, path: &Path, what: What) -> Result<Place, Error> {
    let at = format!("{at}.destination");
    let is_proc = path == Path::new("/proc");
    let proc = match what {
        _ if !path.starts_with("/proc") => OnProc::Refuse,
        _ if COVERABLE.iter().any(|c| path == Path::new(c)) => OnProc::Allow,
        What::Proc if is_proc => OnProc::Allow,
        What::Bind if is_proc => OnProc::Only,
        _ if is_proc => {
            return Err(invalid(at, format!("{path:?} cannot be mounted because it is not of type proc")));
        }
        _ => return Err(invalid(at, format!("{path:?} cannot be mounted because it is inside /proc"))),
    };
    let strict = [Path::new("/proc"), Path::new("/sys"), Path::new("/dev")].contains(&path);
    let no_link = strict || matches!(what, What::Proc | What::Sysfs);
    let path: CString = c_string(&at, path.as_os_str())?;
    if path.count_bytes() >= PATH_MAX {
        return Err(invalid(at, "is longer than 4095 bytes"));
    }
    Ok(Place { path, proc, no_link })
}
