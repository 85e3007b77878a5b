//! Mounts that the parent copies in the child's mount namespace, and sends to the child.
//!
//! A child in a user namespace may lack the rights to look a source up. The parent has them; but what it copied in its
//! own mount namespace would have lost the hold that a mount's attributes (read-only, nosuid, …) have on the user
//! namespace's root (mount_namespaces(7)). A process can only be in one mount namespace, so a short-lived one goes there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use sys::clone::{Cloned, Options, clone3, namespace, setns};
use sys::mount::open_tree_clone;
use sys::path::{openat2, resolve};

use crate::Error;
use crate::plan::Tree;
use crate::prepare::{self, Refused};

/// What could not be done with a tree: sending it.
const SEND: Refused = ": send it to the process";

/// Nor going where it is.
const ENTER: Refused = ": enter the process's mount namespace";

/// All that an answer may name; its index is what is sent.
const REFUSALS: [Refused; 5] = [prepare::OPEN, prepare::PROPAGATION, prepare::ID_MAP, SEND, ENTER];

/// Copies `trees` in the mount namespace of `process` and sends them, in this order, by `to`. Paths begin at `root`, which
/// is open in that namespace, and can't leave it; without it at the process's own root directory.
///
/// A process that is gone is no error: what it said before is still to be heard.
pub(crate) fn send(
    trees: &[&Tree],
    root: Option<BorrowedFd>,
    process: &Cloned,
    to: BorrowedFd,
) -> Result<(), Error> {
    let users: Vec<Option<File>> = trees.iter().map(|tree| prepare::users(tree)).collect::<Result<_, _>>()?;
    let fail = |e: io::Error| Error::new("copy mounts in the process's mount namespace").because(e);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let slash = match root {
        Some(_) => None,
        None => {
            match nix::fcntl::open(format!("/proc/{}/root", process.pid).as_str(), flags, Mode::empty()) {
                // It is our child and not reaped, so the number is its.
                Err(Errno::ENOENT | Errno::ESRCH) => return Ok(()),
                other => Some(other.map_err(|e| fail(e.into()))?),
            }
        }
    };
    let (ours, theirs) = sys::message::pair().map_err(fail)?;
    let mut ours = Some(ours);
    let copier = clone3(&Options::default(), || {
        drop(ours.take());
        let copied = enter(process, slash.as_ref())
            .map_err(|e| (0, ENTER, e))
            .and_then(|()| copy_all(trees, &users, root, to));
        let Err((index, refused, e)) = copied else { return 0 };
        let refused = REFUSALS.iter().position(|known| *known == refused).unwrap_or(0);
        let errno = e.raw_os_error().unwrap_or(nix::libc::EIO);
        let mut answer = [0; 12];
        for (bytes, value) in answer.chunks_mut(4).zip([errno, small(index), small(refused)]) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        let _ = sys::message::send(theirs.as_fd(), &answer, None);
        1
    })
    .map_err(fail)?;
    drop(theirs);
    let mut answer = [0; 12];
    let heard = ours.map_or(Ok((0, None)), |ours| sys::message::receive(ours.as_fd(), &mut answer));
    // It has nothing left to do but exit.
    let _ = waitid(Id::PIDFd(copier.pidfd.as_fd()), WaitPidFlag::WEXITED);
    if heard.map_err(fail)?.0 == 0 {
        return Ok(());
    }
    let [errno, index, refused] =
        [0, 4, 8].map(|at| i32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]));
    let of = |index: i32| usize::try_from(index).unwrap_or(0);
    let refused = REFUSALS.get(of(refused)).unwrap_or(&"");
    // ECONNRESET: it died with some of them unread.
    let gone = match *refused {
        SEND => [Errno::EPIPE, Errno::ECONNRESET].contains(&Errno::from_raw(errno)),
        ENTER => errno == Errno::ESRCH as i32,
        _ => false,
    };
    if gone {
        return Ok(());
    }
    let tree = trees.get(of(index)).map_or_else(String::new, ToString::to_string);
    Err(Error::new(format!("open {tree}{refused}")).because(io::Error::from_raw_os_error(errno)))
}

fn small(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

// What follows runs in the process that is cloned for it: nothing there allocates.

fn enter(process: &Cloned, slash: Option<&OwnedFd>) -> io::Result<()> {
    setns(process.pidfd.as_fd(), namespace::MOUNT)?;
    if let Some(slash) = slash {
        nix::unistd::fchdir(slash)?;
        nix::unistd::chroot(c".")?;
    }
    Ok(())
}

fn copy_all(
    trees: &[&Tree],
    users: &[Option<File>],
    root: Option<BorrowedFd>,
    to: BorrowedFd,
) -> Result<(), (usize, Refused, io::Error)> {
    for (index, (tree, users)) in trees.iter().zip(users).enumerate() {
        let fd = copy(tree, root).map_err(|e| (index, prepare::OPEN, e))?;
        prepare::dress(&fd, tree, users.as_ref()).map_err(|(e, refused)| (index, refused, e))?;
        sys::message::send(to, &[1], Some(fd.as_fd())).map_err(|e| (index, SEND, e))?;
    }
    Ok(())
}

fn copy(tree: &Tree, root: Option<BorrowedFd>) -> io::Result<OwnedFd> {
    let Some(root) = root else { return open_tree_clone(AT_FDCWD, &tree.path, tree.recursive) };
    let place =
        openat2(root, &tree.path, OFlag::O_PATH.bits(), 0, resolve::IN_ROOT | resolve::NO_MAGICLINKS)?;
    open_tree_clone(place, c"", tree.recursive)
}
