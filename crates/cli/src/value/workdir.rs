//! `--workdir`: a directory in the container.

/// The path, which has to be absolute.
///
/// # Errors
/// What is wanted, when it is not.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("wants an absolute path in the container, for instance /work".to_owned());
    }
    Ok(text.to_owned())
}
