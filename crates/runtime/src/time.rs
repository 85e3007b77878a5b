//! Points in time as RFC 3339 text, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// The present time, e.g. `2026-11-22T03:21:41.000000005Z`; trailing zeros of the fraction are left off.
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

/// The present time in whole seconds.
pub(crate) fn now_in_seconds() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), 0)
}

/// Civil date from days since 1970-01-01: years are counted from March, so that the leap day is the last.
fn rfc3339(seconds: u64, nanos: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let mut fraction = String::new();
    if nanos > 0 {
        fraction = format!(".{nanos:09}");
        fraction.truncate(fraction.trim_end_matches('0').len());
    }
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_399, 120_000_000, "2000-02-28T23:59:59.12Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.000000005Z"),
            (951_868_800, 0, "2000-03-01T00:00:00Z"),
            (1_795_317_701, 0, "2026-11-22T03:21:41Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds, nanos), text);
        }
    }
}
