//! `rcr system`: the store as a whole.

use engine::{Engine, PruneOptions};

use super::{agreed, rmi, say};
use crate::error::Error;
use crate::print::{human, safe};

/// Check and clean the store
#[derive(Debug, clap::Subcommand)]
pub(crate) enum System {
    /// Check every record, document and layer; exit 1 if something is wrong
    Fsck,
    Prune(Prune),
}

/// Remove containers that do not run, networks without any, images without a name, and what no image needs
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove also images with a name that no container uses
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove also the containers' volumes without a name
    #[arg(long)]
    volumes: bool,
}

impl System {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        match self {
            Self::Fsck => fsck(engine),
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

impl Prune {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        let images = if self.all { "all images that no container uses" } else { "all images without a name" };
        let what =
            format!("This removes all containers that do not run, all networks without any, and {images}.");
        if !self.force && !agreed(&what)? {
            return Ok(());
        }
        let pruned = engine::prune(engine, PruneOptions { all_images: self.all, volumes: self.volumes })?;
        let mut text = String::new();
        if !pruned.containers.is_empty() {
            text += &format!("Deleted Containers:\n{}\n\n", pruned.containers.join("\n"));
        }
        if !pruned.networks.is_empty() {
            text += &format!("Deleted Networks:\n{}\n\n", pruned.networks.join("\n"));
        }
        if !pruned.images.is_empty() {
            text += &format!("Deleted Images:\n{}\n", rmi::told(&pruned.images));
        }
        say(&format!("{text}Space given back by images: {}\n", human::size(pruned.bytes)))
    }
}
