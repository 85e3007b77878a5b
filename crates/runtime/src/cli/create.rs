//! `create` and `run`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::flags::{Flag, Parsed};
use super::global::{Global, absolute};
use super::{Command, foreground, id_of, invalid, listen};
use crate::drive::ExecveFailed;
use crate::lifecycle::{self, CreateOptions, Created};
use crate::{Console, Error, Spec, spec};

const ARGUMENTS: &str = "<container-id>\n\n\
    Where \"<container-id>\" is your name for the instance of the container that you are starting. The name must be\n\
    unique on your host.";

const DESCRIPTION: &str = "Creates an instance of a container for a bundle. The bundle is a directory with a\n\
    specification file named \"config.json\" and a root filesystem. Its args say what is run in the container; see\n\
    the spec command for making one.";

pub(crate) const BUNDLE: Flag =
    Flag::value("bundle", "path to the root of the bundle directory, defaults to the current directory")
        .or("b");
pub(crate) const CONSOLE_SOCKET: Flag = Flag::value(
    "console-socket",
    "path to an AF_UNIX socket which will receive the master end of the console",
);
const PIDFD_SOCKET: Flag =
    Flag::value("pidfd-socket", "path to an AF_UNIX socket which will receive a pidfd of the init process");
pub(crate) const PID_FILE: Flag = Flag::value("pid-file", "specify the file to write the process id to");
pub(crate) const DETACH: Flag = Flag::switch("detach", "detach from the container's process").or("d");
pub(crate) const NO_SUBREAPER: Flag =
    Flag::switch("no-subreaper", "disable the use of the subreaper used to reap reparented processes");
pub(crate) const NO_PIVOT: Flag =
    Flag::switch("no-pivot", "do not use pivot_root(2); for a rootfs on top of a ramdisk");
const NO_NEW_KEYRING: Flag =
    Flag::switch("no-new-keyring", "do not create a new session keyring for the container");
const PRESERVE_FDS: Flag =
    Flag::value("preserve-fds", "pass N additional file descriptors (after $LISTEN_FDS)");

/// Exit status of `run` when the program could not be executed: that of runc's init.
const NOT_EXECUTED: u8 = 255;

pub(crate) const CREATE: Command = Command {
    name: "create",
    usage: "create a container",
    arguments: ARGUMENTS,
    description: DESCRIPTION,
    flags: &[BUNDLE, CONSOLE_SOCKET, PIDFD_SOCKET, PID_FILE, NO_PIVOT, NO_NEW_KEYRING, PRESERVE_FDS],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: true,
    run: create,
};

pub(crate) const RUN: Command = Command {
    name: "run",
    usage: "create and run a container",
    arguments: ARGUMENTS,
    description: DESCRIPTION,
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        DETACH,
        Flag::switch("keep", "do not delete the container after it exits"),
        PID_FILE,
        NO_SUBREAPER,
        NO_PIVOT,
        NO_NEW_KEYRING,
        PRESERVE_FDS,
    ],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: true,
    run,
};

fn create(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let start = Start::read(parsed, true)?;
    lifecycle::create(start.options(global, start.detached_console()?))?;
    Ok(0)
}

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    start(global, parsed, Start::read(parsed, parsed.on("detach"))?, lifecycle::run)
}

/// Has `make` start the container, and attends it unless it is detached. The exit code is its own then.
pub(crate) fn start(
    global: &Global,
    parsed: &Parsed,
    mut start: Start,
    make: impl FnOnce(CreateOptions<'_>) -> Result<Created, Error>,
) -> Result<u8, Error> {
    if start.detach {
        let created = make(start.options(global, start.detached_console()?))?;
        if let (Some(notify), Some(host)) = (&created.notify, notify_host()) {
            notify.forward(&host, created.pid, created.pidfd.as_fd())?;
        }
        return Ok(0);
    }
    if start.console_socket.is_some() {
        return Err(invalid("cannot use console socket if runc will not detach or allocate tty"));
    }
    let console = if start.terminal() { Console::Relay } else { Console::None };
    let foreground = foreground::prepare(start.terminal(), !parsed.on("no-subreaper"))?;
    if let Some(process) = start.spec.process_mut() {
        foreground.size(process);
    }
    let options = start.options(global, console);
    let created = make(options);
    // The container was set up and its program failed: so it ends, in the program's own words.
    if let Some(failed) = created.as_ref().err().and_then(ExecveFailed::of) {
        eprintln!("{}", failed.message());
        return Ok(NOT_EXECUTED);
    }
    let code = created.and_then(|created| foreground.attend(created));
    match (&code, parsed.on("keep")) {
        // A failed run has left nothing; a failure to attend has.
        (Ok(_), true) => {}
        (Ok(_), false) => lifecycle::delete(&global.root, &start.id, true)?,
        (Err(_), _) => drop(lifecycle::delete(&global.root, &start.id, true)),
    }
    code
}

/// What `create`, `run` and `restore` have in common, read from the command line and the bundle.
pub(crate) struct Start {
    id: String,
    bundle: PathBuf,
    spec: Spec,
    detach: bool,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    no_pivot: bool,
    no_new_keyring: bool,
    preserve_fds: u32,
    listen_fds: u32,
}

impl Start {
    pub(crate) fn read(parsed: &Parsed, detach: bool) -> Result<Start, Error> {
        let path = |name| parsed.nonempty(name).map(PathBuf::from);
        let bundle = path("bundle").unwrap_or_else(|| PathBuf::from("."));
        let listen_fds = listen::count();
        Ok(Start {
            id: id_of(parsed)?,
            spec: spec::load(&bundle.join("config.json"))?,
            bundle,
            detach,
            console_socket: path("console-socket"),
            pidfd_socket: path("pidfd-socket"),
            pid_file: path("pid-file").as_deref().map(absolute).transpose()?,
            no_pivot: parsed.on("no-pivot"),
            no_new_keyring: parsed.on("no-new-keyring"),
            preserve_fds: listen::preserved(listen_fds, parsed.number("preserve-fds").map_err(invalid)?)?,
            listen_fds,
        })
    }

    fn terminal(&self) -> bool {
        self.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or(false)
    }

    fn detached_console(&self) -> Result<Console, Error> {
        detached_console(self.terminal(), self.console_socket.as_deref())
    }

    fn options<'a>(&'a self, global: &'a Global, console: Console) -> CreateOptions<'a> {
        CreateOptions {
            spec: Some(self.spec.clone()),
            console,
            pid_file: self.pid_file.as_deref(),
            pidfd_socket: self.pidfd_socket.as_deref(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            listen_fds: self.listen_fds,
            systemd_cgroup: global.systemd_cgroup,
            notify_socket: notify_host().is_some(),
            rootless: global.rootless,
            ..CreateOptions::new(&global.root, &self.id, &self.bundle)
        }
    }
}

/// The socket of the service manager that started this program.
pub(crate) fn notify_host() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Where the terminal of a process goes that nobody here attends.
pub(crate) fn detached_console(terminal: bool, socket: Option<&Path>) -> Result<Console, Error> {
    match (terminal, socket) {
        (true, Some(socket)) => Ok(Console::Socket(socket.to_owned())),
        (true, None) => {
            Err(invalid("cannot allocate tty if runc will detach without setting console socket"))
        }
        (false, Some(_)) => Err(invalid("cannot use console socket if runc will not detach or allocate tty")),
        (false, None) => Ok(Console::None),
    }
}
