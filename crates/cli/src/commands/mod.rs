//! One file a subcommand: its flags, and what it does with the engine.

pub(crate) mod attach;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod complete;
pub(crate) mod completion;
pub(crate) mod container_flags;
pub(crate) mod cp;
pub(crate) mod create;
mod df;
pub(crate) mod diff;
pub(crate) mod ended;
pub(crate) mod exec;
pub(crate) mod export;
mod health_flags;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod isolation_flags;
pub(crate) mod limit_flags;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod network;
pub(crate) mod network_flags;
mod output;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod volume;

use std::io::{self, BufRead, IsTerminal, Write};

use engine::Engine;

use crate::args::Command;
use crate::error::Error;

/// Does what was asked, and answers the exit code.
///
/// # Errors
/// Why it was not done.
pub(crate) fn execute(command: Command, engine: &Engine) -> Result<u8, Error> {
    match command {
        Command::Run(run) => return run.execute(engine),
        Command::Exec(exec) => return exec.execute(engine),
        Command::HoldTerminal => {
            engine::hold_terminal();
            Ok(())
        }
        Command::ContainerCheck(check) => return check.execute(engine),
        Command::Start(start) => return start.execute(engine),
        Command::Attach(attach) => return attach.execute(engine),
        Command::Create(create) => create.execute(engine),
        Command::Stop(stop) => stop.execute(engine),
        Command::Restart(restart) => restart.execute(engine),
        Command::Kill(kill) => kill.execute(engine),
        Command::Pause(pause) => pause.execute(engine),
        Command::Unpause(unpause) => unpause.execute(engine),
        Command::Wait(wait) => wait.execute(engine),
        Command::Rename(rename) => rename.execute(engine),
        Command::Logs(logs) => logs.execute(engine),
        Command::ContainerEnded(ended) => ended.execute(engine),
        Command::Pull(pull) => pull.execute(engine),
        Command::Images(images) => images.execute(engine),
        Command::Rmi(rmi) => rmi.execute(engine),
        Command::Ps(ps) => ps.execute(engine),
        Command::Rm(rm) => rm.execute(engine),
        Command::Inspect(inspect) => inspect.execute(engine),
        Command::Bundle(bundle) => bundle.execute(engine),
        Command::Network(network) => network.execute(engine),
        Command::Port(port) => port.execute(engine),
        Command::Top(top) => top.execute(engine),
        Command::Stats(stats) => stats.execute(engine),
        Command::System(system) => system.execute(engine),
        Command::Prune(prune) => prune.execute(engine),
        Command::Cp(cp) => cp.execute(engine),
        Command::Diff(diff) => diff.execute(engine),
        Command::Export(export) => export.execute(engine),
        Command::Commit(commit) => commit.execute(engine),
        Command::Tag(tag) => tag.execute(engine),
        Command::Save(save) => save.execute(engine),
        Command::Load(load) => load.execute(engine),
        Command::Volume(volume) => volume.execute(engine),
        Command::Info(info) => info.execute(engine),
        Command::Version(version) => version.execute(),
        Command::Completion(completion) => completion.execute(),
        Command::Man(man) => man.execute(),
        Command::Complete(complete) => complete.execute(),
    }
    .map(|()| 0)
}

/// Does something to each, and prints what was typed, as docker, so that it can be piped on. The errors of some are told
/// after the others.
fn each(names: &[String], work: impl Fn(&str) -> Result<(), engine::Error>) -> Result<(), Error> {
    let mut errors = Vec::new();
    for name in names {
        match work(name) {
            Ok(()) => say(&format!("{name}\n"))?,
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
}

/// Writes to standard output, all of it.
fn say(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)
}

/// Asks on the terminal whether to go on; without one nobody can agree.
fn agreed(what: &str) -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        let cure = "standard input is no terminal to ask on; add -f to prune unasked";
        return Err(Error::Usage(cure.to_owned()));
    }
    io::stderr().write_all(format!("{what} Continue? [y/N] ").as_bytes()).map_err(Error::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Error::Output)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Whether a person's terminal shows what [`say`] writes.
fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `KEY=VALUE,KEY=VALUE`, as docker's listings have labels.
fn label_list(labels: &[(String, String)]) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Cuts a text to so many characters, the last one an ellipsis.
fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
