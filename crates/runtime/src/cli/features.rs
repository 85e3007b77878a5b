//! `features`.

use serde::Serialize;

use super::flags::Parsed;
use super::global::Global;
use super::{Command, print};
use crate::{Error, features};

pub(crate) const COMMAND: Command = Command {
    name: "features",
    usage: "show the enabled features",
    arguments: "",
    description: "Show the enabled features. The result is parsable as a JSON (runtime-spec, features.md).",
    flags: &[],
    arity: (0, 0),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(_: &Global, _: &Parsed) -> Result<u8, Error> {
    let mut json = Vec::new();
    // Four spaces, as runc's.
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut json, format);
    features::features().serialize(&mut writer).map_err(|e| Error::new("print the features").because(e))?;
    print(&(String::from_utf8_lossy(&json).into_owned() + "\n"))
}
