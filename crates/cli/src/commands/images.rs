//! `rcr images`.

use engine::{Digest, Engine, ImageSummary, Reference};
use serde_json::{Map, Value, json};

use super::{label_list, now, on_terminal, say};
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::print::format::{Format, Listing};
use crate::print::{calendar, human};

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr images --filter reference='py*'
  rcr images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub(crate) struct Images {
    /// Show also images without a name (there are no others to hide: rcr keeps no intermediate ones)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show those that fit: reference=PATTERN, dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE
    #[arg(short, long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<Filter>,
    /// table, json, or a Go template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Show IDs and digests in full
    #[arg(long)]
    no_trunc: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show those of this name; * and ? are wildcards
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

const FIELDS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("Platform", "PLATFORM"),
    ("Labels", "LABELS"),
];

fn parse_filter(text: &str) -> Result<Filter, String> {
    let filter = filter::parse(text, &["reference", "dangling", "label", "before", "since"])?;
    match (filter.key.as_str(), filter.value.as_str()) {
        ("dangling", "true" | "false" | "1" | "0") => Ok(filter),
        ("dangling", _) => Err("dangling wants true or false".to_owned()),
        _ => Ok(filter),
    }
}

/// One line: an image under one of its names, or under none.
struct Row<'a> {
    image: &'a ImageSummary,
    name: Option<&'a Reference>,
}

impl Images {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut images = engine::images(engine)?;
        // By the time of the build, as docker; those of unknown age last.
        images.sort_by_key(|image| std::cmp::Reverse(created(image)));
        let mut filters = self.filter.clone();
        filters
            .extend(self.name.as_ref().map(|name| Filter { key: "reference".into(), value: name.clone() }));
        let bounds = Bounds::find(&filters, &images)?;
        let rows: Vec<Row> = images
            .iter()
            .flat_map(rows_of)
            .filter(|row| filter::pass(&filters, |key, value| row.holds(key, value, &bounds)))
            .collect();
        if self.quiet {
            return say(&self.ids(&rows));
        }
        let mut columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
        if self.digests {
            columns.insert(2, "Digest");
        }
        let now = now();
        let rows = rows.iter().map(|row| row.fields(now, self.no_trunc)).collect();
        let listing = Listing { fields: FIELDS, columns, rows };
        say(&listing.render(&self.format, on_terminal())?)
    }

    fn ids(&self, rows: &[Row]) -> String {
        rows.iter().map(|row| format!("{}\n", shown_id(&row.image.id, self.no_trunc))).collect()
    }
}

/// The fields of each line that an image has.
pub(super) fn listed(image: &ImageSummary, now: i64) -> Vec<Map<String, Value>> {
    rows_of(image).iter().map(|row| row.fields(now, false)).collect()
}

fn rows_of(image: &ImageSummary) -> Vec<Row<'_>> {
    match image.names.is_empty() {
        true => vec![Row { image, name: None }],
        false => image.names.iter().map(|name| Row { image, name: Some(name) }).collect(),
    }
}

pub(super) fn created(image: &ImageSummary) -> Option<i64> {
    image.created.as_deref().and_then(calendar::parse)
}

fn shown_id(id: &Digest, full: bool) -> String {
    if full { id.to_string() } else { id.short().to_owned() }
}

/// `python` of `docker.io/library/python:3.8`, as docker's users type it.
fn repository(name: &Reference) -> String {
    let familiar = name.familiar();
    let bare = familiar.split('@').next().unwrap_or_default();
    match name.tag() {
        Some(tag) => bare.strip_suffix(&format!(":{tag}")).unwrap_or(bare).to_owned(),
        None => bare.to_owned(),
    }
}

/// Ages that `before=` and `since=` name.
#[derive(Default)]
struct Bounds {
    before: Option<i64>,
    since: Option<i64>,
}

impl Bounds {
    fn find(filters: &[Filter], images: &[ImageSummary]) -> Result<Self, Error> {
        let mut bounds = Self::default();
        for filter in filters {
            let place = match filter.key.as_str() {
                "before" => &mut bounds.before,
                "since" => &mut bounds.since,
                _ => continue,
            };
            let image = images.iter().find(|image| is_called(image, &filter.value));
            let image =
                image.ok_or_else(|| Error::Engine(engine::Error::NoSuchImage(filter.value.clone())))?;
            *place = Some(created(image).unwrap_or(0));
        }
        Ok(bounds)
    }
}

fn is_called(image: &ImageSummary, wanted: &str) -> bool {
    let id = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let by_name = wanted.parse::<Reference>().is_ok_and(|name| image.names.contains(&name));
    by_name || (id.len() >= 4 && image.id.hex().starts_with(id))
}

impl Row<'_> {
    fn holds(&self, key: &str, value: &str, bounds: &Bounds) -> bool {
        let created = created(self.image).unwrap_or(0);
        match key {
            "reference" => self.name.is_some_and(|name| {
                [name.familiar(), repository(name), name.to_string(), name.name()]
                    .iter()
                    .any(|text| filter::matches(value, text))
            }),
            "dangling" => self.name.is_none() == matches!(value, "true" | "1"),
            "label" => filter::has_label(&self.image.labels, value),
            "before" => bounds.before.is_some_and(|bound| created < bound),
            "since" => bounds.since.is_some_and(|bound| created > bound),
            _ => false,
        }
    }

    fn fields(&self, now: i64, full: bool) -> Map<String, Value> {
        let none = || "<none>".to_owned();
        let created = created(self.image);
        let digest = self.name.and_then(Reference::digest).unwrap_or(&self.image.manifest);
        let size = human::size(self.image.size);
        let fields = json!({
            "Repository": self.name.map_or_else(none, repository),
            "Tag": self.name.and_then(Reference::tag).map_or_else(none, str::to_owned),
            "Digest": digest.to_string(),
            "ID": shown_id(&self.image.id, full),
            "CreatedSince": human::ago(created, now),
            "CreatedAt": created.map_or_else(|| "N/A".to_owned(), calendar::timestamp),
            "Size": size,
            "VirtualSize": size,
            "Platform": self.image.platform.to_string(),
            "Labels": label_list(&self.image.labels),
        });
        match fields {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(hex: char, names: &[&str], created: &str) -> ImageSummary {
        ImageSummary {
            id: format!("sha256:{}", hex.to_string().repeat(64)).parse().unwrap(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            manifest: format!("sha256:{}", "f".repeat(64)).parse().unwrap(),
            created: Some(created.to_owned()),
            size: 42_660_000,
            platform: "linux/amd64".parse().unwrap(),
            labels: vec![("a".into(), "1".into())],
        }
    }

    fn shown(images: &[ImageSummary], filters: &[&str]) -> Vec<String> {
        let filters: Vec<Filter> = filters.iter().map(|f| parse_filter(f).unwrap()).collect();
        let bounds = Bounds::find(&filters, images).unwrap();
        let row = |row: Row| {
            format!("{} {}", row.image.id.short(), row.name.map(Reference::familiar).unwrap_or_default())
        };
        images
            .iter()
            .flat_map(rows_of)
            .filter(|row| filter::pass(&filters, |key, value| row.holds(key, value, &bounds)))
            .map(row)
            .collect()
    }

    #[test]
    fn a_row_for_each_name_and_one_for_none() {
        let pinned = format!("h:5000/x@sha256:{}", "e".repeat(64));
        let images = [
            image('a', &["python:3.8.5-alpine", &pinned], "2020-08-14T19:21:09Z"),
            image('b', &[], "0001-01-01T00:00:00Z"),
        ];
        let now = 1_597_432_869 + 86400 * 3;
        let rows: Vec<_> = images.iter().flat_map(rows_of).map(|row| row.fields(now, false)).collect();
        let listing = Listing {
            fields: FIELDS,
            columns: vec!["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
            rows,
        };
        let text = listing.render(&Format::Table, false).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let (e, f) = (format!("sha256:{}", "e".repeat(64)), format!("sha256:{}", "f".repeat(64)));
        assert_eq!(lines[0], ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]);
        assert_eq!(lines[1], ["python", "3.8.5-alpine", &f, "aaaaaaaaaaaa", "3", "days", "ago", "42.7MB"]);
        assert_eq!(lines[2], ["h:5000/x", "<none>", &e, "aaaaaaaaaaaa", "3", "days", "ago", "42.7MB"]);
        assert_eq!(lines[3], ["<none>", "<none>", &f, "bbbbbbbbbbbb", "N/A", "42.7MB"]);
    }

    #[test]
    fn filters() {
        let images = [
            image('a', &["python:3.8", "python:3.9"], "2020-08-14T19:21:09Z"),
            image('b', &[], "2021-08-14T19:21:09Z"),
            image('c', &["h:5000/x/y:1"], "2022-08-14T19:21:09Z"),
        ];
        assert_eq!(
            shown(&images, &["reference=python"]),
            ["aaaaaaaaaaaa python:3.8", "aaaaaaaaaaaa python:3.9"]
        );
        assert_eq!(shown(&images, &["reference=py*:3.9"]), ["aaaaaaaaaaaa python:3.9"]);
        assert_eq!(shown(&images, &["reference=docker.io/library/python:3.8"]), ["aaaaaaaaaaaa python:3.8"]);
        assert_eq!(shown(&images, &["reference=*/*/y"]), ["cccccccccccc h:5000/x/y:1"]);
        assert_eq!(shown(&images, &["dangling=true"]), ["bbbbbbbbbbbb "]);
        assert_eq!(shown(&images, &["dangling=0", "before=h:5000/x/y:1"]).len(), 2);
        assert_eq!(shown(&images, &["since=aaaaaa"]), ["bbbbbbbbbbbb ", "cccccccccccc h:5000/x/y:1"]);
        assert_eq!(shown(&images, &["label=a=2"]).len(), 0);
        assert!(Bounds::find(&[parse_filter("before=nope").unwrap()], &images).is_err());
        assert!(parse_filter("dangling=maybe").is_err() && parse_filter("size=1").is_err());
    }
}
