//! Streams of `-a`.

use engine::StreamName;

/// `stdin`, `stdout` or `stderr`, in any case.
pub(crate) fn parse(text: &str) -> Result<StreamName, String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(StreamName::Stdin),
        "stdout" => Ok(StreamName::Stdout),
        "stderr" => Ok(StreamName::Stderr),
        _ => Err("wants stdin, stdout or stderr".to_owned()),
    }
}
