//! Copies of file trees.

use std::os::fd::BorrowedFd;

use crate::error::Result;

/// Copies what is in directory `from` (for instance a mount of [`crate::overlay`]) into the empty directory `to`,
/// with owners, modes, times, xattrs, hardlinks, devices and holes; `to` itself gets the attributes of `from`.
/// Answers how many bytes of content it copied.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<u64> {
    let _ = (from, to);
    unimplemented!()
}
