//! Command lines in runc's shape: what a flag is, and how arguments become [`Parsed`].
//!
//! Not clap, because callers of runc rely on rules it does not have: `-bundle DIR` means `--bundle DIR`, flags may
//! follow the container id except where the rest belongs to another program (`exec`, `kill`, `ps`), global flags
//! are taken after the command too, and `--flag=false` switches a switch off.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true`/`=false`.
    Switch,
    /// One value; given twice, the last one counts.
    Value,
    /// A value each time it is given.
    List,
}

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<&'static str>,
    pub(crate) takes: Takes,
    pub(crate) usage: &'static str,
    /// Not shown in the help text.
    pub(crate) hidden: bool,
}

impl Flag {
    /// A switch.
    pub(crate) const fn switch(name: &'static str, usage: &'static str) -> Flag {
        Flag { name, short: None, takes: Takes::Switch, usage, hidden: false }
    }

    /// A flag with a value.
    pub(crate) const fn value(name: &'static str, usage: &'static str) -> Flag {
        Flag { name, short: None, takes: Takes::Value, usage, hidden: false }
    }

    /// A flag that may be repeated.
    pub(crate) const fn list(name: &'static str, usage: &'static str) -> Flag {
        Flag { name, short: None, takes: Takes::List, usage, hidden: false }
    }

    /// The same flag with a one-letter name too.
    pub(crate) const fn or(self, short: &'static str) -> Flag {
        Flag { short: Some(short), ..self }
    }

    /// The same flag, left out of the help text.
    pub(crate) const fn hidden(self) -> Flag {
        Flag { hidden: true, ..self }
    }
}

/// What was on the command line, in order.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    values: Vec<(&'static str, OsString)>,
    /// Arguments that are no flags.
    pub(crate) rest: Vec<OsString>,
    /// `--help` was among the flags.
    pub(crate) help: bool,
}

impl Parsed {
    /// Whether a switch is on.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|v| v == "true")
    }

    /// The last value of a flag, if it was given.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.values.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_os_str())
    }

    /// The last value of a flag, unless it is empty, which callers use to mean "not given".
    pub(crate) fn nonempty(&self, name: &str) -> Option<&OsStr> {
        self.value(name).filter(|v| !v.is_empty())
    }

    /// Every value of a flag.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        self.values.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_os_str())
    }

    /// The last value of a flag as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, String> {
        self.nonempty(name).map(|v| utf8(name, v)).transpose()
    }

    /// Every value of a flag as text.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        self.all(name).map(|v| utf8(name, v).map(str::to_owned)).collect()
    }

    /// The last value of a flag as a number that is not negative; 0 when not given.
    pub(crate) fn number(&self, name: &str) -> Result<u32, String> {
        let Some(text) = self.text(name)? else { return Ok(0) };
        text.parse().map_err(|_| {
            format!("invalid value {text:?} for flag -{name}: not a number from 0 to {}", u32::MAX)
        })
    }
}

fn utf8<'a>(name: &str, value: &'a OsStr) -> Result<&'a str, String> {
    value.to_str().ok_or_else(|| format!("invalid value {value:?} for flag -{name}: not UTF-8"))
}

/// Reads `args` (without the program's or command's name) against the tables of flags `known`, the first table
/// that has a name deciding. The first `stop_after` positional arguments may have flags between and after them;
/// what follows them is not looked at.
pub(crate) fn parse(args: Vec<OsString>, known: &[&[Flag]], stop_after: usize) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            parsed.rest.extend(args);
            break;
        }
        if parsed.rest.len() >= stop_after {
            parsed.rest.push(arg);
            parsed.rest.extend(args);
            break;
        }
        let Some(body) = bytes.strip_prefix(b"-").filter(|b| !b.is_empty()) else {
            parsed.rest.push(arg);
            continue;
        };
        let body = body.strip_prefix(b"-").unwrap_or(body);
        let (name, inline) = match body.iter().position(|b| *b == b'=') {
            Some(at) => (&body[..at], Some(OsString::from_vec(body[at + 1..].to_vec()))),
            None => (body, None),
        };
        if name == b"help" || name == b"h" {
            parsed.help = true;
            continue;
        }
        let flag = known
            .iter()
            .flat_map(|table| table.iter())
            .find(|f| f.name.as_bytes() == name || f.short.is_some_and(|s| s.as_bytes() == name))
            .ok_or_else(|| format!("flag provided but not defined: -{}", String::from_utf8_lossy(name)))?;
        let value = match (flag.takes, inline) {
            (Takes::Switch, None) => "true".into(),
            (Takes::Switch, Some(v)) => match boolean(v.as_bytes()) {
                Some(on) => on.to_string().into(),
                None => return Err(format!("invalid boolean value {v:?} for flag -{}", flag.name)),
            },
            (_, Some(v)) => v,
            (_, None) => args.next().ok_or_else(|| format!("flag needs an argument: {}", arg.display()))?,
        };
        parsed.values.push((flag.name, value));
    }
    Ok(parsed)
}

/// The spellings of Go's `strconv.ParseBool`, which is what runc's callers know.
pub(crate) fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::value("bundle", "").or("b"),
        Flag::switch("detach", "").or("d"),
        Flag::list("env", "").or("e"),
        Flag::value("preserve-fds", ""),
    ];

    fn read(args: &[&str], stop_after: usize) -> Result<Parsed, String> {
        parse(args.iter().map(OsString::from).collect(), &[FLAGS], stop_after)
    }

    #[test]
    fn every_spelling_of_a_flag_means_the_same() {
        for args in [
            &["--bundle", "/b", "id"][..],
            &["--bundle=/b", "id"],
            &["-bundle", "/b", "id"],
            &["-b", "/b", "id"],
            &["-b=/b", "id"],
            &["id", "-b", "/b"],
        ] {
            let parsed = read(args, usize::MAX).unwrap();
            assert_eq!(parsed.value("bundle").unwrap(), "/b", "{args:?}");
            assert_eq!(parsed.rest, ["id"], "{args:?}");
        }
    }

    #[test]
    fn what_follows_the_last_own_argument_is_another_programs() {
        let parsed = read(&["-d", "id", "ls", "-d", "--", "--bundle"], 1).unwrap();
        assert!(parsed.on("detach"));
        assert_eq!(parsed.rest, ["id", "ls", "-d", "--", "--bundle"]);
        let parsed = read(&["id", "--", "ls", "-d"], 1).unwrap();
        assert_eq!(parsed.rest, ["id", "ls", "-d"]);
        let parsed = read(&["--", "-d"], usize::MAX).unwrap();
        assert!(!parsed.on("detach"));
        assert_eq!(parsed.rest, ["-d"]);
    }

    #[test]
    fn values_keep_their_order_and_the_last_single_one_counts() {
        let parsed = read(&["-e", "A=1", "--env=B=2", "-b", "x", "-b", "y", "--detach=false"], 9).unwrap();
        assert_eq!(parsed.texts("env").unwrap(), ["A=1", "B=2"]);
        assert_eq!(parsed.value("bundle").unwrap(), "y");
        assert!(!parsed.on("detach"));
        assert_eq!(parsed.number("preserve-fds").unwrap(), 0);
        assert_eq!(read(&["--preserve-fds=3"], 9).unwrap().number("preserve-fds").unwrap(), 3);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(read(&["--nope"], 9).unwrap_err(), "flag provided but not defined: -nope");
        assert_eq!(read(&["--bundle"], 9).unwrap_err(), "flag needs an argument: --bundle");
        assert!(read(&["--detach=maybe"], 9).unwrap_err().contains("invalid boolean value"));
        assert!(read(&["--preserve-fds=-1"], 9).unwrap().number("preserve-fds").is_err());
    }
}
