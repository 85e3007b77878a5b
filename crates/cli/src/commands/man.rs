//! `rcr man`.

use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man as Page;

use super::say;
use crate::args;
use crate::error::Error;

/// Print a manual page, or write all of them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr man run | man -l -               read the page of a command
  rcr man --write /usr/share/man/man1  install them all")]
pub(crate) struct Man {
    /// Write every page into this directory, which must exist
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// The command whose page is printed, for instance 'network create'; none stands for rcr itself
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

impl Man {
    pub(crate) fn execute(self) -> Result<(), Error> {
        let mut root = args::tree();
        // Names of subcommands in full, and the global options with each.
        root.build();
        let Some(dir) = self.write else {
            let mut found = &root;
            for word in &self.command {
                let missing = || {
                    let command = self.command.join(" ");
                    Error::Usage(format!("no manual page for {command:?}: no such command; see 'rcr --help'"))
                };
                found = found.find_subcommand(word).ok_or_else(missing)?;
            }
            return say(&page(found)?);
        };
        let mut commands = vec![&root];
        while let Some(command) = commands.pop() {
            let path = dir.join(format!("{}.1", name(command)));
            let write = |e| Error::WriteFile { path: path.clone(), source: e };
            std::fs::write(&path, page(command)?).map_err(write)?;
            // A group's commands have their pages under their own names.
            let is_group = matches!(command.get_name(), "container" | "image");
            let shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
            commands.extend(command.get_subcommands().filter(shown).filter(|_| !is_group));
        }
        Ok(())
    }
}

/// `rcr-network-create`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn page(command: &Command) -> Result<String, Error> {
    let mut text = Vec::new();
    let page = Page::new(command.clone()).title(name(command)).manual("rcr");
    page.render(&mut text).map_err(Error::Output)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_flags() {
        let dir = tempfile::tempdir().unwrap();
        Man { write: Some(dir.path().to_owned()), command: Vec::new() }.execute().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("rcr.1").contains("rcr\\-run(1)"));
        let run = read("rcr-run.1");
        assert!(run.contains(".TH rcr-run 1") && run.contains("\\-\\-entrypoint"), "{run}");
        assert!(read("rcr-network-create.1").contains("\\-\\-subnet"));
        assert!(
            !dir.path().join("rcr-container-run.1").exists() && !dir.path().join("rcr-__complete.1").exists()
        );
        let unknown = Man { write: None, command: vec!["rnu".to_owned()] }.execute().unwrap_err();
        assert!(unknown.to_string().contains("\"rnu\""));
    }
}
