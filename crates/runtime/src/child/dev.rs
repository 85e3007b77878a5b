//! Steps for /dev: nodes, links, the terminal, and standard streams.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, Uid, UnlinkatFlags, dup2_stderr, dup2_stdin, dup2_stdout};
use sys::mount as api;

use super::Child;
use super::fail::{At, Doing, Fail};
use super::target::{self, open_parent};
use crate::plan::{Device, Terminal};

/// linux/magic.h; nix has it only for some libcs.
const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

impl Child<'_> {
    /// What is there already is left alone, as all runtimes do: an image brings its own nodes.
    pub(super) fn device(&mut self, at: usize, device: &Device) -> Result<(), Fail> {
        let (dir, name) = open_parent(self.root()?, &device.path)?;
        if let Some(source) = &device.bind {
            let tree = self.open_source(at, source, false)?;
            return attach_device(dir.as_fd(), name, tree.as_fd());
        }
        let kind = SFlag::from_bits_truncate(device.mode & SFlag::S_IFMT.bits());
        let mode = Mode::from_bits_truncate(device.mode & 0o7777);
        let number = makedev(device.number.0.into(), device.number.1.into());
        match mknodat(&dir, name, kind, mode, number) {
            Err(Errno::EEXIST) => return Ok(()),
            // No CAP_MKNOD, or a nested user namespace.
            Err(Errno::EPERM) => {
                let tree = api::open_tree_clone(AT_FDCWD, &device.path, false).at(Doing::OpenSource)?;
                return attach_device(dir.as_fd(), name, tree.as_fd());
            }
            other => other.at(Doing::Call)?,
        }
        if device.owner != (0, 0) {
            let (uid, gid) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
            nix::unistd::fchownat(&dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .at(Doing::ChangeOwner)?;
        }
        Ok(())
    }

    pub(super) fn link(&self, to: &CStr, at: &CStr, replace: bool) -> Result<(), Fail> {
        let (dir, name) = open_parent(self.root()?, at)?;
        if replace {
            match nix::unistd::unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
                Err(Errno::ENOENT) => {}
                other => other.at(Doing::Call)?,
            }
        }
        match nix::unistd::symlinkat(to, &dir, name) {
            Err(Errno::EEXIST) if !replace => Ok(()),
            other => other.at(Doing::Call),
        }
    }

    /// A standard stream that is the host's null device holds a file of the host open; give the container its own.
    pub(super) fn reopen_null(&mut self) -> Result<(), Fail> {
        let streams =
            sys::process::standard_streams().map(|fd| fstat(fd).is_ok_and(|stat| target::is_null(&stat)));
        if streams == [false; 3] {
            return Ok(());
        }
        self.null()?;
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK;
        let null = target::open(self.root()?, c"/dev/null", flags).at(Doing::OpenNull)?;
        if !target::is_null(&fstat(&null).at(Doing::OpenNull)?) {
            return Err(Fail::new(Doing::NotNull, Errno::ENODEV));
        }
        if streams[0] {
            dup2_stdin(&null).at(Doing::Call)?;
        }
        if streams[1] {
            dup2_stdout(&null).at(Doing::Call)?;
        }
        if streams[2] {
            dup2_stderr(&null).at(Doing::Call)?;
        }
        Ok(())
    }

    /// A new pseudo terminal of the container's own devpts. The other end is opened by ioctl, not by a path that an
    /// image could have prepared (CVE-2025-52565).
    pub(super) fn terminal(&mut self, step: usize, terminal: Terminal) -> Result<(), Fail> {
        let master = open_ptmx(self.base()?)?;
        let peer = sys::pty::peer(master.as_fd()).at(Doing::OpenPeer)?;
        if let Some((rows, columns)) = terminal.size {
            sys::pty::set_size(master.as_fd(), rows, columns).at(Doing::Call)?;
        }
        if terminal.console {
            let tree = api::open_tree_clone(&peer, c"", false).at(Doing::MakeConsole)?;
            let (dir, name) = open_parent(self.root()?, c"/dev/console")?;
            let place = open_file(dir.as_fd(), name).at(Doing::MakeConsole)?;
            api::move_mount(tree.as_fd(), place.as_fd()).at(Doing::MakeConsole)?;
        }
        self.send_fd(step, master.as_fd(), Doing::SendTerminal)?;
        sys::pty::set_controlling(peer.as_fd()).at(Doing::ControlTerminal)?;
        self.standard_streams([Some(peer.as_fd()); 3])
    }

    pub(super) fn standard_streams(&self, streams: [Option<BorrowedFd>; 3]) -> Result<(), Fail> {
        if let Some(fd) = streams[0] {
            dup2_stdin(fd).at(Doing::Call)?;
        }
        if let Some(fd) = streams[1] {
            dup2_stdout(fd).at(Doing::Call)?;
        }
        if let Some(fd) = streams[2] {
            dup2_stderr(fd).at(Doing::Call)?;
        }
        Ok(())
    }

    /// The streams were made by somebody outside; a container's user who could not open /dev/stdout again would be
    /// surprised. What can't be changed (a read-only or foreign file system) stays as it is.
    pub(super) fn own_streams(&self, uid: u32) -> Result<(), Fail> {
        for fd in sys::process::standard_streams() {
            let stat = fstat(fd).at(Doing::Call)?;
            if stat.st_uid == uid || target::is_null(&stat) {
                continue;
            }
            match nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), None) {
                Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => {}
                other => other.at(Doing::Call)?,
            }
        }
        Ok(())
    }
}

fn attach_device(dir: BorrowedFd, name: &CStr, tree: BorrowedFd) -> Result<(), Fail> {
    let place = open_file(dir, name).at(Doing::MakeTarget)?;
    api::move_mount(tree, place.as_fd()).at(Doing::Attach)
}

/// The file `name`, made empty if it is not there; never through a link.
fn open_file(dir: BorrowedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let make = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match nix::fcntl::openat(dir, name, make, Mode::from_bits_truncate(0o666)) {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e),
    }
    let fd =
        nix::fcntl::openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    if target::kind(&fstat(&fd)?) == SFlag::S_IFLNK { Err(Errno::ELOOP) } else { Ok(fd) }
}

fn open_ptmx(root: BorrowedFd) -> Result<OwnedFd, Fail> {
    // Look before opening: opening some device may do something.
    for flags in [OFlag::O_PATH | OFlag::O_NOFOLLOW, OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW] {
        let fd = target::open(root, c"/dev/pts/ptmx", flags).at(Doing::OpenPtmx)?;
        let stat = fstat(&fd).at(Doing::OpenPtmx)?;
        let genuine = target::kind(&stat) == SFlag::S_IFCHR
            && stat.st_rdev == makedev(5, 2)
            && fstatfs(&fd).at(Doing::OpenPtmx)?.filesystem_type() == DEVPTS_SUPER_MAGIC;
        if !genuine {
            return Err(Fail::new(Doing::NotPtmx, Errno::ENODEV));
        }
        if !flags.contains(OFlag::O_PATH) {
            return Ok(fd);
        }
    }
    Err(Fail::new(Doing::OpenPtmx, Errno::ENODEV))
}
