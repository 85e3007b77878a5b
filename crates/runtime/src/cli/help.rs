//! The help and version texts.

use std::fmt::Write;

use super::Command;
use super::flags::{Flag, Takes};
use super::global;
use crate::features::{COMMIT, OCI_VERSION};

/// `--version`: the lines that containerd, docker and podman parse.
pub(crate) fn version(program: &str) -> String {
    format!("{program} version {}\ncommit: {COMMIT}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

/// The help of the program.
pub(crate) fn program(program: &str, commands: &[Command]) -> String {
    let mut text = format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         A drop-in for runc: starts one container from a bundle, which is a directory with a config.json and a root\n\
         file system, and manages it. Same commands, flags, output and exit codes.\n\n\
         To run a container from the bundle in the current directory:\n\n    # {program} run <container-id>\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n",
        env!("CARGO_PKG_VERSION"),
    );
    let width = commands.iter().map(|c| c.name.len()).max().unwrap_or(0).max("help, h".len());
    for command in commands {
        let _ = writeln!(text, "   {:width$}  {}", command.name, command.usage);
    }
    let _ = writeln!(text, "   {:width$}  Shows a list of commands or help for one command", "help, h");
    text.push_str("\nGLOBAL OPTIONS:\n");
    flags(&mut text, global::FLAGS);
    text
}

/// The help of a command.
pub(crate) fn command(program: &str, command: &Command) -> String {
    let mut text = format!("NAME:\n   {program} {} - {}\n\nUSAGE:\n   ", command.name, command.usage);
    let options = if command.flags.is_empty() { "" } else { " [command options]" };
    let _ = writeln!(text, "{program} {}{options} {}", command.name, command.arguments);
    if !command.description.is_empty() {
        let _ = write!(text, "\nDESCRIPTION:\n   {}\n", command.description.replace('\n', "\n   "));
    }
    text.push_str("\nOPTIONS:\n");
    flags(&mut text, command.flags);
    text.push_str("\nGLOBAL OPTIONS:\n");
    flags(&mut text, global::FLAGS);
    text
}

/// What is shown before the error when a flag could not be understood.
pub(crate) fn print_usage_error(message: &str, help: impl Fn() -> String) {
    eprintln!("Incorrect Usage: {message}\n");
    print!("{}", help());
}

fn flags(text: &mut String, flags: &[Flag]) {
    let left = |flag: &Flag| {
        let value = if flag.takes == Takes::Switch { "" } else { " value" };
        match flag.short {
            Some(short) => format!("--{}{value}, -{short}{value}", flag.name),
            None => format!("--{}{value}", flag.name),
        }
    };
    let shown = || flags.iter().filter(|f| !f.hidden);
    let width = shown().map(|f| left(f).len()).max().unwrap_or(0).max("--help, -h".len());
    for flag in shown() {
        let _ = writeln!(text, "   {:width$}  {}", left(flag), flag.usage);
    }
    let _ = writeln!(text, "   {:width$}  show help", "--help, -h");
}
