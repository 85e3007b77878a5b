//! `--hostname`: what sethostname(2) and a line of /etc/hosts both take.

/// Longest host name that Linux keeps (`__NEW_UTS_LEN`).
const LONGEST: usize = 64;

/// Checks a host name: letters, digits, `-`, `_` and `.`, none of them first or last but letters and digits.
///
/// # Errors
/// What is wanted, when `text` is something else. A line break would forge lines of /etc/hosts.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [text.bytes().next(), text.bytes().last()];
    let fine = ends.into_iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()));
    if !fine || !text.bytes().all(inner) || text.len() > LONGEST {
        return Err(format!("wants 1 to {LONGEST} letters, digits, '-', '_' or '.', for instance web-1"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_only() {
        for good in ["a", "web-1", "db_1.example.org", "0", &"x".repeat(64)] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", ".a", "a b", "a\n1.2.3.4 b", "a/b", "ä", &"x".repeat(65)] {
            assert!(parse(bad).unwrap_err().contains("for instance web-1"), "{bad:?}");
        }
    }
}
