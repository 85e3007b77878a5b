//! What is wrong with a command line, on one line; or the help that was asked for.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit;
use crate::print::safe;

/// Why nothing is done.
pub(crate) struct Refusal(clap::Error);

impl Refusal {
    pub(crate) fn new(error: clap::Error) -> Self {
        Self(error)
    }

    /// Prints it: help on standard output, a mistake on standard error.
    pub(crate) fn tell(self) -> ExitCode {
        match self.0.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => match self.0.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(exit::BROKEN_PIPE),
            },
            kind => {
                // Nobody is left to tell when standard error is closed.
                let _ = writeln!(std::io::stderr(), "rcr: {self}");
                ExitCode::from(exit::usage(self.command() == "rcr run", kind))
            }
        }
    }

    /// The command at fault: `rcr` or `rcr run`, from the usage that clap shows for it.
    fn command(&self) -> String {
        let usage = match self.0.get(ContextKind::Usage) {
            Some(ContextValue::StyledStr(usage)) => usage.to_string(),
            _ => self.0.to_string(),
        };
        let words = usage.split_once("Usage: ").map_or("rcr", |(_, words)| words);
        let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        words.split_whitespace().take_while(is_name).take(3).collect::<Vec<_>>().join(" ")
    }
}

/// clap's paragraphs before the usage on one line: what is wrong, then its tips.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.split("\n\nUsage:").next().unwrap_or_default();
        let text = text.split("\n\nFor more information").next().unwrap_or_default();
        let text = text.strip_prefix("error: ").unwrap_or(text);
        let parts: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
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
        write!(f, "{}; see '{} --help'", safe::line(&line), self.command())
    }
}
