//! Properties of a unit that the configuration's annotations give: `org.systemd.property.NAME`.

use std::collections::HashMap;

use super::property::Property;
use super::text;
use super::value::Value;
use crate::{Error, ErrorKind};

/// What the names of such annotations begin with.
pub(crate) const PREFIX: &str = "org.systemd.property.";

/// The properties, by name.
///
/// # Errors
/// A name or a value that can't be one, naming the annotation.
pub(super) fn properties(annotations: &HashMap<String, String>) -> Result<Vec<Property>, Error> {
    let mut found: Vec<_> =
        annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text))).collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|(name, text)| {
            let invalid = |message: String| Error::new(message).kind(ErrorKind::Invalid);
            check_name(name)
                .map_err(|why| invalid(format!("annotation {PREFIX}{name} name incorrect: {why}")))?;
            property(name, text)
                .map_err(|why| invalid(format!("annotation {PREFIX}{name}={text} value parse error: {why}")))
        })
        .collect()
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() < 3 {
        return Err("too short");
    }
    if !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err("contains non-alphabetic character");
    }
    Ok(())
}

fn property(name: &str, text: &str) -> Result<Property, String> {
    let value = text::parse(text)?;
    // Units' files have TimeoutStopSec=, the bus has TimeoutStopUSec.
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        None => Ok(Property::new(name, value)),
        Some(stem) => Ok(Property::new(format!("{stem}USec"), microseconds(&value)?)),
    }
}

fn microseconds(seconds: &Value) -> Result<u64, String> {
    const SECOND: u64 = 1_000_000;
    let negative = || "a negative time".to_owned();
    let whole: u64 = match seconds {
        Value::Byte(n) => (*n).into(),
        Value::Uint16(n) => (*n).into(),
        Value::Uint32(n) => (*n).into(),
        // For ever.
        Value::Uint64(u64::MAX) => return Ok(u64::MAX),
        Value::Uint64(n) => *n,
        Value::Int16(n) => (*n).try_into().map_err(|_| negative())?,
        Value::Int32(n) => (*n).try_into().map_err(|_| negative())?,
        Value::Int64(n) => (*n).try_into().map_err(|_| negative())?,
        Value::Double(n) if *n >= 0.0 => {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
            return Ok((n * 1e6) as u64);
        }
        Value::Double(_) => return Err(negative()),
        _ => return Err("not a number".to_owned()),
    };
    whole.checked_mul(SECOND).ok_or_else(|| format!("{whole} seconds are more than systemd can count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let annotations = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let list = properties(&annotations).map_err(|e| e.to_string())?;
        Ok(list.iter().map(|p| format!("{} {}={}", p.value.signature(), p.name, p.value)).collect())
    }

    #[test]
    fn annotations_become_properties_and_seconds_microseconds() {
        let all = read(&[
            ("org.systemd.property.TimeoutStopUSec", "uint64 123456789"),
            ("org.systemd.property.RuntimeMaxSec", "2"),
            ("org.systemd.property.TimeoutStopSec", "1.5"),
            ("org.systemd.property.JobTimeoutSec", "uint64 18446744073709551615"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.property.ASec", "3"),
            ("io.example", "x y"),
        ]);
        let want = [
            "i ASec=3",
            "s CollectMode=\"inactive-or-failed\"",
            "t JobTimeoutUSec=max",
            "t RuntimeMaxUSec=2000000",
            "t TimeoutStopUSec=1500000",
            "t TimeoutStopUSec=123456789",
        ];
        assert_eq!(all.unwrap(), want);
        assert_eq!(read(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn bad_ones_are_refused_by_name() {
        for (name, value, want) in [
            ("ab", "1", "annotation org.systemd.property.ab name incorrect: too short"),
            ("", "1", "annotation org.systemd.property. name incorrect: too short"),
            (
                "a.b.c",
                "1",
                "annotation org.systemd.property.a.b.c name incorrect: contains non-alphabetic character",
            ),
            (
                "Foo",
                "bar",
                "annotation org.systemd.property.Foo=bar value parse error: unrecognized type \"bar\"",
            ),
            ("FooSec", "'x'", "annotation org.systemd.property.FooSec='x' value parse error: not a number"),
            ("FooSec", "-1", "annotation org.systemd.property.FooSec=-1 value parse error: a negative time"),
        ] {
            assert_eq!(read(&[(&format!("{PREFIX}{name}"), value)]).unwrap_err(), want);
        }
        let error = read(&[("org.systemd.property.FooSec", "uint64 18446744073709551614")]).unwrap_err();
        assert!(error.ends_with("are more than systemd can count"), "{error}");
    }
}
