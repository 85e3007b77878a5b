//! `restore`.

use super::Command;
use super::checkpoint::{
    AUTO_DEDUP, EMPTY_NS, EXT_UNIX_SK, FILE_LOCKS, LAZY_PAGES, MANAGE_CGROUPS, SHELL_JOB, TCP_ESTABLISHED,
    WORK_PATH, wishes,
};
use super::create::{self, Start};
use super::flags::{Flag, Parsed};
use super::global::Global;
use crate::{Error, lifecycle};

pub(crate) const COMMAND: Command = Command {
    name: "restore",
    usage: "restore a container from a previous checkpoint",
    arguments: "<container-id>\n\n\
        Where \"<container-id>\" is the name for the instance of the container to be restored.",
    description: "Restores the saved state of the container instance that was previously saved using the checkpoint\n\
        command. criu(8) does it as root from what the image files say: restore none that you don't trust.",
    flags: &[
        create::CONSOLE_SOCKET,
        Flag::value("image-path", "path to criu image files for restoring (default: \"./checkpoint\")"),
        WORK_PATH,
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        FILE_LOCKS,
        MANAGE_CGROUPS,
        create::BUNDLE,
        create::DETACH,
        create::PID_FILE,
        create::NO_SUBREAPER,
        create::NO_PIVOT,
        EMPTY_NS,
        AUTO_DEDUP,
        LAZY_PAGES,
        Flag::value(
            "lsm-profile",
            "specify an LSM profile to be used during restore in the form of TYPE:NAME",
        ),
        Flag::value("lsm-mount-context", "specify an LSM mount context to be used during restore"),
    ],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: true,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let wishes = wishes(parsed)?;
    let start = Start::read(parsed, parsed.on("detach"))?;
    create::start(global, parsed, start, |options| lifecycle::restore(options, &wishes))
}
