//! Moments as records keep them, and how they are written for people and programs.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 in UTC.
pub(crate) type Nanos = i64;

/// Now, by the host's clock.
pub(crate) fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
}

/// A duration as Go has it, in nanoseconds: `1h30m`, `1.5s`, `500ms`. `None`: it is none, or longer than 292 years.
pub fn duration(text: &str) -> Option<i64> {
    let (mut rest, mut total) = (text, 0_i64);
    if text == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanos = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number == "." || fraction.contains('.') {
            return None;
        }
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
        // More digits than an hour has nanoseconds say nothing.
        let digits: i64 = format!("{fraction:0<13}").get(..13)?.parse().ok()?;
        let part = i64::try_from(i128::from(digits) * i128::from(nanos) / 10_i128.pow(13)).ok()?;
        total = total.checked_add(whole.checked_mul(nanos)?)?.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

/// RFC 3339 in UTC with nanoseconds, as docker writes it.
pub(crate) fn rfc3339(at: Nanos) -> String {
    const DAY: i64 = 86_400;
    let (seconds, nanos) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z")
}

/// Year, month and day of a day number since 1970 in the Gregorian calendar. Years are counted from March, so that
/// the leap day is the last; 400 years have 146 097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, want) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5m", Some(30_000_000_000)),
            ("2.h", Some(7_200_000_000_000)),
            ("1m0.001s", Some(60_001_000_000)),
            ("500ms10us", Some(500_010_000)),
            ("", None),
            ("5", None),
            ("1.2.3s", None),
            (".s", None),
            ("-1s", None),
            ("1d", None),
            ("9999999h", None),
        ] {
            assert_eq!(duration(text), want, "{text}");
        }
    }

    #[test]
    fn known_moments() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000), want);
        }
        assert_eq!(rfc3339(1_600_000_000_123_456_789), "2020-09-13T12:26:40.123456789Z");
    }
}
