//! `--device SRC[:DST[:ACCESS]]`, `--device VENDOR/CLASS=NAME` and `--device-cgroup-rule 'KIND MAJOR:MINOR ACCESS'`.

use engine::{Device, DeviceRequest, DeviceRule};

/// What `--device` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nodes of the host.
    Nodes(Device),
    /// A device by its name in the files of vendors.
    Named(DeviceRequest),
}

/// Reads a device of the host, its place in the container and what may be done with it.
///
/// # Errors
/// What is wanted, when it is something else.
pub(crate) fn parse(text: &str) -> Result<Wanted, String> {
    let wanted = || {
        "wants SRC, SRC:DST or SRC:DST:ACCESS, for instance /dev/snd:/dev/snd:rw, or the name of a CDI device, for \
         instance nvidia.com/gpu=0"
            .to_owned()
    };
    if engine::is_device_name(text)? {
        let ids = vec![text.to_owned()];
        return Ok(Wanted::Named(DeviceRequest {
            driver: "cdi".to_owned(),
            ids,
            ..DeviceRequest::default()
        }));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] if is_access(access) => (source, target, access),
        [_, _, access] => return Err(format!("bad mode {access:?}: wants some of r, w and m")),
        _ => return Err(wanted()),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(wanted());
    }
    let (source, target, access) = (source.to_owned(), target.to_owned(), access.to_owned());
    Ok(Wanted::Nodes(Device { source, target, access }))
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
        let Wanted::Named(named) = parse("nvidia.com/gpu=all").unwrap() else { panic!("a name") };
        assert_eq!((named.driver.as_str(), &named.ids[..]), ("cdi", &["nvidia.com/gpu=all".to_owned()][..]));
        for (text, want) in [
            ("/dev/a", "/dev/a /dev/a rwm"),
            ("/dev/a:r", "/dev/a /dev/a r"),
            ("/dev/a:/dev/b", "/dev/a /dev/b rwm"),
            ("/dev/a:/dev/b:wr", "/dev/a /dev/b wr"),
        ] {
            let Wanted::Nodes(device) = parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(format!("{} {} {}", device.source, device.target, device.access), want);
        }
        for (text, want) in
            [("", "wants SRC"), ("a", "wants SRC"), ("/a:/b:x", "bad mode"), ("gpu=all", "VENDOR/CLASS")]
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
