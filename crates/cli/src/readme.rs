//! README's table of commands and flags beside docker's and podman's: made from the tree of commands, so that it cannot
//! go stale. `UPDATE_README=1 cargo test -p rcr-cli readme` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use clap::Command;

use crate::args;

/// Docker 20.10's commands with their flags; a dagger marks what podman 4.3 lacks.
const PEERS: &str = include_str!("peers.txt");

/// What is done in another way, by command.
const DIFFERS: &[(&str, &str)] = &[
    ("exec", "closing the terminal hangs the command up; docker leaves it running"),
    ("inspect", "`--type` knows container, image, network and volume"),
    ("ps", "the filter `isolation` is refused"),
    ("run", "`--network` takes `NAME:ip=…,alias=…,mac=…` and can be given several times"),
    ("stats", "the first reading comes after half a second; the screen is refreshed on a terminal only"),
    ("top", "as docker's; rcr runs the host's ps"),
];

const BEGIN: &str = "<!-- commands: UPDATE_README=1 cargo test -p rcr-cli readme -->\n";
const END: &str = "<!-- end of commands -->\n";

/// Every command that does something, by its name without `rcr`, but for the groups that only repeat others.
fn leaves<'a>(command: &'a Command, name: &str, found: &mut BTreeMap<String, &'a Command>) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name()).trim().to_owned();
        match sub.has_subcommands() {
            // The others are there without the group.
            true if matches!(name.as_str(), "container" | "image") => {
                let prune = sub.find_subcommand("prune").expect("each group has one");
                found.insert(format!("{name} prune"), prune);
            }
            true => leaves(sub, &name, found),
            false => drop(found.insert(name, sub)),
        }
    }
}

fn flags(command: &Command) -> BTreeSet<&str> {
    let own = command.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set());
    own.flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default())
        .filter(|long| *long != "help")
        .collect()
}

fn table() -> String {
    let mut root = args::tree();
    root.build();
    let mut ours = BTreeMap::new();
    leaves(&root, "", &mut ours);
    let mut text = String::from(
        "| command | works as docker's | rcr's own | differs | not yet |\n|---|---|---|---|---|\n",
    );
    let mut missing = Vec::new();
    let mut seen = BTreeSet::new();
    for line in PEERS.lines() {
        let (name, words) = line.split_once(':').expect("NAME: FLAG…");
        let docker: Vec<&str> = words.split_whitespace().collect();
        let Some(command) = ours.get(name) else {
            missing.push(format!("`{name}`"));
            continue;
        };
        seen.insert(name);
        row(&mut text, name, &docker, &flags(command));
    }
    for (name, command) in ours.iter().filter(|(name, _)| !seen.contains(name.as_str())) {
        row(&mut text, name, &[], &flags(command));
    }
    write!(text, "\nNot yet there as commands: {}.\n", missing.join(" ")).expect("memory");
    text
}

fn row(text: &mut String, name: &str, docker: &[&str], ours: &BTreeSet<&str>) {
    let plain = |flag: &str| flag.trim_end_matches('†').to_owned();
    let list = |flags: Vec<String>| match flags.is_empty() {
        true => String::new(),
        false => flags.iter().map(|flag| format!("`{flag}`")).collect::<Vec<_>>().join(" "),
    };
    let shown = |flag: &&&str| match flag.ends_with('†') {
        true => format!("--{}†", plain(flag)),
        false => format!("--{flag}"),
    };
    let has = |flag: &&&str| ours.contains(plain(flag).as_str());
    let works = docker.iter().filter(has).map(|flag| shown(&flag)).collect();
    let not_yet = docker.iter().filter(|flag| !has(flag)).map(|flag| shown(&flag)).collect();
    let own = ours.iter().filter(|flag| !docker.iter().any(|other| plain(other) == **flag));
    let own = own.map(|flag| format!("--{flag}")).collect();
    let differs = DIFFERS.iter().find(|(other, _)| *other == name).map_or("", |(_, how)| how);
    writeln!(text, "| `{name}` | {} | {} | {differs} | {} |", list(works), list(own), list(not_yet))
        .expect("memory");
}

#[test]
fn readme_has_every_command_and_flag() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("README has the mark");
    let (found, after) = rest.split_once(END).expect("README has the end mark");
    let wanted = table();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "README's table is stale: UPDATE_README=1 cargo test -p rcr-cli readme\n{wanted}"
    );
}

#[test]
fn notes_are_about_commands_that_are_there() {
    let mut root = args::tree();
    root.build();
    let mut ours = BTreeMap::new();
    leaves(&root, "", &mut ours);
    for (name, _) in DIFFERS {
        assert!(ours.contains_key(*name), "{name}");
    }
}
