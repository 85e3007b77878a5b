//! The command line of `rcr-runtime`: runc's commands, flags, output and exit codes.
//!
//! Each command is a file with its [`Command`] entry and its `run`. Policy lives in [`crate::lifecycle`]; here are
//! arguments, printing, logging and the foreground process's terminal and signals.

mod checkpoint;
mod completion;
mod create;
mod delete;
mod duration;
mod events;
mod exec;
mod features;
mod flags;
mod foreground;
mod global;
mod help;
mod kill;
mod list;
mod listen;
mod log;
mod man;
mod number;
mod pause;
mod plan;
mod ps;
mod restore;
pub mod signal;
mod spec;
mod start;
mod state;
mod terminal;
mod update;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use crate::{Error, ErrorKind, seal};
use flags::{Flag, Parsed};
use global::Global;
use log::Log;

/// One command.
pub(crate) struct Command {
    name: &'static str,
    /// One line.
    usage: &'static str,
    /// What follows the flags in the usage line.
    arguments: &'static str,
    description: &'static str,
    flags: &'static [Flag],
    /// How many arguments it takes, at least and at most.
    arity: (usize, usize),
    /// After so many arguments, flags are no longer looked for.
    stop_after: usize,
    /// Exit code of a failure of its own.
    failure: u8,
    /// It has processes of this program inside containers.
    enters: bool,
    run: fn(&Global, &Parsed) -> Result<u8, Error>,
}

/// The program's own name, whatever it is installed as.
const NAME: &str = "rcr-runtime";

const COMMANDS: &[Command] = &[
    checkpoint::COMMAND,
    completion::COMMAND,
    create::CREATE,
    delete::COMMAND,
    events::COMMAND,
    exec::COMMAND,
    features::COMMAND,
    kill::COMMAND,
    list::COMMAND,
    man::COMMAND,
    pause::PAUSE,
    plan::COMMAND,
    ps::COMMAND,
    restore::COMMAND,
    pause::RESUME,
    create::RUN,
    spec::COMMAND,
    start::COMMAND,
    state::COMMAND,
    update::COMMAND,
];

/// Runs the command line `args` (the program's name first) and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut args = args.into_iter();
    // runc's callers match "runc version ..." and the like: installed under its name, this program answers to it.
    let program = args
        .next()
        .and_then(|path| Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| NAME.to_owned());
    let mut log = Log::default();
    match dispatch(&program, args.collect(), &mut log) {
        Ok(code) => code,
        Err((error, code)) => {
            log.fatal(&format!("{error:#}"));
            code
        }
    }
}

type Failure = (Error, u8);

/// A set-user-ID runtime lends root to whoever can write a config.json (CVE-2020-5291's class).
const GAINED: &str = "refuses to run with privileges its caller has not; take the set-user-ID bit and file capabilities off the program";

fn dispatch(program: &str, args: Vec<OsString>, log: &mut Log) -> Result<u8, Failure> {
    let fail = |message: String| (Error::new(message), 1);
    if sys::process::gained_privileges() {
        return Err(fail(GAINED.to_owned()));
    }
    // What follows the command is the command's.
    let global = flags::parse(args, &[global::FLAGS], 1).map_err(|message| {
        help::print_usage_error(&message, || help::program(program, COMMANDS));
        fail(message)
    })?;
    let version = global.on("version");
    let (name, rest) = match global.rest.split_first() {
        Some((name, rest)) => (name.to_string_lossy().into_owned(), rest.to_vec()),
        None if version => {
            print!("{}", help::version(program));
            return Ok(0);
        }
        None => {
            print!("{}", help::program(program, COMMANDS));
            return Ok(0);
        }
    };
    if version {
        print!("{}", help::version(program));
        return Ok(0);
    }
    if name == "help" || name == "h" {
        return match rest.first().map(|topic| topic.to_string_lossy().into_owned()) {
            None => {
                print!("{}", help::program(program, COMMANDS));
                Ok(0)
            }
            Some(topic) => print_help(program, &topic),
        };
    }
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        *log = Log::open(&global, &Parsed::default()).map_err(|e| (e, 1))?;
        return print_help(program, &name);
    };
    let parsed =
        flags::parse(rest, &[command.flags, global::FLAGS], command.stop_after).map_err(|message| {
            help::print_usage_error(&message, || help::command(program, command));
            fail(message)
        })?;
    if parsed.help {
        print!("{}", help::command(program, command));
        return Ok(0);
    }
    *log = Log::open(&global, &parsed).map_err(|e| (e, 1))?;
    let (least, most) = command.arity;
    let count = parsed.rest.len();
    if count < least || count > most {
        let wanted = match (least == most, count < least) {
            (true, _) => format!("exactly {least}"),
            (false, true) => format!("a minimum of {least}"),
            (false, false) => format!("a maximum of {most}"),
        };
        let message = format!("{program}: {:?} requires {wanted} argument(s)", command.name);
        print!("Incorrect Usage.\n\n{}", help::command(program, command));
        return Err(fail(message));
    }
    let global = Global::new(&global, &parsed).map_err(|e| (e, command.failure))?;
    if command.enters {
        seal::seal().map_err(|e| (e, command.failure))?;
    }
    (command.run)(&global, &parsed).map_err(|e| {
        // As runc begins the errors of these.
        let e = match command.name {
            "exec" => Error::new("exec failed").because(e),
            name @ ("create" | "run") => Error::new(format!("{program} {name} failed")).because(e),
            _ => e,
        };
        (e, command.failure)
    })
}

/// Prints the help of a command, or fails as runc does for one it does not know.
fn print_help(program: &str, topic: &str) -> Result<u8, Failure> {
    if let Some(command) = COMMANDS.iter().find(|c| c.name == topic) {
        print!("{}", help::command(program, command));
        return Ok(0);
    }
    Err((Error::new(format!("No help topic for '{topic}'")), 3))
}

/// The container id, which is the first argument.
fn id_of(parsed: &Parsed) -> Result<String, Error> {
    let id = parsed.rest.first().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
    if id.is_empty() { Err(invalid("container id cannot be empty")) } else { Ok(id) }
}

/// An argument that cannot be.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(message).kind(ErrorKind::Invalid)
}

/// Prints a command's result.
fn print(text: &str) -> Result<u8, Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Error::new("print").because(e))?;
    Ok(0)
}
