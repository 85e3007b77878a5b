//! `rcr diff`.

use engine::{Change, Engine};

use super::say;
use crate::error::Error;
use crate::print::safe;

/// List what a container changed in its file system: A added, C changed, D deleted
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Name, ID or beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Diff {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut text = String::new();
        for (change, path) in engine::diff(engine, &self.container)? {
            let letter = match change {
                Change::Added => 'A',
                Change::Changed => 'C',
                Change::Deleted => 'D',
            };
            text += &format!("{letter} {}\n", safe::line(&path));
        }
        say(&text)
    }
}
