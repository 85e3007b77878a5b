//! `man`: manual pages in roff's man macros, made from the tables that parse command lines.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::flags::{Flag, Parsed, Takes};
use super::global::{self, Global};
use super::{COMMANDS, Command, NAME, print};
use crate::Error;

pub(crate) const COMMAND: Command = Command {
    name: "man",
    usage: "print a manual page, or write all of them",
    arguments: "[command]",
    description: "Without a command the page is that of the program.",
    flags: &[Flag::value("write", "write every page into this directory, which must exist")],
    arity: (0, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(_: &Global, parsed: &Parsed) -> Result<u8, Error> {
    if let Some(dir) = parsed.nonempty("write") {
        return write_all(Path::new(dir));
    }
    let Some(name) = parsed.rest.first().map(|name| name.to_string_lossy()) else {
        return print(&program(COMMANDS));
    };
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => print(&page(command)),
        None => Err(Error::new(format!("no manual page for {name:?}: no such command"))),
    }
}

fn write_all(dir: &Path) -> Result<u8, Error> {
    let write = |name: &str, text: &str| {
        let path = dir.join(format!("{name}.8"));
        fs::write(&path, text).map_err(|e| Error::new(format!("write {path:?}")).because(e))
    };
    write(NAME, &program(COMMANDS))?;
    for command in COMMANDS {
        write(&format!("{NAME}-{}", command.name), &page(command))?;
    }
    Ok(0)
}

/// Text for roff: a minus must stay one, a backslash and a dot at the start of a line mean nothing.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text))
}

fn head(name: &str, usage: &str) -> String {
    format!(
        ".TH {} 8 \"\" \"{NAME} {}\" \"System Administration\"\n.SH NAME\n{} \\- {}\n",
        plain(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        plain(name),
        plain(usage)
    )
}

fn options(text: &mut String, title: &str, flags: &'static [Flag]) {
    let _ = writeln!(text, ".SH {title}");
    for flag in flags.iter().filter(|flag| !flag.hidden) {
        let short = flag.short.map(|short| format!(", {}", bold(&format!("-{short}")))).unwrap_or_default();
        let value = if flag.takes == Takes::Switch { "" } else { " \\fIvalue\\fR" };
        let _ = writeln!(text, ".TP\n{}{short}{value}", bold(&format!("--{}", flag.name)));
        let _ = writeln!(
            text,
            "{}{}",
            plain(flag.usage),
            if flag.takes == Takes::List { "; may be repeated" } else { "" }
        );
    }
    let _ = writeln!(text, ".TP\n{}, {}\nshow help", bold("--help"), bold("-h"));
}

/// The page of the program.
fn program(commands: &'static [Command]) -> String {
    let mut text = head(NAME, "Open Container Initiative runtime");
    let _ = writeln!(
        text,
        ".SH SYNOPSIS\n{} [\\fIglobal options\\fR] \\fIcommand\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]",
        bold(NAME)
    );
    let _ = writeln!(
        text,
        ".SH DESCRIPTION\nStarts a container from a bundle, which is a directory with a config.json and a root file \
         system, and\nmanages it. Commands, flags, output and exit codes are those of\n.BR runc (8).\nGlobal options \
         may stand before the command or after it."
    );
    text.push_str(".SH COMMANDS\n");
    for command in commands {
        let _ =
            writeln!(text, ".TP\n{}(8)\n{}", bold(&format!("{NAME}-{}", command.name)), plain(command.usage));
    }
    options(&mut text, "GLOBAL OPTIONS", global::FLAGS);
    text.push_str(
        ".SH FILES\n.TP\n.I /run/rcr\\-runtime\nstate of the containers, unless \\fB\\-\\-root\\fR or, for \
         others than root, $XDG_RUNTIME_DIR says otherwise\n.SH EXIT STATUS\n0 when all went well, 3 for a command that \
         does not exist, 1 for every other error. \\fBrun\\fR and \\fBexec\\fR\nin the foreground: what the process \
         returned, or 128+N when signal N ended it; errors of \\fBexec\\fR\nitself: 255.\n.SH SEE ALSO\n.BR runc (8)\n",
    );
    text
}

/// The page of a command.
fn page(command: &Command) -> String {
    let name = format!("{NAME}-{}", command.name);
    let mut text = head(&name, command.usage);
    let mut arguments = command.arguments.splitn(2, "\n\n");
    let synopsis = arguments.next().unwrap_or_default();
    let _ = writeln!(
        text,
        ".SH SYNOPSIS\n{} {} [\\fIoptions\\fR] {}",
        bold(NAME),
        bold(command.name),
        plain(synopsis)
    );
    text.push_str(".SH DESCRIPTION\n");
    for paragraph in [command.description].into_iter().chain(arguments).filter(|text| !text.is_empty()) {
        for part in paragraph.split("\n\n") {
            let _ = writeln!(text, "{}\n.PP", plain(part));
        }
    }
    options(&mut text, "OPTIONS", command.flags);
    let _ = writeln!(text, ".SH SEE ALSO\n{}(8)", bold(NAME));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_has_its_place() {
        let text = program(COMMANDS);
        for command in COMMANDS {
            assert!(text.contains(&plain(&format!("{NAME}-{}", command.name))), "{}", command.name);
            let page = page(command);
            for flag in command.flags.iter().filter(|flag| !flag.hidden) {
                assert!(page.contains(&bold(&format!("--{}", flag.name))), "{}: {}", command.name, flag.name);
            }
        }
    }

    #[test]
    fn nothing_is_taken_for_a_request() {
        assert_eq!(plain(".x\n'y a-b \\n"), "\\&.x\n\\&'y a\\-b \\en");
        for command in COMMANDS {
            for line in page(command).lines().filter(|line| line.starts_with(['.', '\''])) {
                let known = [".TH", ".SH", ".TP", ".PP"].iter().any(|request| line.starts_with(request));
                assert!(known, "{}: {line}", command.name);
            }
        }
    }
}
