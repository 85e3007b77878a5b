//! `ps`.

use std::process::Command as Process;

use super::flags::{Flag, Parsed};
use super::global::Global;
use super::{Command, id_of, invalid, print};
use crate::{Error, lifecycle};

pub(crate) const COMMAND: Command = Command {
    name: "ps",
    usage: "ps displays the processes running inside a container",
    arguments: "<container-id> [ps options]",
    description: "The options are those of the host's ps(1), whose PID column must be among the output; default -ef.",
    flags: &[Flag::value("format", "select one of: table or json (default: \"table\")").or("f")],
    arity: (1, usize::MAX),
    stop_after: 1,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let pids = lifecycle::processes(&global.root, &id_of(parsed)?)?;
    match parsed.text("format").map_err(invalid)? {
        None | Some("table") => {}
        Some("json") => {
            let json =
                serde_json::to_string(&pids).map_err(|e| Error::new("print the processes").because(e))?;
            return print(&(json + "\n"));
        }
        Some(_) => return Err(invalid("invalid format option")),
    }
    let mut ps = Process::new("ps");
    match &parsed.rest[1..] {
        [] => ps.arg("-ef"),
        options => ps.args(options),
    };
    let output = ps.output().map_err(|e| Error::new("run ps").because(e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let message = format!("ps: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        return Err(Error::new(message.trim_end()));
    }
    print(&pick(&text, &pids)?)
}

/// The title of ps's output and the lines of `pids`.
fn pick(output: &str, pids: &[i32]) -> Result<String, Error> {
    let mut lines = output.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_ascii_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::new("couldn't find PID field in ps output"))?;
    let mut text = format!("{title}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let field = line.split_ascii_whitespace().nth(column).unwrap_or_default();
        let pid: i32 =
            field.parse().map_err(|e| Error::new(format!("unable to parse pid {field:?}")).because(e))?;
        if pids.contains(&pid) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_picked_by_the_pid_column() {
        let output = "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sh -c 1\n";
        assert_eq!(pick(output, &[12]).unwrap(), "UID   PID  PPID CMD\nroot   12     1 sh -c 1\n");
        assert!(pick("USER CMD\n", &[1]).is_err());
        assert!(pick("PID\nx\n", &[1]).is_err());
    }
}
