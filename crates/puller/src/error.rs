//! Why a pull failed.

/// Why a pull failed. Every text is one line, free of secrets and of control characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for the end.
    #[error("the pull was interrupted")]
    Cancelled,
}
