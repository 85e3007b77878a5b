//! `rcr exec`.

use std::path::PathBuf;

use engine::{Engine, ExecOptions, Executed};

use crate::commands::container_flags::environment;
use crate::error::Error;
use crate::exit;
use crate::value::{env, keys, workdir};

/// Run a command in a running container
///
/// Exits with the command's own code, 128+N if signal N killed it, 127 if it does not exist, 126 if it cannot be
/// executed, 1 if the container is not there or does not run. A signal that ends rcr leaves the command running.
#[derive(Debug, clap::Args)]
#[command(override_usage = "rcr exec [OPTIONS] CONTAINER COMMAND [ARG]...")]
#[command(after_help = "Examples:
  rcr exec -it web sh                  a shell in the container
  rcr exec web cat /etc/hosts          one command; its output and exit code are yours
  rcr exec -u root -w /srv web ls -l   as another user, in another directory
  rcr exec -d web nginx -s reload      do not wait for its end")]
pub(crate) struct Exec {
    /// Do not wait for the command's end
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the command alone with its terminal
    #[arg(long, value_name = "KEYS", default_value = keys::USUAL, value_parser = keys::parse)]
    detach_keys: std::vec::Vec<u8>,
    /// Set an environment variable; KEY alone takes the value it has here
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = env::parse)]
    env: Vec<env::Variable>,
    /// Read environment variables from a file, KEY=VALUE or KEY on each line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep standard input open to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give all capabilities to the command
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// User, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR", value_parser = workdir::parse)]
    workdir: Option<String>,
    // One argument, as in `run`.
    /// Name, ID or beginning of an ID; the command with its arguments
    #[arg(value_name = "CONTAINER COMMAND", required = true, num_args = 2.., trailing_var_arg = true)]
    container_and_command: Vec<String>,
}

impl Exec {
    pub(crate) fn execute(self, engine: &Engine) -> Result<u8, Error> {
        let mut words = self.container_and_command.into_iter();
        let options = ExecOptions {
            container: words.next().unwrap_or_default(),
            command: words.collect(),
            detach: self.detach,
            interactive: self.interactive,
            tty: self.tty,
            detach_keys: self.detach_keys,
            env: environment(self.env, self.env_file)?,
            workdir: self.workdir,
            user: self.user,
            privileged: self.privileged,
        };
        match engine::exec(engine, &options).map_err(Error::Exec)? {
            Executed::Ended(code) => Ok(code),
            Executed::Detached => Ok(0),
            Executed::Left(signal) => Ok(exit::signal_code(signal)),
        }
    }
}
