//! `start`.

use std::os::fd::AsFd;

use super::create::notify_host;
use super::flags::Parsed;
use super::global::Global;
use super::{Command, id_of};
use crate::{Error, lifecycle};

pub(crate) const COMMAND: Command = Command {
    name: "start",
    usage: "executes the user defined process in a created container",
    arguments: "<container-id>",
    description: "The start command executes the user defined process in a created container.",
    flags: &[],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let id = id_of(parsed)?;
    let Some(host) = notify_host() else {
        return lifecycle::start(&global.root, &id).map(|()| 0);
    };
    let notify = lifecycle::Notify::listen(&global.root, &id)?;
    lifecycle::start(&global.root, &id)?;
    let pid = lifecycle::state(&global.root, &id)?.pid;
    // It may have been ready and gone by now.
    if let Ok(pidfd) = sys::pidfd::open(pid) {
        notify.forward(&host, pid, pidfd.as_fd())?;
    }
    Ok(0)
}
