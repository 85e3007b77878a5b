//! `rcr __complete`: what may come next on a command line. The shells' scripts call it; see `completion.rs`.
//!
//! The names of positional arguments and of flags' values say what is wanted there: `CONTAINER`, `IMAGE`, `NETWORK`,
//! `VOLUME`.

use clap::{Arg, Command};
use engine::Thing;

use super::say;
use crate::args;
use crate::error::Error;

/// Name of the command.
pub(crate) const NAME: &str = "__complete";

/// Print what may come next on a command line
#[derive(Debug, clap::Args)]
pub(crate) struct Complete {
    /// The words so far, without rcr; the last is still being typed
    words: Vec<String>,
}

/// Something that may come next, and what it is.
type Candidate = (String, String);

impl Complete {
    pub(crate) fn execute(self) -> Result<(), Error> {
        let mut root = args::tree();
        root.build();
        let Some((typed, before)) = self.words.split_last() else { return Ok(()) };
        // Where containers are is what the words say, as for the command itself.
        let engine = args::engine_of(before);
        let found = candidates(&root, before, typed, &|thing| engine::names(&engine, thing));
        say(&found.iter().map(|(word, what)| format!("{word}\t{what}\n")).collect::<String>())
    }
}

/// What may stand in the place of `typed` after the words `before`.
fn candidates(
    root: &Command,
    before: &[String],
    typed: &str,
    names: &dyn Fn(Thing) -> Vec<String>,
) -> Vec<Candidate> {
    let mut place = Place { command: root, positionals: 0, value_of: None, only_positionals: false };
    for word in before {
        place.pass(word);
    }
    let mut found = match place.value_of {
        Some(flag) => values(flag, names),
        None if typed.starts_with('-') && !place.only_positionals => flags(place.command),
        None => {
            let mut found = if place.positionals == 0 { commands(place.command) } else { Vec::new() };
            found.extend(place.positional().map(|arg| values(arg, names)).unwrap_or_default());
            found
        }
    };
    found.retain(|(word, _)| word.starts_with(typed));
    found
}

/// How far a command line has come.
struct Place<'a> {
    command: &'a Command,
    /// How many positional arguments of it there are.
    positionals: usize,
    /// The flag whose value comes next.
    value_of: Option<&'a Arg>,
    /// What looks like a flag is none any more.
    only_positionals: bool,
}

impl<'a> Place<'a> {
    fn pass(&mut self, word: &str) {
        if self.value_of.take().is_some() {
            return;
        }
        if !self.only_positionals && word.starts_with('-') && word != "-" {
            return self.pass_flag(word);
        }
        match self.command.find_subcommand(word).filter(|_| self.positionals == 0) {
            Some(command) => *self = Place { command, positionals: 0, ..*self },
            None => {
                let passed = self.positional();
                self.only_positionals |= passed.is_some_and(Arg::is_trailing_var_arg_set);
                self.positionals += 1;
            }
        }
    }

    fn pass_flag(&mut self, word: &str) {
        let args = || self.command.get_arguments();
        let takes = |arg: &&'a Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
        let waiting = match word.strip_prefix("--") {
            Some("") => {
                self.only_positionals = true;
                None
            }
            Some(long) if long.contains('=') => None,
            Some(long) => args().find(|arg| {
                arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
            }),
            // -it, -p80:80, -p 80:80: the first that takes a value takes the rest, or else the next word.
            None => {
                let of = |letter: char| args().find(|arg| arg.get_short() == Some(letter));
                let mut letters = word[1..].char_indices();
                let taker = letters
                    .find_map(|(at, letter)| Some((at + letter.len_utf8(), of(letter).filter(takes)?)));
                taker.filter(|(end, _)| *end == word.len() - 1).map(|(_, arg)| arg)
            }
        };
        self.value_of = waiting.filter(takes);
    }

    /// The positional argument that comes next. One that ends with somebody else's command line says what its first
    /// word is.
    fn positional(&self) -> Option<&'a Arg> {
        let all: Vec<&Arg> = self.command.get_positionals().collect();
        let arg = all.get(self.positionals.min(all.len().saturating_sub(1))).copied()?;
        let goes_on = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
        let first_only = arg.is_trailing_var_arg_set() || !goes_on;
        (self.positionals < all.len() || !first_only).then_some(arg)
    }
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn commands(command: &Command) -> Vec<Candidate> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    shown.map(|sub| (sub.get_name().to_owned(), help(sub.get_about()))).collect()
}

fn flags(command: &Command) -> Vec<Candidate> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let words = |arg: &Arg| {
        let long = arg.get_long().map(|long| format!("--{long}"));
        let short = arg.get_short().map(|short| format!("-{short}"));
        let what = help(arg.get_help());
        long.into_iter().chain(short).map(move |word| (word, what.clone())).collect::<Vec<_>>()
    };
    shown.flat_map(words).collect()
}

/// What may be given for a flag or a positional argument.
fn values(arg: &Arg, names: &dyn Fn(Thing) -> Vec<String>) -> Vec<Candidate> {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let value =
            |value: &clap::builder::PossibleValue| (value.get_name().to_owned(), help(value.get_help()));
        return possible.iter().filter(|value| !value.is_hide_set()).map(value).collect();
    }
    let name = arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str()).unwrap_or_default();
    let things: &[Thing] = match name.split(' ').next().unwrap_or_default() {
        "CONTAINER" | "CONTAINER[:ro]" | "CONTAINER[:ALIAS]" => &[Thing::Container],
        "IMAGE" => &[Thing::Image],
        "NETWORK" => &[Thing::Network],
        "VOLUME" | "[SRC:]DST[:OPTIONS]" => &[Thing::Volume],
        // inspect's
        "NAME" if arg.is_positional() => &[Thing::Container, Thing::Image, Thing::Network, Thing::Volume],
        _ => &[],
    };
    let mut found = Vec::new();
    if name == "NETWORK" && !arg.is_positional() {
        found.extend(["host", "none"].map(|name| (name.to_owned(), "network".to_owned())));
    }
    for thing in things {
        let what = format!("{thing:?}").to_lowercase();
        found.extend(names(*thing).into_iter().map(|name| (name, what.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let mut root = args::tree();
        root.build();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (typed, before) = words.split_last().unwrap();
        let names = |thing: Thing| {
            let names: &[&str] = match thing {
                Thing::Container => &["db", "web"],
                Thing::Image => &["box:latest", "python:3"],
                Thing::Network => &["back", "bridge"],
                Thing::Volume => &["data"],
            };
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        candidates(&root, before, typed, &names).into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn what_may_come_next() {
        for (line, want) in [
            ("ru", &["run"][..]),
            ("network cr", &["create"]),
            ("container ex", &["exec", "export"]),
            ("exec ", &["db", "web"]),
            ("exec -it w", &["web"]),
            ("exec -u root w", &["web"]),
            ("exec -uroot w", &["web"]),
            ("exec web ", &[]),
            ("exec web -", &[]),
            ("rm a -f d", &["db"]),
            ("run --rm --network b", &["back", "bridge"]),
            ("run --net b", &["back", "bridge"]),
            ("run --network n", &["none"]),
            ("run --link d", &["db"]),
            ("network rm n", &[]),
            ("run --network=back -itv d", &["data"]),
            ("run --tls-verify b", &["box:latest"]),
            ("run -e A=1 py", &["python:3"]),
            ("run box ", &[]),
            ("--root /r rmi b", &["box:latest"]),
            ("image rm -- b", &["box:latest"]),
            ("inspect ", &["db", "web", "box:latest", "python:3", "back", "bridge", "data"]),
            ("inspect --type c", &["container"]),
            ("run --pull a", &["always"]),
            ("completion ", &["bash", "zsh", "fish"]),
            ("run --entryp", &["--entrypoint"]),
            ("ps --no-t", &["--no-trunc"]),
            ("__c", &[]),
            ("no-such ", &[]),
        ] {
            assert_eq!(complete(line), want, "{line}");
        }
        assert!(
            complete("").contains(&"container".to_owned()) && complete("-").contains(&"--root".to_owned())
        );
    }
}
