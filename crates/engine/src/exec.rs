//! `exec`: one more process in a running container.
//!
//! rcr is the parent of the process and nothing else of it: when rcr is gone the process lives on, as with docker,
//! and ends with the container. Its terminal hangs up when nobody has the other end, so for a process that shall
//! outlive the caller a small process of rcr's holds that end (see [`hold_terminal`]).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio as Streams};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use oci::runtime::{BoxBuilder, Process, User as SpecUser};
use runtime::lifecycle::{self, Created};
use runtime::{Console, ErrorKind, Stdio};
use store::Store;

use crate::attach::{self, Attached, OnSignal, Served};
use crate::leftover::enter;
use crate::list::{life, running};
use crate::options::ExecOptions;
use crate::record::Record;
use crate::root::Root;
use crate::run::code;
use crate::signals::Signals;
use crate::user::{self, User};
use crate::{ContainerStatus, Engine, Error, capabilities, host, mount, process};

/// How `exec` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// The process has ended with this exit code, or 128+N of the signal that killed it.
    Ended(u8),
    /// It was started with `-d`, or the detach keys were typed: it goes on.
    Detached,
    /// This signal ended rcr; the process goes on.
    Left(i32),
}

/// The command of rcr that is [`hold_terminal`]; for nobody to type.
pub const HOLD_TERMINAL: &str = "__hold-terminal";

/// Runs one more process in a running container, and waits for its end unless it is to be detached.
///
/// The caller must be single-threaded, as with [`crate::run`].
///
/// # Errors
/// The process never ran; see [`Error::exec_exit_code`]. [`Error::NoSuchContainer`], [`Error::NotRunning`],
/// [`Error::Paused`].
pub fn exec(engine: &Engine, options: &ExecOptions) -> Result<Executed, Error> {
    // First of all, because it begins the program anew: the container must not get at its file (CVE-2019-5736).
    let what = "protect rcr's program file from the container".to_owned();
    runtime::seal::seal().map_err(|source| Error::Runtime { what, source })?;
    enter(engine)?;
    if options.tty && !options.detach {
        attach::check_terminal(options.interactive)?;
    }
    let (record, pid) = running(engine, &options.container)?;
    let process = describe(engine, &record, pid, options)?;
    let signals = Signals::block_ends_and_size()?;
    let (created, attached) = start(engine, &record, process, options)?;
    if options.detach {
        return created.console.map_or(Ok(()), hold).map(|()| Executed::Detached);
    }
    see_through(&created, attached, &signals)
}

/// The container's own process, changed by the options.
pub(crate) fn describe(
    engine: &Engine,
    record: &Record,
    pid: i32,
    options: &ExecOptions,
) -> Result<Process, Error> {
    let mut process = lifecycle::process(&engine.states(), &record.id)
        .map_err(|source| Error::Runtime { what: format!("exec in container {}", record.name), source })?;
    // What it was told of others at its start.
    let linked = linked(record, process.env().as_deref().unwrap_or_default());
    let user = match &options.user {
        Some(wanted) => Some(find_user(engine, record, pid, wanted)?),
        None => None,
    };
    let home = user.as_ref().filter(|_| !home_is_given(engine, record)).map(|user| user.home.as_str());
    process
        .set_args(Some(options.command.clone()))
        .set_env(Some(environment(record, options, &linked, home)))
        .set_terminal(Some(options.tty));
    if let Some(user) = user {
        let mut who = SpecUser::default();
        who.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups));
        process.set_user(who);
    }
    if let Some(dir) = &options.workdir {
        process.set_cwd(PathBuf::from(mount::clean(dir)));
    }
    if options.privileged {
        let all = capabilities::names(host::bounding_capabilities()?);
        process.set_capabilities(Some(process::capabilities(&all)));
    }
    if options.tty {
        let size = attach::terminal_size();
        let size = size.map(|size| BoxBuilder::default().height(size.rows).width(size.columns).build());
        process.set_console_size(size.and_then(Result::ok));
    }
    Ok(process)
}

/// The variables of a container's process that come of `--link`.
fn linked(record: &Record, of_process: &[String]) -> Vec<String> {
    if record.options.links.is_empty() {
        return Vec::new();
    }
    let key = |entry: &String| entry.split('=').next().map(str::to_owned);
    let own: Vec<_> = record.env.iter().map(key).chain([Some("HOME".to_owned())]).collect();
    of_process.iter().filter(|entry| !own.contains(&key(entry))).cloned().collect()
}

/// The container's environment, then what is `linked`, with the options' on top. `home` is that of another user than the
/// container's.
fn environment(record: &Record, options: &ExecOptions, linked: &[String], home: Option<&str>) -> Vec<String> {
    const TERM: &str = "TERM=xterm";
    let mut all = record.env.clone();
    match (record.options.tty, options.tty) {
        // Where `run -t` puts it: behind PATH and HOSTNAME.
        (true, false) if all.get(2).is_some_and(|entry| entry == TERM) => drop(all.remove(2)),
        (false, true) if !all.iter().any(|entry| entry.starts_with("TERM=")) => all.push(TERM.to_owned()),
        _ => {}
    }
    all.extend_from_slice(linked);
    if let Some(home) = home {
        process::set_variable(&mut all, &format!("HOME={home}"));
    }
    for entry in &options.env {
        process::set_variable(&mut all, entry);
    }
    all
}

/// Whether image or user have set HOME, so that it is the same for every user.
fn home_is_given(engine: &Engine, record: &Record) -> bool {
    let sets_home = |env: &[String]| env.iter().any(|entry| entry.starts_with("HOME="));
    let of_image = || {
        let image = Store::open(&engine.root).and_then(|store| store.image(&record.image_id)).ok()?;
        image.config.config().as_ref()?.env().clone()
    };
    sets_home(&record.options.env) || of_image().is_some_and(|env| sets_home(&env))
}

/// Looks a user up in the files of the running container, which are its processes' to write.
fn find_user(engine: &Engine, record: &Record, pid: i32, wanted: &str) -> Result<User, Error> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(path.as_str(), flags, Mode::empty());
    // Its number was nobody else's if the process still lives.
    if life(engine, &record.id)?.pid != Some(pid) {
        return Err(Error::NotRunning(record.name.clone()));
    }
    let root = root.map_err(|e| Error::io(format!("open {path:?}"))(e.into()))?;
    let root = Root(root.as_fd());
    let (passwd, group) = (root.read("/etc/passwd")?, root.read("/etc/group")?);
    user::resolve(wanted, &passwd, &group).map_err(Error::User)
}

fn start(
    engine: &Engine,
    record: &Record,
    process: Process,
    options: &ExecOptions,
) -> Result<(Created, Attached), Error> {
    let (stdio, attached) = match (options.tty, options.detach) {
        (true, _) => (Stdio::default(), Attached::default()),
        (false, false) => attach::streams(options.interactive, &[])?,
        (false, true) => (nothing()?, Attached::default()),
    };
    let mut created = lifecycle::exec(lifecycle::ExecOptions {
        stdio,
        console: if options.tty { Console::Keep } else { Console::None },
        ..lifecycle::ExecOptions::new(&engine.states(), &record.id, process)
    })
    .map_err(|source| match source.what() {
        ErrorKind::State | ErrorKind::NotFound => match life(engine, &record.id).map(|life| life.status) {
            Ok(ContainerStatus::Paused) => Error::Paused(record.name.clone()),
            _ => Error::NotRunning(record.name.clone()),
        },
        _ => Error::start(&format!("exec in container {}", record.name), options.command.first(), source),
    })?;
    let attached = match created.console.take() {
        Some(master) if options.detach => {
            created.console = Some(master);
            attached
        }
        Some(master) => Attached::terminal(master, options.interactive)?.until(options.detach_keys.clone()),
        None => attached,
    };
    Ok((created, attached))
}

/// Streams of a process that nobody listens to.
fn nothing() -> Result<Stdio, Error> {
    let null = |write: bool| {
        let opened = File::options().read(!write).write(write).open("/dev/null");
        opened.map(OwnedFd::from).map_err(Error::io("open \"/dev/null\""))
    };
    Ok(Stdio { stdin: Some(null(false)?), stdout: Some(null(true)?), stderr: Some(null(true)?) })
}

/// Serves the process until its end, or until the caller leaves it.
fn see_through(created: &Created, mut attached: Attached, signals: &Signals) -> Result<Executed, Error> {
    let pidfd = created.pidfd.as_fd();
    match attached.serve(pidfd, signals, OnSignal::Leave)? {
        Served::Left(signal) => Ok(Executed::Left(signal)),
        Served::Detached => attached.into_master().map_or(Ok(()), hold).map(|()| Executed::Detached),
        Served::ToTheEnd => {
            let ended = sys::wait::wait(pidfd).map_err(Error::io("wait for the process"))?;
            Ok(Executed::Ended(code(ended)))
        }
    }
}

/// Leaves the master end of a terminal to a process of its own that does nothing but [`hold_terminal`].
fn hold(master: OwnedFd) -> Result<(), Error> {
    let program = "/proc/self/exe";
    let mut holder = Command::new(program);
    holder.arg(HOLD_TERMINAL).current_dir("/").env_clear();
    holder.stdin(master).stdout(Streams::null()).stderr(Streams::null());
    holder.spawn().map(drop).map_err(Error::io(format!("run {program:?} to hold the terminal")))
}

/// Keeps the terminal open whose master end is standard input, and takes what is written there, until its last user is
/// gone.
pub fn hold_terminal() {
    // It has no part in the caller's terminal. Fails for the leader of a process group, which is then rid of it already.
    let _ = nix::unistd::setsid();
    let mut stdin = io::stdin().lock();
    let mut buffer = [0u8; 4096];
    loop {
        let ready = poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        match ready {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        match stdin.read(&mut buffer) {
            Ok(1..) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            // EIO: nobody has it open any more.
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::RunOptions;

    fn record(tty: bool, env: &[&str]) -> Record {
        let options = RunOptions { tty, ..RunOptions::new("box") };
        serde_json::from_value(serde_json::json!({
            "id": "a".repeat(64), "name": "web", "created": 0, "image_id": format!("sha256:{}", "b".repeat(64)),
            "options": options, "entrypoint": [], "command": ["sh"], "env": env, "cwd": "/", "user": "",
            "hostname": "h", "labels": [], "points": [],
        }))
        .unwrap()
    }

    #[test]
    fn the_environment_is_the_containers_with_the_callers_on_top() {
        let env = ["PATH=/bin", "HOSTNAME=h", "A=1", "HOME=/root"];
        let options = |tty, env: &[&str]| ExecOptions {
            tty,
            env: env.iter().map(|entry| (*entry).to_owned()).collect(),
            ..ExecOptions::default()
        };
        let plain = environment(&record(false, &env), &options(false, &["A=2", "B=3"]), &[], None);
        assert_eq!(plain, ["PATH=/bin", "HOSTNAME=h", "A=2", "HOME=/root", "B=3"]);
        let tty = environment(&record(false, &env), &options(true, &[]), &[], Some("/home/alice"));
        assert_eq!(tty, ["PATH=/bin", "HOSTNAME=h", "A=1", "HOME=/home/alice", "TERM=xterm"]);
        let ran_with_tty = ["PATH=/bin", "HOSTNAME=h", "TERM=xterm", "A=1"];
        let without = environment(&record(true, &ran_with_tty), &options(false, &["TERM=vt100"]), &[], None);
        assert_eq!(without, ["PATH=/bin", "HOSTNAME=h", "A=1", "TERM=vt100"]);
    }
}
