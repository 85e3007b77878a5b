//! A tar extracted into a directory of a container: `cp -`.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::linkat;
use tar::EntryType;

use super::made::{Attributes, clear, make_dir, make_file, make_link, make_node};
use super::{CopyOptions, Side};
use crate::Error;

/// Extracts a tar into the directory `place`. Parents that are missing are made.
pub(super) fn extract(
    to: &Side,
    place: &[u8],
    options: CopyOptions,
    input: &mut dyn Read,
) -> Result<(), Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let missing =
        || Error::Invalid(format!("no such directory in {}: {}", to.name, String::from_utf8_lossy(place)));
    drop(to.open(place, flags)?.ok_or_else(missing)?);
    let mut archive = tar::Archive::new(input);
    let bad = || Error::io("read the tar on standard input");
    // Directories get their times last: what is put into them changes them.
    let mut directories: Vec<(Vec<u8>, Attributes)> = Vec::new();
    for entry in archive.entries().map_err(bad())? {
        let mut entry = entry.map_err(bad())?;
        let path = inner(&entry.path_bytes())?;
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], &path[..]),
        };
        let full = [place, b"/", &path].concat();
        let dir = parents(to, place, parent)?;
        let name = OsString::from_vec(name.to_vec());
        let header = entry.header();
        let (uid, gid) = (header.uid().map_err(bad())?, header.gid().map_err(bad())?);
        let owner = owner(options, (uid, gid)).map_err(|id| {
            let path = String::from_utf8_lossy(&path);
            Error::Invalid(format!(
                "the tar's entry {path:?} belongs to {id}, which is no user or group ID; leave out -a to give it to the \
                 container's root"
            ))
        })?;
        let mode = header.mode().map_err(bad())?;
        let mtime = TimeSpec::new(i64::try_from(header.mtime().map_err(bad())?).unwrap_or(0), 0);
        let attributes = Attributes::new(options, to, owner, mode, mtime)?;
        let device = {
            let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0).into();
            nix::sys::stat::makedev(number(header.device_major()), number(header.device_minor()))
        };
        let kind = header.entry_type();
        let write = |e: Errno| to.fail("make", &full)(e.into());
        let link = entry.link_name_bytes().map(|link| link.into_owned());
        let wanted =
            || Error::Invalid(format!("the tar's entry {:?} has no target", String::from_utf8_lossy(&path)));
        match kind {
            _ if name.is_empty() => {} // the directory itself
            EntryType::Directory => {
                drop(make_dir(dir.as_fd(), &name).map_err(write)?);
                directories.push((full, attributes));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut made = make_file(dir.as_fd(), &name).map_err(write)?;
                io::copy(&mut entry, &mut made).map_err(to.fail("write", &full))?;
                attributes.set(made.as_fd(), &[]).map_err(to.fail("set attributes of", &full))?;
            }
            EntryType::Symlink => {
                let target = OsString::from_vec(link.ok_or_else(wanted)?);
                make_link(dir.as_fd(), &name, &target, &attributes).map_err(write)?;
            }
            EntryType::Link => {
                let target = [place, b"/", &inner(&link.ok_or_else(wanted)?)?].concat();
                let (from, old) = to.locate(&target, false)?;
                clear(dir.as_fd(), &name).map_err(write)?;
                linkat(&from, old.as_os_str(), &dir, name.as_os_str(), AtFlags::empty()).map_err(write)?;
            }
            EntryType::Fifo => {
                make_node(dir.as_fd(), &name, SFlag::S_IFIFO, 0, &attributes).map_err(write)?
            }
            EntryType::Char => {
                make_node(dir.as_fd(), &name, SFlag::S_IFCHR, device, &attributes).map_err(write)?
            }
            EntryType::Block => {
                make_node(dir.as_fd(), &name, SFlag::S_IFBLK, device, &attributes).map_err(write)?
            }
            _ => {}
        }
    }
    for (path, attributes) in directories.iter().rev() {
        if let Some(dir) = to.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)? {
            attributes.set(dir.as_fd(), &[]).map_err(to.fail("set attributes of", path))?;
        }
    }
    Ok(())
}

/// Owner and group that an entry asks for, or the one of them that no file can have: with -a it must not become another's.
fn owner(options: CopyOptions, (uid, gid): (u64, u64)) -> Result<(u32, u32), u64> {
    // chown(2) takes the highest number for "as it is".
    let id = |n: u64| u32::try_from(n).ok().filter(|n| *n != u32::MAX).ok_or(n);
    match options.archive {
        true => Ok((id(uid)?, id(gid)?)),
        false => Ok((0, 0)),
    }
}

/// The path of an entry without `.` and slashes at its ends.
fn inner(path: &[u8]) -> Result<Vec<u8>, Error> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !matches!(part, &b"" | &b".")).collect();
    match parts.contains(&&b".."[..]) || path.contains(&0) {
        true => Err(Error::Invalid(format!(
            "the tar's entry {:?} leads out of it",
            String::from_utf8_lossy(path)
        ))),
        false => Ok(parts.join(&b'/')),
    }
}

fn parents(to: &Side, place: &[u8], parent: &[u8]) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut path = place.to_vec();
    let missing = |path: &[u8]| to.fail("open", path)(ErrorKind::NotFound.into());
    let mut dir = to.open(&path, flags)?.ok_or_else(|| missing(place))?;
    for part in parent.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        path = [&path, &b"/"[..], part].concat();
        dir = match to.open(&path, flags)? {
            Some(found) => found,
            None => {
                mkdirat(&dir, part, Mode::from_bits_truncate(0o755))
                    .map_err(|e| to.fail("make", &path)(e.into()))?;
                to.open(&path, flags)?.ok_or_else(|| missing(&path))?
            }
        };
    }
    Ok(dir)
}
