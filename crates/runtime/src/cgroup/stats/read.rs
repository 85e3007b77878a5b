//! Numbers from the files of one cgroup directory. A file that is not there is `None`: its controller is off, the
//! kernel is older, or the cgroup has just been removed.

use super::super::dir::{Dir, gone, is};
use crate::Error;
use nix::errno::Errno;
use std::fmt::Display;

impl Dir {
    /// All of `file`.
    pub(super) fn text(&self, file: &str) -> Result<Option<String>, Error> {
        match self.read(file) {
            Ok(text) => Ok(Some(text)),
            Err(e) if gone(&e) => Ok(None),
            // A pressure file where accounting is switched off.
            Err(e) if is(&e, Errno::EOPNOTSUPP) => Ok(None),
            Err(e) => Err(self.failed("read", file, e)),
        }
    }

    /// The one number of `file`.
    pub(super) fn number(&self, file: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        number(&text).map(Some).ok_or_else(|| self.malformed(file, text.trim()))
    }

    /// The lines `key number` of `file`.
    pub(super) fn pairs(&self, file: &str) -> Result<Option<Vec<(String, u64)>>, Error> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        let pair = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), number(value)?))
        };
        text.lines()
            .map(|line| pair(line).ok_or_else(|| self.malformed(file, line)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The line of `file` that starts with `key`.
    pub(super) fn by_key(&self, file: &str, key: &str) -> Result<Option<u64>, Error> {
        let pairs = self.pairs(file)?;
        Ok(pairs.and_then(|pairs| pairs.into_iter().find(|(k, _)| k == key)).map(|(_, value)| value))
    }

    pub(super) fn malformed(&self, file: &str, what: impl Display) -> Error {
        Error::new(format!("unable to parse {:?}: {what}", self.path.join(file)))
    }
}

/// A count. `max` is the greatest; a negative one, which kernels with racing counters have written, is 0.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        text => text.parse().ok().or_else(|| text.parse::<i128>().ok().filter(|n| *n < 0).map(|_| 0)),
    }
}

/// The numbers of a list such as `0-3,7`.
pub(super) fn list(text: &str) -> Option<Vec<u16>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(from.parse::<u16>().ok()?..=to.parse().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_kernels_write_them() {
        for (text, value) in [
            ("0\n", Some(0)),
            ("max\n", Some(u64::MAX)),
            ("9223372036854771712", Some(9_223_372_036_854_771_712)),
            ("-4096\n", Some(0)),
            ("-99999999999999999999", Some(0)),
            ("99999999999999999999", None),
            ("", None),
            ("1 2", None),
        ] {
            assert_eq!(number(text), value, "{text:?}");
        }
    }

    #[test]
    fn lists_are_spelled_out() {
        assert_eq!(list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(list("\n"), Some(vec![]));
        assert_eq!(list("0-"), None);
        assert_eq!(list("a"), None);
        assert_eq!(list("65536"), None);
    }
}
