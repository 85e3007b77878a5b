//! Sizes and times as docker words them.

use std::time::Duration;

/// A size in powers of 1000 with three digits: `42.7MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    // 999.5 would be rounded to a fourth digit.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let decimals = match scaled {
        _ if unit == 0 => 0,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    let mut number = format!("{scaled:.decimals$}");
    if number.contains('.') {
        number.truncate(number.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{number}{}", UNITS[unit])
}

/// A size in powers of 1024 with four digits, as docker has it for memory: `1.934GiB`.
pub(crate) fn memory(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let decimals = match scaled {
        _ if unit == 0 => 0,
        s if s < 9.9995 => 3,
        s if s < 99.995 => 2,
        s if s < 999.95 => 1,
        _ => 0,
    };
    let mut number = format!("{scaled:.decimals$}");
    if number.contains('.') {
        number.truncate(number.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{number}{}", UNITS[unit])
}

/// A stretch of time in words: `About a minute`, `3 hours`, `2 weeks`.
pub(crate) fn duration(long: Duration) -> String {
    let seconds = long.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / (24 * 7)),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / (24 * 30)),
        () => format!("{} years", hours / (24 * 365)),
    }
}

/// How long before `now` `then` was, both in seconds since 1970: `3 hours ago`; `N/A` for a time not known.
pub(crate) fn ago(then: Option<i64>, now: i64) -> String {
    match then {
        Some(then) => format!("{} ago", since(then, now)),
        None => "N/A".to_owned(),
    }
}

/// The time from `then` to `now` in words; none for a `then` that a clock put after `now`.
pub(crate) fn since(then: i64, now: i64) -> String {
    duration(Duration::from_secs(u64::try_from(now.saturating_sub(then)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1500, "1.5kB"),
            (42_660_000, "42.7MB"),
            (99_960_000, "100MB"),
            (999_499_999, "999MB"),
            (999_999_999, "1GB"),
            (1_234_567_890, "1.23GB"),
            (9_996_000_000, "10GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn memory_has_four_digits() {
        for (bytes, want) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (64 << 20, "64MiB"),
            (1_234_567_890, "1.15GiB"),
            (25_282_224_128, "23.55GiB"),
            ((1 << 30) - 1, "1024MiB"),
        ] {
            assert_eq!(memory(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn durations_are_dockers() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60, "59 minutes"),
            (HOUR, "About an hour"),
            (90 * 60, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (6 * 365 * DAY, "6 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), want, "{seconds}");
        }
        assert_eq!(ago(Some(0), 1000), "16 minutes ago");
        assert_eq!(ago(Some(1009), 1000), "Less than a second ago");
        assert_eq!(ago(None, 1000), "N/A");
    }
}
