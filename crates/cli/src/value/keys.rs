//! `--detach-keys`.

/// docker's keys.
pub(crate) const USUAL: &str = "ctrl-p,ctrl-q";

/// The keys as bytes: `a`, or `ctrl-X` with a letter or one of `@[\\]^_`, with commas between them.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    let key = |word: &str| match (word.as_bytes(), word.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([one], _) => Some(*one),
        (_, Some([letter])) => match letter.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            sign @ b'['..=b'_' => Some(sign - b'[' + 27),
            _ => None,
        },
        _ => None,
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.ok_or_else(|| "wants keys such as ctrl-p,ctrl-q or ctrl-@,x".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_keys() {
        assert_eq!(parse(USUAL), Ok(vec![16, 17]));
        assert_eq!(parse("ctrl-@,x,ctrl-_,ctrl-["), Ok(vec![0, b'x', 31, 27]));
        assert!(parse("ctrl-").is_err() && parse("shift-a").is_err() && parse("a,,b").is_err());
    }
}
