//! The command line as a tree: global flags and one struct a subcommand.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};
use engine::Engine;
use nix::unistd::geteuid;
use tracing::level_filters::LevelFilter;

use crate::commands::{
    attach, bundle, check, commit, complete, completion, cp, create, diff, ended, exec, export, images, info,
    inspect, load, logs, man, network, port, prune, ps, pull, rm, rmi, run, save, signal, start, stats, stop,
    system, tag, top, version, volume,
};
use crate::group;
use crate::usage::Refusal;

/// All of it.
#[derive(Debug, Parser)]
#[command(name = "rcr", version, about = "Pull OCI images and run them, without a daemon")]
#[command(args_override_self = true, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every subcommand takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Directory of images and containers [default: /var/lib/rcr, for users $XDG_DATA_HOME/rcr]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory of running containers' state [default: /run/rcr, for users $XDG_RUNTIME_DIR/rcr]
    #[arg(long, global = true, value_name = "DIR")]
    runroot: Option<PathBuf>,
    /// Tell each step on standard error
    #[arg(short = 'D', long, global = true)]
    debug: bool,
    /// Tell what is at least this important: trace, debug, info, warn, error or off
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn", hide_default_value = true)]
    log_level: LevelFilter,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Run>),
    Exec(exec::Exec),
    Create(Box<create::Create>),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(stop::Restart),
    Kill(signal::Kill),
    Pause(signal::Pause),
    Unpause(signal::Unpause),
    Wait(signal::Wait),
    Rename(signal::Rename),
    Attach(attach::Attach),
    Logs(logs::Logs),
    Pull(pull::Pull),
    Images(images::Images),
    Rmi(rmi::Rmi),
    Ps(ps::Ps),
    Rm(rm::Rm),
    Inspect(inspect::Inspect),
    Bundle(bundle::Bundle),
    #[command(subcommand)]
    Network(network::Command),
    Port(port::Port),
    Cp(cp::Cp),
    Diff(diff::Diff),
    Export(export::Export),
    Commit(commit::Commit),
    Tag(tag::Tag),
    Save(save::Save),
    Load(load::Load),
    #[command(subcommand)]
    Volume(volume::Command),
    Top(top::Top),
    Stats(stats::Stats),
    #[command(subcommand)]
    System(system::System),
    Info(info::Info),
    Version(version::Version),
    Completion(completion::Completion),
    Man(man::Man),
    #[command(name = complete::NAME, hide = true)]
    Complete(complete::Complete),
    /// Hold the terminal of a detached process
    #[command(name = engine::HOLD_TERMINAL, hide = true)]
    HoldTerminal,
    ContainerEnded(ended::Ended),
    ContainerCheck(check::Check),
    /// `container prune` and `image prune`, which are in docker's groups only.
    #[command(skip)]
    Prune(prune::Prune),
}

impl Globals {
    /// How much is logged.
    pub(crate) fn log_level(&self) -> LevelFilter {
        if self.debug { self.log_level.max(LevelFilter::DEBUG) } else { self.log_level }
    }

    /// The engine on the chosen directories.
    pub(crate) fn engine(&self) -> Engine {
        let (root, runroot) = default_dirs(geteuid().is_root(), |name| std::env::var_os(name));
        // A container's files are named to a runtime that begins elsewhere. Only an empty path has no absolute form.
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Engine {
            root: self.root.as_ref().map_or(root, whole),
            runroot: self.runroot.as_ref().map_or(runroot, whole),
        }
    }
}

/// The engine that a command line which is still being typed is about.
pub(crate) fn engine_of(words: &[String]) -> Engine {
    let value = |flag: &str| {
        let at = words.iter().rposition(|word| word == flag || word.starts_with(&format!("{flag}=")))?;
        let value = words[at].split_once('=').map(|(_, value)| value.to_owned());
        value.or_else(|| words.get(at + 1).cloned()).map(PathBuf::from)
    };
    let (root, runroot) = default_dirs(geteuid().is_root(), |name| std::env::var_os(name));
    Engine { root: value("--root").unwrap_or(root), runroot: value("--runroot").unwrap_or(runroot) }
}

/// Where root and other users keep images and state (XDG Base Directory Specification; a variable that is no
/// absolute path counts as unset there).
fn default_dirs(is_root: bool, var: impl Fn(&str) -> Option<OsString>) -> (PathBuf, PathBuf) {
    if is_root {
        return ("/var/lib/rcr".into(), "/run/rcr".into());
    }
    let dir = |name: &str| var(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = dir("HOME").unwrap_or_else(|| "/".into());
    let data = dir("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
    let run = dir("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{}", geteuid()).into());
    (data.join("rcr"), run.join("rcr"))
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// What to tell the user instead of doing something: what is wrong, or the help asked for.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Args, Refusal> {
    let words: Vec<OsString> = words.collect();
    // What is wrong, or is no more than a question, is told by the whole tree.
    if let Some(args) = branch(&words).and_then(|branch| read(branch.try_get_matches_from(&words).ok()?).ok())
    {
        return Ok(args);
    }
    let mut command = tree();
    if words.iter().any(gives_a_boolean) {
        command = with_boolean_values(command);
    }
    command
        .try_get_matches_from_mut(&words)
        .and_then(read)
        .map_err(|error| Refusal::new(error, at_fault(&words)))
}

/// Adds a command's flags.
type Augment = fn(clap::Command) -> clap::Command;

/// Commands that people and rcr itself start often.
const BRANCHES: [(&str, Augment); 9] = [
    ("run", run::Run::augment_args),
    ("create", create::Create::augment_args),
    ("start", start::Start::augment_args),
    ("stop", stop::Stop::augment_args),
    ("exec", exec::Exec::augment_args),
    ("ps", ps::Ps::augment_args),
    ("rm", rm::Rm::augment_args),
    ("container-check", check::Check::augment_args),
    ("container-ended", ended::Ended::augment_args),
];

/// The tree with the one branch that a command line is for, if it is among [`BRANCHES`].
/// To make the whole tree takes as long as to make a container.
fn branch(words: &[OsString]) -> Option<clap::Command> {
    let mut words = words.iter().skip(1).map(|word| word.to_str());
    let name = loop {
        match words.next()?? {
            "--root" | "--runroot" | "--log-level" => drop(words.next()),
            flag if flag.starts_with('-') => {}
            name => break name,
        }
    };
    let (name, augment) = BRANCHES.into_iter().find(|(branch, _)| *branch == name)?;
    let branch = augment(clap::Command::new(name));
    Some(Globals::augment_args(clap::Command::new("rcr").args_override_self(true)).subcommand(branch))
}

/// Every command there is, those of docker's groups (`rcr container ls`) too.
pub(crate) fn tree() -> clap::Command {
    group::add(Args::command())
}

fn read(mut matches: ArgMatches) -> Result<Args, clap::Error> {
    let Some((name, mut of_group)) = group::take(&mut matches) else {
        return Args::from_arg_matches_mut(&mut matches);
    };
    let globals = Globals::from_arg_matches_mut(&mut matches)?;
    let command = match prune::Prune::of_group(name, &mut of_group) {
        Some(prune) => Command::Prune(prune?),
        None => Command::from_arg_matches_mut(&mut of_group)?,
    };
    Ok(Args { globals, command })
}

/// The command that a wrong command line is for: `rcr`, `rcr run`, `rcr system prune`.
fn at_fault(words: &[OsString]) -> String {
    let mut name = "rcr".to_owned();
    let matches = tree().ignore_errors(true).try_get_matches_from(words).ok();
    let mut rest = matches.as_ref();
    while let Some((command, matches)) = rest.and_then(clap::ArgMatches::subcommand) {
        name = format!("{name} {command}");
        rest = Some(matches);
    }
    name
}

/// `--rm=false` and the like, which Go's flags take and scripts that build command lines use.
fn gives_a_boolean(word: &OsString) -> bool {
    let word = word.to_string_lossy();
    let value = word.split_once('=').filter(|(flag, _)| flag.starts_with('-')).map(|(_, value)| value);
    matches!(value, Some("true" | "false" | "1" | "0" | "t" | "f" | "T" | "F" | "TRUE" | "FALSE"))
}

/// Lets every switch take `=true` or `=false`. Apart, because `--help` would show it at every switch.
fn with_boolean_values(command: clap::Command) -> clap::Command {
    let boolean = clap::builder::BoolishValueParser::new();
    command
        .mut_args(|arg| match arg.get_action() {
            clap::ArgAction::SetTrue => arg
                .action(clap::ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .value_parser(boolean),
            _ => arg,
        })
        .mut_subcommands(with_boolean_values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
        with_boolean_values(tree()).debug_assert();
    }

    #[test]
    fn a_branch_is_as_in_the_tree() {
        let mut tree = tree();
        tree.build();
        for (name, _) in BRANCHES {
            let words = ["rcr", "-D", "--root", "/r", name, "x"].map(OsString::from);
            let mut branch = branch(&words).expect(name);
            branch.build();
            let all = |of: &clap::Command| {
                let command = of.find_subcommand(name).expect("there");
                let groups = command.get_groups().map(|group| format!("{group:?}"));
                command.get_arguments().map(|arg| format!("{arg:?}")).chain(groups).collect::<Vec<_>>()
            };
            let (one, other) = (all(&branch), all(&tree));
            let different = one.iter().zip(&other).find(|(one, other)| one != other);
            assert!(different.is_none() && one.len() == other.len(), "{name}: {different:?}");
        }
        assert!(branch(&["rcr", "--root"].map(OsString::from)).is_none());
        assert!(branch(&["rcr", "images", "run"].map(OsString::from)).is_none());
    }

    #[test]
    fn groups_lead_to_the_same_commands() {
        let parsed = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            parse(words).map(|args| format!("{args:?}")).map_err(|refusal| refusal.to_string())
        };
        for (long, short) in [
            ("rcr container ls -a", "rcr ps -a"),
            ("rcr container ps --root /r -q", "rcr ps --root /r -q"),
            ("rcr --root /r container list", "rcr --root /r ps"),
            ("rcr container run --rm -t=false box sh -c x", "rcr run --rm -t=false box sh -c x"),
            ("rcr container rm -f a b", "rcr rm -f a b"),
            ("rcr container exec -it a sh", "rcr exec -it a sh"),
            ("rcr container inspect a", "rcr inspect --type container a"),
            ("rcr image ls -q", "rcr images -q"),
            ("rcr image rm a", "rcr rmi a"),
            ("rcr image pull a", "rcr pull a"),
            ("rcr image inspect a", "rcr inspect --type image a"),
        ] {
            assert_eq!(parsed(long).unwrap(), parsed(short).unwrap(), "{long}");
        }
        assert!(parsed("rcr container rnu x").unwrap_err().contains("'run'"));
        assert!(parsed("rcr container run --nmae x y").unwrap_err().contains("rcr container run --help"));
    }

    #[test]
    fn directories_follow_xdg() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| OsString::from(v))
        };
        let dirs = |is_root, pairs| default_dirs(is_root, env(pairs));
        assert_eq!(dirs(true, &[("HOME", "/h")]), ("/var/lib/rcr".into(), "/run/rcr".into()));
        let set = &[("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r")];
        assert_eq!(dirs(false, set), ("/d/rcr".into(), "/r/rcr".into()));
        let relative = &[("HOME", "/h"), ("XDG_DATA_HOME", "d"), ("XDG_RUNTIME_DIR", "/r")];
        assert_eq!(dirs(false, relative).0, PathBuf::from("/h/.local/share/rcr"));
    }

    /// The words of a line of the examples: quotes hold together, `$(…)` is a word, a remark begins after two spaces.
    fn words(line: &str) -> Vec<OsString> {
        let (mut all, mut word, mut quote, mut spaces) = (Vec::new(), String::new(), None, 0);
        for c in line.trim().chars().chain([' ']) {
            match (quote, c) {
                (Some('('), ')') | (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (None, '\'' | '"' | '(') => quote = Some(c),
                (None, ' ') if word.is_empty() => spaces += 1,
                (None, ' ') => all.push(std::mem::take(&mut word)),
                _ if spaces > 0 => break,
                _ => word.push(c),
            }
        }
        all.into_iter().take_while(|word| word != "|" && !word.starts_with('>')).map(OsString::from).collect()
    }

    fn check_examples(command: &clap::Command, count: &mut usize) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in text.lines().filter(|line| line.trim_start().starts_with("rcr ")) {
            let words = words(&line.replace("$PWD", "/srv"));
            parse(words.clone().into_iter()).unwrap_or_else(|refusal| panic!("{line}: {words:?}: {refusal}"));
            *count += 1;
        }
        command.get_subcommands().for_each(|sub| check_examples(sub, count));
    }

    #[test]
    fn examples_of_the_help_are_command_lines() {
        let mut count = 0;
        check_examples(&Args::command(), &mut count);
        assert!(count > 25, "{count}");
    }
}
