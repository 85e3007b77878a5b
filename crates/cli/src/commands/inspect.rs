//! `rcr inspect`.

use engine::Engine;
use serde_json::Value;

use super::{on_terminal, say};
use crate::error::Error;
use crate::print::format::{Format, one};

/// Show everything about containers and images, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// json, or a Go template such as '{{.State.Pid}}' or '{{json .Config.Env}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Names, IDs or beginnings of IDs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Inspect {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        show(&self.names, &self.format, |name| engine::inspect(engine, name))
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
