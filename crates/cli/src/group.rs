//! docker's groups: `rcr container ls` is `rcr ps`, `rcr image rm` is `rcr rmi`.

use clap::{ArgMatches, Command};

use crate::commands::prune::Prune;

/// A command of a group, by its name without one, and what else it is called there.
type Member = (&'static str, &'static [&'static str]);

/// docker's commands of each group. Those that rcr does not have are left out of the tree.
const GROUPS: [(&str, &str, &[Member]); 2] = [
    (
        "container",
        "Commands for containers, which are there without 'container' too",
        &[
            ("attach", &[]),
            ("commit", &[]),
            ("cp", &[]),
            ("create", &[]),
            ("diff", &[]),
            ("exec", &[]),
            ("export", &[]),
            ("inspect", &[]),
            ("kill", &[]),
            ("logs", &[]),
            ("pause", &[]),
            ("port", &[]),
            ("ps", &["ls", "list"]),
            ("rename", &[]),
            ("restart", &[]),
            ("rm", &["remove"]),
            ("run", &[]),
            ("start", &[]),
            ("stats", &[]),
            ("stop", &[]),
            ("top", &[]),
            ("unpause", &[]),
            ("update", &[]),
            ("wait", &[]),
        ],
    ),
    (
        "image",
        "Commands for images, which are there without 'image' too",
        &[
            ("build", &[]),
            ("history", &[]),
            ("images", &["ls", "list"]),
            ("import", &[]),
            ("inspect", &[]),
            ("load", &[]),
            ("pull", &[]),
            ("push", &[]),
            ("rmi", &["rm", "remove"]),
            ("save", &[]),
            ("tag", &[]),
        ],
    ),
];

/// Adds the groups to the tree of commands.
pub(crate) fn add(mut root: Command) -> Command {
    for (name, about, members) in GROUPS {
        let mut group =
            Command::new(name).about(about).subcommand_required(true).arg_required_else_help(true);
        for (member, aliases) in members {
            let Some(command) = root.find_subcommand(member) else { continue };
            let mut command = command.clone().visible_aliases(aliases.iter().copied());
            if *member == "inspect" {
                command = command.mut_arg("kind", |kind| kind.default_value(name));
            }
            group = group.subcommand(command);
        }
        root = root.subcommand(group.subcommand(Prune::command_of_group(name)));
    }
    root
}

/// If a command of a group was typed: the group, and what was typed of the command, as if there were no group.
pub(crate) fn take(matches: &mut ArgMatches) -> Option<(&'static str, ArgMatches)> {
    let typed = matches.subcommand_name()?;
    let (name, _, _) = GROUPS.iter().find(|(name, _, _)| *name == typed)?;
    matches.remove_subcommand().map(|(_, of_group)| (*name, of_group))
}
