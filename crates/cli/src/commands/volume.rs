//! `rcr volume`: directories that outlive containers.

use engine::{Engine, VolumeSummary};
use serde_json::{Map, Value, json};

use super::prune::{deleted, reclaimed};
use super::{agreed, inspect, label_list, on_terminal, say};
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::print::calendar;
use crate::print::format::{Format, Listing};
use crate::value::label;

/// Make, list and remove volumes
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(Create),
    Ls(Ls),
    Inspect(Inspect),
    Rm(Rm),
    Prune(Prune),
}

/// Make a volume
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// How it is kept: local is the only way
    #[arg(short, long, value_name = "DRIVER", default_value = "local", hide_default_value = true, value_parser = driver)]
    driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parse)]
    label: Vec<(String, String)>,
    /// Options of the driver: none are supported
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = option)]
    opt: Vec<String>,
    /// Its name; one is made up if none is given
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// List volumes
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(crate) struct Ls {
    /// Show those that fit: name=, dangling=true|false, driver=, label=KEY[=VALUE]
    #[arg(short, long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<Filter>,
    /// table, json, or a Go template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Show names only
    #[arg(short, long)]
    quiet: bool,
}

/// Show everything about volumes, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// json, or a Go template such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

/// Remove volumes that no container uses
#[derive(Debug, clap::Args)]
#[command(visible_alias = "remove")]
pub(crate) struct Rm {
    /// One that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

/// Remove the volumes without a name that no container uses
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove those with a name too
    #[arg(short, long)]
    all: bool,
    /// Remove those that fit only: label=KEY[=VALUE], label!=KEY[=VALUE], all=true
    #[arg(long, value_name = "FILTER", value_parser = parse_prune_filter)]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

const FIELDS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
];

fn driver(text: &str) -> Result<String, String> {
    if text == "local" { Ok(text.to_owned()) } else { Err("local is the only driver".to_owned()) }
}

fn option(text: &str) -> Result<String, String> {
    let key = text.split('=').next().unwrap_or_default();
    Err(format!("the option {key:?} of volumes is not supported; mount it on the host and use -v PATH:…"))
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let filter = filter::parse(text, &["name", "dangling", "driver", "label"])?;
    match (filter.key.as_str(), filter.value.as_str()) {
        ("dangling", "true" | "1" | "false" | "0") => Ok(filter),
        ("dangling", _) => Err("dangling wants true or false".to_owned()),
        _ => Ok(filter),
    }
}

fn parse_prune_filter(text: &str) -> Result<Filter, String> {
    filter::parse(text, &["label", "label!", "all"])
}

impl Command {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        match self {
            Self::Create(create) => {
                let name = engine::create_volume(engine, create.name.as_deref(), create.label)?;
                say(&format!("{name}\n"))
            }
            Self::Ls(ls) => ls.execute(engine),
            Self::Inspect(show) => {
                inspect::show(&show.volumes, &show.format, |volume| describe(engine, volume))
            }
            Self::Rm(rm) => rm.execute(engine),
            Self::Prune(prune) => prune.execute(engine),
        }
    }
}

impl Ls {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut volumes = engine::volumes(engine)?;
        volumes.retain(|volume| filter::pass(&self.filter, |key, value| holds(volume, key, value)));
        if self.quiet {
            return say(&volumes.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>());
        }
        let rows = volumes.iter().map(fields).collect();
        say(&Listing { fields: FIELDS, columns: vec!["Driver", "Name"], rows }
            .render(&self.format, on_terminal())?)
    }
}

fn holds(volume: &VolumeSummary, key: &str, value: &str) -> bool {
    match key {
        "name" => filter::has_name(&volume.name, value),
        "dangling" => volume.users.is_empty() == matches!(value, "true" | "1"),
        "driver" => value == "local",
        "label" => filter::has_label(&volume.labels, value),
        _ => false,
    }
}

pub(super) fn fields(volume: &VolumeSummary) -> Map<String, Value> {
    let fields = json!({
        "Driver": "local",
        "Name": volume.name,
        "Scope": "local",
        "Mountpoint": volume.mountpoint,
        "Labels": label_list(&volume.labels),
        // As docker, which counts neither here.
        "Links": "N/A",
        "Size": "N/A",
    });
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A volume by name, in docker's shape.
pub(super) fn describe(engine: &Engine, volume: &str) -> Result<Value, engine::Error> {
    engine::inspect_volume(engine, volume).map(|volume| shown(&volume))
}

/// In docker's shape.
fn shown(volume: &VolumeSummary) -> Value {
    let labels: Map<String, Value> =
        volume.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "CreatedAt": calendar::rfc3339(volume.created),
        "Driver": "local",
        "Labels": labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

impl Rm {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut errors = Vec::new();
        for volume in &self.volumes {
            match engine::remove_volume(engine, volume) {
                Ok(()) => say(&format!("{volume}\n"))?,
                Err(engine::Error::NoSuchVolume(_)) if self.force => say(&format!("{volume}\n"))?,
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
    }
}

/// Removes the volumes without a container that fit, those with a name only if it is to be `all`; tells their names and
/// how many bytes that gave back.
pub(super) fn remove_unused(
    engine: &Engine,
    all: bool,
    filters: &[Filter],
) -> Result<(Vec<String>, u64), Error> {
    let fits = |volume: &VolumeSummary| {
        (all || volume.is_anonymous()) && filter::prunable(filters, Some(volume.created), &volume.labels)
    };
    Ok(engine::prune_volumes(engine, fits)?)
}

impl Prune {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        let all = self.all
            || self.filter.iter().any(|f| f.key == "all" && matches!(f.value.as_str(), "true" | "1"));
        let which = if all { "all volumes" } else { "all volumes without a name" };
        if !self.force && !agreed(&format!("This removes {which} that no container uses."))? {
            return Ok(());
        }
        let (names, bytes) = remove_unused(engine, all, &self.filter)?;
        say(&format!("{}{}", deleted("Volumes", &names), reclaimed(bytes)))
    }
}
