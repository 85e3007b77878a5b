//! `spec`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::Command;
use super::flags::{Flag, Parsed};
use super::global::Global;
use crate::Error;
use crate::spec_default::{Ids, default_config};

pub(crate) const COMMAND: Command = Command {
    name: "spec",
    usage: "create a new specification file",
    arguments: "",
    description: "The spec command creates the new specification file named \"config.json\" for the bundle. It is\n\
        just a starter file: change its args to what shall run in the container, which is \"sh\" at first.",
    flags: &[
        Flag::value("bundle", "path to the root of the bundle directory").or("b"),
        Flag::switch("rootless", "generate a configuration for a rootless container"),
    ],
    arity: (0, 0),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(_: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let bundle = Path::new(parsed.nonempty("bundle").unwrap_or(".".as_ref()));
    let ids = parsed.on("rootless").then(|| Ids { uid: geteuid().as_raw(), gid: getegid().as_raw() });
    let json = default_config(ids);
    let path = bundle.join("config.json");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path);
    match file.and_then(|mut file| file.write_all(json.as_bytes())) {
        Ok(()) => Ok(0),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(Error::new("File config.json exists. Remove it first"))
        }
        Err(e) => Err(Error::new(format!("write {path:?}")).because(e)),
    }
}
