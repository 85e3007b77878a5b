//! `state`.

use super::flags::Parsed;
use super::global::Global;
use super::{Command, id_of};
use crate::{Error, lifecycle};

pub(crate) const COMMAND: Command = Command {
    name: "state",
    usage: "output the state of a container",
    arguments: "<container-id>",
    description: "The state command outputs current state information for the instance of a container.",
    flags: &[],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let state = lifecycle::state(&global.root, &id_of(parsed)?)?;
    let json = serde_json::to_string_pretty(&state).map_err(|e| Error::new("print the state").because(e))?;
    super::print(&json)
}
