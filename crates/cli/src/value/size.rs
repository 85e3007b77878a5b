//! Sizes in bytes as docker's users write them: `64m`, `1.5g`, `512MiB` (go-units `RAMInBytes`).

/// Bytes of `text`. Units are powers of 1024, upper and lower case are one, and `i` and `b` may follow.
///
/// # Errors
/// What is wanted, when `text` is something else or more than an `i64` holds (the kernel's limit).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wanted =
        || "wants bytes, or a number with the unit k, m, g, t or p, for instance 64m or 1.5g".to_owned();
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (letter, rest) = match unit.chars().next() {
        Some(c) if "kmgtp".contains(c) => (Some(c), &unit[1..]),
        _ => (None, unit.as_str()),
    };
    let shift = match (letter, rest) {
        (None, "" | "b") => 0,
        (Some(c), "" | "b" | "i" | "ib") => match c {
            'k' => 10,
            'm' => 20,
            'g' => 30,
            't' => 40,
            _ => 50,
        },
        _ => return Err(wanted()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && !digits(fraction)) {
        return Err(wanted());
    }
    let too_much = || format!("is more than {} bytes", i64::MAX);
    let whole: u128 = whole.parse().map_err(|_| too_much())?;
    // A fraction of a byte is cut off, as go-units does; 18 digits are finer than any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| wanted())?);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().map_err(|_| wanted())? };
    let bytes = whole
        .checked_mul(1 << shift)
        .and_then(|bytes| bytes.checked_add((part << shift) / scale))
        .ok_or_else(too_much)?;
    i64::try_from(bytes).map(i64::unsigned_abs).map_err(|_| too_much())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("64m", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 MB", 64 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "", "m", "-1", "+1", "64x", "64mm", "64m ", " 64m", "1.", ".5", "1.2.3", "0x10", "1e3", "64  m",
            "6４m",
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains("for instance 64m"), "{text:?}: {said}");
        }
        for text in ["9223372036854775808", "99999999p", &"9".repeat(60)] {
            assert!(parse(text).unwrap_err().contains("more than"), "{text}");
        }
    }
}
