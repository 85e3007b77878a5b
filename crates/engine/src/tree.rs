//! Removes what a container wrote, however it is shaped.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How deep [`empty`] goes before it moves what is below to the top: each level holds a descriptor, and a container
/// can nest directories far deeper than there are descriptors or stack.
const DEPTH: usize = 32;
/// How often what others put there meanwhile is removed too.
const TRIES: u32 = 100;

/// Removes the directory at `path` with all that is in it. That it is not there is no error.
///
/// # Errors
/// The first thing that could not be removed; what came after it is still there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    remove_within(path, TRIES)
}

fn remove_within(path: &Path, tries: u32) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = match nix::fcntl::open(path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        result => result?,
    };
    let mut moved = 0;
    // A pass that moved something to the top has more to do there.
    loop {
        let before = moved;
        empty(top.as_fd(), top.as_fd(), DEPTH, &mut moved)?;
        if moved == before {
            break;
        }
    }
    match std::fs::remove_dir(path) {
        // Another command noted something there meanwhile, for instance that it wants the container stopped.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && tries > 0 => remove_within(path, tries - 1),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn empty(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> nix::Result<()> {
    for (name, kind) in names(dir)? {
        let is_dir = match kind {
            Some(kind) => kind == Type::Directory,
            // The file system does not say: unlink tells (EISDIR on Linux).
            None => unlinkat(dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir) == Err(Errno::EISDIR),
        };
        if !is_dir {
            gone(unlinkat(dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir))?;
        } else if depth == 0 {
            move_up(top, dir, &name, moved)?;
        } else {
            remove_dir(top, dir, &name, depth, moved)?;
        }
    }
    Ok(())
}

fn remove_dir(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
    moved: &mut u64,
) -> nix::Result<()> {
    // Most are empty.
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
        result => return gone(result),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let below = openat(dir, name, flags, Mode::empty())?;
    empty(top, below.as_fd(), depth - 1, moved)?;
    gone(unlinkat(dir, name, UnlinkatFlags::RemoveDir))
}

/// Moves directory `name` to the top. Names that are taken belong to a removal that was killed.
fn move_up(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> nix::Result<()> {
    loop {
        *moved += 1;
        let place = CString::new(format!(".removing-{moved}")).unwrap_or_default();
        match renameat(dir, name, top, place.as_c_str()) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            result => return result,
        }
    }
}

/// Another process may be removing the same.
fn gone(result: nix::Result<()>) -> nix::Result<()> {
    if result == Err(Errno::ENOENT) { Ok(()) } else { result }
}

fn names(dir: BorrowedFd<'_>) -> nix::Result<Vec<(CString, Option<Type>)>> {
    let mut list = Vec::new();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            list.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_put_there_meanwhile_goes_too() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        for _ in 0..100 {
            std::fs::create_dir(&tree).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for n in 0..20 {
                        // Once the directory is gone nothing makes it again.
                        let _ = std::fs::write(tree.join(n.to_string()), "");
                    }
                });
                remove(&tree).unwrap();
            });
            assert!(!tree.exists());
        }
    }

    #[test]
    fn hostile_shapes_go() {
        let place = tempfile::tempdir().unwrap();
        let keep = place.path().join("keep");
        std::fs::create_dir(&keep).unwrap();
        std::fs::write(keep.join("marker"), "x").unwrap();
        let tree = place.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&keep, tree.join("link")).unwrap();
        std::fs::write(tree.join("file"), "x").unwrap();
        std::fs::create_dir_all(tree.join(".removing-1/full")).unwrap();
        std::fs::write(tree.join(".removing-2"), "").unwrap();
        // Nested from the inside, as a container would, and deeper than is walked in one go.
        let mut inner = nix::fcntl::open(&tree, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..400 {
            nix::sys::stat::mkdirat(&inner, "directory", Mode::S_IRWXU).unwrap();
            inner = openat(&inner, "directory", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        drop(inner);
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(std::fs::read_to_string(keep.join("marker")).unwrap(), "x");
        remove(&tree).unwrap();
    }
}
