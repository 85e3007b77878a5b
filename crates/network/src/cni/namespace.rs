//! A network namespace that outlives the processes in it: plugins want to find it also after a container's end, for what
//! they made outside it, a rule for its addresses for instance.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sys::clone::{Options, clone3, namespace, unshare};
use sys::wait::Ended;

use crate::Error;

/// Makes one with loopback in it, mounted at `path`, which must be new. The caller must be single-threaded.
///
/// # Errors
/// The caller may not.
pub fn make(path: &Path) -> Result<(), Error> {
    let what = || Error::io(format!("make a network namespace at {path:?}"));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(what())?;
    let target = CString::new(path.as_os_str().as_bytes()).map_err(|e| what()(e.into()))?;
    let child = clone3(&Options::default(), || {
        let made = unshare(namespace::NET).and_then(|()| sys::process::loopback_up()).and_then(|()| {
            let own = Some("/proc/self/ns/net");
            mount(own, target.as_c_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Into::into)
        });
        made.map_or_else(|e: io::Error| e.raw_os_error().unwrap_or(nix::libc::EIO).clamp(1, 254), |()| 0)
    });
    let ended = child.and_then(|child| sys::wait::wait(child.pidfd.as_fd()));
    let made = match ended {
        Ok(Ended::Exited(0)) => return Ok(()),
        Ok(Ended::Exited(errno)) => io::Error::from_raw_os_error(errno),
        Ok(Ended::Killed(_)) => io::ErrorKind::Interrupted.into(),
        Err(e) => e,
    };
    // The first error is the one to tell.
    let _ = remove(path);
    Err(what()(made))
}

/// Takes it away; the kernel frees it when nobody is in it any more. It is no error that it is not there.
///
/// # Errors
/// The caller may not.
pub fn remove(path: &Path) -> Result<(), Error> {
    let what = || Error::io(format!("remove the network namespace {path:?}"));
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(e) => return Err(what()(e.into())),
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(what()(e)),
        _ => Ok(()),
    }
}
