//! What is wrong with a command line, on one line; or the help that was asked for.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args;
use crate::exit;
use crate::hint;
use crate::print::safe;

/// Why nothing is done.
pub(crate) struct Refusal {
    error: clap::Error,
    /// The command at fault: `rcr`, `rcr run`.
    command: String,
}

impl Refusal {
    pub(crate) fn new(error: clap::Error, command: String) -> Self {
        Self { error, command }
    }

    /// Prints it: help on standard output, a mistake on standard error.
    pub(crate) fn tell(self) -> ExitCode {
        match self.error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => match self.error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(exit::BROKEN_PIPE),
            },
            kind => {
                // Nobody is left to tell when standard error is closed.
                let _ = writeln!(std::io::stderr(), "rcr: {self}");
                ExitCode::from(exit::usage(self.command.ends_with(" run"), kind))
            }
        }
    }
}

/// clap's paragraphs before the usage on one line: what is wrong, then its tips.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.error.to_string();
        let text = text.split("\n\nUsage:").next().unwrap_or_default();
        let text = text.split("\n\nFor more information").next().unwrap_or_default();
        let text = text.strip_prefix("error: ").unwrap_or(text);
        // The tip about `-- --flag` misleads: after the image everything is the container's anyway.
        let is_said = |line: &&str| !line.is_empty() && !line.starts_with("tip: to pass '");
        let parts: Vec<&str> = text.lines().map(str::trim).filter(is_said).collect();
        let mut line = String::new();
        for part in parts {
            let between = match part.strip_prefix("tip:") {
                _ if line.is_empty() => "",
                Some(_) => "; ",
                None => " ",
            };
            line.push_str(between);
            line.push_str(part);
        }
        if let Some(near) = self.near() {
            line = format!("{line}; tip: a similar subcommand exists: '{near}'");
        }
        write!(f, "{}; see '{} --help'", safe::line(&line), self.command)
    }
}

impl Refusal {
    /// The command that was meant, where clap has no idea: it finds no likeness in two letters that are swapped.
    fn near(&self) -> Option<String> {
        if self.error.kind() != ErrorKind::InvalidSubcommand
            || self.error.get(ContextKind::SuggestedSubcommand).is_some()
        {
            return None;
        }
        let ContextValue::String(typed) = self.error.get(ContextKind::InvalidSubcommand)? else {
            return None;
        };
        let tree = args::tree();
        let at = self.command.split(' ').skip(1).try_fold(&tree, |at, word| at.find_subcommand(word))?;
        let names: Vec<String> = at
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .flat_map(clap::Command::get_name_and_visible_aliases)
            .map(str::to_owned)
            .collect();
        hint::nearest(typed, &names).cloned()
    }
}
