//! state and list: what containers are.

use std::path::Path;

use super::directory::{Directory, no_such_container};
use super::record::Record;
use crate::{Error, State};

/// The state of a container.
///
/// # Errors
/// [`crate::ErrorKind::NotFound`]; a damaged state directory.
pub fn state(root: &Path, id: &str) -> Result<State, Error> {
    let directory = Directory::open(root, id)?;
    Record::read(&directory)?.state(&directory)
}

/// One container of a listing.
#[derive(Debug)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its state, with `#uid` as the owner, or why that cannot be told.
    pub state: Result<State, Error>,
}

/// Every container below `root`, by name.
///
/// # Errors
/// `root` cannot be read; that it does not exist is an error of kind [`crate::ErrorKind::NotFound`].
pub fn list(root: &Path) -> Result<Vec<Listed>, Error> {
    let fail = |e: std::io::Error| {
        let error = Error::new(format!("list state root {root:?}"));
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        if missing { error.kind(no_such_container().what()) } else { error }.because(e)
    };
    let mut containers = Vec::new();
    for entry in std::fs::read_dir(root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let id = entry.file_name().to_string_lossy().into_owned();
        let state = state_and_owner(root, &id);
        // Deleted meanwhile.
        if entry.path().symlink_metadata().is_ok() {
            containers.push(Listed { id, state });
        }
    }
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(containers)
}

fn state_and_owner(root: &Path, id: &str) -> Result<State, Error> {
    let directory = Directory::open(root, id)?;
    let state = Record::read(&directory)?.state(&directory)?;
    Ok(State { owner: format!("#{}", directory.stat()?.st_uid), ..state })
}
