//! `rcr logs`.

use std::io::{self, Write};

use engine::{Engine, LogsOptions};

use super::now;
use crate::error::Error;
use crate::value::moment;

/// Show what a background container wrote, each stream on its own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr logs -f web                  go on with what comes
  rcr logs --tail 20 -t web        the last lines, with their times
  rcr logs --since 10m web         of the last ten minutes")]
pub(crate) struct Logs {
    /// Go on until the container has ended
    #[arg(short, long)]
    follow: bool,
    /// Show only so many of the last lines
    #[arg(short = 'n', long, visible_alias = "lines", value_name = "NUMBER", default_value = "all", value_parser = parse_tail)]
    tail: Tail,
    /// Show only what was written since then, for instance 2020-08-14T19:21:09Z or 10m for ten minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show only what was written before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Show the attributes of each line, of which json-file has none here: a blank
    #[arg(long)]
    details: bool,
    /// Name, ID or beginning of an ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

#[derive(Debug, Clone, Copy)]
struct Tail(Option<usize>);

/// As docker: `all`, and what is below 0, is all.
fn parse_tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail(None));
    }
    let number = text.parse::<i64>().map_err(|_| "wants a number of lines, or all".to_owned())?;
    Ok(Tail(usize::try_from(number).ok()))
}

impl Logs {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let now = now() * 1_000_000_000;
        let moment = |flag: &str, text: Option<&String>| {
            let read = |text: &String| {
                moment::parse(text, now)
                    .map_err(|why| Error::Usage(format!("invalid value '{text}' for {flag}: {why}")))
            };
            text.map(read).transpose()
        };
        let options = LogsOptions {
            follow: self.follow,
            tail: self.tail.0,
            since: moment("--since", self.since.as_ref())?,
            until: moment("--until", self.until.as_ref())?,
        };
        let mut failed = None;
        engine::logs(engine, &self.container, &options, &mut |line| {
            let time = if self.timestamps { format!("{} ", line.time) } else { String::new() };
            let text = format!("{time}{}{}", if self.details { " " } else { "" }, line.text);
            let written = match line.stream.as_str() {
                "stderr" => io::stderr().write_all(text.as_bytes()),
                _ => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
            };
            failed = written.err();
            failed.is_none()
        })?;
        failed.map_or(Ok(()), |error| Err(Error::Output(error)))
    }
}
