//! The monitor of a detached container: one process, its parent, that has two bodies. With this one it starts the
//! container and does what is to be done at its end; in between it is `rcr-monitor` (crates/monitor), which is small.
//!
//! The lock on the container is the monitor's for as long as both live. A container whose monitor was killed lives on:
//! its streams are FIFOs that it holds open in both directions, so that it neither gets SIGPIPE nor sees an end. The
//! next command of any kind gives it a new monitor ([`adopt`]).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::Mode;
use runtime::{Stdio, lifecycle};
use store::{Image, Store};

use crate::connection::{self, Connection};
use crate::fork::Report;
use crate::leftover::{destroy, end_runtime};
use crate::lock::Lock;
use crate::make::{make, stack, unmake};
use crate::options::{RestartPolicy, RunOptions, StreamName};
use crate::record::{
    Exit, Record, is_stopped, read_restarts, read_started, unwrite_stopped, write_restarts, write_stopped,
};
use crate::start::{Given, start};
use crate::time::Nanos;
use crate::{ContainerStatus, Engine, Error, detach, fork, health, list, oom, place, run, tree};

/// First pause before a container is started again; it doubles each time, as docker's.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who ran for so long begins with the first pause again.
const LONG_ENOUGH: Nanos = 10_000_000_000;

/// How a container ended, as `rcr-monitor` hands it over.
#[derive(Debug, Clone)]
pub struct End {
    /// The container.
    pub id: String,
    /// Number of the lock's descriptor.
    pub lock: i32,
    /// The pause before it was started the last time, in milliseconds.
    pub pause: u64,
    /// Exit code; `None` where the kernel did not tell.
    pub code: Option<u8>,
    /// Nanoseconds since 1970.
    pub finished: i64,
}

/// Makes a container and starts it, as the monitor that it will have.
pub(crate) fn make_and_start(
    engine: &Engine,
    options: &RunOptions,
    image: &Image,
    program: &Path,
    report: &Report,
) -> Result<std::convert::Infallible, Error> {
    let store = Store::open(&engine.root)?;
    let made = make(engine, options, image, &store)?;
    let (record, lock) = (made.record, made.lock);
    let up = bring_up(engine, &record, image, made.rootfs, report);
    match up.and_then(|up| become_monitor(engine, &record, &lock, up, program, FIRST_PAUSE)) {
        Ok(never) => match never {},
        Err(error) => {
            undo_start(engine, &record.id);
            unmake(engine, &record, &store, lock);
            Err(error)
        }
    }
}

/// Starts a container that does not run, as its new monitor.
pub(crate) fn start_again(
    engine: &Engine,
    id: &str,
    program: &Path,
    report: &Report,
) -> Result<std::convert::Infallible, Error> {
    let Some(lock) = Lock::try_take(engine, id)? else { return Err(Error::Busy(id.to_owned())) };
    // It lives, its monitor was killed just now, and the next one has not begun.
    if lifecycle::init(&engine.states(), id).is_ok() {
        return Err(Error::Busy(id.to_owned()));
    }
    let dir = engine.container(id);
    let ready =
        Record::read(&dir).and_then(|record| record.ok_or_else(|| Error::NoSuchContainer(id.to_owned())));
    let record = match ready {
        Ok(record) => record,
        Err(error) => {
            lock.finish()?;
            return Err(error);
        }
    };
    let was_stopped = is_stopped(&dir);
    let started = unwrite_stopped(&dir)
        .and_then(|()| write_restarts(&dir, 0))
        .and_then(|()| begin(engine, &record, &lock, report, program, FIRST_PAUSE));
    match started {
        Ok(never) => match never {},
        Err(error) => {
            undo_start(engine, id);
            if was_stopped {
                let _ = write_stopped(&dir);
            }
            let _ = lock.finish();
            Err(error)
        }
    }
}

fn undo_start(engine: &Engine, id: &str) {
    // The first error is the one to tell; what cannot be undone now is for the next command.
    let _ = end_runtime(engine, id);
    let _ = connection::end(engine, id, &engine.container(id));
    let _ = remove_place(engine, id);
}

/// From a container that does not run to its monitor.
fn begin(
    engine: &Engine,
    record: &Record,
    lock: &Lock,
    report: &Report,
    program: &Path,
    pause: Duration,
) -> Result<std::convert::Infallible, Error> {
    let image = Store::open(&engine.root)?.image(&record.image_id)?;
    let rootfs = stack(&engine.container(&record.id), &image)?;
    let up = bring_up(engine, record, &image, rootfs, report)?;
    become_monitor(engine, record, lock, up, program, pause)
}

/// What a monitor holds of its container.
#[derive(Debug, Default)]
struct Held {
    pidfd: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// Where beginnings of lines are kept for the next monitor, if there is a log.
    lines: [Option<OwnedFd>; 2],
    /// The host's ports.
    connection: Connection,
}

fn bring_up(
    engine: &Engine,
    record: &Record,
    image: &Image,
    rootfs: OwnedFd,
    report: &Report,
) -> Result<Held, Error> {
    let options = &record.options;
    let here = engine.attach(&record.id);
    remove_place(engine, &record.id)?;
    // A reboot takes it away.
    place::make_dir_all(&engine.runroot.join("attach"))?;
    place::make_dir(&here, 0o700)?;
    let mut held =
        Held { listener: Some(listener(&here)?), lines: lines(&here, options)?, ..Held::default() };
    let mut stdio = Stdio::default();
    if !options.tty {
        if options.interactive {
            let (mine, container) =
                fifo(&here.join("0"), if stdin_once(options) { OFlag::O_RDONLY } else { OFlag::O_RDWR })?;
            (held.stdin, stdio.stdin) = (Some(mine), Some(container));
        } else {
            stdio.stdin = Some(null()?);
        }
        let (mine, container) = fifo(&here.join("1"), OFlag::O_RDWR)?;
        (held.stdout, stdio.stdout) = (Some(mine), Some(container));
        let (mine, container) = fifo(&here.join("2"), OFlag::O_RDWR)?;
        (held.stderr, stdio.stderr) = (Some(mine), Some(container));
    }
    report.ready(&record.id)?;
    let given = Given { stdio, size: None, parent_death_signal: None };
    let running = start(engine, record, image, rootfs, given)?;
    Exit::forget(&engine.container(&record.id))?;
    held.pidfd = Some(running.created.pidfd);
    held.terminal = running.created.console.map(unblocked).transpose()?;
    held.connection = running.connection;
    Ok(held)
}

/// Standard input ends with the client that gives it, unless the container was made to run in the background.
pub(crate) fn stdin_once(options: &RunOptions) -> bool {
    let asked = options.attach.is_empty() || options.attach.contains(&StreamName::Stdin);
    options.interactive && !options.detach && asked
}

/// Becomes `rcr-monitor`. Returns only the error.
fn become_monitor(
    engine: &Engine,
    record: &Record,
    lock: &Lock,
    held: Held,
    program: &Path,
    pause: Duration,
) -> Result<std::convert::Infallible, Error> {
    let monitor = program.with_file_name("rcr-monitor");
    let fail = |e: std::io::Error| Error::io(format!("run {monitor:?}, which is installed beside rcr"))(e);
    let options = &record.options;
    let mut words: Vec<Vec<u8>> = vec![monitor.as_os_str().as_bytes().to_vec()];
    let mut keep = vec![lock.held()];
    let descriptors = [
        ("pidfd", &held.pidfd),
        ("listener", &held.listener),
        ("stdin", &held.stdin),
        ("stdout", &held.stdout),
        ("stderr", &held.stderr),
        ("terminal", &held.terminal),
        ("line1", &held.lines[0]),
        ("line2", &held.lines[1]),
    ];
    for (name, fd) in descriptors {
        if let Some(fd) = fd {
            words.push(format!("{name}={}", fd.as_raw_fd()).into_bytes());
            keep.push(fd.as_fd());
        }
    }
    keep.extend(held.connection.sockets());
    if stdin_once(options) {
        words.push(b"stdin-once=".to_vec());
    }
    if options.log.keep {
        let log = log_path(engine, &record.id);
        words.push([b"log=", log.as_os_str().as_bytes()].concat());
        words.push(format!("max-size={}", options.log.max_size).into_bytes());
        words.push(format!("max-file={}", options.log.max_file).into_bytes());
    }
    words.extend(check_words(engine, record, program)?);
    words.push(b"--".to_vec());
    words.extend(rcr_words(engine, program)?);
    let pause = pause.as_millis().to_string();
    let lock = lock.held().as_raw_fd().to_string();
    words.extend(["container-ended", &record.id, &lock, &pause].map(|word| word.as_bytes().to_vec()));
    Err(fail(become_program(words, &keep)))
}

/// Executes another program, whose descriptors are these and nothing else; returns only the error.
fn become_program(words: Vec<Vec<u8>>, keep: &[BorrowedFd<'_>]) -> std::io::Error {
    let prepare = || {
        leave_the_caller()?;
        // Whatever else the caller left open is not the container's.
        sys::process::close_on_exec_from(3)?;
        for fd in keep {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let words: Result<_, _> = words.into_iter().map(CString::new).collect();
        Ok(sys::process::Strings::new(words?))
    };
    let args = match prepare() {
        Ok(args) => args,
        Err(error) => return error,
    };
    let path = args.first().map(ToOwned::to_owned).unwrap_or_default();
    // No environment: it needs none, and what seal() left there must not be taken for its own.
    sys::process::execve(&path, &args, &mut sys::process::Strings::new(Vec::new()), None)
}

/// rcr's own command line as far as the engine is concerned.
fn rcr_words(engine: &Engine, program: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let mut words = vec![program.as_os_str().as_bytes().to_vec()];
    for (flag, dir) in [("--root", &engine.root), ("--runroot", &engine.runroot)] {
        words.push(flag.into());
        words.push(dir.as_os_str().as_bytes().to_vec());
    }
    Ok(words)
}

/// What tells the monitor about health checks: their times, and the command line that checks once. Nothing if there are
/// none.
fn check_words(engine: &Engine, record: &Record, program: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let Some(times) = health::times(record, &engine.container(&record.id))? else { return Ok(Vec::new()) };
    let keys = ["check-first", "check-every", "check-early"];
    let mut words: Vec<Vec<u8>> =
        keys.iter().zip(times).map(|(key, time)| format!("{key}={time}").into_bytes()).collect();
    let mut line = rcr_words(engine, program)?;
    line.extend([b"container-check".to_vec(), record.id.clone().into_bytes()]);
    words.extend(line.into_iter().map(|word| [b"check=", word.as_slice()].concat()));
    Ok(words)
}

/// A monitor for a container that runs in the foreground of this process: it does nothing but start health checks, and
/// ends with the container. `None`: there is nothing to check. The caller must be single-threaded, and reap it.
pub(crate) fn watch(
    engine: &Engine,
    record: &Record,
    program: &Path,
    container: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, Error> {
    let monitor = program.with_file_name("rcr-monitor");
    let check = check_words(engine, record, program)?;
    if check.is_empty() {
        return Ok(None);
    }
    let fail = || Error::io(format!("run {monitor:?}, which is installed beside rcr"));
    let path = CString::new(monitor.as_os_str().as_bytes()).map_err(|e| fail()(e.into()))?;
    sys::process::may_execute(&path).map_err(fail())?;
    let mut words = vec![path.as_bytes().to_vec()];
    words.push(format!("pidfd={}", container.as_raw_fd()).into_bytes());
    words.extend(check);
    let child = sys::clone::clone3(&sys::clone::Options::default(), || {
        // What is typed at the terminal is not for it.
        let _ = nix::unistd::setsid();
        let _ = block_signals();
        become_program(words, &[container]);
        125
    });
    child.map(|child| Some(child.pidfd)).map_err(fail())
}

/// Lets go of the terminal, the streams and the working directory of who typed the command.
fn leave_the_caller() -> std::io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}

/// Where rcr's own program file is. To be asked before the process is forked, which does not know any more.
pub(crate) fn program() -> Result<PathBuf, Error> {
    runtime::seal::program().map_err(Error::io("find rcr's own program file"))
}

/// Where the output of a detached container is kept.
pub(crate) fn log_path(engine: &Engine, id: &str) -> PathBuf {
    engine.container(id).join(format!("{id}-json.log"))
}

fn null() -> Result<OwnedFd, Error> {
    File::open("/dev/null").map(OwnedFd::from).map_err(Error::io("open \"/dev/null\""))
}

/// Makes a FIFO: the monitor's end, never blocking, and the container's.
fn fifo(path: &Path, container: OFlag) -> Result<(OwnedFd, OwnedFd), Error> {
    let fail = |e: Errno| Error::io(format!("make FIFO {path:?}"))(e.into());
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(fail)?;
    // In both directions, so that neither blocks until the other is there, nor ends when it is not.
    let mine = open_fifo(path)?;
    let theirs = nix::fcntl::open(path, container | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
    Ok((mine, theirs))
}

fn open_fifo(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::open(path, flags, Mode::empty())
        .map_err(|e| Error::io(format!("open FIFO {path:?}"))(e.into()))
}

/// The files that keep the beginnings of lines of the two outputs.
fn lines(here: &Path, options: &RunOptions) -> Result<[Option<OwnedFd>; 2], Error> {
    let open = |name: &str| {
        let path = here.join(name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let opened = nix::fcntl::open(&path, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        opened.map(Some).map_err(|e| Error::io(format!("open {path:?}"))(e.into()))
    };
    match options.log.keep {
        true => Ok([open("1.line")?, open("2.line")?]),
        false => Ok([None, None]),
    }
}

fn unblocked(fd: OwnedFd) -> Result<OwnedFd, Error> {
    let set = fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    set.map_err(|e| Error::io("set a terminal non-blocking")(e.into()))?;
    Ok(fd)
}

/// The address of the socket in `dir`, by a descriptor of `dir`, because paths of sockets have 108 bytes at most.
fn socket_address(dir: BorrowedFd<'_>) -> Result<UnixAddr, Errno> {
    UnixAddr::new(format!("/proc/self/fd/{}/socket", dir.as_raw_fd()).as_str())
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn new_socket(flags: SockFlag) -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | flags, None)
}

fn listener(here: &Path) -> Result<OwnedFd, Error> {
    let listen = || {
        let dir = open_directory(here)?;
        let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
        // Nobody but the owner gets into the directory, which has mode 0700.
        bind(socket.as_raw_fd(), &socket_address(dir.as_fd())?)?;
        listen(&socket, Backlog::new(16)?)?;
        Ok(socket)
    };
    listen().map_err(|e: Errno| Error::io(format!("make socket {:?}", here.join("socket")))(e.into()))
}

/// Connects to a container's monitor; `None`: it has none.
pub(crate) fn reach(engine: &Engine, id: &str) -> Option<OwnedFd> {
    let dir = open_directory(&engine.attach(id)).ok()?;
    let socket = new_socket(SockFlag::empty()).ok()?;
    connect(socket.as_raw_fd(), &socket_address(dir.as_fd()).ok()?).ok()?;
    Some(socket)
}

/// Removes the container's FIFOs and its monitor's socket.
pub(crate) fn remove_place(engine: &Engine, id: &str) -> Result<(), Error> {
    let here = engine.attach(id);
    if !here.exists() {
        return Ok(());
    }
    tree::remove(&here).map_err(Error::io(format!("remove {here:?}")))
}

/// Whether a container whose lock nobody holds lives without its monitor.
pub(crate) fn is_orphan(engine: &Engine, id: &str) -> bool {
    let dir = engine.container(id);
    engine.attach(id).exists()
        && read_started(&dir).is_some()
        && matches!(Exit::read(&dir), Ok(None))
        && matches!(Record::read(&dir), Ok(Some(_)))
        && lifecycle::init(&engine.states(), id).is_ok()
}

/// Gives a living container a new monitor.
pub(crate) fn adopt(engine: &Engine, id: &str, lock: Lock) -> Result<(), Error> {
    let program = program()?;
    // The new process takes it itself: such locks are not inherited.
    drop(lock);
    fork::detached(|_| take_over(engine, id, &program), &mut |_| Ok(())).map(drop)
}

fn take_over(engine: &Engine, id: &str, program: &Path) -> Result<std::convert::Infallible, Error> {
    let Some(lock) = Lock::try_take(engine, id)? else { return Err(Error::Busy(id.to_owned())) };
    let record = Record::read(&engine.container(id))?.ok_or_else(|| Error::NoSuchContainer(id.to_owned()))?;
    let what = "find the container's process".to_owned();
    let pidfd = lifecycle::init(&engine.states(), id).map_err(|source| Error::Runtime { what, source })?;
    let here = engine.attach(id);
    place::remove_file(&here.join("socket"))?;
    let stream = |name: &str| {
        Some(here.join(name)).filter(|path| path.exists()).map(|path| open_fifo(&path)).transpose()
    };
    let held = Held {
        pidfd: Some(pidfd),
        listener: Some(listener(&here)?),
        stdin: stream("0")?,
        stdout: stream("1")?,
        stderr: stream("2")?,
        // The old monitor's death hung it up.
        terminal: None,
        lines: lines(&here, &record.options)?,
        connection: Connection::take_over(engine, &record),
    };
    become_monitor(engine, &record, &lock, held, program, FIRST_PAUSE)
}

/// Does what is to be done at a container's end, in the process that was its monitor: cleans up, and removes it, starts
/// it again or notes how it ended.
///
/// # Errors
/// Something could not be undone; the next command tries again.
pub fn ended(engine: &Engine, end: &End) -> Result<(), Error> {
    let dir = engine.container(&end.id);
    let record = Record::read(&dir)?.ok_or_else(|| Error::NoSuchContainer(end.id.clone()))?;
    if record.options.restart != RestartPolicy::No {
        run::seal()?;
    }
    let lock = Lock::inherited(engine, &end.id, end.lock)?;
    // What else the monitor held: streams that nobody needs any more, and the host's ports.
    sys::process::close_from_but(3, [lock.held(), lock.held()]).map_err(Error::io("close descriptors"))?;
    let oom_killed = end.code != Some(0) && oom::happened(&record);
    end_runtime(engine, &end.id)?;
    connection::end(engine, &end.id, &dir)?;
    remove_place(engine, &end.id)?;
    if record.options.rm && !detach::is_restarting(engine, &end.id) {
        return destroy(engine, &end.id, Some(&record), true, &Store::open(&engine.root)?, lock);
    }
    let error = match end.code {
        Some(_) => String::new(),
        None => "the monitor was killed, so how the container ended is not known".to_owned(),
    };
    let exit =
        Exit { finished: end.finished, code: end.code.unwrap_or(137), oom_killed, error, restarting: false };
    let ran = exit.finished - read_started(&dir).unwrap_or(exit.finished);
    let pause = if ran >= LONG_ENOUGH { FIRST_PAUSE } else { Duration::from_millis(end.pause) };
    if !wants_restart(&record, &exit, &dir) {
        exit.write(&dir)?;
        return lock.finish();
    }
    Exit { restarting: true, ..exit.clone() }.write(&dir)?;
    if !rest(pause, &dir)? {
        exit.write(&dir)?;
        return lock.finish();
    }
    write_restarts(&dir, read_restarts(&dir) + 1)?;
    let longer = (pause * 2).min(LONGEST_PAUSE);
    let started =
        program().and_then(|program| begin(engine, &record, &lock, &Report::to_nobody(), &program, longer));
    let error = match started {
        Ok(never) => match never {},
        Err(error) => error,
    };
    undo_start(engine, &end.id);
    Exit { code: error.exit_code(), error: crate::in_full(&error), ..exit }.write(&dir)?;
    lock.finish()
}

fn wants_restart(record: &Record, exit: &Exit, dir: &Path) -> bool {
    let wanted = match record.options.restart {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(0) => exit.code != 0,
        RestartPolicy::OnFailure(most) => exit.code != 0 && read_restarts(dir) < most,
    };
    wanted && !is_stopped(dir)
}

/// Waits, unless the user stops the container meanwhile: `false`. `stop` leaves its note and then sends SIGTERM, which is
/// blocked here as it has been all along.
fn rest(pause: Duration, dir: &Path) -> Result<bool, Error> {
    let fail = |e: Errno| Error::io("wait before the next start")(e.into());
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(fail)?;
    let until = std::time::Instant::now() + pause;
    loop {
        if is_stopped(dir) {
            return Ok(false);
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            result => drop(result.map_err(fail)?),
        }
        while let Ok(Some(_)) = signals.read_signal() {}
    }
}

/// Blocks every signal for good: a monitor ends with its container, not before.
pub(crate) fn block_signals() -> Result<(), Error> {
    let blocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    blocked.map_err(|e| Error::io("block signals")(e.into()))
}

/// Whether a container has a monitor that may be asked.
pub(crate) fn is_detached(engine: &Engine, id: &str) -> bool {
    engine.attach(id).exists()
        || matches!(list::life(engine, id).map(|life| life.status), Ok(ContainerStatus::Restarting(_)))
}
