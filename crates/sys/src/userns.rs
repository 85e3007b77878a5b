//! The id maps of user namespaces (user_namespaces(7)), and namespaces that exist only to carry such maps, for id-mapped
//! mounts (mount_setattr(2), `MOUNT_ATTR_IDMAP`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::clone::{Cloned, Options, clone3, namespace, setns};
use crate::{message, pidfd, wait};

/// A user namespace's uid_map and gid_map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap {
    /// Users.
    pub uid: Vec<Range>,
    /// Groups.
    pub gid: Vec<Range>,
}

/// `size` ids from `inside` on, that are those from `outside` on, outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First id in the namespace.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// What could not be done, and why.
#[derive(Debug)]
pub struct Failed {
    /// The call, with its values.
    pub what: String,
    /// The errno.
    pub source: io::Error,
}

/// The id outside that is `id` inside.
pub fn outside(ranges: &[Range], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.size)?;
        range.outside.checked_add(offset)
    })
}

/// The id inside that is `id` outside.
pub fn inside(ranges: &[Range], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.outside).filter(|offset| *offset < range.size)?;
        range.inside.checked_add(offset)
    })
}

/// Writes the maps of the user namespace that process `pid` is in.
pub fn write(pid: i32, map: &IdMap) -> Result<(), Failed> {
    write_file(pid, "uid_map", &text(&map.uid))?;
    write_file(pid, "gid_map", &text(&map.gid))
}

/// Writes `uid_map`, `gid_map` or `setgroups` of process `pid`, in one write: the kernel takes the whole map or nothing.
pub fn write_file(pid: i32, name: &str, text: &str) -> Result<(), Failed> {
    let path = format!("/proc/{pid}/{name}");
    std::fs::write(&path, text)
        .map_err(|source| Failed { what: format!("write {:?} to {path}", text.trim_end()), source })
}

fn text(ranges: &[Range]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.size)).collect()
}

/// The maps of the user namespace that process `pid` is in, with ids outside as this process sees them.
pub fn read(pid: i32) -> Result<IdMap, Failed> {
    let ranges = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Failed { what: format!("read {path}"), source })?;
        Ok(parse(&text))
    };
    Ok(IdMap { uid: ranges("uid_map")?, gid: ranges("gid_map")? })
}

/// Lines of three numbers; the kernel writes no others.
fn parse(text: &str) -> Vec<Range> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        Some(Range { inside: numbers.next()??, outside: numbers.next()??, size: numbers.next()?? })
    };
    text.lines().filter_map(line).collect()
}

/// Makes a user namespace that lives as long as the file is open.
pub fn make(map: &IdMap) -> Result<File, Failed> {
    let options = Options { namespaces: namespace::USER, ..Options::default() };
    hold("make a user namespace for id maps", &options, None, |pid| {
        write(pid, map)?;
        let path = format!("/proc/{pid}/ns/user");
        File::open(&path).map_err(|source| Failed { what: format!("open {path}"), source })
    })
}

/// The maps of a user namespace, with ids outside as this process sees them. EINVAL: it is this process's own.
pub fn maps_of(users: BorrowedFd) -> Result<IdMap, Failed> {
    hold("enter a user namespace", &Options::default(), Some(users), read)
}

/// Does `work` while a process waits: in a new user namespace that `options` ask for, or in `users`.
fn hold<T>(
    what: &str,
    options: &Options,
    users: Option<BorrowedFd>,
    work: impl FnOnce(i32) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let fail = |source: io::Error| Failed { what: what.to_owned(), source };
    let (ours, theirs) = message::pair().map_err(fail)?;
    let mut ours = Some(ours);
    let Cloned { pid, pidfd } = clone3(options, || {
        drop(ours.take());
        let entered = users.map_or(Ok(()), |users| setns(users, namespace::USER));
        let errno = entered.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0);
        if message::send(theirs.as_fd(), &errno.to_ne_bytes(), None).is_ok() {
            // Until the parent's end is closed, by its death too.
            let _ = nix::unistd::read(&theirs, &mut [0]);
        }
        0
    })
    .map_err(fail)?;
    drop(theirs);
    let mut errno = [0; 4];
    let heard = ours.as_ref().map_or(Ok((0, None)), |ours| message::receive(ours.as_fd(), &mut errno));
    let done = match (heard, i32::from_ne_bytes(errno)) {
        (Ok((4, _)), 0) => work(pid),
        (Ok((4, _)), errno) => Err(fail(io::Error::from_raw_os_error(errno))),
        (Ok(_), _) => Err(fail(io::ErrorKind::UnexpectedEof.into())),
        (Err(e), _) => Err(fail(e)),
    };
    // It is our child and not reaped: the number was its all the time.
    let _ = pidfd::signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = wait::wait(pidfd.as_fd());
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines_of_three_numbers() {
        let ranges =
            [Range { inside: 0, outside: 1000, size: 1 }, Range { inside: 1, outside: 100_000, size: 65536 }];
        assert_eq!(text(&ranges), "0 1000 1\n1 100000 65536\n");
        assert_eq!(parse("         0       1000          1\n         1     100000      65536\n"), ranges);
    }

    #[test]
    fn ids_are_found_in_both_directions() {
        let ranges =
            [Range { inside: 0, outside: 1000, size: 1 }, Range { inside: 1, outside: 100_000, size: 10 }];
        assert_eq!(
            [0, 1, 10, 11].map(|id| outside(&ranges, id)),
            [Some(1000), Some(100_000), Some(100_009), None]
        );
        assert_eq!(
            [1000, 100_009, 100_010, 0].map(|id| inside(&ranges, id)),
            [Some(0), Some(10), None, None]
        );
        let last = [Range { inside: 5, outside: u32::MAX - 1, size: 1 }];
        assert_eq!((outside(&last, 5), outside(&last, 6)), (Some(u32::MAX - 1), None));
    }
}
