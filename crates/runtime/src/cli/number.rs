//! Numbers and sizes on the command line, as Go and docker/go-units read them, with their error texts.

use std::num::IntErrorKind;
use std::str::FromStr;

/// `strconv.ParseInt` in base 10.
pub(crate) fn signed(text: &str) -> Result<i64, String> {
    parse("ParseInt", text)
}

/// `strconv.ParseUint` in base 10, which takes no sign.
pub(crate) fn unsigned(text: &str) -> Result<u64, String> {
    if text.starts_with('+') {
        return Err(syntax("ParseUint", text));
    }
    parse("ParseUint", text)
}

fn parse<T: FromStr<Err = std::num::ParseIntError>>(call: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|e: std::num::ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
            format!("strconv.{call}: parsing {text:?}: value out of range")
        }
        _ => syntax(call, text),
    })
}

fn syntax(call: &str, text: &str) -> String {
    format!("strconv.{call}: parsing {text:?}: invalid syntax")
}

/// `units.RAMInBytes`: a number with or without a fraction, then `k`, `m`, `g`, `t` or `p` (powers of 1024) in either
/// case, with or without `b` or `ib`, perhaps after a blank.
pub(crate) fn size(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    // Rust reads "inf" and "nan" too, but neither has a digit at its end.
    let number: f64 = number.parse().map_err(|_| syntax("ParseFloat", number))?;
    if number < 0.0 {
        return Err(invalid());
    }
    let suffix = suffix.to_lowercase();
    let unit =
        suffix.strip_suffix("ib").filter(|u| !u.is_empty()).or(suffix.strip_suffix('b')).unwrap_or(&suffix);
    let factor = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    // a fraction of a byte, and beyond 2^63
    Ok((number * (1u64 << factor) as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fail_in_gos_words() {
        assert_eq!((signed("-1"), signed("+7"), unsigned("7")), (Ok(-1), Ok(7), Ok(7)));
        for (result, error) in [
            (signed("x").map(|_| ()), r#"strconv.ParseInt: parsing "x": invalid syntax"#),
            (signed("").map(|_| ()), r#"strconv.ParseInt: parsing "": invalid syntax"#),
            (
                signed("9223372036854775808").map(|_| ()),
                r#"strconv.ParseInt: parsing "9223372036854775808": value out of range"#,
            ),
            (unsigned("-1").map(|_| ()), r#"strconv.ParseUint: parsing "-1": invalid syntax"#),
            (unsigned("+1").map(|_| ()), r#"strconv.ParseUint: parsing "+1": invalid syntax"#),
            (unsigned("1k").map(|_| ()), r#"strconv.ParseUint: parsing "1k": invalid syntax"#),
        ] {
            assert_eq!(result.unwrap_err(), error);
        }
    }

    #[test]
    fn sizes_take_the_suffixes_of_docker() {
        for (text, bytes) in [
            ("0", 0),
            ("67108864", 67_108_864),
            ("50M", 52_428_800),
            ("50m", 52_428_800),
            ("50mb", 52_428_800),
            ("50MiB", 52_428_800),
            ("50 MiB", 52_428_800),
            ("32b", 32),
            ("32B", 32),
            ("1.5k", 1536),
            ("1k", 1024),
            ("2g", 2 << 30),
            ("3t", 3 << 40),
            ("1p", 1 << 50),
            (".5k", 512),
            ("99999999p", i64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("", "invalid size: ''"),
            ("many", "invalid size: 'many'"),
            ("-5", "invalid size: '-5'"),
            ("5x", "invalid suffix: 'x'"),
            ("5mm", "invalid suffix: 'mm'"),
            ("5ib", "invalid suffix: 'ib'"),
            ("5 m b", r#"strconv.ParseFloat: parsing "5 m": invalid syntax"#),
            ("1.2.3", r#"strconv.ParseFloat: parsing "1.2.3": invalid syntax"#),
            (" 5", r#"strconv.ParseFloat: parsing " 5": invalid syntax"#),
        ] {
            assert_eq!(size(text), Err(error.to_owned()), "{text}");
        }
    }
}
