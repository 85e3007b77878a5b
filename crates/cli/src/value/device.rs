//! `--device SRC[:DST[:ACCESS]]` and `--device-cgroup-rule 'KIND MAJOR:MINOR ACCESS'`.

use engine::{Device, DeviceRule};

/// Reads a device of the host, its place in the container and what may be done with it.
///
/// # Errors
/// What is wanted, when it is something else.
pub(crate) fn parse(text: &str) -> Result<Device, String> {
    let wanted = || "wants SRC, SRC:DST or SRC:DST:ACCESS, for instance /dev/snd:/dev/snd:rw".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] if is_access(access) => (source, target, access),
        [_, _, access] => return Err(format!("bad mode {access:?}: wants some of r, w and m")),
        _ => return Err(wanted()),
    };
    if !source.starts_with('/') && source.contains('=') {
        return Err(
            "names of CDI are not supported; give the device's path, for instance /dev/dri".to_owned()
        );
    }
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(wanted());
    }
    Ok(Device { source: source.to_owned(), target: target.to_owned(), access: access.to_owned() })
}

fn is_access(text: &str) -> bool {
    let once = |letter| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c)) && ["r", "w", "m"].into_iter().all(once)
}

/// Reads a rule of the device cgroup.
///
/// # Errors
/// What is wanted, when it is something else.
pub(crate) fn rule(text: &str) -> Result<DeviceRule, String> {
    let parsed = || {
        let words: Vec<&str> = text.split(' ').collect();
        let [kind, numbers, access] = words[..] else { return None };
        let number = |n: &str| if n == "*" { Some(None) } else { n.parse().ok().map(Some) };
        let (major, minor) = numbers.split_once(':')?;
        let kind = ['a', 'b', 'c'].into_iter().find(|k| kind == k.to_string())?;
        let (major, minor) = (number(major)?, number(minor)?);
        is_access(access).then(|| DeviceRule { kind, major, minor, access: access.to_owned() })
    };
    parsed().ok_or_else(|| "wants KIND MAJOR:MINOR ACCESS, for instance 'c 189:* rmw'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_rules() {
        for (text, want) in [
            ("/dev/a", "/dev/a /dev/a rwm"),
            ("/dev/a:r", "/dev/a /dev/a r"),
            ("/dev/a:/dev/b", "/dev/a /dev/b rwm"),
            ("/dev/a:/dev/b:wr", "/dev/a /dev/b wr"),
        ] {
            let device = parse(text).unwrap();
            assert_eq!(format!("{} {} {}", device.source, device.target, device.access), want);
        }
        for (text, want) in
            [("", "wants SRC"), ("a", "wants SRC"), ("/a:/b:x", "bad mode"), ("nvidia.com/gpu=all", "CDI")]
        {
            assert!(parse(text).unwrap_err().contains(want), "{text}");
        }
        let read = rule("c 10:* rw").unwrap();
        assert_eq!((read.kind, read.major, read.minor, read.access.as_str()), ('c', Some(10), None, "rw"));
        for bad in ["", "c 10 rw", "x 1:1 r", "c 1:1 x", "c 1:1  r"] {
            assert!(rule(bad).is_err(), "{bad:?}");
        }
    }
}
