//! `rcr commit`.

use engine::{CommitOptions, Engine, Reference};

use super::say;
use crate::error::Error;

/// Make an image of a container
#[derive(Debug, clap::Args)]
#[command(override_usage = "rcr commit [OPTIONS] CONTAINER [NAME[:TAG]]")]
pub(crate) struct Commit {
    /// Who made it, for instance "Jane <jane@example.org>"
    #[arg(short, long, value_name = "NAME", default_value = "", hide_default_value = true)]
    author: String,
    /// Apply a line of a Dockerfile, for instance 'CMD ["sh"]'
    #[arg(short, long, value_name = "LINE")]
    change: Vec<String>,
    /// What was done
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
    /// Freeze the container meanwhile [default: true]
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, hide_default_value = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pause: bool,
    /// Name, ID or beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the image
    #[arg(value_name = "NAME")]
    name: Option<Reference>,
}

impl Commit {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let options = CommitOptions {
            container: self.container,
            name: self.name,
            author: self.author,
            message: self.message,
            changes: self.change,
            pause: self.pause,
        };
        say(&format!("{}\n", engine::commit(engine, &options)?))
    }
}
