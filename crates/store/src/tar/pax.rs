//! PAX extended headers, pax(1) "pax Extended Header".

use super::sparse::Extent;

/// What an extended header says about the entry behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// The `GNU.sparse.*` records of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) count: Option<u64>,
    pub(super) map: Option<Vec<Extent>>,
    /// Format 0.0 repeats offset and length as records of their own.
    pub(super) open_offset: Option<u64>,
    pub(super) listed: Vec<Extent>,
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Splits a header's body into its records `LENGTH KEY=VALUE\n`; anything else there is an error.
pub(super) fn records(mut body: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(21).position(|b| *b == b' ').ok_or("a PAX record has no length")?;
        let length = decimal(&body[..space]).ok_or("a PAX record's length is not a number")?;
        let record = usize::try_from(length)
            .ok()
            .and_then(|n| body.get(..n))
            .filter(|r| r.len() > space + 1 && r.ends_with(b"\n"))
            .ok_or("a PAX record's length is wrong")?;
        let pair = &record[space + 1..record.len() - 1];
        let equals = pair.iter().position(|b| *b == b'=').ok_or("a PAX record has no '='")?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("a PAX record's key is empty or has a NUL".into());
        }
        records.push((key, value));
        body = &body[record.len()..];
    }
    Ok(records)
}

/// Reads the body of an `x` header. Of a repeated key the last one counts; an empty value takes the key back.
pub(super) fn parse(body: &[u8]) -> Result<Extended, String> {
    let mut it = Extended::default();
    for (key, value) in records(body)? {
        let bad = || format!("PAX record {}: bad value", String::from_utf8_lossy(key));
        let text = || if value.contains(&0) { Err(bad()) } else { Ok(value.to_vec()) };
        let number = || decimal(value).ok_or_else(bad);
        match key {
            b"path" => it.path = filled(value, text)?,
            b"linkpath" => it.link = filled(value, text)?,
            b"size" => it.size = filled(value, number)?,
            b"uid" => it.uid = filled(value, number)?,
            b"gid" => it.gid = filled(value, number)?,
            b"mtime" => it.mtime = filled(value, || time(value).ok_or_else(bad))?,
            b"GNU.sparse.major" => it.sparse.major = Some(number()?),
            b"GNU.sparse.minor" => it.sparse.minor = Some(number()?),
            b"GNU.sparse.name" => it.sparse.name = Some(text()?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => it.sparse.size = Some(number()?),
            b"GNU.sparse.numblocks" => it.sparse.count = Some(number()?),
            b"GNU.sparse.map" => it.sparse.map = Some(extents(value).ok_or_else(bad)?),
            b"GNU.sparse.offset" => match it.sparse.open_offset.replace(number()?) {
                None => {}
                Some(_) => return Err(bad()),
            },
            b"GNU.sparse.numbytes" => {
                let offset = it.sparse.open_offset.take().ok_or_else(bad)?;
                it.sparse.listed.push(Extent { offset, length: number()? });
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    it.xattrs.retain(|(known, _)| known != name);
                    it.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    match it.sparse.open_offset {
        None => Ok(it),
        Some(_) => Err("PAX record GNU.sparse.offset without GNU.sparse.numbytes".into()),
    }
}

fn filled<T>(value: &[u8], parse: impl FnOnce() -> Result<T, String>) -> Result<Option<T>, String> {
    if value.is_empty() { Ok(None) } else { parse().map(Some) }
}

/// Digits only: no sign, no blanks.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds since 1970 with a decimal fraction, possibly negative; beyond nanoseconds it is cut.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds =
        (0..9).fold(0, |n, i| n * 10 + fraction.get(i).map_or(0, |digit| u32::from(digit - b'0')));
    match (negative, nanoseconds) {
        (false, n) => Some((seconds, n)),
        (true, 0) => Some((-seconds, 0)),
        (true, n) => Some((-seconds - 1, 1_000_000_000 - n)),
    }
}

/// `offset,length,offset,length,…`
fn extents(text: &[u8]) -> Option<Vec<Extent>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Vec<u64> = text.split(|b| *b == b',').map(decimal).collect::<Option<_>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[offset, length]| Extent { offset: *offset, length: *length }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let length = (1..).map(|digits| rest + digits).find(|n| rest + n.to_string().len() == *n).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn reads_values_of_any_bytes() {
        let body = [record("path", b"a\nb"), record("SCHILY.xattr.user.x", b"a=\n\0\xff")].concat();
        let it = parse(&body).unwrap();
        assert_eq!(it.path.unwrap(), b"a\nb");
        assert_eq!(it.xattrs, [(b"user.x".to_vec(), b"a=\n\0\xff".to_vec())]);
    }

    #[test]
    fn last_record_counts_and_an_empty_one_takes_back() {
        assert_eq!(parse(b"9 path=a\n9 path=b\n").unwrap().path.unwrap(), b"b");
        assert_eq!(parse(b"9 path=a\n8 path=\n").unwrap().path, None);
    }

    #[test]
    fn refuses_malformed_records() {
        for bad in [
            &b"8 path=a\n"[..],
            b"11 path=a\n",
            b"+9 path=a\n",
            b"-9 path=a\n",
            b" 9 path=a\n",
            b"9 path=ab",
            b"7 path\n",
            b"5 =a\n",
            b"path=a\n",
            b"99999999999999999999999 path=a\n",
            b"0 path=a\n",
            b"2 \n",
            b"\n",
            b"9 path=a\n\0\0",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        for (key, value) in [
            ("path", &b"a\0b"[..]),
            ("linkpath", b"\0"),
            ("pa\0th", b"a"),
            ("size", b"-1"),
            ("size", b"+1"),
            ("size", b"0x1"),
            ("size", b"1 "),
            ("size", b"99999999999999999999"),
            ("uid", b"-1"),
            ("mtime", b"NaN"),
            ("mtime", b"1e300"),
            ("mtime", b"-"),
            ("mtime", b"1.-5"),
            ("GNU.sparse.map", b"1,"),
            ("GNU.sparse.map", b"1,2,3"),
            ("GNU.sparse.offset", b"1"),
            ("GNU.sparse.numbytes", b"1"),
        ] {
            assert!(parse(&record(key, value)).is_err(), "{key}={:?}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn times() {
        for (text, want) in [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.", Some((12, 0))),
            ("1.0000000019", Some((1, 1))),
            ("-1", Some((-1, 0))),
            ("-1.5", Some((-2, 500_000_000))),
            ("9223372036854775807", Some((i64::MAX, 0))),
            ("9223372036854775808", None),
            ("1.x", None),
            (".5", None),
        ] {
            assert_eq!(time(text.as_bytes()), want, "{text}");
        }
    }
}
