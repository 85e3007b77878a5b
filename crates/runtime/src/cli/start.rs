//! `start`.

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
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    lifecycle::start(&global.root, &id_of(parsed)?)?;
    Ok(0)
}
