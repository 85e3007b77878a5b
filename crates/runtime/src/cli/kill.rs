//! `kill`.

use super::flags::{Flag, Parsed};
use super::global::Global;
use super::{Command, id_of, invalid, signal};
use crate::{Error, lifecycle};

pub(crate) const COMMAND: Command = Command {
    name: "kill",
    usage: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    arguments: "<container-id> [signal]",
    description: "The signal is a name, with or without SIG, or a number.",
    // docker and podman still give it; runc keeps it for them.
    flags: &[Flag::switch("all", "(obsoleted, do not use)").or("a").hidden()],
    arity: (1, 2),
    stop_after: 1,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let name = parsed.rest.get(1).map(|s| s.to_string_lossy()).filter(|s| !s.is_empty());
    let name = name.as_deref().unwrap_or("SIGTERM");
    let number = signal::number(name).ok_or_else(|| invalid(format!("unknown signal {name:?}")))?;
    lifecycle::kill(&global.root, &id_of(parsed)?, number, parsed.on("all"))?;
    Ok(0)
}
