//! `--userns MODE` and `--uidmap CONTAINER:HOST[:N]` (podman-run(1)).

use engine::{IdRange, Ids, Userns};

/// What `--userns` says by itself; ids for a private one come by other flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `private`: with the ids of the other flags, else as `auto`.
    Private,
    /// Any other one.
    Whole(Userns),
}

const WANTED: &str =
    "wants host, auto[:size=N,uidmapping=C:H:N,gidmapping=C:H:N], private, container:NAME or ns:PATH";

/// Reads the mode.
///
/// # Errors
/// What is wanted, when `text` is something else.
pub(crate) fn parse(text: &str) -> Result<Mode, String> {
    let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    match (kind, rest) {
        ("host", None) => Ok(Mode::Whole(Userns::Host)),
        ("private", None) => Ok(Mode::Private),
        ("auto", rest) => auto(rest.unwrap_or_default()).map(Mode::Whole),
        ("container", Some(name)) if !name.is_empty() => Ok(Mode::Whole(Userns::Container(name.to_owned()))),
        ("ns", Some(path)) if path.starts_with('/') => Ok(Mode::Whole(Userns::Path(path.into()))),
        ("ns", _) => Err("wants ns:PATH with an absolute path, for instance ns:/proc/PID/ns/user".to_owned()),
        ("keep-id" | "nomap", _) => {
            Err(format!("{kind} is for containers without root only, which rcr does not make; {WANTED}"))
        }
        _ => Err(WANTED.to_owned()),
    }
}

fn auto(options: &str) -> Result<Userns, String> {
    let (mut size, mut forced) = (None, Ids::default());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) => {
                let number = text.parse().ok().filter(|size| *size > 0);
                size = Some(number.ok_or_else(|| format!("size={text} wants a number of ids, 1 or more"))?);
            }
            Some(("uidmapping", text)) => {
                forced.uid.push(map(text).map_err(|why| format!("{option} {why}"))?)
            }
            Some(("gidmapping", text)) => {
                forced.gid.push(map(text).map_err(|why| format!("{option} {why}"))?)
            }
            _ => return Err(format!("{option:?} is no option of auto; {WANTED}")),
        }
    }
    Ok(Userns::Auto { size, forced })
}

/// Reads `CONTAINER:HOST` or `CONTAINER:HOST:N`.
///
/// # Errors
/// What is wanted, when `text` is something else.
pub(crate) fn map(text: &str) -> Result<IdRange, String> {
    let numbers: Option<Vec<u32>> = text.split(':').map(number).collect();
    match numbers.as_deref() {
        Some([inside, outside]) => Ok(IdRange { inside: *inside, outside: *outside, size: 1 }),
        Some([inside, outside, size]) => Ok(IdRange { inside: *inside, outside: *outside, size: *size }),
        _ => Err("wants CONTAINER:HOST[:N], three numbers, for instance 0:100000:65536".to_owned()),
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_mode() {
        let range = |inside, outside, size| IdRange { inside, outside, size };
        for (text, mode) in [
            ("host", Mode::Whole(Userns::Host)),
            ("private", Mode::Private),
            ("auto", Mode::Whole(Userns::Auto { size: None, forced: Ids::default() })),
            (
                "auto:size=5000,uidmapping=0:7:1,gidmapping=3:9",
                Mode::Whole(Userns::Auto {
                    size: Some(5000),
                    forced: Ids { uid: vec![range(0, 7, 1)], gid: vec![range(3, 9, 1)] },
                }),
            ),
            ("container:web", Mode::Whole(Userns::Container("web".into()))),
            ("ns:/proc/7/ns/user", Mode::Whole(Userns::Path("/proc/7/ns/user".into()))),
        ] {
            assert_eq!(parse(text), Ok(mode), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for (text, word) in [
            ("", "wants host"),
            ("hots", "wants host"),
            ("host:x", "wants host"),
            ("private:x", "wants host"),
            ("container:", "wants host"),
            ("ns:x", "absolute"),
            ("keep-id:uid=5", "without root only"),
            ("nomap", "without root only"),
            ("auto:size=0", "1 or more"),
            ("auto:size=x", "1 or more"),
            ("auto:bytes=1", "\"bytes=1\""),
            ("auto:uidmapping=1", "CONTAINER:HOST"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(word), "{text:?}: {said}");
        }
        for text in ["", "0", "0:1:2:3", "a:1:1", "+0:1:1", "-1:0:1", "0:1:", "0:4294967296", "0:@1:1"] {
            assert!(map(text).unwrap_err().contains("CONTAINER:HOST"), "{text:?}");
        }
    }
}
