//! Text that others wrote, made fit for a terminal: names, labels and commands come from images, and an escape
//! sequence in them could move the cursor, retitle the window or worse.

use std::borrow::Cow;

/// `text` on one line: every control character becomes its escape (`\n`, `\u{1b}`).
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// `text` with line breaks and tabs kept and every other control character escaped.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    // Also the bidirectional controls, which reorder what stands around them (CVE-2021-42574).
    let unsafe_char = |c: char| {
        (c.is_control() && !keep(c)) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(unsafe_char) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if unsafe_char(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_moves_a_terminal() {
        assert_eq!(line("é ok"), "é ok");
        assert_eq!(line("a\x1b]0;x\x07\n\u{9b}2J\u{202e}"), "a\\u{1b}]0;x\\u{7}\\n\\u{9b}2J\\u{202e}");
        assert_eq!(lines("a\n\tb\r\x7f"), "a\n\tb\\r\\u{7f}");
    }
}
