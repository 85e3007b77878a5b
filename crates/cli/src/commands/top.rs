//! `rcr top`.

use engine::Engine;

use super::say;
use crate::error::Error;
use crate::print::table;

/// List the processes of a container, as the host's ps shows them
#[derive(Debug, clap::Args)]
#[command(override_usage = "rcr top [OPTIONS] CONTAINER [PS OPTION]...")]
#[command(after_help = "Examples:
  rcr top web                       every process
  rcr top web -o pid,%cpu,rss,args  columns of ps(1)")]
pub(crate) struct Top {
    // One argument, as in `run`.
    /// Name, ID or beginning of an ID; options for ps(1) instead of -ef
    #[arg(value_name = "CONTAINER", required = true, trailing_var_arg = true)]
    container_and_options: Vec<String>,
}

impl Top {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let mut words = self.container_and_options.into_iter();
        let container = words.next().unwrap_or_default();
        let options: Vec<String> = words.collect();
        let found = engine::top(engine, &container, &options)?;
        let rows: Vec<String> = std::iter::once(found.titles)
            .chain(found.rows)
            .map(|cells| cells.iter().map(|cell| cell.replace('\t', "\\t")).collect::<Vec<_>>().join("\t"))
            .collect();
        say(&table::wide(&rows, 20))
    }
}
