//! `list`.

use std::fmt::Write;

use super::flags::{Flag, Parsed};
use super::global::Global;
use super::{Command, invalid, print};
use crate::{Error, ErrorKind, State, lifecycle};

pub(crate) const COMMAND: Command = Command {
    name: "list",
    usage: "lists containers started with the given root",
    arguments: "",
    description: "The root is that of the global option \"--root\".",
    flags: &[
        Flag::value("format", "select one of: table or json (default: \"table\")").or("f"),
        Flag::switch("quiet", "display only container IDs").or("q"),
    ],
    arity: (0, 0),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let mut states = Vec::new();
    match lifecycle::list(&global.root) {
        // Nobody has made a container yet.
        Err(e) if e.what() == ErrorKind::NotFound && !global.root_given => {}
        Err(e) => return Err(e),
        Ok(containers) => {
            for container in containers {
                match container.state {
                    Ok(state) => states.push(State { owner: user_name(&state.owner), ..state }),
                    // The others are listed all the same.
                    Err(e) => eprintln!("load container {}: {e:#}", container.id),
                }
            }
        }
    }
    if parsed.on("quiet") {
        return print(&states.iter().map(|state| format!("{}\n", state.id)).collect::<String>());
    }
    match parsed.text("format").map_err(invalid)? {
        None | Some("table") => print(&table(&states)),
        Some("json") => {
            // Go prints an empty list as `null`; its readers take both.
            let json = if states.is_empty() { Ok("null".to_owned()) } else { serde_json::to_string(&states) };
            print(&(json.map_err(|e| Error::new("print the list").because(e))? + "\n"))
        }
        Some(_) => Err(invalid("invalid format option")),
    }
}

/// Columns at least 12 wide and 3 apart, as runc's.
fn table(states: &[State]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(states.iter().map(|s| {
        [&s.id, &s.pid.to_string(), &s.status.to_string(), &s.bundle, &s.created, &s.owner].map(Clone::clone)
    }));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate().take(row.len() - 1) {
            let _ = write!(text, "{cell:width$}", width = width(column));
        }
        let _ = writeln!(text, "{}", row[row.len() - 1]);
    }
    text
}

/// The user's name for `#uid`, if /etc/passwd has one; read here because getpwuid(3) loads libraries.
fn user_name(owner: &str) -> String {
    let uid = owner.trim_start_matches('#');
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| owner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn the_table_lines_up() {
        let state = State {
            oci_version: "1.2.0".into(),
            id: "a-rather-long-name".into(),
            pid: 7,
            status: Status::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-11-22T03:21:41Z".into(),
            annotations: [].into(),
            owner: "root".into(),
        };
        assert_eq!(
            table(&[state]),
            "ID                   PID         STATUS      BUNDLE      CREATED                OWNER\n\
             a-rather-long-name   7           running     /b          2026-11-22T03:21:41Z   root\n"
        );
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(user_name("#0"), "root");
        assert_eq!(user_name("#4294967294"), "#4294967294");
    }
}
