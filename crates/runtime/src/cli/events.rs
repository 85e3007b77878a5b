//! `events`.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::flags::{Flag, Parsed};
use super::global::Global;
use super::{Command, duration, id_of, invalid};
use crate::Error;
use crate::lifecycle::{self, Event};
use crate::stats::Stats;

pub(crate) const COMMAND: Command = Command {
    name: "events",
    usage: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    arguments: "<container-id>",
    description: "By default the information is displayed once every 5 seconds, until the container ends.",
    flags: &[
        Flag::value("interval", "set the stats collection interval (default: 5s)"),
        Flag::switch("stats", "display the container's stats then exit"),
    ],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

/// What is used when `--interval` is not given.
const INTERVAL: Duration = Duration::from_secs(5);

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let id = id_of(parsed)?;
    // An unknown container is the first thing to tell, as it is for runc.
    lifecycle::state(&global.root, &id)?;
    let interval = match parsed.value("interval") {
        None => INTERVAL,
        Some(text) => interval(&text.to_string_lossy())?,
    };
    if parsed.on("stats") {
        print(&id, Event::Stats(Box::new(lifecycle::stats(&global.root, &id)?)))?;
    } else {
        lifecycle::events(&global.root, &id, interval, &mut |event| print(&id, event))?;
    }
    Ok(0)
}

fn interval(text: &str) -> Result<Duration, Error> {
    let nanoseconds = duration::parse(text)
        .map_err(|why| invalid(format!("invalid value {text:?} for flag -interval: {why}")))?;
    match u64::try_from(nanoseconds) {
        Ok(nanoseconds @ 1..) => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(invalid("duration interval must be greater than 0")),
    }
}

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

fn print(id: &str, event: Event) -> Result<(), Error> {
    let line = match &event {
        Event::Stats(stats) => Line { r#type: "stats", id, data: Some(stats) },
        Event::Oom => Line { r#type: "oom", id, data: None },
    };
    let json = serde_json::to_string(&line).map_err(|e| Error::new("print an event").because(e))?;
    let mut out = io::stdout().lock();
    // Whole lines, so that a reader never waits for the rest of one.
    out.write_all((json + "\n").as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::new("print an event").because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_shape_of_runcs() {
        let line = |r#type, data| serde_json::to_string(&Line { r#type, id: "web", data }).unwrap();
        assert_eq!(line("oom", None), r#"{"type":"oom","id":"web"}"#);
        assert!(
            line("stats", Some(&Stats::default()))
                .starts_with(r#"{"type":"stats","id":"web","data":{"cpu":{}"#)
        );
    }

    #[test]
    fn intervals_are_longer_than_nothing() {
        assert_eq!(interval("100ms").unwrap(), Duration::from_millis(100));
        for text in ["0", "0s", "-5s"] {
            assert_eq!(interval(text).unwrap_err().to_string(), "duration interval must be greater than 0");
        }
        let error = interval("5").unwrap_err().to_string();
        assert_eq!(error, r#"invalid value "5" for flag -interval: time: missing unit in duration "5""#);
    }
}
