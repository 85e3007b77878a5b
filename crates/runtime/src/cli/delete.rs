//! `delete`.

use super::flags::{Flag, Parsed};
use super::global::Global;
use super::{Command, id_of};
use crate::{Error, lifecycle};

pub(crate) const COMMAND: Command = Command {
    name: "delete",
    usage: "delete any resources held by the container often used with detached container",
    arguments: "<container-id>",
    description: "Only a stopped or created container is deleted, unless --force is given.",
    flags: &[
        Flag::switch("force", "Forcibly deletes the container if it is still running (uses SIGKILL)").or("f")
    ],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    lifecycle::delete(&global.root, &id_of(parsed)?, parsed.on("force"))?;
    Ok(0)
}
