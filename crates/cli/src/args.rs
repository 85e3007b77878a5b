//! The command line as a tree: global flags and one struct a subcommand.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use engine::Engine;
use tracing::level_filters::LevelFilter;

use crate::commands::{bundle, images, info, inspect, ps, pull, rm, rmi, run, system, version};
use crate::usage::Refusal;

/// All of it.
#[derive(Debug, Parser)]
#[command(name = "rcr", version, about = "Pull OCI images and run them, without a daemon")]
#[command(args_override_self = true, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every subcommand takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Directory of images and containers [default: /var/lib/rcr, for users $XDG_DATA_HOME/rcr]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory of running containers' state [default: /run/rcr, for users $XDG_RUNTIME_DIR/rcr]
    #[arg(long, global = true, value_name = "DIR")]
    runroot: Option<PathBuf>,
    /// Tell each step on standard error
    #[arg(short = 'D', long, global = true)]
    debug: bool,
    /// Tell what is at least this important: trace, debug, info, warn, error or off
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn", hide_default_value = true)]
    log_level: LevelFilter,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Run>),
    Pull(pull::Pull),
    Images(images::Images),
    Rmi(rmi::Rmi),
    Ps(ps::Ps),
    Rm(rm::Rm),
    Inspect(inspect::Inspect),
    Bundle(bundle::Bundle),
    #[command(subcommand)]
    System(system::System),
    Info(info::Info),
    Version(version::Version),
}

impl Globals {
    /// How much is logged.
    pub(crate) fn log_level(&self) -> LevelFilter {
        if self.debug { self.log_level.max(LevelFilter::DEBUG) } else { self.log_level }
    }

    /// The engine on the chosen directories, the user's own unless root runs this.
    pub(crate) fn engine(&self) -> Engine {
        let defaults = Engine::of_user();
        Engine {
            root: self.root.clone().unwrap_or(defaults.root),
            runroot: self.runroot.clone().unwrap_or(defaults.runroot),
        }
    }
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// What to tell the user instead of doing something: what is wrong, or the help asked for.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Args, Refusal> {
    let words: Vec<OsString> = words.collect();
    let mut command = Args::command();
    if words.iter().any(|word| gives_a_boolean(word)) {
        command = with_boolean_values(command);
    }
    let mut matches = command.try_get_matches_from_mut(words).map_err(Refusal::new)?;
    Args::from_arg_matches_mut(&mut matches).map_err(|e| Refusal::new(e.format(&mut command)))
}

/// `--rm=false` and the like, which Go's flags take and scripts that build command lines use.
fn gives_a_boolean(word: &OsString) -> bool {
    let word = word.to_string_lossy();
    let value = word.split_once('=').filter(|(flag, _)| flag.starts_with('-')).map(|(_, value)| value);
    matches!(value, Some("true" | "false" | "1" | "0" | "t" | "f" | "T" | "F" | "TRUE" | "FALSE"))
}

/// Lets every switch take `=true` or `=false`. Apart, because `--help` would show it at every switch.
fn with_boolean_values(command: clap::Command) -> clap::Command {
    let boolean = clap::builder::BoolishValueParser::new();
    command
        .mut_args(|arg| match arg.get_action() {
            clap::ArgAction::SetTrue => arg
                .action(clap::ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .value_parser(boolean.clone()),
            _ => arg,
        })
        .mut_subcommands(with_boolean_values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Args::command().debug_assert();
        with_boolean_values(Args::command()).debug_assert();
    }
}
