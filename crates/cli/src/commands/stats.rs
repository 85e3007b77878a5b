//! `rcr stats`.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::Duration;

use engine::{Engine, Reading, Usage};
use serde_json::{Map, Value, json};

use super::{on_terminal, say};
use crate::error::Error;
use crate::print::format::{Format, Listing};
use crate::print::human;

/// Show what running containers use, again every second
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr stats                       all that run, until Ctrl-C
  rcr stats --no-stream web db    two of them, once
  rcr stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}'")]
pub(crate) struct Stats {
    /// Show also those that do not run
    #[arg(short, long)]
    all: bool,
    /// table, json, or a Go template such as '{{.Name}} {{.CPUPerc}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Show IDs in full
    #[arg(long)]
    no_trunc: bool,
    /// Names, IDs or beginnings of IDs; none stands for all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const FIELDS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// Between two readings: the first shall not keep anybody waiting, the others shall not cost.
const FIRST: Duration = Duration::from_millis(500);
const EACH: Duration = Duration::from_secs(1);

impl Stats {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut before = readings(&self.usages(engine, true)?);
        let mut wait = FIRST;
        loop {
            sleep(wait);
            wait = EACH;
            let usages = self.usages(engine, false)?;
            let rows =
                usages.iter().map(|usage| fields(usage, before.get(&usage.id), self.no_trunc)).collect();
            let columns = vec!["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
            let text = Listing { fields: FIELDS, columns, rows }.render(&self.format, on_terminal())?;
            match !self.no_stream && on_terminal() {
                // Over the last one, and what is left of it goes.
                true => say(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))?,
                false => say(&text)?,
            }
            let ended = !self.containers.is_empty() && usages.iter().all(|usage| usage.reading.is_none());
            if self.no_stream || (ended && !self.all) {
                return Ok(());
            }
            before = readings(&usages);
        }
    }

    /// Those asked for. One that was there and has been removed meanwhile is no error.
    fn usages(&self, engine: &Engine, first: bool) -> Result<Vec<Usage>, Error> {
        let mut names = self.containers.clone();
        let all_that_run = names.is_empty();
        if all_that_run {
            names = engine::ps(engine, self.all)?.into_iter().map(|container| container.id).collect();
        }
        let mut found = Vec::new();
        for name in &names {
            match engine::usage(engine, name) {
                Err(engine::Error::NoSuchContainer(_)) if all_that_run || !first => {}
                Ok(usage) if all_that_run && !self.all && usage.reading.is_none() => {}
                usage => found.push(usage?),
            }
        }
        Ok(found)
    }
}

fn readings(usages: &[Usage]) -> HashMap<String, Reading> {
    usages.iter().filter_map(|usage| Some((usage.id.clone(), usage.reading?))).collect()
}

/// Docker's columns; what does not run uses nothing.
fn fields(usage: &Usage, before: Option<&Reading>, full: bool) -> Map<String, Value> {
    let id = if full { &usage.id } else { usage.id.get(..12).unwrap_or(&usage.id) };
    let of = |number: fn(&Reading) -> u64| usage.reading.as_ref().map_or(0, number);
    let percent = |part: u64, whole: u64| match whole {
        0 => "0.00%".to_owned(),
        _ => format!("{:.2}%", part as f64 / whole as f64 * 100.0),
    };
    let pair = |show: fn(u64) -> String, a: u64, b: u64| format!("{} / {}", show(a), show(b));
    let (used, passed) = match (&usage.reading, before) {
        (Some(now), Some(before)) => {
            let passed = now.at.saturating_duration_since(before.at).as_nanos();
            (now.processor.saturating_sub(before.processor), u64::try_from(passed).unwrap_or(u64::MAX))
        }
        _ => (0, 0),
    };
    let fields = json!({
        "Container": id,
        "ID": id,
        "Name": usage.name,
        "CPUPerc": percent(used, passed),
        "MemUsage": pair(human::memory, of(|r| r.memory), of(|r| r.memory_limit)),
        "MemPerc": percent(of(|r| r.memory), of(|r| r.memory_limit)),
        "NetIO": pair(human::size, of(|r| r.received), of(|r| r.sent)),
        "BlockIO": pair(human::size, of(|r| r.read), of(|r| r.written)),
        "PIDs": of(|r| r.processes).to_string(),
    });
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_table_as_docker_prints_it() {
        let at = Instant::now();
        let before = Reading {
            at,
            processor: 1_000_000_000,
            memory: 1 << 20,
            memory_limit: 64 << 20,
            received: 0,
            sent: 0,
            read: 0,
            written: 0,
            processes: 1,
        };
        let now = Reading {
            at: at + Duration::from_secs(2),
            processor: 4_000_000_000,
            received: 1500,
            read: 42_660_000,
            processes: 3,
            ..before
        };
        let up = Usage { id: "a".repeat(64), name: "web".to_owned(), reading: Some(now) };
        let down = Usage { id: "b".repeat(64), name: "job".to_owned(), reading: None };
        let rows = vec![fields(&up, Some(&before), false), fields(&down, None, false)];
        let columns = vec!["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
        let text = Listing { fields: FIELDS, columns, rows }.render(&Format::Table, false).unwrap();
        assert_eq!(
            text,
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O      BLOCK I/O     PIDS
aaaaaaaaaaaa   web       150.00%   1MiB / 64MiB        1.56%     1.5kB / 0B   42.7MB / 0B   3
bbbbbbbbbbbb   job       0.00%     0B / 0B             0.00%     0B / 0B      0B / 0B       0
"
        );
    }
}
