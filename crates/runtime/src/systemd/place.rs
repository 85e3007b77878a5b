//! `linux.cgroupsPath` as the systemd driver reads it: `slice:prefix:name`.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind};

/// Longest name of a unit, in bytes (systemd.unit(5)).
const LONGEST_NAME: usize = 255;

/// A unit and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `PREFIX-NAME.scope`, or a slice's own name.
    pub(super) unit: String,
    /// The slice it is put into.
    pub(super) slice: String,
    /// The unit's cgroup, below the service manager's own.
    pub(super) cgroup: PathBuf,
}

impl Place {
    /// From `linux.cgroupsPath`; without one `:runc:ID`, as clients of runc expect it. `user`: of the user's service
    /// manager.
    ///
    /// # Errors
    /// It is no such triple; a name that systemd would not take, or that would lead elsewhere.
    pub(super) fn new(cgroups_path: Option<&Path>, id: &str, user: bool) -> Result<Place, Error> {
        let invalid = |message: String| Error::new(message).kind(ErrorKind::Invalid);
        let (slice, prefix, name) = match cgroups_path.filter(|path| !path.as_os_str().is_empty()) {
            None => ("", "runc", id),
            Some(path) => {
                let refuse = || {
                    invalid(format!(
                        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
                    ))
                };
                let mut parts = path.to_str().ok_or_else(refuse)?.split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                    _ => return Err(refuse()),
                }
            }
        };
        let slice = match (slice, user) {
            ("", true) => "user.slice",
            ("", false) => "system.slice",
            (slice, _) => slice,
        };
        let parent = expand(slice)?;
        let is_slice = name.ends_with(".slice");
        let unit = if is_slice { name.to_owned() } else { format!("{prefix}-{name}.scope") };
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if unit.len() > LONGEST_NAME || !unit.chars().all(plain) {
            return Err(invalid(format!(
                "linux.cgroupsPath: {unit:?} is no name of a systemd unit (at most {LONGEST_NAME} of A-Z a-z 0-9 : - _ . \\ @)"
            )));
        }
        // A slice's place follows from its name alone.
        let cgroup = if is_slice { expand(&unit)? } else { parent.join(&unit) };
        if cgroup.as_os_str().is_empty() {
            return Err(invalid(format!("linux.cgroupsPath: {unit:?} is everybody's")));
        }
        Ok(Place { unit, slice: slice.to_owned(), cgroup })
    }
}

/// Whether a unit of this name is a slice.
pub(super) fn is_slice(unit: &str) -> bool {
    unit.ends_with(".slice")
}

/// The cgroup of a slice: `a-b.slice` is a part of `a.slice`, and so its cgroup is `a.slice/a-b.slice`; `-.slice` is
/// the root (systemd.slice(5)).
fn expand(slice: &str) -> Result<PathBuf, Error> {
    let invalid = || Error::new(format!("invalid slice name: {slice}")).kind(ErrorKind::Invalid);
    let stem = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    if stem.contains(|c: char| !c.is_ascii_alphanumeric() && !":-_.\\@".contains(c)) {
        return Err(invalid());
    }
    let (mut path, mut prefix) = (PathBuf::new(), String::new());
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(invalid());
        }
        prefix.push_str(part);
        path.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, user: bool) -> (String, String, String) {
        let place = Place::new(Some(Path::new(path)), "web", user).unwrap();
        (place.unit, place.slice, place.cgroup.to_str().unwrap().to_owned())
    }

    #[test]
    fn triples_name_unit_slice_and_cgroup() {
        for (path, user, unit, slice, cgroup) in [
            ("", false, "runc-web.scope", "system.slice", "system.slice/runc-web.scope"),
            ("", true, "runc-web.scope", "user.slice", "user.slice/runc-web.scope"),
            (
                "system.slice:docker:1234",
                false,
                "docker-1234.scope",
                "system.slice",
                "system.slice/docker-1234.scope",
            ),
            ("a-b-c.slice:p:n", false, "p-n.scope", "a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-.slice:p:n", false, "p-n.scope", "-.slice", "p-n.scope"),
            ("::n", true, "-n.scope", "user.slice", "user.slice/-n.scope"),
            (":p:x-y.slice", false, "x-y.slice", "system.slice", "x.slice/x-y.slice"),
        ] {
            let want = (unit.to_owned(), slice.to_owned(), cgroup.to_owned());
            assert_eq!(place(path, user), want, "{path}");
        }
        assert_eq!(Place::new(None, "web", false).unwrap().unit, "runc-web.scope");
    }

    #[test]
    fn what_is_no_triple_is_refused_in_runcs_words() {
        for bad in ["/a/b", "a.slice:b", "a.slice:b:c:d", "user.slice"] {
            let error = Place::new(Some(Path::new(bad)), "web", false).unwrap_err();
            let want = format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {bad:?} instead"
            );
            assert_eq!((error.to_string(), error.what()), (want, ErrorKind::Invalid));
        }
    }

    #[test]
    fn slices_that_cannot_be_are_refused() {
        for bad in [
            "-:p:n",
            "a:p:n",
            ".slice:p:n",
            "a--b.slice:p:n",
            "-a.slice:p:n",
            "a/b.slice:p:n",
            "a.slice/b.slice:p:n",
        ] {
            let error = Place::new(Some(Path::new(bad)), "web", false).unwrap_err().to_string();
            assert_eq!(error, format!("invalid slice name: {}", bad.split(':').next().unwrap()));
        }
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        for bad in [":p:../../x", ":../x:n", ":p:a b", ":p:x\0", ":p:grün", ":p:-.slice", ":p:a/b.slice"] {
            let error = Place::new(Some(Path::new(bad)), "web", false).unwrap_err();
            assert_eq!(error.what(), ErrorKind::Invalid, "{bad:?}");
        }
        assert!(Place::new(None, &"x".repeat(300), false).is_err());
    }
}
