//! `--format` of the listings: `table`, `json`, or a Go template, alone or as `table TEMPLATE`.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::template::Template;
use super::{safe, table};
use crate::error::Error;

/// How a listing is to look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// The usual columns.
    Table,
    /// One JSON object a line.
    Json,
    /// A template, once for each row.
    Template(Template),
    /// A template whose tabs are columns, with headings.
    TableOf(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The shell hands `\t` on as two characters; docker turns them into one in listings.
        let template = |text: &str| Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n"));
        match text {
            "" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ => match text.strip_prefix("table ") {
                Some(columns) => template(columns.trim_start()).map(Self::TableOf),
                None if !text.contains("{{") => {
                    Err("wants table, json or a template, for instance '{{.ID}}'".to_owned())
                }
                None => template(text).map(Self::Template),
            },
        }
    }
}

impl Format {
    /// Whether a template names a field, which may be costly to find out.
    pub(crate) fn names(&self, field: &str) -> bool {
        match self {
            Self::Table | Self::Json => false,
            Self::Template(template) | Self::TableOf(template) => template.names(field),
        }
    }
}

/// Rows with named fields; `fields` gives each field's heading.
pub(crate) struct Listing {
    /// Every field a row has, with its heading.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// The fields of the usual table.
    pub(crate) columns: Vec<&'static str>,
    /// Rows, each with all fields, and with what only templates can ask for: `Label`, the labels by key.
    pub(crate) rows: Vec<Map<String, Value>>,
}

impl Listing {
    /// The listing as text; `terminal` says that a person's terminal shows it.
    ///
    /// # Errors
    /// A field that is none, or what else a template does wrong.
    pub(crate) fn render(self, format: &Format, terminal: bool) -> Result<String, Error> {
        let head: Map<String, Value> =
            self.fields.iter().map(|(name, heading)| ((*name).to_owned(), (*heading).into())).collect();
        match format {
            Format::Table => {
                let row = |row: &Map<String, Value>| {
                    let cells: Vec<String> =
                        self.columns.iter().map(|column| cell(row.get(*column))).collect();
                    cells.join("\t")
                };
                let rows: Vec<String> = std::iter::once(&head).chain(&self.rows).map(row).collect();
                Ok(table::layout(&rows))
            }
            Format::TableOf(template) => {
                let mut rows = vec![template.render(&Value::Object(head)).map_err(usage)?];
                for row in self.rows {
                    rows.push(template.render(&Value::Object(row)).map_err(usage)?);
                }
                Ok(table::layout(&rows))
            }
            Format::Json => {
                let is_field = |name: &str| self.fields.iter().any(|(field, _)| *field == name);
                let line = |mut row: Map<String, Value>| {
                    row.retain(|name, _| is_field(name));
                    format!("{}\n", Value::Object(row))
                };
                Ok(self.rows.into_iter().map(line).collect())
            }
            Format::Template(template) => {
                let mut text = String::new();
                for row in self.rows {
                    let line = template.render(&Value::Object(row)).map_err(usage)?;
                    text.push_str(if terminal { safe::lines(&line) } else { line.as_str().into() }.as_ref());
                    text.push('\n');
                }
                Ok(text)
            }
        }
    }
}

/// One thing in full: `text` for people, or `value` as `format` wants it.
///
/// # Errors
/// A field that is none, or what else a template does wrong.
pub(crate) fn one(value: &Value, text: String, format: &Format, terminal: bool) -> Result<String, Error> {
    let templated = match format {
        Format::Table => return Ok(text),
        Format::Json => return Ok(format!("{value}\n")),
        Format::Template(template) | Format::TableOf(template) => template.render(value).map_err(usage)?,
    };
    let shown = if terminal { safe::lines(&templated) } else { templated.as_str().into() };
    Ok(format!("{shown}\n"))
}

fn usage(reason: String) -> Error {
    Error::Usage(format!("--format: {reason}"))
}

/// A value as a cell of a table; a tab in it would look like the next column.
fn cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.replace('\t', "\\t"),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listing() -> Listing {
        let rows = [json!({"ID": "0123456789ab", "Names": "a\tb\u{1b}"}), json!({"ID": "1", "Names": "c"})];
        Listing {
            fields: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
            columns: vec!["Names", "ID"],
            rows: rows.into_iter().filter_map(|row| row.as_object().cloned()).collect(),
        }
    }

    fn show(format: &str, terminal: bool) -> Result<String, String> {
        listing().render(&format.parse()?, terminal).map_err(|e| e.to_string())
    }

    #[test]
    fn every_kind() {
        assert_eq!(
            show("", true).unwrap(),
            "NAMES        CONTAINER ID\na\\tb\\u{1b}   0123456789ab\nc            1\n"
        );
        assert_eq!(show("table", true), show("", true));
        let one =
            |format: &str| one(&json!({"A": 1}), "text".into(), &format.parse().unwrap(), true).unwrap();
        assert_eq!(
            (one(""), one("json"), one("{{.A}}")),
            ("text".into(), "{\"A\":1}\n".into(), "1\n".into())
        );
        assert_eq!(
            show("json", true).unwrap(),
            "{\"ID\":\"0123456789ab\",\"Names\":\"a\\tb\\u001b\"}\n{\"ID\":\"1\",\"Names\":\"c\"}\n"
        );
        assert_eq!(show("{{.ID}}\\t{{.Names}}", false).unwrap(), "0123456789ab\ta\tb\u{1b}\n1\tc\n");
        assert_eq!(show("{{.Names}}", true).unwrap(), "a\tb\\u{1b}\nc\n");
        assert_eq!(show("table {{.ID}}", true).unwrap(), "CONTAINER ID\n0123456789ab\n1\n");
    }

    #[test]
    fn refusals() {
        assert!(show("ID", true).unwrap_err().contains("wants table, json or a template"));
        assert!(show("{{.Name}}", true).unwrap_err().contains("did you mean .Names"));
        assert!(show("table {{.ID", true).unwrap_err().contains("is not closed"));
    }
}
