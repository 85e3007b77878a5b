//! How much room a container takes.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstatat};
use store::Store;
use sys::path::{openat2, resolve};

use crate::leftover::enter;
use crate::record::Record;
use crate::{ContainerSize, Engine, Error, name};

/// How much room a container takes, by its name, its ID or the beginning of it.
///
/// # Errors
/// [`Error::NoSuchContainer`]; what it has written cannot be read.
pub fn size(engine: &Engine, container: &str) -> Result<ContainerSize, Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let dir = engine.container(&id);
    let record = Record::read(&dir)?.ok_or_else(|| Error::NoSuchContainer(container.to_owned()))?;
    let upper = dir.join("upper");
    let written = written(&upper).map_err(Error::io(format!("measure {upper:?}")))?;
    Ok(ContainerSize { written, image: Store::open(&engine.root)?.image(&record.image_id)?.size })
}

/// Bytes of the regular files below `top`, each once however many names it has. Its processes may be changing the tree:
/// no link is followed, what goes meanwhile is not counted, nor what lies deeper than a path can be long.
pub(crate) fn written(top: &Path) -> io::Result<u64> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = match nix::fcntl::open(top, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(0),
        result => result?,
    };
    let how = resolve::NO_SYMLINKS | resolve::BENEATH;
    let (mut sum, mut counted) = (0u64, HashSet::new());
    let mut directories = vec![PathBuf::from(".")];
    while let Some(path) = directories.pop() {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let opened = match openat2(root.as_fd(), &name, flags.bits(), Mode::empty().bits(), how) {
            Ok(directory) => directory,
            Err(e) if is_passing(&e) => continue,
            Err(e) => return Err(e),
        };
        let mut directory = Dir::from_fd(opened)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        for name in names {
            let Ok(stat) = fstatat(&directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
                continue;
            };
            match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFDIR => directories.push(path.join(OsStr::from_bytes(name.to_bytes()))),
                SFlag::S_IFREG if stat.st_nlink == 1 || counted.insert(stat.st_ino) => {
                    sum = sum.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
                }
                _ => {}
            }
        }
    }
    Ok(sum)
}

fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts_once_and_links_lead_nowhere() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("outside"), vec![0; 1000]).unwrap();
        let top = place.path().join("upper");
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::write(top.join("a/file"), vec![0; 10]).unwrap();
        std::fs::write(top.join("a/b/file"), vec![0; 100]).unwrap();
        std::fs::hard_link(top.join("a/file"), top.join("again")).unwrap();
        std::os::unix::fs::symlink(place.path(), top.join("a/out")).unwrap();
        nix::unistd::mkfifo(&top.join("fifo"), Mode::S_IRWXU).unwrap();
        assert_eq!(written(&top).unwrap(), 110);
        assert_eq!(written(&place.path().join("none")).unwrap(), 0);
    }
}
