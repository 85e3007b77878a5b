//! What of a container is not its own, so that criu must be told: bind mounts, masked files, shared namespaces.
//!
//! Mounts are found in the plan that made the container, so that nothing is read from a configuration twice.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use oci::runtime::LinuxNamespaceType;
use sys::path::{openat2, resolve};

use crate::plan::{Plan, Source, Step};
use crate::{Error, ErrorKind, Spec};

/// What hides a file, in the container and on the host.
const NULL: &str = "/dev/null";

/// A mount whose source is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    /// Its name in the images.
    pub(crate) name: OsString,
    /// What to bind there, on the host.
    pub(crate) source: OsString,
    /// Where it is in the container, links not resolved.
    pub(super) place: CString,
    /// It hides a file, if there is one.
    pub(super) masks: bool,
}

/// A mount that criu finds in the container, and the name that it gets in the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) mountpoint: OsString,
    pub(crate) name: OsString,
}

/// The mounts of a container that are binds of something on the host.
pub(crate) fn mounts(plan: &Plan) -> Vec<External> {
    let mut found = Vec::new();
    for step in &plan.steps {
        let (place, source, masks) = match step {
            Step::Bind(bind) => (&bind.target.path, source_of(&bind.source), false),
            Step::Device(device) => (&device.path, device.bind.as_ref().and_then(source_of), false),
            Step::Mask(path) => (path, Some(OsString::from(NULL)), true),
            _ => continue,
        };
        let Some(source) = source else { continue };
        let name = if masks { NULL.into() } else { text(place).to_owned() };
        found.push(External { name, source, place: place.clone(), masks });
    }
    found
}

/// Nothing for what lies in the container's root: that is the container's own.
fn source_of(source: &Source) -> Option<OsString> {
    match source {
        Source::Path(path) | Source::Either(path, _) | Source::Opened(_, path) => Some(text(path).to_owned()),
        Source::Inside(_) | Source::InsideByParent(_) => None,
    }
}

fn text(path: &CStr) -> &OsStr {
    OsStr::from_bytes(path.to_bytes())
}

/// The keys of these mounts in a container that runs; `seek` finds each ([`place_in`]).
///
/// # Errors
/// What `seek` says.
pub(crate) fn keys(
    mounts: &[External],
    seek: &mut dyn FnMut(&External) -> Result<Option<OsString>, Error>,
) -> Result<Vec<Key>, Error> {
    let mut keys = Vec::new();
    for mount in mounts {
        let found = seek(mount)?;
        keys.extend(found.map(|mountpoint| Key { mountpoint, name: mount.name.clone() }));
    }
    Ok(keys)
}

/// Where a mount is in a container that runs, whose root directory is `root`. `None` where nothing is hidden.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn place_in(root: BorrowedFd<'_>, mount: &External) -> Result<Option<OsString>, Error> {
    match find(root, &mount.place) {
        // A directory is hidden under a file system of the container's own.
        Ok((_, true)) if mount.masks => Ok(None),
        Ok((path, _)) => Ok(Some(path)),
        // criu will say what became of a mount that is gone.
        Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {
            Ok((!mount.masks).then(|| text(&mount.place).to_owned()))
        }
        Err(e) => Err(Error::new(format!("look for {:?} in the container", text(&mount.place))).because(e)),
    }
}

/// Where a place is below `root` when links are followed there, and whether it is a directory.
fn find(root: BorrowedFd<'_>, place: &CStr) -> std::io::Result<(OsString, bool)> {
    let how = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
    let (path, fd) = path_of(root, place, how)?;
    let (above, _root) = path_of(root, c"/", how)?;
    let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode & SFlag::S_IFMT.bits());
    let inside = match Path::new(&path).strip_prefix(&above) {
        Ok(inside) => Path::new("/").join(inside).into_os_string(),
        Err(_) => path,
    };
    Ok((inside, kind == SFlag::S_IFDIR))
}

fn path_of(
    root: BorrowedFd<'_>,
    place: &CStr,
    how: u64,
) -> std::io::Result<(OsString, std::os::fd::OwnedFd)> {
    let fd = openat2(root, place, OFlag::O_PATH.bits(), 0, how)?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok((path.into_os_string(), fd))
}

/// These mounts, each name once; and once more under the names that runc gives them, which are places with links
/// resolved in the root file system as the bundle has it ([`other_name`]).
pub(crate) fn with_other_names(
    mounts: &[External],
    other: &dyn Fn(&External) -> Option<OsString>,
) -> Vec<External> {
    let mut all: Vec<External> = Vec::new();
    let others = mounts.iter().filter_map(|mount| Some(External { name: other(mount)?, ..mount.clone() }));
    for mount in mounts.iter().cloned().chain(others) {
        if !all.iter().any(|one| one.name == mount.name) {
            all.push(mount);
        }
    }
    all
}

/// The name that runc gives a mount.
pub(crate) fn other_name(root: BorrowedFd<'_>, mount: &External) -> Option<OsString> {
    if mount.masks { None } else { find(root, &mount.place).ok().map(|(name, _)| name) }
}

/// criu's word for a kind of namespace.
fn word(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Time => "time",
    }
}

/// A namespace that the container shares with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shared {
    /// Which of `linux.namespaces`.
    pub(crate) index: usize,
    /// criu's word for the kind.
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
    /// criu leaves it alone, and is given a descriptor of it for a restore; the others it joins by their path.
    pub(crate) external: bool,
}

/// The namespaces of a configuration that are joined by path.
///
/// # Errors
/// One that criu cannot restore into.
pub(crate) fn namespaces(spec: &Spec) -> Result<Vec<Shared>, Error> {
    let list = spec.linux().as_ref().and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
    let mut shared = Vec::new();
    for (index, namespace) in list.iter().enumerate() {
        let Some(path) = namespace.path().as_deref().filter(|p| !p.as_os_str().is_empty()) else { continue };
        if namespace.typ() == LinuxNamespaceType::Cgroup {
            let why = "criu cannot put a container into a cgroup namespace that exists";
            let at = format!("linux.namespaces[{index}].path: {why}");
            return Err(Error::new(at).kind(ErrorKind::Invalid));
        }
        let external = matches!(namespace.typ(), LinuxNamespaceType::Network | LinuxNamespaceType::Pid);
        shared.push(Shared { index, kind: word(namespace.typ()), path: path.to_owned(), external });
    }
    Ok(shared)
}

/// Refuses what criu would restore as something else than it was.
///
/// # Errors
/// [`ErrorKind::Invalid`], naming the mount.
pub(crate) fn check_mounts(spec: &Spec) -> Result<(), Error> {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let words = mount.options().as_deref().unwrap_or_default();
        let named = words.iter().any(|w| w == "idmap" || w == "ridmap");
        if named || mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            let why = "is id-mapped, and criu would restore it without the mapping";
            return Err(Error::new(format!("mounts[{index}]: {why}")).kind(ErrorKind::Invalid));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn external(place: &str, masks: bool) -> External {
        let name = if masks { NULL } else { place };
        External { name: name.into(), source: "/s".into(), place: CString::new(place).unwrap(), masks }
    }

    #[test]
    fn places_are_found_inside_the_root_whatever_its_links_say() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("real/conf")).unwrap();
        std::fs::write(root.join("hidden"), "").unwrap();
        std::os::unix::fs::symlink("/real/conf", root.join("conf")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", root.join("out")).unwrap();
        let fd = std::fs::File::open(&root).unwrap();
        let mounts = [
            external("/conf", false),
            external("/gone", false),
            external("/hidden", true),
            external("/absent", true),
            external("/real", true),
        ];
        let found: Vec<_> = keys(&mounts, &mut |mount| place_in(fd.as_fd(), mount))
            .unwrap()
            .into_iter()
            .map(|key| format!("{} {}", key.mountpoint.display(), key.name.display()))
            .collect();
        assert_eq!(found, ["/real/conf /conf", "/gone /gone", "/hidden /dev/null"]);
        assert!(find(fd.as_fd(), c"/out/passwd").is_err(), "a link led out of the root");
        let named = with_other_names(&mounts, &|mount| other_name(fd.as_fd(), mount));
        let names: Vec<_> = named.into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["/conf", "/gone", "/dev/null", "/real/conf"]);
    }

    #[test]
    fn only_network_and_pid_namespaces_are_external() {
        let spec = |namespaces: &str| {
            let json = format!(r#"{{"ociVersion":"1.2.0","linux":{{"namespaces":[{namespaces}]}}}}"#);
            crate::spec::parse(json.as_bytes()).unwrap()
        };
        let list = r#"{"type":"mount"},{"type":"network","path":"/n"},{"type":"ipc","path":"/i"}"#;
        let shared = namespaces(&spec(list)).unwrap();
        let found: Vec<_> = shared.iter().map(|s| (s.index, s.kind, s.external)).collect();
        assert_eq!(found, [(1, "net", true), (2, "ipc", false)]);
        let error = namespaces(&spec(r#"{"type":"cgroup","path":"/c"}"#)).unwrap_err();
        assert!(error.to_string().starts_with("linux.namespaces[0].path: "), "{error}");
    }
}
