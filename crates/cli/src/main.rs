//! The `rcr` command: arguments in, tables and progress bars out. What happens in between is the engine's.
//!
//! Every subcommand is one file of [`commands`]. Errors are printed here and nowhere else, and [`exit`] alone
//! knows exit codes.

mod args;
mod commands;
mod error;
mod exit;
mod filter;
mod group;
mod hint;
mod interrupt;
mod logging;
mod print;
mod progress;
#[cfg(test)]
mod readme;
mod usage;
mod value;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name == engine::NAME_SERVER) {
        // Before everything that would stay in its memory.
        return match engine::serve_names(words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // For who starts it, who tells the user. It waits for this.
                let _ = writeln!(std::io::stderr(), "{}", engine::in_full(&error));
                ExitCode::FAILURE
            }
        };
    }
    let args = match args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(refusal) => return refusal.tell(),
    };
    logging::start(args.globals.log_level());
    let engine = args.globals.engine();
    let is_run = matches!(args.command, args::Command::Run(_));
    match commands::execute(args.command, &engine) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.tell(&engine);
            ExitCode::from(exit::code(is_run, &error))
        }
    }
}
