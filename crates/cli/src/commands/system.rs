//! `rcr system`: the store as a whole.

use engine::Engine;

use super::{df, prune, say};
use crate::error::Error;
use crate::print::safe;

/// Measure, check and clean the store
#[derive(Debug, clap::Subcommand)]
pub(crate) enum System {
    /// Check every record, document and layer; exit 1 if something is wrong
    Fsck,
    Df(df::Df),
    Prune(prune::System),
}

impl System {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        match self {
            Self::Fsck => fsck(engine),
            Self::Df(df) => df.execute(engine),
            Self::Prune(prune) => prune.execute(engine),
        }
    }
}

fn fsck(engine: &Engine) -> Result<(), Error> {
    let findings = engine::fsck(engine)?;
    for finding in &findings {
        say(&format!("{}\n", safe::line(&format!("{}: {}", finding.path.display(), finding.problem))))?;
    }
    if findings.is_empty() { Ok(()) } else { Err(Error::Unsound(findings.len())) }
}
