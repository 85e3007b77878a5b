//! `--ulimit NAME=SOFT[:HARD]`, with the names of ulimit(1) that setrlimit(2) has.

use engine::Ulimit;

/// The names docker takes; each is `RLIMIT_` and the name in upper case.
const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads one `NAME=SOFT[:HARD]`; the hard limit is the soft one where it is left out.
///
/// # Errors
/// What is wanted, when `text` is something else.
pub(crate) fn parse(text: &str) -> Result<Ulimit, String> {
    let Some((name, limits)) = text.split_once('=') else {
        return Err("wants NAME=SOFT or NAME=SOFT:HARD, for instance nofile=1024:2048".to_owned());
    };
    let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
        return Err(format!("{name:?} is not a limit's name; wants one of {}", NAMES.join(" ")));
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if soft > hard {
        return Err(format!("the soft limit of {name} is above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

fn limit(text: &str) -> Result<u64, String> {
    match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ if text.starts_with('+') => Err(format!("{text:?} is not a number, -1 or unlimited")),
        _ => text.parse().map_err(|_| format!("{text:?} is not a number, -1 or unlimited")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_soft_and_hard() {
        let want = |name: &str, soft, hard| Ok(Ulimit { name: name.to_owned(), soft, hard });
        assert_eq!(parse("nofile=1024:2048"), want("nofile", 1024, 2048));
        assert_eq!(parse("nproc=64"), want("nproc", 64, 64));
        assert_eq!(parse("core=-1"), want("core", u64::MAX, u64::MAX));
        assert_eq!(parse("core=0:unlimited"), want("core", 0, u64::MAX));
    }

    #[test]
    fn refuses_the_rest() {
        for (text, reason) in [
            ("nofile", "for instance nofile=1024:2048"),
            ("", "for instance"),
            ("files=1", "wants one of"),
            ("NOFILE=1", "wants one of"),
            ("nofile=", "is not a number"),
            ("nofile=1:", "is not a number"),
            ("nofile=1:2:3", "is not a number"),
            ("nofile=-2", "is not a number"),
            ("nofile=+2", "is not a number"),
            ("nofile=1k", "is not a number"),
            ("nofile=2:1", "above the hard"),
            ("nofile=-1:5", "above the hard"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(reason), "{text:?}: {said}");
        }
    }
}
