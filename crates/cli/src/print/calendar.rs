//! Points in time between seconds since 1970 and the Gregorian calendar, in UTC.

/// As docker's tables write it: `2020-08-14 19:21:09 +0000 UTC`. Times before 1970 count as 1970.
pub(crate) fn timestamp(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let (year, month, day) = date(seconds / 86400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// RFC 3339 in UTC to the second: `2020-08-14T19:21:09Z`. Times before 1970 count as 1970.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let (year, month, day) = date(seconds / 86400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads an RFC 3339 time such as `2020-08-14T19:21:09.123456789Z` to the second. `None` for anything else, and
/// for the year 1 that Go writes where no time was set.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let part = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let mark = |at: usize, marks: &str| text.get(at..=at).is_some_and(|c| marks.contains(c));
    if !(mark(4, "-") && mark(7, "-") && mark(10, "Tt ") && mark(13, ":") && mark(16, ":")) {
        return None;
    }
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    if year < 1970
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60)
        }
    };
    Some(days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset)
}

/// Year, month and day of a day since 1970-01-01. Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`: years start in March, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to a date (`days_from_civil` of the same paper).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (seconds, shown, rfc) in [
            (0, "1970-01-01 00:00:00", "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59", "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, "2000-02-29 00:00:00", "2000-02-29T01:30:00+01:30"),
            (1_597_432_869, "2020-08-14 19:21:09", "2020-08-14t12:21:09-07:00"),
            (4_107_542_399, "2100-02-28 23:59:59", "2100-02-28T23:59:59z"),
            (4_107_542_400, "2100-03-01 00:00:00", "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), format!("{shown} +0000 UTC"));
            assert_eq!(parse(rfc), Some(seconds), "{rfc}");
        }
        assert_eq!(timestamp(-5), "1970-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "yesterday",
            "0001-01-01T00:00:00Z",
            "2020-08-14",
            "2020-08-14T19:21:09",
            "2020-13-14T19:21:09Z",
            "2020-08-14T24:21:09Z",
            "2020-08-14T19:21:09+1:00",
            "2020-08-14T19:21:09.Zx",
            "+020-08-14T19:21:09Z",
            "2020-08-14T19:21:0é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
