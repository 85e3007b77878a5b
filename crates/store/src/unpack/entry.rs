//! Unpacks entries into a diff directory.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, makedev};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid};
use sys::path::{openat2, resolve};

use super::notes::{Note, Notes};
use super::place::{Diff, Place, Was};
use super::{AUFS, OPAQUE, WHITEOUT, name};
use crate::error::{Error, Result};
use crate::overlay::Marks;
use crate::tar::{Archive, Entry, Kind};
use crate::tree;

/// More entries than any real layer has; a bomb of empty files ends here, if not at the disk's inodes.
const MAX_ENTRIES: u64 = 8_000_000;

/// Labels that the host's security module gives, not an image: SELinux, IMA, EVM; and NFS's form of ACLs.
const FOREIGN_XATTRS: [&[u8]; 4] =
    [b"security.selinux", b"security.ima", b"security.evm", b"system.nfs4_acl"];

/// Unpacks one layer.
pub(crate) struct Extractor {
    diff: Diff,
}

impl Extractor {
    /// `root` is the empty diff directory; `lowest` says that no layer is below.
    pub(crate) fn new(root: OwnedFd, marks: Marks, lowest: bool) -> Self {
        Self { diff: Diff::new(root, None, Notes::default(), marks, lowest) }
    }

    /// Unpacks all entries; leaves the archive at its end.
    pub(crate) fn unpack<R: BufRead>(mut self, archive: &mut Archive<R>) -> Result<Notes> {
        let mut entries = 0;
        while let Some(entry) = archive.next()? {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(Error::entry(
                    &entry.name,
                    format!("more than {MAX_ENTRIES} entries in the layer"),
                ));
            }
            self.put(&entry, archive)?;
        }
        Ok(self.diff.into_notes())
    }

    fn put<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        let path = name::clean(&entry.name)?;
        if path.is_empty() {
            return self.root(entry);
        }
        let (parent, base) = name::split(&path);
        if base == OPAQUE {
            return self.opaque(entry, parent);
        }
        if path.split(|b| *b == b'/').any(|component| component.starts_with(AUFS)) {
            return Ok(());
        }
        if let Some(hidden) = base.strip_prefix(WHITEOUT) {
            return self.whiteout(entry, parent, hidden);
        }
        let place = self.diff.place(parent, &entry.name)?;
        match entry.kind {
            Kind::File => self.file(entry, &place, base, archive),
            Kind::Directory => self.directory(entry, &place, base),
            Kind::HardLink => self.hard_link(entry, &place, base),
            // Overlay takes this device for a whiteout, in an image of containers/storage for instance. The entry
            // replaces what lower layers have, and can't be shown itself, so a whiteout is the next best.
            Kind::CharDevice if entry.device == (0, 0) => {
                self.diff.make_way(&place, base, false, &entry.name)?;
                self.hide(entry, &place, base)
            }
            Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                self.node(entry, &place, base)
            }
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::entry(&entry.name, "the root is a directory and stays one"));
        }
        let root = self.diff.root().clone();
        let dir = tree::open_dir(root.dir.as_fd(), b".").map_err(Error::unpack(&entry.name, "open"))?;
        self.attributes(entry, dir.as_fd())?;
        self.diff.notes.explicit_root = true;
        self.diff.notes.set(b"", Note::Directory(entry.mtime))
    }

    fn opaque(&mut self, entry: &Entry, parent: &[u8]) -> Result<()> {
        if self.diff.lowest {
            return Ok(());
        }
        let place = self.diff.place(parent, &entry.name)?;
        if place.path.is_empty() {
            self.diff.notes.opaque_root = true;
            return Ok(());
        }
        self.diff.set_opaque(&place, b"", &entry.name)
    }

    /// Hides what lower layers have. What this layer has at the same path stays, whatever the order.
    fn whiteout(&mut self, entry: &Entry, parent: &[u8], hidden: &[u8]) -> Result<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::entry(&entry.name, "a whiteout of nothing"));
        }
        if self.diff.lowest {
            return Ok(());
        }
        let place = self.diff.place(parent, &entry.name)?;
        let found = tree::stat(place.dir.as_fd(), hidden).map_err(Error::unpack(&entry.name, "stat"))?;
        match found {
            None => self.hide(entry, &place, hidden),
            Some(stat) if tree::kind(&stat) == SFlag::S_IFDIR => {
                let path = name::join(&place.path, hidden);
                if self.diff.notes.get(&path) == Some(&Note::Implicit) {
                    self.diff.notes.remove(&path);
                }
                self.diff.set_opaque(&place, hidden, &entry.name)
            }
            Some(_) => Ok(()),
        }
    }

    fn hide(&mut self, entry: &Entry, place: &Place, hidden: &[u8]) -> Result<()> {
        if self.diff.lowest {
            return Ok(());
        }
        make_whiteout(place.dir.as_fd(), hidden).map_err(Error::unpack(&entry.name, "make whiteout"))?;
        self.diff.notes.set(&name::join(&place.path, hidden), Note::Whiteout)
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place,
        base: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let file = self
            .create(entry, place, base, "create", |dir, base| nix::fcntl::openat(dir, base, flags, mode))?;
        let mut file = File::from(file);
        let fail = |source| Error::unpack::<io::Error>(&entry.name, "write")(source);
        match &entry.extents {
            None => loop {
                let chunk = archive.data()?;
                if chunk.is_empty() {
                    break;
                }
                let n = retry(|| file.write(chunk)).map_err(fail)?;
                archive.consume(n);
            },
            Some(extents) => {
                for extent in extents {
                    let mut done = 0;
                    while done < extent.length {
                        let chunk = archive.data()?;
                        let most = usize::try_from(extent.length - done).unwrap_or(usize::MAX);
                        let chunk = &chunk[..chunk.len().min(most)];
                        let n = retry(|| file.write_at(chunk, extent.offset + done)).map_err(fail)?;
                        archive.consume(n);
                        done += n as u64;
                    }
                }
                file.set_len(entry.size).map_err(fail)?;
            }
        }
        self.attributes(entry, file.as_fd())?;
        let time = TimeSpec::new(entry.mtime.0, entry.mtime.1.into());
        nix::sys::stat::futimens(file.as_fd(), &time, &time).map_err(Error::unpack(&entry.name, "set times"))
    }

    fn directory(&mut self, entry: &Entry, place: &Place, base: &[u8]) -> Result<()> {
        let dir = place.dir.as_fd();
        let mkdir = || nix::sys::stat::mkdirat(dir, base, Mode::from_bits_truncate(0o700));
        let mut was = Was::Nothing;
        if let Err(Errno::EEXIST) = mkdir() {
            was = self.diff.make_way(place, base, true, &entry.name)?;
            if was != Was::Directory {
                mkdir().map_err(Error::unpack(&entry.name, "mkdir"))?;
            }
        }
        let opened = tree::open_dir(dir, base).map_err(Error::unpack(&entry.name, "mkdir"))?;
        match was {
            Was::Nothing => {}
            Was::Removed => self.diff.set_opaque(place, base, &entry.name)?,
            Was::Directory => self.drop_xattrs(entry, opened.as_fd())?,
        }
        self.attributes(entry, opened.as_fd())?;
        self.diff.notes.set(&name::join(&place.path, base), Note::Directory(entry.mtime))
    }

    /// A second entry for a directory replaces all attributes of the first.
    fn drop_xattrs(&self, entry: &Entry, dir: BorrowedFd<'_>) -> Result<()> {
        let path = tree::proc_path(dir, b"");
        let drop_all = || -> io::Result<()> {
            for (name, _) in tree::xattrs(&path)? {
                if name.as_c_str() != self.diff.marks.opaque() {
                    sys::xattr::lremove(&path, &name)?;
                }
            }
            Ok(())
        };
        drop_all().map_err(Error::unpack(&entry.name, "remove xattrs"))
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place, base: &[u8]) -> Result<()> {
        let target = name::clean(&entry.link)?;
        let (parent, target_base) = name::split(&target);
        if target.is_empty() {
            return Err(Error::entry(&entry.name, "a hardlink to the root"));
        }
        let fail = |call| Error::unpack::<io::Error>(&entry.name, call);
        let parent = std::ffi::CString::new(if parent.is_empty() { b"." } else { parent })
            .map_err(|_| Error::entry(&entry.name, "a NUL in its target"))?;
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
        let root = self.diff.root().dir.clone();
        let within = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
        let found = match openat2(root.as_fd(), &parent, flags, 0, within) {
            Ok(dir) => tree::stat(dir.as_fd(), target_base).map_err(fail("stat"))?.map(|stat| (dir, stat)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => None,
            Err(e) => return Err(fail("open directory of the link's target")(e)),
        };
        let Some((dir, stat)) = found.filter(|(_, stat)| !tree::is_whiteout(stat)) else {
            self.diff.make_way(place, base, false, &entry.name)?;
            return self.diff.notes.link(&name::join(&place.path, base), &target);
        };
        if tree::kind(&stat) == SFlag::S_IFDIR {
            return Err(Error::entry(&entry.name, "a hardlink to a directory"));
        }
        let already = tree::stat(place.dir.as_fd(), base).map_err(fail("stat"))?;
        if already.is_some_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.create(entry, place, base, "link", |to, base| {
            nix::unistd::linkat(dir.as_fd(), target_base, to, base, AtFlags::empty())
        })
    }

    /// Symbolic links, devices, FIFOs.
    fn node(&mut self, entry: &Entry, place: &Place, base: &[u8]) -> Result<()> {
        let (major, minor) = entry.device;
        let device = makedev(major.into(), minor.into());
        let mode = Mode::from_bits_truncate(0o600);
        let kind = match entry.kind {
            Kind::CharDevice => SFlag::S_IFCHR,
            Kind::BlockDevice => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        let made = self.create(entry, place, base, "make", |dir, base| match entry.kind {
            Kind::Symlink => nix::unistd::symlinkat(entry.link.as_slice(), dir, base),
            _ => nix::sys::stat::mknodat(dir, base, kind, mode, device),
        });
        match made {
            // Nobody but the host's root makes devices; podman and docker go without them too.
            Err(Error::Unpack { source, .. })
                if source.raw_os_error() == Some(libc::EPERM) && self.diff.marks == Marks::User =>
            {
                tracing::warn!(name = %String::from_utf8_lossy(&entry.name), "device left out: not privileged");
                return Ok(());
            }
            made => made?,
        }
        let dir = place.dir.as_fd();
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        nix::unistd::fchownat(dir, base, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(Error::unpack(&entry.name, "chown"))?;
        if entry.kind != Kind::Symlink {
            // It was just made, so it is no link, and nobody else is here.
            let mode = Mode::from_bits_truncate(entry.mode);
            nix::sys::stat::fchmodat(dir, base, mode, FchmodatFlags::FollowSymlink)
                .map_err(Error::unpack(&entry.name, "chmod"))?;
        }
        let path = tree::proc_path(dir, base);
        self.xattrs(entry, |name, value| sys::xattr::lset(&path, name, value))?;
        tree::set_times(dir, base, entry.mtime).map_err(Error::unpack(&entry.name, "set times"))
    }

    /// Makes a new entry; if something is in the way, it goes.
    fn create<T>(
        &mut self,
        entry: &Entry,
        place: &Place,
        base: &[u8],
        call: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> nix::Result<T>,
    ) -> Result<T> {
        let dir = place.dir.as_fd();
        match make(dir, base) {
            Err(Errno::EEXIST) => {
                self.diff.make_way(place, base, false, &entry.name)?;
                make(dir, base)
            }
            made => made,
        }
        .map_err(Error::unpack(&entry.name, call))
    }

    /// Owner, mode, xattrs, in this order: chown(2) takes set-user-ID bits and file capabilities away.
    fn attributes(&self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<()> {
        nix::unistd::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(Error::unpack(&entry.name, "chown"))?;
        nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(entry.mode))
            .map_err(Error::unpack(&entry.name, "chmod"))?;
        self.xattrs(entry, |name, value| sys::xattr::fset(fd, name, value))
    }

    fn xattrs(&self, entry: &Entry, set: impl Fn(&std::ffi::CStr, &[u8]) -> io::Result<()>) -> Result<()> {
        for (name, value) in &entry.xattrs {
            if FOREIGN_XATTRS.contains(&name.as_slice()) {
                continue;
            }
            // An image must not steer overlay. Escaped like this, overlay (Linux 6.7) shows the attribute to the
            // container under its own name.
            let prefix = self.diff.marks.prefix();
            let stored = match name.strip_prefix(prefix) {
                Some(rest) => [prefix, b"overlay.", rest].concat(),
                None => name.clone(),
            };
            let stored = std::ffi::CString::new(stored).expect("keys of PAX records have no NUL");
            match set(&stored, value) {
                Ok(()) => {}
                Err(e) if may_lack(&e, self.diff.marks) => {
                    tracing::warn!(
                        name = %String::from_utf8_lossy(&entry.name),
                        xattr = %String::from_utf8_lossy(name),
                        "xattr left out: {e}"
                    );
                }
                Err(e) => return Err(Error::unpack(&entry.name, "set xattr")(e)),
            }
        }
        Ok(())
    }
}

/// The file system has no such attributes, or a user namespace may not set them.
fn may_lack(error: &io::Error, marks: Marks) -> bool {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => true,
        Some(libc::EPERM) => marks == Marks::User,
        _ => false,
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            done => return done,
        }
    }
}

/// Makes what overlay takes for "nothing here", whatever lower layers have.
pub(super) fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    nix::sys::stat::mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0)
}
