//! `--cpus`: how many processors' worth of time, as a decimal number.

/// Billionths of a processor, docker's `NanoCpus`. `0` means no limit.
///
/// # Errors
/// What is wanted, when `text` is no decimal number, or one that the kernel cannot keep: its shortest quota is
/// 1 ms of the usual 100 ms (Documentation/scheduler/sched-bwc.rst).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wanted = || "wants a number of processors, for instance 2 or 1.5".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(wanted());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("has more than nine decimal places".to_owned());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wanted())? };
    let nano: u64 = format!("{fraction:0<9}").parse().map_err(|_| wanted())?;
    let all = whole
        .checked_mul(1_000_000_000)
        .and_then(|n| n.checked_add(nano))
        .filter(|&n| n <= MOST)
        .ok_or_else(|| format!("is more than {} processors", MOST / 1_000_000_000))?;
    if all != 0 && all < 10_000_000 {
        return Err("is less than 0.01, the least the kernel can keep".to_owned());
    }
    Ok(all)
}

/// No kernel has more processors (`NR_CPUS` of x86 is 8192); keeps a quota in µs far from overflow.
const MOST: u64 = 65_536 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimals_exactly() {
        for (text, nano) in [
            ("0", 0),
            ("2", 2_000_000_000),
            ("1.5", 1_500_000_000),
            (".5", 500_000_000),
            ("1.", 1_000_000_000),
            ("0.01", 10_000_000),
            ("0.1234567890", 123_456_789),
        ] {
            assert_eq!(parse(text), Ok(nano), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for (text, reason) in [
            ("", "for instance"),
            (".", "for instance"),
            ("-1", "for instance"),
            ("1e3", "for instance"),
            ("1/2", "for instance"),
            ("1,5", "for instance"),
            ("0.001", "less than 0.01"),
            ("0.0123456789", "nine decimal places"),
            ("99999999", "more than 65536"),
            ("18446744073", "more than 65536"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(reason), "{text:?}: {said}");
        }
    }
}
