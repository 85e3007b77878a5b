//! `top`: a container's processes as the host's ps shows them.
//!
//! ps lists the host's processes, and what is none of the container's is left out: the container's own programs and
//! files have no say, but for the names of its processes.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use runtime::lifecycle;

use crate::leftover::enter;
use crate::list::running;
use crate::{Engine, Error};

/// A container's processes: a heading for each column, and rows of as many cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    /// Headings.
    pub titles: Vec<String>,
    /// Cells; the last may have spaces in it. What a process calls itself is the container's choice.
    pub rows: Vec<Vec<String>>,
}

/// Lists the processes of a running container. `options` are for ps(1); none stands for `-ef`.
///
/// # Errors
/// [`Error::NoSuchContainer`], [`Error::NotRunning`]; ps is missing, refuses the options, or prints no PID column.
pub fn top(engine: &Engine, container: &str, options: &[String]) -> Result<Processes, Error> {
    enter(engine)?;
    let (record, _) = running(engine, container)?;
    let pids = lifecycle::processes(&engine.states(), &record.id)
        .map_err(|source| Error::Runtime { what: format!("list processes of {}", record.name), source })?;
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef")
    } else {
        ps.args(options)
    };
    let output = ps
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run ps, which top needs on the host (Debian's package procps)"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
        return Err(Error::Invalid(format!("ps {}: {}", options.join(" "), said.trim())));
    }
    table(&String::from_utf8_lossy(&output.stdout), &pids.into_iter().collect()).map_err(Error::Invalid)
}

/// Takes the rows of `pids` out of what ps has printed.
fn table(printed: &str, pids: &HashSet<i32>) -> Result<Processes, String> {
    let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = printed.lines();
    let titles = words(lines.next().unwrap_or_default());
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or("ps prints no column PID, by which processes are known; add pid to its -o")?;
    let mut rows = Vec::new();
    // Lines of threads (ps -m) have a dash there and follow their process.
    let mut ours = false;
    for line in lines {
        let mut cells = words(line);
        ours = match cells.get(column).map(String::as_str) {
            Some("-") => ours,
            Some(pid) => pid.parse().is_ok_and(|pid| pids.contains(&pid)),
            None => false,
        };
        if !ours {
            continue;
        }
        if cells.len() > titles.len() {
            let last = cells.split_off(titles.len() - 1).join(" ");
            cells.push(last);
        }
        rows.push(cells);
    }
    Ok(Processes { titles, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_rows_stay() {
        let printed =
            "UID PID PPID CMD\nroot 1 0 init\nroot  42 1 sh -c  x\n- - - -\nroot 43 1 other\n- - - -\n";
        let found = table(printed, &HashSet::from([42])).unwrap();
        assert_eq!(found.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(found.rows, [["root", "42", "1", "sh -c x"], ["-", "-", "-", "-"]]);
        assert!(table("COMMAND\nsh\n", &HashSet::new()).unwrap_err().contains("add pid"));
        assert!(table("", &HashSet::new()).is_err());
    }
}
