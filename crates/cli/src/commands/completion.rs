//! `rcr completion`: scripts for shells. They ask `rcr` itself what may come next, so they never go stale.

use clap::ValueEnum;

use super::say;
use crate::error::Error;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  source <(rcr completion bash)                          for this shell
  rcr completion zsh >/usr/share/zsh/site-functions/_rcr
  rcr completion fish >~/.config/fish/completions/rcr.fish")]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// bash 4 or newer
    Bash,
    /// zsh
    Zsh,
    /// fish 3 or newer
    Fish,
}

impl Completion {
    pub(crate) fn execute(self) -> Result<(), Error> {
        say(match self.shell {
            Shell::Bash => include_str!("completion/rcr.bash"),
            Shell::Zsh => include_str!("completion/rcr.zsh"),
            Shell::Fish => include_str!("completion/rcr.fish"),
        })
    }
}
