//! `linux.resources` as files to write: two pure tables, one for each kernel interface.

use super::Version;
use crate::Error;
use oci::runtime::LinuxResources;

/// One value for one file of a cgroup directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller that owns the file (`memory`, `cpu`, `hugetlb`).
    pub controller: String,
    /// File name in the cgroup's directory.
    pub file: String,
    /// What is written, without a newline.
    pub value: String,
    /// What to do where the file does not exist.
    pub missing: Missing,
}

/// What a file's absence means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The limit can't be kept: an error.
    Fail,
    /// The kernel lacks the knob and what it would do is so anyway.
    Ignore,
    /// Another file does the same.
    Write {
        /// Its name.
        file: String,
        /// What is written there.
        value: String,
    },
}

/// The files to write for `resources`, in order. Device rules are not here: [`crate::devices`].
///
/// # Errors
/// A value that can't be meant, named by its place in config.json.
pub fn settings(resources: &LinuxResources, version: Version) -> Result<Vec<Setting>, Error> {
    let _ = (resources, version);
    todo!()
}
