//! start: lets a created container's process run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci::runtime::Hooks;

use super::create::CONFIG;
use super::directory::Directory;
use super::hooks::{of_kind, start_container};
use super::kill::signal_init;
use super::record::Record;
use crate::args::Args;
use crate::host::Host;
use crate::{Error, ErrorKind, Status, hook, seal, spec};

/// Lets a created container's process run, then runs the poststart hooks.
///
/// # Errors
/// [`ErrorKind::State`] unless it is created; a process that is gone; a failed hook, and then the container is killed.
pub fn start(root: &Path, id: &str) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    // Of two starts at once one wins, and the other finds a running container.
    let _lock = directory.lock()?;
    let record = Record::read(&directory)?;
    let refuse = |why: String| Err(Error::new(why).kind(ErrorKind::State));
    match record.status(&directory)? {
        Status::Created => {}
        Status::Stopped => return refuse("cannot start a container that has stopped".to_owned()),
        Status::Running => return refuse("cannot start an already running container".to_owned()),
        status => return refuse(format!("cannot start a container in the {status} state")),
    }
    let result = release(&directory, &record);
    if result.is_err() {
        // A failed hook ends the container (runtime-spec, runtime.md, "Lifecycle"); it is `delete`'s to clear away.
        let _ = signal_init(&record, nix::libc::SIGKILL);
    }
    result
}

fn release(directory: &Directory, record: &Record) -> Result<(), Error> {
    if !of_kind(record.hooks.as_ref(), Hooks::start_container).is_empty() {
        // They are in the container already, and so is this program until it has executed them.
        seal::seal()?;
        let spec = spec::parse(&directory.read(CONFIG)?.unwrap_or_default())?;
        let args = Args { id: record.id.clone(), bundle: PathBuf::from(&record.bundle), ..Args::default() };
        start_container(record, &spec, &Host::detect()?, &args)?;
    }
    let fifo = match directory.open_fifo() {
        Ok(fifo) => fifo,
        Err(Errno::ENXIO) => return Err(Error::new("container init is gone").kind(ErrorKind::State)),
        Err(e) => return Err(Error::new("open exec fifo").because(e)),
    };
    File::from(fifo).write_all(b"0").map_err(|e| Error::new("write exec fifo").because(e))?;
    directory.remove_fifo()?;
    poststart(record)
}

/// Runs the poststart hooks of a container whose process runs.
pub(crate) fn poststart(record: &Record) -> Result<(), Error> {
    let hooks = of_kind(record.hooks.as_ref(), Hooks::poststart);
    hook::run_here("poststart", hooks, &record.hook_state(Status::Running, Some(record.init_process_pid)))
}
