//! Names of entries as paths below the layer's root.

use crate::error::{Error, Result};

/// Deepest directory that is made. Linux ends at about 2,000 (PATH_MAX); walks that hold a descriptor per
/// level, as `rm -r` and copies do, end at 1,024 by default.
pub(crate) const MAX_DEPTH: usize = 256;
/// Longest path and longest name, linux/limits.h.
const PATH_MAX: usize = 4095;
pub(crate) const NAME_MAX: usize = 255;

/// Cleans a name as Go's `path.Clean` does, which docker, podman and containerd go by: no leading slash, no empty
/// or `.` component, `..` takes back the one before and ends at the root. The root itself is empty.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            other => {
                let marker = other.strip_prefix(super::WHITEOUT);
                if marker.unwrap_or(other).len() > NAME_MAX {
                    return Err(Error::entry(name, format!("a name is longer than {NAME_MAX} bytes")));
                }
                components.push(other);
            }
        }
    }
    let path = components.join(&b'/');
    if path.len() > PATH_MAX {
        return Err(Error::entry(name, format!("its path is longer than {PATH_MAX} bytes")));
    }
    if components.len() > MAX_DEPTH {
        return Err(Error::entry(name, format!("more than {MAX_DEPTH} directories deep")));
    }
    Ok(path)
}

/// Splits a clean path into its directory and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// `directory/name`, or `name` in the root.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (name, want) in [
            ("a/b", "a/b"),
            ("./a//b/./", "a/b"),
            ("/etc/x", "etc/x"),
            ("../x", "x"),
            ("a/../../x", "x"),
            ("dne/../.wh.etc", ".wh.etc"),
            ("./.", ""),
            ("//", ""),
            ("a/..", ""),
            (" / ", " / "),
            ("a\\b\n", "a\\b\n"),
        ] {
            assert_eq!(clean(name.as_bytes()).unwrap(), want.as_bytes(), "{name:?}");
        }
        assert_eq!(clean(b"\xff\xfe/x").unwrap(), b"\xff\xfe/x");
    }

    #[test]
    fn caps_lengths() {
        let long = "a".repeat(255);
        assert!(clean(long.as_bytes()).is_ok());
        assert!(clean(format!(".wh.{long}").as_bytes()).is_ok());
        assert!(clean(format!("{long}a").as_bytes()).is_err());
        assert!(clean(format!(".wh.{long}a/x").as_bytes()).is_err());
        assert!(clean("a/".repeat(MAX_DEPTH).as_bytes()).is_ok());
        assert!(clean("a/".repeat(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(clean(format!("{long}/").repeat(17).as_bytes()).is_err());
    }
}
