//! Overlay mounts of layers.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::Result;

/// What to stack.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Diff directories, lowest first, as in [`crate::Image::layers`]. At least one.
    pub lower: &'a [&'a Path],
    /// Directory that takes the changes and its work directory, both on one file system, the second empty.
    /// `None`: read-only.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Name shown as the mount's source.
    pub source: &'a str,
}

/// Stacks directories into a detached mount; attaching it is the caller's step, closing it undoes all.
pub fn overlay(what: &Overlay<'_>) -> Result<OwnedFd> {
    let _ = what;
    unimplemented!()
}
