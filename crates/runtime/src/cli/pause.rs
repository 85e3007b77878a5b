//! `pause` and `resume`.

use super::flags::Parsed;
use super::global::Global;
use super::{Command, id_of};
use crate::{Error, lifecycle};

pub(crate) const PAUSE: Command = Command {
    name: "pause",
    usage: "pause suspends all processes inside the container",
    arguments: "<container-id>",
    description: "The pause command suspends all processes in the instance of the container.",
    flags: &[],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run: pause,
};

pub(crate) const RESUME: Command = Command {
    name: "resume",
    usage: "resumes all processes that have been previously paused",
    arguments: "<container-id>",
    description: "The resume command resumes all processes in the instance of the container.",
    flags: &[],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run: resume,
};

fn pause(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    lifecycle::pause(&global.root, &id_of(parsed)?).map(|()| 0)
}

fn resume(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    lifecycle::resume(&global.root, &id_of(parsed)?).map(|()| 0)
}
