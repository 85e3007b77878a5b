//! `--label` and `--annotation`: `KEY=VALUE`, or `KEY` for an empty value.

/// Key and value.
///
/// # Errors
/// What is wanted, when there is no key.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err("wants KEY=VALUE or KEY".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value() {
        assert_eq!(parse("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse("a"), Ok(("a".into(), String::new())));
        for bad in ["", "=", "=x", " =x"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
