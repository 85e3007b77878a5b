//! Environment variables: `-e KEY=VALUE`, `-e KEY` (the host's value), and docker's `--env-file` format.

use std::fmt;

/// One variable as it was typed. `value: None` means the host's, and nothing at all where the host has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Name.
    pub(crate) key: String,
    /// Value; the rest of the text after the first `=`, as it is.
    pub(crate) value: Option<String>,
}

/// Reads the value of `-e`.
///
/// # Errors
/// What is wanted, when there is no name or a NUL, which environ(7) has no room for.
pub(crate) fn parse(text: &str) -> Result<Variable, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err("wants KEY=VALUE, or KEY alone for the value it has here".to_owned());
    }
    Ok(Variable { key: key.to_owned(), value })
}

/// Why a file is not an `--env-file`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// Line number, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Reads an `--env-file` by docker's rules: a line is `KEY=VALUE` or `KEY`; blank lines and lines whose first
/// character is `#` are skipped; space before the key is cut, everything after the `=` is kept, quotes too.
///
/// # Errors
/// The first line that is none of these.
pub(crate) fn parse_file(bytes: &[u8]) -> Result<Vec<Variable>, BadLine> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let bad = |reason: String| BadLine { line: index + 1, reason };
        let line = std::str::from_utf8(line).map_err(|_| bad("it is not UTF-8".to_owned()))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable =
            parse(line).map_err(|_| bad(format!("there is no name before the '=' in {line:?}")))?;
        if variable.key.contains(char::is_whitespace) {
            return Err(bad(format!("the name {:?} has a space in it", variable.key)));
        }
        if line.contains('\0') {
            return Err(bad("there is a NUL in it".to_owned()));
        }
        variables.push(variable);
    }
    Ok(variables)
}

/// `KEY=VALUE` for each variable, in order; `host` looks up those that have no value of their own.
pub(crate) fn resolve(variables: Vec<Variable>, host: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let value = |v: Variable| Some(format!("{}={}", v.key, v.value.or_else(|| host(&v.key))?));
    variables.into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(variables: Vec<Variable>) -> Vec<String> {
        resolve(variables, |key| (key == "HOME").then(|| "/h".to_owned()))
    }

    #[test]
    fn flag() {
        for (text, want) in [
            ("A=b", "A=b"),
            ("A=", "A="),
            ("A=b=c", "A=b=c"),
            ("A= b ", "A= b "),
            ("HOME", "HOME=/h"),
            ("a.b-c=1", "a.b-c=1"),
        ] {
            assert_eq!(strings(vec![parse(text).unwrap()]), [want], "{text}");
        }
        assert!(strings(vec![parse("UNSET").unwrap()]).is_empty());
        for text in ["", "=", "=x"] {
            assert!(parse(text).unwrap_err().contains("wants KEY=VALUE"), "{text:?}");
        }
    }

    #[test]
    fn file_by_dockers_rules() {
        let file =
            "\u{feff}A=1\r\n\n  # comment\n#x=y\n\t B=\"quoted\"  \nC=a#b\nD=\nHOME\nUNSET\nE=x y\nF=last";
        assert_eq!(
            strings(parse_file(file.as_bytes()).unwrap()),
            ["A=1", "B=\"quoted\"  ", "C=a#b", "D=", "HOME=/h", "E=x y", "F=last"]
        );
        assert_eq!(parse_file(b""), Ok(vec![]));
    }

    #[test]
    fn file_refusals_name_the_line() {
        for (file, said) in [
            (&b"A=1\n=x\n"[..], "line 2: there is no name before the '=' in \"=x\""),
            (b"\n\nexport A=1", "line 3: the name \"export A\" has a space in it"),
            (b"A =1", "line 1: the name \"A \" has a space in it"),
            (b"HOME ", "line 1: the name \"HOME \" has a space in it"),
            (b"A=\xff", "line 1: it is not UTF-8"),
            (b"A=\0", "line 1: there is a NUL in it"),
        ] {
            assert_eq!(parse_file(file).unwrap_err().to_string(), said);
        }
    }
}
