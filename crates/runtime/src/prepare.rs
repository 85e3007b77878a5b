//! Everything a plan needs that is not a value: opened before the clone, so that the child finds it ready.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;
use sys::mount::{SetAttr, attr, mount_setattr, open_tree_clone};
use sys::process::Strings;

use crate::child::Files;
use crate::idmap;
use crate::launch::Request;
use crate::plan::{IdMapping, Open, Plan, Tree};
use crate::{Error, ErrorKind, seccomp};

/// Opens what the plan lists, compiles the filter, and takes over the caller's descriptors.
pub(crate) fn prepare(plan: &Plan, request: &mut Request) -> Result<Files, Error> {
    let opened: Result<Vec<_>, Error> = plan
        .opens
        .iter()
        .map(|what| {
            if let Open::Late(_) = what {
                return Ok(None);
            }
            open(what).map(Some).map_err(|(e, why)| Error::new(format!("open {what}{why}")).because(e))
        })
        .collect();
    let fifo = request.exec_fifo.map(|fifo| fifo.try_clone_to_owned()).transpose();
    let seccomp = plan.seccomp.as_ref().map(seccomp::compile).transpose()?;
    if let Some(filter) = &seccomp {
        tracing::debug!("seccomp filter flags: {}", filter.flags);
    }
    let stdio = &mut request.stdio;
    Ok(Files {
        slots: opened?,
        rootfs: request.rootfs.take(),
        v1_tasks: std::mem::take(&mut request.v1_tasks),
        kept: std::mem::take(&mut request.kept),
        streams: [stdio.stdin.take(), stdio.stdout.take(), stdio.stderr.take()],
        fifo: fifo.map_err(|e| Error::new("duplicate the exec fifo").because(e))?,
        seccomp,
        mount_label: plan.mount_label.clone(),
        args: Strings::new(plan.args.clone()),
        env: Strings::new(plan.env.clone()),
    })
}

type Failed = (Box<dyn std::error::Error + Send + Sync>, &'static str);

fn open(what: &Open) -> Result<OwnedFd, Failed> {
    let plain = |e: std::io::Error| -> Failed { (e.into(), "") };
    match what {
        Open::Namespace { kind, path, foreign, .. } => {
            let file = File::open(as_path(path)).map_err(plain)?;
            match sys::clone::namespace_kind(file.as_fd()) {
                Ok(found) if found == *kind => {}
                Ok(_) => {
                    return Err((
                        std::io::Error::from_raw_os_error(nix::libc::EINVAL).into(),
                        ": it is a namespace of another kind",
                    ));
                }
                Err(e) => return Err((e.into(), ": it is no namespace")),
            }
            if *foreign {
                let own = std::fs::metadata("/proc/self/ns/net").map_err(plain)?;
                let other = file.metadata().map_err(plain)?;
                if (own.dev(), own.ino()) == (other.dev(), other.ino()) {
                    let why = "linux.sysctl: not allowed in host network namespace";
                    return Err((Error::new(why).kind(ErrorKind::Invalid).into(), ""));
                }
            }
            Ok(file.into())
        }
        Open::Process(pid) => sys::pidfd::open(*pid).map_err(plain),
        Open::ProcessRoot(pid) => {
            let path = format!("/proc/{pid}/root");
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            nix::fcntl::open(path.as_str(), flags, Mode::empty()).map_err(|e| plain(e.into()))
        }
        Open::Tree(tree) | Open::Late(tree) => open_tree(tree),
    }
}

/// What of a mount was refused: goes behind its name in a message.
pub(crate) type Refused = &'static str;

pub(crate) const OPEN: Refused = "";
pub(crate) const PROPAGATION: Refused = ": set the propagation";
pub(crate) const ID_MAP: Refused = ": id-map the mount (not every file system can)";

fn open_tree(tree: &Tree) -> Result<OwnedFd, Failed> {
    let users = users(tree).map_err(|e| -> Failed { (e.into(), "") })?;
    let fail = |(e, why): (std::io::Error, Refused)| -> Failed { (e.into(), why) };
    let fd = open_tree_clone(AT_FDCWD, &tree.path, tree.recursive).map_err(|e| fail((e, OPEN)))?;
    dress(&fd, tree, users.as_ref()).map_err(fail)?;
    Ok(fd)
}

/// The user namespace whose id maps a mount gets.
pub(crate) fn users(tree: &Tree) -> Result<Option<File>, Error> {
    match &tree.id_maps {
        None => Ok(None),
        Some((IdMapping::Ranges(map), _)) => sys::userns::make(map).map(Some).map_err(idmap::failed),
        Some((IdMapping::Namespace(path), _)) => File::open(as_path(path))
            .map(Some)
            .map_err(|e| Error::new(format!("open user namespace {}", path.to_string_lossy())).because(e)),
    }
}

/// Gives a copied mount its propagation and id maps. Does not allocate.
pub(crate) fn dress(
    fd: &OwnedFd,
    tree: &Tree,
    users: Option<&File>,
) -> Result<(), (std::io::Error, Refused)> {
    if let Some(change) = tree.propagation {
        let wanted = SetAttr { propagation: change.kind, ..SetAttr::default() };
        mount_setattr(fd.as_fd(), change.recursive, wanted, None).map_err(|e| (e, PROPAGATION))?;
    }
    if let (Some((_, recursive)), Some(users)) = (&tree.id_maps, users) {
        let change = SetAttr { set: attr::IDMAP, ..SetAttr::default() };
        mount_setattr(fd.as_fd(), *recursive, change, Some(users.as_fd())).map_err(|e| (e, ID_MAP))?;
    }
    Ok(())
}

pub(crate) fn as_path(text: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}
