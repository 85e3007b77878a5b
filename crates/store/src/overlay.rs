//! Overlay mounts of layers, as detached mounts.
//!
//! Options are spelled out, so that a distribution's defaults for the overlay module change nothing:
//! - `index=off`: hardlinks break on copy-up, and one layer may be in several mounts; docker and containerd choose
//!   the same.
//! - `metacopy=off`: chmod copies the file's data too, so that an upper directory stands on its own.
//! - `redirect_dir=nofollow`: rename(2) of a directory of a lower layer answers EXDEV, which `mv` copes with; no
//!   attribute in a layer can name another directory.
//! - `volatile` never: a container's files survive a crash of the host as on any file system.
//! - `userxattr` in a user namespace, where `trusted.*` attributes can't be set.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use sys::mount;

use crate::copy::copy_attributes;
use crate::error::{Error, Result};
use crate::tree;

/// What to stack.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Diff directories, lowest first, as in [`crate::Image::layers`]. At least one.
    pub lower: &'a [&'a Path],
    /// Directory that takes the changes and its work directory, both on one file system, the second empty.
    /// `None`: read-only. [`new_upper`] makes both.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Name shown as the mount's source; at most 255 bytes.
    pub source: &'a str,
}

/// Which attributes overlay keeps its marks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// `trusted.overlay.*`: the host's root.
    Trusted,
    /// `user.overlay.*`: in a user namespace, with the mount option `userxattr`.
    User,
}

impl Marks {
    /// Those of this process.
    pub(crate) fn here() -> Self {
        // user_namespaces(7): the initial namespace maps every ID to itself.
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let all: Vec<&str> = map.split_whitespace().collect();
        if all.is_empty() || all == ["0", "0", "4294967295"] { Self::Trusted } else { Self::User }
    }

    /// The mark of a directory that hides what lower layers have in it.
    pub(crate) fn opaque(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.opaque",
            Self::User => c"user.overlay.opaque",
        }
    }

    /// What all marks begin with.
    pub(crate) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }
}

/// Does this directory of an upper layer hide what lower layers have in it?
pub fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let opaque = sys::xattr::lget(&tree::proc_path(dir, b""), Marks::here().opaque());
    opaque.is_ok_and(|value| value.is_some_and(|value| value == b"y"))
}

/// Stacks directories into a detached mount; attaching it is the caller's step, closing it undoes all.
pub fn overlay(what: &Overlay<'_>) -> Result<OwnedFd> {
    if what.lower.is_empty() {
        let nothing = io::ErrorKind::InvalidInput.into();
        return Err(failure(what, "no lower directory", String::new(), nothing));
    }
    if let ([only], None) = (what.lower, what.upper) {
        // Overlay wants two directories.
        return read_only(only).map_err(|e| failure(what, "bind", String::new(), e));
    }
    if has_lowerdir_plus() { by_paths(what) } else { by_descriptors(what) }
}

/// A copy of the mount, at one directory.
fn read_only(path: &Path) -> io::Result<OwnedFd> {
    let mounted = copy(path)?;
    let read_only = mount::SetAttr { set: mount::attr::RDONLY, ..mount::SetAttr::default() };
    mount::mount_setattr(mounted.as_fd(), false, read_only, None)?;
    Ok(mounted)
}

/// A detached copy of the mount at a directory.
pub(crate) fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    mount::open_tree_clone(nix::fcntl::open(path, flags, Mode::empty())?, c"", false)
}

/// Does this kernel take one `lowerdir+` option per layer (Linux 6.7)?
pub(crate) fn has_lowerdir_plus() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let Ok(fs) = mount::fsopen(c"overlay") else {
            return true; // by_options() says what is wrong
        };
        // Before 6.5 overlay took any option here and read it only when the mount was made.
        mount::fsconfig_string(fs.as_fd(), c"lowerdir+", c"/").is_ok()
            && mount::fsconfig_flag(fs.as_fd(), c"no-such-option").is_err()
    })
}

/// Makes an upper directory with its work directory. The container sees the upper directory's own attributes
/// on `/`, so they are those of the topmost layer.
pub fn new_upper(lower: &[&Path], upper: &Path, work: &Path) -> Result<()> {
    for path in [upper, work] {
        std::fs::create_dir(path).map_err(Error::os("mkdir", path))?;
    }
    let to = open(upper)?;
    let Some(top) = lower.last() else {
        return Ok(());
    };
    let mtime = copy_attributes(open(top)?.as_fd(), b"", to.as_fd(), b"")
        .map_err(Error::os("copy attributes of the topmost layer to", upper))?;
    tree::set_times(to.as_fd(), b".", mtime).map_err(|e| Error::os("set times", upper)(e.into()))
}

pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::os("open", path)(e.into()))
}

/// Names of directories for fsconfig(2), whose values end at 255 bytes; longer paths go by way of /proc.
fn by_paths(what: &Overlay<'_>) -> Result<OwnedFd> {
    let mut held = Vec::new();
    let mut short = |path: &Path| -> Result<CString> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() < 256 && !bytes.contains(&b'\\') {
            return Ok(cstring(bytes));
        }
        let dir = open(path)?;
        let link = by_number(&dir);
        held.push(dir);
        Ok(link)
    };
    let lower: Vec<CString> = what.lower.iter().rev().map(|path| short(path)).collect::<Result<_>>()?;
    let upper = what.upper.map(|(upper, work)| Ok::<_, Error>((short(upper)?, short(work)?))).transpose()?;
    by_options(what, &lower, upper.as_ref())
}

/// The path by which this process finds what it has open.
pub(crate) fn by_number(fd: &OwnedFd) -> CString {
    cstring(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes())
}

/// With fsconfig(2). `lower` are the names of the directories, topmost first.
pub(crate) fn by_options(
    what: &Overlay<'_>,
    lower: &[CString],
    upper: Option<&(CString, CString)>,
) -> Result<OwnedFd> {
    let fs = mount::fsopen(c"overlay").map_err(|e| failure(what, "fsopen", String::new(), e))?;
    let fs = fs.as_fd();
    let fail = |step: &str, error| failure(what, step, mount::fs_log(fs), error);
    let string = |key: &CStr, value: &CStr| {
        mount::fsconfig_string(fs, key, value)
            .map_err(|e| fail(&format!("{}={}", key.to_string_lossy(), value.to_string_lossy()), e))
    };
    string(c"source", &cstring(what.source.as_bytes()))?;
    for name in lower {
        string(c"lowerdir+", name)?;
    }
    if let Some((upper, work)) = upper {
        string(c"upperdir", upper)?;
        string(c"workdir", work)?;
    }
    for (key, value) in OPTIONS {
        string(key, value)?;
    }
    if Marks::here() == Marks::User {
        mount::fsconfig_flag(fs, c"userxattr").map_err(|e| fail("userxattr", e))?;
    }
    mount::fsconfig_create(fs).map_err(|e| fail("create", e))?;
    let attr = if what.upper.is_none() { mount::attr::RDONLY } else { 0 };
    mount::fsmount(fs, attr).map_err(|e| fail("fsmount", e))
}

const OPTIONS: [(&CStr, &CStr); 3] =
    [(c"index", c"off"), (c"metacopy", c"off"), (c"redirect_dir", c"nofollow")];

/// [`overlay`] as kernels before 6.7 need it; public for tests on newer ones.
#[doc(hidden)]
pub fn overlay_on_old_kernels(what: &Overlay<'_>) -> Result<OwnedFd> {
    by_descriptors(what)
}

fn by_descriptors(what: &Overlay<'_>) -> Result<OwnedFd> {
    in_own_namespace(what, || {
        let lower: Vec<OwnedFd> = what.lower.iter().rev().map(|path| open(path)).collect::<Result<_>>()?;
        let upper =
            what.upper.map(|(upper, work)| Ok::<_, Error>((open(upper)?, open(work)?))).transpose()?;
        by_mount(what, &lower, upper.as_ref())
    })
}

/// Does `work` in a thread that has a mount namespace of its own, which the host sees nothing of and which goes with it.
/// What it works on is to be opened there: mounts of another namespace are not taken.
pub(crate) fn in_own_namespace(
    what: &Overlay<'_>,
    work: impl FnOnce() -> Result<OwnedFd> + Send,
) -> Result<OwnedFd> {
    let fail = |step: &'static str| move |e: nix::Error| failure(what, step, String::new(), e.into());
    let inside = || {
        nix::sched::unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(fail("unshare"))?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(fail("make the mounts private"))?;
        work()
    };
    std::thread::scope(|scope| {
        scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// With mount(2), whose options end at a page: from inside /proc/self/fd, the name of an open directory is its number.
/// Changes the working directory. `lower` has the topmost first.
pub(crate) fn by_mount(
    what: &Overlay<'_>,
    lower: &[OwnedFd],
    upper: Option<&(OwnedFd, OwnedFd)>,
) -> Result<OwnedFd> {
    let fail = |step: &'static str| move |e: nix::Error| failure(what, step, String::new(), e.into());
    let numbers: Vec<String> = lower.iter().map(|dir| dir.as_raw_fd().to_string()).collect();
    let mut options = format!("lowerdir={}", numbers.join(":"));
    if let Some((upper, work)) = upper {
        options += &format!(",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd());
    }
    for (key, value) in OPTIONS {
        options += &format!(",{}={}", key.to_string_lossy(), value.to_string_lossy());
    }
    if Marks::here() == Marks::User {
        options += ",userxattr";
    }
    let place = what.lower[0];
    nix::unistd::chdir("/proc/self/fd").map_err(fail("chdir /proc/self/fd"))?;
    let flags = if what.upper.is_none() { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    nix::mount::mount(Some(what.source), place, Some("overlay"), flags, Some(options.as_str()))
        .map_err(fail("mount"))?;
    // The namespace goes with the thread, and the mount in it; the copy is on its own.
    copy(place).map_err(|e| failure(what, "open_tree", String::new(), e))
}

fn cstring(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

pub(crate) fn failure(what: &Overlay<'_>, step: &str, log: String, source: io::Error) -> Error {
    let hint = hint(&source, &log);
    Error::Overlay { layers: what.lower.len(), step: step.to_owned(), log, hint, source }
}

/// Known causes.
fn hint(error: &io::Error, log: &str) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::ENODEV => Some("the kernel has no overlay file system; modprobe overlay"),
        libc::EPERM => Some("wants CAP_SYS_ADMIN, in a user namespace Linux 5.11 or newer"),
        libc::ENOMEM | libc::EINVAL if log.contains("too many lower") => {
            Some("overlay stacks at most 500 layers; squash the image")
        }
        libc::EINVAL if log.contains("upper fs") || log.contains("upperdir") => Some(
            "the store's file system can't hold an upper directory, for instance because it is an overlay itself; use --root on ext4, xfs, btrfs or tmpfs",
        ),
        libc::ELOOP | libc::EINVAL if log.contains("stacking depth") => {
            Some("the store is on overlays twice; use --root on another file system")
        }
        libc::EBUSY => Some("another mount uses the upper or work directory"),
        _ => None,
    }
}
