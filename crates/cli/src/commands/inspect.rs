//! `rcr inspect`.

use clap::ValueEnum;
use engine::{Engine, ObjectKind};
use serde_json::Value;

use super::{network, on_terminal, say, volume};
use crate::error::Error;
use crate::print::format::{Format, one};

/// Show everything about containers, images, networks and volumes, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr inspect web
  rcr inspect -f '{{.State.Status}} {{.State.ExitCode}}' web
  rcr inspect -f '{{json .Config.Env}}' python:3.8.5-alpine")]
pub(crate) struct Inspect {
    /// json, or a Go template such as '{{.State.Pid}}' or '{{json .Config.Env}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Show how much room containers take, too
    #[arg(short, long)]
    size: bool,
    /// Look among these only
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Option<Kind>,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// `--type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Containers
    Container,
    /// Images
    Image,
    /// Networks
    Network,
    /// Volumes
    Volume,
}

impl Inspect {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let of = |kind, name: &str| engine::inspect(engine, name, kind, self.size);
        show(&self.names, &self.format, |name| match self.kind {
            None => of(None, name).or_else(|error| match error {
                engine::Error::NoSuchObject(_) => {
                    let other = network::describe(engine, name);
                    other.or_else(|_| volume::describe(engine, name)).map_err(|_| error)
                }
                error => Err(error),
            }),
            Some(Kind::Container) => of(Some(ObjectKind::Container), name),
            Some(Kind::Image) => of(Some(ObjectKind::Image), name),
            Some(Kind::Network) => network::describe(engine, name),
            Some(Kind::Volume) => volume::describe(engine, name),
        })
    }
}

/// Shows what each name stands for; those that stand for nothing are told after the others.
pub(super) fn show(
    names: &[String],
    format: &Format,
    find: impl Fn(&str) -> Result<Value, engine::Error>,
) -> Result<(), Error> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for name in names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(error) => errors.push(error),
        }
    }
    match format {
        Format::Table => say(&format!("{:#}\n", Value::Array(found)))?,
        Format::Json => say(&format!("{}\n", Value::Array(found)))?,
        each => {
            for value in &found {
                say(&one(value, String::new(), each, on_terminal())?)?;
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
}
