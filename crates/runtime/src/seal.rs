//! The program file's protection from containers.
//!
//! While a process of this program is inside a container, but has not yet executed the container's program, its
//! /proc/PID/exe is a way to the file on the host; a container's root that gets hold of it replaces the runtime for
//! the whole host (CVE-2019-5736). So the program runs itself again from a copy that nobody can write: through a
//! read-only overlay over its directory, which costs no copying, or else from sealed memory.

use std::env;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, SealFlag, fcntl, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::{execveat, geteuid};
use sys::mount;

use crate::Error;

/// Tells the second run that it is one: set to its process id, which execve keeps, so that no other process can
/// mistake it for its own.
pub(crate) const MARK: &str = "RCR_SEALED";
/// Tells the second run where its file is, which it cannot find out itself.
const PROGRAM: &str = "RCR_PROGRAM";

fn is_sealed() -> bool {
    env::var_os(MARK).is_some_and(|pid| pid == OsStr::new(&std::process::id().to_string()))
}

/// Where this program's file is.
///
/// # Errors
/// /proc is not there.
pub fn program() -> io::Result<PathBuf> {
    match env::var_os(PROGRAM).filter(|_| is_sealed()) {
        Some(path) => Ok(path.into()),
        None => env::current_exe(),
    }
}

/// Makes sure that this process's program file is safe from containers. To be called first of all by a program that
/// is going to create containers or join them, because it begins anew here: it does not return the first time.
///
/// # Errors
/// The file can neither be overlaid nor copied.
pub fn seal() -> Result<(), Error> {
    if is_sealed() {
        // The kernel named the process after a descriptor.
        if let Some(name) = env::args_os().next().as_deref().map(Path::new).and_then(Path::file_name)
            && let Ok(name) = CString::new(name.as_bytes())
        {
            // A name is a convenience.
            let _ = nix::sys::prctl::set_name(&name);
        }
        return Ok(());
    }
    let fail = |e: io::Error| Error::new("protect /proc/self/exe from containers").because(e);
    let path = env::current_exe().map_err(fail)?;
    if !writable_by_containers(&path).map_err(fail)? {
        return Ok(());
    }
    let file = overlaid(&path).or_else(|_| copied()).map_err(fail)?;
    Err(fail(run(&file, &path)))
}

/// A container of an unprivileged user has that user's rights at most, also as root of its user namespace.
fn writable_by_containers(path: &Path) -> io::Result<bool> {
    let user = geteuid().as_raw();
    let stat = std::fs::metadata(path)?;
    Ok(user == 0 || stat.uid() == user || stat.mode() & 0o022 != 0)
}

/// The file as an overlay without an upper layer shows it: its superblock can't be made writable, while a read-only
/// bind mount could.
fn overlaid(path: &Path) -> io::Result<OwnedFd> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::EINVAL.into());
    };
    // Such an overlay wants two layers. The other one must not be above or below the first; what is in it is hidden.
    let other = ["/run", "/var/empty", "/dev/shm"]
        .map(Path::new)
        .into_iter()
        .find(|other| !directory.starts_with(other) && !other.starts_with(directory) && other.is_dir());
    let lower = [directory.as_os_str(), other.ok_or(Errno::EINVAL)?.as_os_str()].map(escaped).join(&b':');
    let fs = mount::fsopen(c"overlay")?;
    mount::fsconfig_string(fs.as_fd(), c"lowerdir", &CString::new(lower)?)?;
    // Without it the kernel logs a line when the layers are on two file systems. Not every kernel has the option.
    let _ = mount::fsconfig_string(fs.as_fd(), c"xino", c"off");
    mount::fsconfig_create(fs.as_fd())?;
    let overlay = mount::fsmount(fs.as_fd(), mount::attr::RDONLY | mount::attr::NODEV | mount::attr::NOSUID)?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(&overlay, name, flags, Mode::empty())?)
}

/// A path with what means something in the list of lower directories taken literally.
fn escaped(path: &OsStr) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_bytes() {
        if b":\\,".contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// The file copied to memory that can't be changed any more. memfd_create(2), F_ADD_SEALS.
fn copied() -> io::Result<OwnedFd> {
    let mut program = File::open("/proc/self/exe")?;
    let mut copy: File = memfd_create(c"rcr", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?.into();
    io::copy(&mut program, &mut copy)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    // Still open for writing, it could not be executed.
    let read_only = File::open(PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())))?;
    drop(copy);
    Ok(read_only.into())
}

/// Runs this program once more, from `file`. Returns only the error.
fn run(file: &OwnedFd, path: &Path) -> io::Error {
    let mark = format!("{MARK}={}", std::process::id());
    let args: Vec<CString> = env::args_os().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let mut vars: Vec<CString> = env::vars_os()
        .filter(|(name, _)| name != MARK && name != PROGRAM)
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    vars.extend(CString::new(mark));
    vars.extend(CString::new([PROGRAM.as_bytes(), b"=", path.as_os_str().as_bytes()].concat()));
    match execveat(file, c"", &args, &vars, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_copy_is_whole_and_stays_as_it_is() {
        let copy = copied().unwrap();
        let size = std::fs::metadata("/proc/self/exe").unwrap().len();
        let mut file = File::from(copy);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let again = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        assert_eq!(nix::unistd::write(&again, b"x"), Err(Errno::EPERM));
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escaped(OsStr::new(r"/a:b\c,d")), br"/a\:b\\c\,d");
    }
}
