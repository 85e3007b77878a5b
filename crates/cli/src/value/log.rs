//! `--log-driver` and `--log-opt`.

use engine::LogOptions;

use super::size;

/// One `--log-opt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Bytes after which the file is rotated; 0 is never.
    MaxSize(u64),
    /// How many files there are.
    MaxFile(u32),
}

/// Whether output is kept.
pub(crate) fn parse_driver(text: &str) -> Result<bool, String> {
    match text {
        "json-file" => Ok(true),
        "none" => Ok(false),
        _ => Err("wants json-file or none: rcr has no other log drivers".to_owned()),
    }
}

/// `max-size=10m` or `max-file=3`.
pub(crate) fn parse_option(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some(("max-size", "-1")) => Ok(Setting::MaxSize(0)),
        Some(("max-size", value)) => match size::parse(value) {
            Ok(bytes) if bytes > 0 => Ok(Setting::MaxSize(bytes)),
            _ => Err("max-size wants bytes, for instance 10m, or -1".to_owned()),
        },
        Some(("max-file", value)) => match value.parse() {
            Ok(count) if count > 0 => Ok(Setting::MaxFile(count)),
            _ => Err("max-file wants a number of at least 1".to_owned()),
        },
        _ => Err("wants max-size=BYTES or max-file=NUMBER".to_owned()),
    }
}

/// All of it together.
pub(crate) fn options(keep: bool, settings: &[Setting]) -> LogOptions {
    let mut log = LogOptions { keep, ..LogOptions::default() };
    for setting in settings {
        match *setting {
            Setting::MaxSize(bytes) => log.max_size = bytes,
            Setting::MaxFile(count) => log.max_file = count,
        }
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts() {
        let set = ["max-size=1k", "max-file=5"].map(|text| parse_option(text).unwrap());
        assert_eq!(options(true, &set), LogOptions { keep: true, max_size: 1024, max_file: 5 });
        for bad in ["max-size=0", "max-file=0", "max-size=lots", "tag=x", "compress"] {
            assert!(parse_option(bad).is_err(), "{bad}");
        }
        assert!(parse_driver("journald").is_err());
    }
}
