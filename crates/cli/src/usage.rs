//! What is wrong with a command line, on one line; or the help that was asked for.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::exit;
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
                ExitCode::from(exit::usage(self.command == "rcr run", kind))
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
        write!(f, "{}; see '{} --help'", safe::line(&line), self.command)
    }
}
