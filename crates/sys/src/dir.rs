//! Reading directories and links into buffers of the caller: getdents64(2), readlinkat(2). Nothing here allocates.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// getdents64(2): the next entries, as many as fit; 0 at the end. [`names`] takes them apart.
pub fn read(dir: BorrowedFd, entries: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `entries.len()` bytes.
    let len = crate::check(unsafe {
        libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), entries.as_mut_ptr(), entries.len())
    })?;
    Ok(usize::try_from(len).unwrap_or(0))
}

/// The names of the entries that [`read`] wrote. Stops at an entry that is not whole.
pub fn names(entries: &[u8]) -> impl Iterator<Item = &CStr> {
    // struct linux_dirent64: inode u64, offset u64, length u16, type u8, name.
    let mut rest = entries;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(16..18)?.try_into().ok()?));
        let entry = rest.get(..length)?;
        rest = &rest[length..];
        CStr::from_bytes_until_nul(entry.get(19..)?).ok()
    })
}

/// readlinkat(2): the target of the link `name` in `dir`, without a NUL. ENAMETOOLONG when it does not fit.
pub fn read_link(dir: BorrowedFd, name: &CStr, target: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `name` is NUL-terminated; the kernel writes at most `target.len()` bytes.
    let len =
        unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    let len = usize::try_from(crate::check(len as libc::c_long)?).unwrap_or(0);
    if len == target.len() { Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)) } else { Ok(len) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    #[test]
    fn lists_what_std_lists() {
        let dir = std::fs::File::open("/proc/self/ns").unwrap();
        let mut found = Vec::new();
        let mut buf = [0; 128];
        loop {
            let len = super::read(dir.as_fd(), &mut buf).unwrap();
            if len == 0 {
                break;
            }
            found.extend(super::names(&buf[..len]).map(|n| n.to_str().unwrap().to_owned()));
        }
        found.retain(|name| name != "." && name != "..");
        let mut wanted: Vec<_> = std::fs::read_dir("/proc/self/ns")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        let mut target = [0; 64];
        let len = super::read_link(dir.as_fd(), c"mnt", &mut target).unwrap();
        assert!(target[..len].starts_with(b"mnt:["));
        let short = super::read_link(dir.as_fd(), c"mnt", &mut target[..4]).unwrap_err();
        assert_eq!(short.raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
