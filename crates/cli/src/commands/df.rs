//! `rcr system df`: how much room everything takes.

use engine::{ContainerRoom, DiskUsage, Engine, ImageRoom, VolumeSummary};
use serde_json::{Map, Value, json};

use super::{images, now, on_terminal, ps, say, volume};
use crate::error::Error;
use crate::print::format::{Format, Listing, one};
use crate::print::human;

/// Show how much room images, containers and volumes take
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr system df
  rcr system df -v
  rcr system df --format '{{.Type}}: {{.Size}}, {{.Reclaimable}} of it not needed'")]
pub(crate) struct Df {
    /// table, json, or a Go template such as '{{.Type}} {{.Size}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

const FIELDS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const IMAGE_FIELDS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

const CONTAINER_FIELDS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];

const VOLUME_FIELDS: &[(&str, &str)] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];

impl Df {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let usage = engine::disk_usage(engine)?;
        if self.verbose {
            return say(&in_detail(&usage, now(), &self.format, on_terminal())?);
        }
        let columns = FIELDS.iter().map(|(name, _)| *name).collect();
        say(&Listing { fields: FIELDS, columns, rows: rows(&usage) }.render(&self.format, on_terminal())?)
    }
}

/// The three kinds of things.
fn rows(usage: &DiskUsage) -> Vec<Map<String, Value>> {
    let written = |room: &&ContainerRoom| room.written;
    let lives = |room: &&ContainerRoom| ps::is_active(room.container.status);
    let is_used = |entry: &&(VolumeSummary, u64)| !entry.0.users.is_empty();
    let (containers, volumes) = (&usage.containers, &usage.volumes);
    let idle = containers.iter().filter(|room| !lives(room));
    let unused = volumes.iter().filter(|entry| !is_used(entry));
    vec![
        row(
            "Images",
            usage.images.len(),
            usage.images.iter().filter(|room| room.containers > 0).count(),
            usage.layers,
            usage.unused_layers,
        ),
        row(
            "Containers",
            containers.len(),
            containers.iter().filter(lives).count(),
            containers.iter().map(|room| room.written).sum(),
            idle.map(|room| written(&room)).sum(),
        ),
        row(
            "Local Volumes",
            volumes.len(),
            volumes.iter().filter(is_used).count(),
            volumes.iter().map(|(_, bytes)| bytes).sum(),
            unused.map(|(_, bytes)| bytes).sum(),
        ),
    ]
}

fn row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Map<String, Value> {
    let share = (u128::from(reclaimable) * 100).checked_div(u128::from(size));
    let share = share.map_or_else(String::new, |percent| format!(" ({percent}%)"));
    object(json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": human::size(size),
        "Reclaimable": format!("{}{share}", human::size(reclaimable)),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// docker's three tables; for another format one object with three lists.
fn in_detail(usage: &DiskUsage, now: i64, format: &Format, terminal: bool) -> Result<String, Error> {
    let images: Vec<_> = usage.images.iter().flat_map(|room| of_image(room, now)).collect();
    let containers: Vec<_> = usage.containers.iter().map(|room| of_container(room, now)).collect();
    let volumes: Vec<_> = usage.volumes.iter().map(of_volume).collect();
    if *format != Format::Table {
        let only = |rows: Vec<Map<String, Value>>, fields: &[(&str, &str)]| {
            let is_field = |name: &str| fields.iter().any(|(field, _)| *field == name);
            let row = |mut row: Map<String, Value>| {
                row.retain(|name, _| is_field(name));
                Value::Object(row)
            };
            Value::Array(rows.into_iter().map(row).collect())
        };
        let all = json!({
            "Images": only(images, IMAGE_FIELDS),
            "Containers": only(containers, CONTAINER_FIELDS),
            "Volumes": only(volumes, VOLUME_FIELDS),
        });
        return one(&all, String::new(), format, terminal);
    }
    let tables = [
        ("Images", IMAGE_FIELDS, images),
        ("Containers", CONTAINER_FIELDS, containers),
        ("Local Volumes", VOLUME_FIELDS, volumes),
    ];
    let mut text = Vec::new();
    for (what, fields, rows) in tables {
        let columns = fields.iter().map(|(name, _)| *name).collect();
        let table = Listing { fields, columns, rows }.render(format, terminal)?;
        text.push(format!("{what} space usage:\n\n{table}"));
    }
    Ok(text.join("\n"))
}

/// A row for each of its names, as in `images`.
fn of_image(room: &ImageRoom, now: i64) -> Vec<Map<String, Value>> {
    let row = |mut row: Map<String, Value>| {
        row.insert("SharedSize".to_owned(), human::size(room.shared).into());
        row.insert("UniqueSize".to_owned(), human::size(room.image.size - room.shared).into());
        row.insert("Containers".to_owned(), room.containers.to_string().into());
        row
    };
    images::listed(&room.image, now).into_iter().map(row).collect()
}

fn of_container(room: &ContainerRoom, now: i64) -> Map<String, Value> {
    let mut row = ps::fields(&room.container, now, false);
    row.insert("Size".to_owned(), human::size(room.written).into());
    row
}

fn of_volume((volume, bytes): &(VolumeSummary, u64)) -> Map<String, Value> {
    let mut row = volume::fields(volume);
    row.insert("Links".to_owned(), volume.users.len().to_string().into());
    row.insert("Size".to_owned(), human::size(*bytes).into());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_only_of_something() {
        let shown = |size, reclaimable| row("Images", 5, 2, size, reclaimable)["Reclaimable"].clone();
        assert_eq!(shown(16_430_000, 11_630_000), "11.6MB (70%)");
        assert_eq!(shown(0, 0), "0B");
        assert_eq!(shown(u64::MAX, u64::MAX), "18.4EB (100%)");
    }
}
