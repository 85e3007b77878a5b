//! Sizes and times as docker words them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// How long ago `then` was: `3 hours ago`; `N/A` for a time that is not known.
pub(crate) fn ago(then: Option<SystemTime>, now: SystemTime) -> String {
    match then {
        Some(then) => format!("{} ago", duration(now.duration_since(then).unwrap_or_default())),
        None => "N/A".to_owned(),
    }
}

/// A point in time as docker's tables write it, in UTC: `2020-08-14 19:21:09 +0000 UTC`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let (year, month, day, second) = civil(time);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// Year, month and day of the Gregorian calendar, and the second of the day. Times before 1970 count as 1970.
fn civil(time: SystemTime) -> (u64, u64, u64, u64) {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: years start in March, so
    // that the leap day is the last one.
    let days = seconds / 86400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day, seconds % 86400)
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
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(ago(Some(UNIX_EPOCH), now), "16 minutes ago");
        assert_eq!(ago(Some(now + Duration::from_secs(9)), now), "Less than a second ago");
        assert_eq!(ago(None, now), "N/A");
    }

    #[test]
    fn calendar() {
        for (seconds, want) in [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (951_782_399, "2000-02-28 23:59:59 +0000 UTC"),
            (951_782_400, "2000-02-29 00:00:00 +0000 UTC"),
            (1_597_432_869, "2020-08-14 19:21:09 +0000 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 +0000 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 +0000 UTC"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), want);
        }
    }
}
