//! Host names that may be set in a container and written into its files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name that sethostname(2) takes (`__NEW_UTS_LEN`).
const MAX: usize = 64;

/// A host name: 1 to 64 letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit.
///
/// Nothing else fits, so that a name can never add a line or a field to `/etc/hosts` (CVE-2022-4318).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid hostname {text:?}: {reason}")]
pub struct ParseHostnameError {
    /// The text as given, cut to 100 characters.
    text: String,
    /// What is wrong with it.
    reason: &'static str,
}

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = ParseHostnameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| Err(ParseHostnameError { text: text.chars().take(100).collect(), reason });
        if text.is_empty() || text.len() > MAX {
            return fail("wants 1 to 64 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return fail("wants letters, digits, '.', '_' and '-' only");
        }
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        if !edge(text.as_bytes().first()) || !edge(text.as_bytes().last()) {
            return fail("wants a letter or digit first and last");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Hostname {
    type Error = ParseHostnameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_refuses_what_could_add_a_line() {
        for good in ["a", "web-1", "db.example.org", "9f86d081884c", "under_score", &"x".repeat(64)] {
            assert_eq!(good.parse::<Hostname>().unwrap().as_str(), good);
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            "-a",
            "a-",
            ".a",
            "a b",
            "a\nroot2::0:0",
            "a\r",
            "a\\n",
            "a\tb",
            "a:b",
            "ä",
            "a/b",
            "a\0",
            &long,
        ] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad:?}");
        }
    }
}
