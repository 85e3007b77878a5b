//! Which container ids are accepted.

use crate::{Error, ErrorKind};

/// Longest id, which is a directory name in the state root and in cgroupfs (NAME_MAX).
const MAX_ID: usize = 255;

/// Accepts what runc accepts (letters, digits, `_`, `+`, `-`, `.`, but not `.` and `..`), no leading `-`, and at most
/// [`MAX_ID`] bytes.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let complain =
        |why: &str| Err(Error::new(format!("container id {id:?}: {why}")).kind(ErrorKind::Invalid));
    if id.is_empty() {
        return complain("container id cannot be empty");
    }
    if id.len() > MAX_ID {
        return complain("invalid container ID format: longer than 255 bytes");
    }
    if id == "." || id == ".." || id.starts_with('-') {
        return complain("invalid container ID format");
    }
    if let Some(bad) = id.chars().find(|c| !c.is_ascii_alphanumeric() && !"_+-.".contains(*c)) {
        return complain(&format!(
            "invalid container ID format: {bad:?} is not a letter, digit, _, +, - or ."
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_ids() {
        for good in ["a", "web_1", "A+b-c.d", "0", "..a", &"x".repeat(255)] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a\0b", "-x", "a\n", " a", "ä", "a:b", "../x", &"x".repeat(256)] {
            assert_eq!(check_id(bad).unwrap_err().what(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}
