//! Why a pull failed, and how words from a registry are shown.

use std::path::PathBuf;
use std::time::Duration;

use oci::Digest;
use oci::sink::SinkError;

/// Why a pull failed. Every text is one line, free of secrets and of control characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for the end.
    #[error("the pull was interrupted")]
    Cancelled,

    /// A settings file (`registries.conf`, `auth.json`, a certificate) cannot be used.
    #[error("read {}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong; never quotes a file that holds secrets.
        reason: String,
    },

    /// `registries.conf` forbids the registry.
    #[error("pull {name}: blocked by the prefix {prefix:?} in registries.conf")]
    Blocked {
        /// The image.
        name: String,
        /// The entry's prefix.
        prefix: String,
    },

    /// There is no such repository, tag or digest.
    #[error("no such image {name}{}{hint}", said(detail))]
    NotFound {
        /// The image.
        name: String,
        /// What the registry said.
        detail: String,
        /// Tags that do exist, or empty; begins with `; `.
        hint: String,
    },

    /// A manifest lists a blob that the registry does not have.
    #[error(
        "get {digest} from {location}: the registry has the manifest but not this blob{}; the image must be pushed again",
        said(detail)
    )]
    NoBlob {
        /// The blob.
        digest: Digest,
        /// Where it was looked for.
        location: String,
        /// What the registry said.
        detail: String,
    },

    /// An index has nothing for the platform.
    #[error("no image for {wanted} in {name}; it offers {offered}; choose one with --platform")]
    NoPlatform {
        /// The image.
        name: String,
        /// What was wanted.
        wanted: String,
        /// What there is, or `no platform at all`.
        offered: String,
    },

    /// The only image there is for another platform than the one asked for.
    #[error(
        "no image for {wanted} in {name}; it is a single image for {actual}; take that with --platform {actual}"
    )]
    WrongPlatform {
        /// The image.
        name: String,
        /// What was wanted.
        wanted: String,
        /// What its config says.
        actual: String,
    },

    /// No connection: name resolution, refused, no route, timeout, a broken answer.
    #[error("reach {host}: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What happened and, where known, the cure.
        reason: String,
    },

    /// TLS failed.
    #[error("reach {host}: TLS: {reason}")]
    Tls {
        /// Host and port.
        host: String,
        /// What is wrong with the certificate or the handshake, and the cure.
        reason: String,
    },

    /// The registry wants credentials, or other ones.
    #[error("pull from {location}: unauthorized{}; {cure}", said(detail))]
    Unauthorized {
        /// Registry and repository.
        location: String,
        /// What the registry said.
        detail: String,
        /// What to do.
        cure: String,
    },

    /// The registry refuses these credentials this image.
    #[error(
        "pull from {location}: access denied{}; the account of auth.json or ~/.docker/config.json may not read it",
        said(detail)
    )]
    Denied {
        /// Registry and repository.
        location: String,
        /// What the registry said.
        detail: String,
    },

    /// The registry answers 429 again and again.
    #[error("pull from {location}: rate limited{}; log in for a higher limit or wait{}", said(detail), wait(*retry_after))]
    RateLimited {
        /// Registry and repository.
        location: String,
        /// What the registry said.
        detail: String,
        /// What it asked to wait, if it did.
        retry_after: Option<Duration>,
    },

    /// Any other status.
    #[error("get {what} from {location}: HTTP {status}{}", said(detail))]
    Status {
        /// What was asked for.
        what: String,
        /// Registry and repository, or host.
        location: String,
        /// The status code.
        status: u16,
        /// What the registry said.
        detail: String,
    },

    /// The registry's answer breaks the protocol or a rule of safety (redirects, token realms).
    #[error("get {what} from {location}: {reason}")]
    Protocol {
        /// What was asked for.
        what: String,
        /// Registry and repository, or host.
        location: String,
        /// What is wrong.
        reason: String,
    },

    /// The bytes are not those that were asked for.
    #[error("get {what} from {location}: wrong digest: expected {expected}, got {actual}")]
    WrongDigest {
        /// What was asked for.
        what: String,
        /// Where it came from.
        location: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },

    /// There are more or fewer bytes than the descriptor says.
    #[error("get {what} from {location}: wrong size: expected {expected} bytes, got {actual}")]
    WrongSize {
        /// What was asked for.
        what: String,
        /// Where it came from.
        location: String,
        /// The descriptor's size.
        expected: u64,
        /// A number, or `more`.
        actual: String,
    },

    /// A manifest, index or config is malformed, ambiguous, or no image.
    #[error("invalid {what} of {name}: {reason}")]
    Document {
        /// `manifest`, `index`, `config`.
        what: String,
        /// The image.
        name: String,
        /// What is wrong, with its path in the document.
        reason: String,
    },

    /// The receiver could not take it.
    #[error("store {what}")]
    Sink {
        /// What was handed over.
        what: String,
        /// Why it failed.
        #[source]
        source: SinkError,
    },

    /// A layout or an archive cannot be read.
    #[error("read {}: {reason}", path.display())]
    Archive {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The image's own place failed, and all of its mirrors before it.
    #[error("{primary} (mirrors failed before: {mirrors})")]
    Mirrors {
        /// What the image's own registry failed with.
        primary: Box<Error>,
        /// `location: why` of each mirror.
        mirrors: String,
    },
}

fn said(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn wait(asked: Option<Duration>) -> String {
    asked.map_or(String::new(), |d| format!(" (it asks for {} s)", d.as_secs()))
}

/// Words of a stranger on one line, at most `max` characters: control characters, also those that move a
/// terminal's cursor or turn the direction of writing, are escaped.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let bidi = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::new();
    for (n, c) in text.trim().chars().enumerate() {
        if n == max {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || bidi(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    one_line(&text, 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_could_drive_a_terminal() {
        assert_eq!(one_line(" a\x1b[2Jb\r\nc\u{202e}d\u{9b} ", 99), "a\\u{1b}[2Jb  c\\u{202e}d\\u{9b}");
        assert_eq!(one_line(&"x".repeat(50), 3), "xxx…");
    }
}
