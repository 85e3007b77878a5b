//! Moments of `--since` and `--until`.

use crate::print::calendar;

const SECOND: i64 = 1_000_000_000;

/// Nanoseconds since 1970: RFC 3339 (`2020-08-14T19:21:09.5Z`; without a zone, or with the date alone, in UTC), seconds since
/// 1970 (`1597432869.5`), or how long ago (`90s`, `1h30m`).
pub(crate) fn parse(text: &str, now: i64) -> Result<i64, String> {
    let wanted = || {
        "wants a time such as 2020-08-14T19:21:09Z, seconds since 1970, or 10m for ten minutes ago".to_owned()
    };
    if let Some(nanos) = seconds(text) {
        return Ok(nanos);
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ if text.ends_with(['Z', 'z']) || text.get(19..).is_some_and(|rest| rest.contains(['+', '-'])) => {
            text.to_owned()
        }
        _ => format!("{text}Z"),
    };
    if let Some(seconds) = calendar::parse(&whole) {
        let fraction = whole.get(19..).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        let digits = fraction.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        return Ok(seconds * SECOND + nanos(digits).ok_or_else(wanted)?);
    }
    engine::duration(text).map(|ago| now - ago).ok_or_else(wanted)
}

/// `1597432869` or `1597432869.5`.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    whole.parse::<i64>().ok()?.checked_mul(SECOND)?.checked_add(nanos(fraction)?)
}

/// Digits behind the point.
fn nanos(digits: &str) -> Option<i64> {
    format!("{digits:0<9}").get(..9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_times() {
        let now = 1_600_000_000 * SECOND;
        for (text, want) in [
            ("2020-09-13T12:26:40Z", now),
            ("2020-09-13T12:26:40", now),
            ("2020-09-13T14:26:40.25+02:00", now + SECOND / 4),
            ("2020-09-13", now - (12 * 3600 + 26 * 60 + 40) * SECOND),
            ("1600000000", now),
            ("1600000000.000000001", now + 1),
            ("1h30m", now - 5400 * SECOND),
            ("500ms", now - SECOND / 2),
        ] {
            assert_eq!(parse(text, now), Ok(want), "{text}");
        }
        for bad in ["", "soon", "5", "10x", "2020-13-01"].into_iter().filter(|text| *text != "5") {
            assert!(parse(bad, now).is_err(), "{bad}");
        }
    }
}
