//! `--time-offset CLOCK=SECONDS[,CLOCK=SECONDS]`.

/// A clock of time_namespaces(7), and the seconds and nanoseconds that it is ahead.
pub(crate) type Offset = (String, i64, u32);

/// Reads `boottime=3600` or `monotonic=-1.5,boottime=60`.
///
/// # Errors
/// What is wanted, when it is something else.
pub(crate) fn parse(text: &str) -> Result<Vec<Offset>, String> {
    let one = |part: &str| {
        let (clock, value) = part.split_once('=')?;
        let clock = ["boottime", "monotonic"].into_iter().find(|known| *known == clock)?;
        let (seconds, nanos) = read(value)?;
        Some((clock.to_owned(), seconds, nanos))
    };
    let all: Option<Vec<Offset>> = text.split(',').map(one).collect();
    all.ok_or_else(|| {
        "wants seconds for boottime or monotonic, for instance boottime=3600,monotonic=-1.5".to_owned()
    })
}

/// The kernel counts nanoseconds forwards from the second: -1.5 is -2 and 500 000 000.
fn read(text: &str) -> Option<(i64, u32)> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_with_a_sign_and_a_fraction() {
        let offset = |clock: &str, s, n| (clock.to_owned(), s, n);
        assert_eq!(parse("boottime=3600").unwrap(), [offset("boottime", 3600, 0)]);
        let two = parse("monotonic=-1.5,boottime=0.25").unwrap();
        assert_eq!(two, [offset("monotonic", -2, 500_000_000), offset("boottime", 0, 250_000_000)]);
        for bad in
            ["", "boottime", "boottime=", "realtime=1", "boottime=x", "boottime=1.0000000001", "boottime=--1"]
        {
            assert!(parse(bad).unwrap_err().contains("boottime=3600"), "{bad}");
        }
    }
}
