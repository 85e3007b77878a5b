//! `--volume [SRC:]DST[:OPTIONS]`.

use engine::{Origin, Volume};

/// Options that change the mount. `z` and `Z` relabel for SELinux.
const OPTIONS: [&str; 27] = [
    "ro",
    "rw",
    "z",
    "Z",
    "shared",
    "slave",
    "private",
    "unbindable",
    "rshared",
    "rslave",
    "rprivate",
    "runbindable",
    "bind",
    "rbind",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "nocopy",
    "copy",
    "U",
    "idmap",
    "cached",
    "consistent",
    "delegated",
];

/// Reads `DST`, `SRC:DST` or `SRC:DST:OPTION[,OPTION]…`.
///
/// # Errors
/// What is wanted, when `text` is something else.
pub(crate) fn parse(text: &str) -> Result<Volume, String> {
    let wanted = || {
        "wants SRC:DST or SRC:DST:OPTIONS with an absolute DST, for instance /srv/data:/data:ro".to_owned()
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] if !options.is_empty() => (Some(source), target, options),
        _ => return Err(wanted()),
    };
    if !target.starts_with('/') {
        return Err(wanted());
    }
    if target.trim_end_matches('/').is_empty() {
        return Err("nothing can be mounted on / of the container".to_owned());
    }
    let origin = match source {
        None => Origin::Anonymous,
        Some("") => return Err(wanted()),
        Some(path) if path.starts_with('/') || path == "." || path == ".." => Origin::Path(path.to_owned()),
        Some(path) if path.starts_with("./") || path.starts_with("../") => Origin::Path(path.to_owned()),
        Some(name) if is_name(name) => Origin::Named(name.to_owned()),
        Some(other) => {
            return Err(format!(
                "{other:?} is neither a path (/… or ./…) nor a volume's name ([a-zA-Z0-9][a-zA-Z0-9_.-]*)"
            ));
        }
    };
    let options: Vec<String> = options.split(',').map(str::to_owned).collect();
    let options: Vec<String> = options.into_iter().filter(|o| !o.is_empty()).collect();
    if let Some(other) = options.iter().find(|o| !OPTIONS.contains(&o.as_str())) {
        return Err(format!("{other:?} is not an option of a volume; wants some of {}", OPTIONS.join(" ")));
    }
    for group in [&["ro", "rw"][..], &["z", "Z"], &OPTIONS[4..12]] {
        if options.iter().filter(|o| group.contains(&o.as_str())).count() > 1 {
            return Err(format!("only one of {} can be given", group.join(" ")));
        }
    }
    Ok(Volume { origin, target: target.to_owned(), options, must_exist: false })
}

/// Could it be the name of a volume?
pub(crate) fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_shape() {
        let path = |p: &str| Origin::Path(p.to_owned());
        for (text, origin, target, options) in [
            ("/a:/b", path("/a"), "/b", &[][..]),
            ("/a:/b:ro", path("/a"), "/b", &["ro"]),
            ("/a:/b:ro,z,rslave", path("/a"), "/b", &["ro", "z", "rslave"]),
            (".:/b", path("."), "/b", &[]),
            ("../x y:/b", path("../x y"), "/b", &[]),
            ("cache:/b", Origin::Named("cache".into()), "/b", &[]),
            ("/b", Origin::Anonymous, "/b", &[]),
        ] {
            let volume = parse(text).unwrap();
            assert_eq!((volume.origin, volume.target.as_str()), (origin, target), "{text}");
            assert_eq!(volume.options, options, "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for (text, reason) in [
            ("", "for instance"),
            (":", "for instance"),
            (":/b", "for instance"),
            ("/a:", "for instance"),
            ("/a:b", "for instance"),
            ("/a:/b:", "for instance"),
            ("/a:/b:ro:rw", "for instance"),
            ("/a:/", "on / of the container"),
            ("/a:/b:x", "not an option"),
            ("/a:/b:ro,rw", "only one of ro rw"),
            ("/a:/b:slave,rshared", "only one of shared"),
            ("a/b:/c", "neither a path"),
            ("~/x:/c", "neither a path"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(reason), "{text:?}: {said}");
        }
    }
}
