//! The child between clone3(2) and execve(2): carries out a plan's steps, one after the other.
//!
//! THE CONTRACT. Code below this module runs in a copy of a process that may have had several threads: it must not
//! allocate or free memory, take a lock, format text, print or panic. It has system calls, its stack, and what the
//! parent prepared. It says what failed in 8 bytes ([`fail::Message`]) and leaves the wording to the parent, which has
//! the plan.

mod copy;
mod dev;
pub(crate) mod fail;
mod identity;
mod mount;
mod procfs;
mod root;
mod target;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::Mode;
use sys::clone::{Options, clone3, setns, unshare};
use sys::process::Strings;

use crate::plan::{Barrier, Plan, Slot, Step};
use crate::seccomp::Filter;
use fail::{At, Doing, Fail, LOG_MAX, Message};

/// Exit status of a process that could not be set up, as runc's init has it.
const FAILED: i32 = 255;

/// Room for `HOME=` and a path.
const HOME_MAX: usize = 4096;

/// What the parent opened and laid out for the child.
#[derive(Debug)]
pub(crate) struct Files {
    /// [`crate::plan::Plan::opens`], opened; steps take them.
    pub(crate) slots: Vec<Option<OwnedFd>>,
    /// [`crate::launch::Request::rootfs`].
    pub(crate) rootfs: Option<OwnedFd>,
    /// [`crate::launch::Request::v1_tasks`].
    pub(crate) v1_tasks: Vec<OwnedFd>,
    /// [`crate::launch::Request::kept`].
    pub(crate) kept: Vec<OwnedFd>,
    /// New standard streams.
    pub(crate) streams: [Option<OwnedFd>; 3],
    /// The exec FIFO.
    pub(crate) fifo: Option<OwnedFd>,
    /// The seccomp filter.
    pub(crate) seccomp: Option<Filter>,
    /// SELinux label for the mounts that mask directories.
    pub(crate) mount_label: Option<CString>,
    /// argv.
    pub(crate) args: Strings,
    /// envp, without HOME if that is to be looked up.
    pub(crate) env: Strings,
}

/// The child's state.
pub(crate) struct Child<'a> {
    steps: &'a [Step],
    files: &'a mut Files,
    sync: BorrowedFd<'a>,
    root: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    null: Option<OwnedFd>,
    mask: Option<OwnedFd>,
    directory_pending: bool,
    program: usize,
    home: Option<[u8; HOME_MAX]>,
    started: bool,
}

/// Carries out `steps`. Returns only on failure, with the exit status; the parent has been told, or, when it is gone
/// because the container was being started, standard error.
pub(crate) fn run(steps: &[Step], first: usize, files: &mut Files, sync: BorrowedFd) -> i32 {
    let mut child = Child::new(steps, files, sync);
    let mut at = first;
    let result = child.prologue().and_then(|()| child.go(&mut at));
    if let Err(fail) = result {
        child.report(at, fail);
    }
    FAILED
}

/// The intermediate process: joins namespaces, clones the real one as a sibling, and tells its id.
pub(crate) fn bounce(plan: &Plan, files: &mut Files, sync: BorrowedFd) -> i32 {
    let mut at = 0;
    let mut child = Child::new(&plan.trampoline, files, sync);
    if let Err(fail) = child.go(&mut at) {
        child.report(at, fail);
        return FAILED;
    }
    let options = Options { namespaces: plan.clone_flags, cgroup: None, sibling: true };
    let cloned = clone3(&options, || run(&plan.steps, at, files, sync));
    let step = u16::MAX;
    let message = match &cloned {
        Ok(cloned) => Message { step, doing: Doing::Reached, value: cloned.pid },
        Err(e) => Message { step, doing: Doing::CloneFailed, value: e.raw_os_error().unwrap_or(0) },
    };
    let _ = sys::message::send(sync, &message.to_bytes(), None);
    0
}

impl<'a> Child<'a> {
    fn new(steps: &'a [Step], files: &'a mut Files, sync: BorrowedFd<'a>) -> Child<'a> {
        Child {
            steps,
            files,
            sync,
            root: None,
            proc: None,
            null: None,
            mask: None,
            directory_pending: false,
            program: 0,
            home: None,
            started: false,
        }
    }

    /// Carries out all steps; `at` counts them.
    fn go(&mut self, at: &mut usize) -> Result<(), Fail> {
        for step in self.steps {
            self.step(*at, step)?;
            *at += 1;
        }
        Ok(())
    }

    fn prologue(&mut self) -> Result<(), Fail> {
        sys::process::reset_signals().at(Doing::Call)?;
        // Modes of what is made are exact; the user's umask is a step.
        nix::sys::stat::umask(Mode::empty());
        let [stdin, stdout, stderr] = &self.files.streams;
        self.standard_streams([stdin, stdout, stderr].map(|fd| fd.as_ref().map(AsFd::as_fd)))
    }

    fn step(&mut self, at: usize, step: &Step) -> Result<(), Fail> {
        match step {
            Step::Barrier(barrier) => self.barrier(at, *barrier),
            Step::TakeTrees(slots) => self.take_trees(slots),
            Step::Undumpable => sys::process::set_undumpable().at(Doing::Call),
            Step::JoinCgroups => self.join_cgroups(),
            Step::Session => nix::unistd::setsid().map(drop).at(Doing::Call),
            Step::Join(kind, slot, _) => {
                let fd = self.take(*slot)?;
                setns(fd.as_fd(), *kind).at(Doing::Call)
            }
            Step::JoinProcess(kinds, slot, _) => {
                let fd = self.take(*slot)?;
                setns(fd.as_fd(), *kinds).at(Doing::Call)
            }
            Step::EnterRoot(slot, _) => {
                self.root = Some(self.take(*slot)?);
                self.chroot()
            }
            Step::BecomeRoot => self.become_root(),
            Step::Keyring(name, grant) => self.join_keyring(name, *grant),
            Step::Loopback => sys::process::loopback_up().at(Doing::Call),
            Step::TimeOffsets(offsets) => self.enter_time(offsets),
            Step::Create(kinds) => unshare(*kinds).at(Doing::Call),
            Step::Proc { own } => self.open_proc(*own),
            Step::Propagate(change) | Step::RootPropagation(change) => self.propagate_slash(*change),
            Step::PropagateParent(change, candidates) => self.propagate_parent(*change, candidates),
            Step::Root(root) => self.attach_root(root),
            Step::MountPoint(place) => target::open_target(self.root()?, place, true).map(drop),
            Step::Mount(mount) => self.mount(mount),
            Step::Bind(bind) => self.bind(at, bind),
            Step::Remount(mount) => self.remount(mount),
            Step::Device(device) => self.device(at, device),
            Step::Link { to, at, replace } => self.link(to, at, *replace),
            Step::PivotRoot { shared } => self.pivot(*shared),
            Step::MoveRoot { cover } => self.move_root(cover),
            Step::Detach(path) => sys::mount::detach(path).at(Doing::Call),
            Step::Chroot => self.chroot(),
            Step::ReopenNull => self.reopen_null(),
            Step::MakeDirectory(path) => self.make_directory(path),
            Step::Terminal(terminal) => self.terminal(at, *terminal),
            Step::ReadOnlyMount(path) => self.make_read_only(path),
            Step::ReadOnlyRoot => self.make_read_only(c"/"),
            Step::Umask(mask) => {
                nix::sys::stat::umask(Mode::from_bits_truncate(*mask));
                Ok(())
            }
            Step::HostName(name) => sys::process::set_host_name(name.to_bytes()).at(Doing::Call),
            Step::DomainName(name) => sys::process::set_domain_name(name.to_bytes()).at(Doing::Call),
            Step::Sysctl(path, value) => self.write_sysctl(path, value),
            Step::ReadOnlyPath(path) => self.protect(path),
            Step::Mask(path) => self.mask(path),
            Step::AppArmor(profile) => self.write_apparmor(profile),
            Step::SelinuxLabel(label) => self.write_attribute(c"attr/exec", b"", label),
            Step::SelinuxKeyLabel(label) => self.write_attribute(c"attr/keycreate", b"", label),
            Step::NoNewPrivileges => sys::process::set_no_new_privileges().at(Doing::Call),
            Step::Scheduling(wanted) => sys::process::set_scheduling(wanted).at(Doing::Call),
            Step::IoPriority(priority) => sys::process::set_io_priority(*priority).at(Doing::Call),
            Step::Personality(persona) => sys::process::set_personality(*persona).at(Doing::Call),
            Step::MemoryPolicy(mode, nodes) => sys::process::set_memory_policy(*mode, nodes).at(Doing::Call),
            Step::Affinity(cpus) => sys::process::set_affinity(cpus).at(Doing::Call),
            Step::EveryCpu => {
                // Whoever forbids it has chosen the caller's CPUs on purpose.
                let _ = sys::process::set_affinity(&[u64::MAX; 128]);
                Ok(())
            }
            Step::Seccomp => self.load_seccomp(at),
            Step::CloseOnExec(first) => sys::process::close_on_exec_from(*first).at(Doing::Call),
            Step::Close(first) => self.close_rest(*first),
            Step::Keep => self.keep(),
            Step::StdioOwner(uid) => self.own_streams(*uid),
            Step::Home(uid) => self.look_up_home(*uid),
            Step::Directory(path) => self.change_directory(path),
            Step::DirectoryAsUser(path) => self.change_directory_as_user(path),
            Step::CheckDirectory => match sys::process::cwd_is_inside_root() {
                Ok(false) => Err(Fail::new(Doing::Outside, Errno::ENOENT)),
                other => other.map(drop).at(Doing::Call),
            },
            Step::Bounding(keep) => self.limit_bounding(!keep),
            Step::Become(identity) => self.become_user(identity),
            Step::Capabilities(sets) => sys::process::set_capabilities(*sets).at(Doing::Call),
            Step::Ambient(raise) => self.set_ambient(*raise),
            Step::DeathSignal(signal) => sys::process::set_parent_death_signal(*signal).at(Doing::Call),
            Step::Find(candidates) => self.find(candidates),
            Step::AwaitStart => self.await_start(at),
            Step::Exec => self.exec(),
        }
    }

    /// The parent sends them without being asked.
    fn take_trees(&mut self, slots: &[Slot]) -> Result<(), Fail> {
        for slot in slots {
            let tree = self.wait_for_fd()?;
            *self.files.slots.get_mut(*slot).ok_or(Fail::new(Doing::OpenSource, Errno::EBADF))? = Some(tree);
        }
        Ok(())
    }

    /// Takes a descriptor that the parent opened; it is closed after use.
    fn take(&mut self, slot: usize) -> Result<OwnedFd, Fail> {
        self.files
            .slots
            .get_mut(slot)
            .and_then(Option::take)
            .ok_or(Fail::new(Doing::OpenSource, Errno::EBADF))
    }

    /// The root that lookups start from: the new one, or in a process that joined a container, `/`.
    fn base(&mut self) -> Result<BorrowedFd<'_>, Fail> {
        if self.root.is_none() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            self.root = Some(nix::fcntl::open(c"/", flags, Mode::empty()).at(Doing::OpenTarget)?);
        }
        self.root()
    }

    fn tell(&self, message: Message) -> Result<(), Fail> {
        // write(2), not sendmsg(2): after the filter is loaded, as few different calls as possible.
        nix::unistd::write(self.sync, &message.to_bytes()).map(drop).at(Doing::ParentGone)
    }

    fn wait(&self) -> Result<(), Fail> {
        let mut answer = [0u8; 1];
        loop {
            match nix::unistd::read(self.sync, &mut answer) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Err(Fail::new(Doing::ParentGone, Errno::EPIPE)),
                other => return other.map(drop).at(Doing::ParentGone),
            }
        }
    }

    fn reached(&self, at: usize, value: i32) -> Result<(), Fail> {
        let step = u16::try_from(at).map_err(|_| Fail::new(Doing::Call, Errno::EOVERFLOW))?;
        self.tell(Message { step, doing: Doing::Reached, value })
    }

    fn barrier(&self, at: usize, barrier: Barrier) -> Result<(), Fail> {
        // The parent does these two as soon as there is a process, and answers without being asked.
        if !matches!(barrier, Barrier::IdMap | Barrier::Cgroup) {
            self.reached(at, 0)?;
        }
        self.wait()
    }

    fn send_fd(&self, at: usize, fd: BorrowedFd, doing: Doing) -> Result<(), Fail> {
        let step = u16::try_from(at).map_err(|_| Fail::new(doing, Errno::EOVERFLOW))?;
        let message = Message { step, doing: Doing::Reached, value: 0 };
        sys::message::send(self.sync, &message.to_bytes(), Some(fd)).at(doing)
    }

    /// The parent's answer, with the descriptor that comes with it.
    fn wait_for_fd(&self) -> Result<OwnedFd, Fail> {
        let (_, fd) = sys::message::receive(self.sync, &mut [0u8; 1]).at(Doing::ParentGone)?;
        fd.ok_or(Fail::new(Doing::ParentGone, Errno::EPIPE))
    }

    /// A thread that writes 0 to a `tasks` file moves itself, which takes no lock of all processes; a parent that moves
    /// it waits for an RCU grace period, which can be ten milliseconds.
    fn join_cgroups(&mut self) -> Result<(), Fail> {
        for file in &self.files.v1_tasks {
            nix::unistd::write(file, b"0").at(Doing::Call)?;
        }
        Ok(())
    }

    fn keep(&self) -> Result<(), Fail> {
        for fd in &self.files.kept {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).at(Doing::Call)?;
        }
        Ok(())
    }

    fn load_seccomp(&mut self, at: usize) -> Result<(), Fail> {
        let Some(filter) = &self.files.seccomp else { return Ok(()) };
        let listener = sys::seccomp::load(&filter.program, filter.flags).at(Doing::Call)?;
        if let Some(listener) = listener {
            // The parent copies the descriptor out of this process (pidfd_getfd), because sending it might need a call
            // that now waits for the one who listens.
            self.reached(at, listener.as_raw_fd())?;
            self.wait()?;
        }
        Ok(())
    }

    /// Closes what the program does not get, before the filter is loaded, which may not know close_range(2). Execve would
    /// close it too late: after it opened the program, whose path `/proc/self/fd/5/../../bin/sh` must not lead out of the
    /// container (CVE-2024-21626). And an exec, or a process that shares the pid namespace, may look at what a process
    /// that waits for its start has open.
    fn close_rest(&mut self, first: u32) -> Result<(), Fail> {
        let fifo = self.files.fifo.as_ref().map_or(self.sync, AsFd::as_fd);
        sys::process::close_from_but(first, [fifo, self.sync]).at(Doing::Call)?;
        for closed in [&mut self.root, &mut self.proc, &mut self.null, &mut self.mask] {
            std::mem::forget(closed.take());
        }
        Ok(())
    }

    /// Waits for the byte that start writes, with nothing open but the FIFO and what the program gets. It is the init of
    /// a pid namespace, which signals without a handler do not reach, and shall end when asked to nevertheless.
    fn await_start(&mut self, at: usize) -> Result<(), Fail> {
        let fifo = self.files.fifo.as_ref().ok_or(Fail::new(Doing::Call, Errno::EBADF))?;
        sys::process::exit_on_signals().at(Doing::Call)?;
        self.reached(at, 0)?;
        self.started = true;
        nix::unistd::close(self.sync.as_raw_fd()).at(Doing::Call)?;
        let mut byte = [0u8; 1];
        loop {
            match nix::unistd::read(fifo, &mut byte) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Err(Fail::new(Doing::Call, Errno::EPIPE)),
                other => return other.map(drop).at(Doing::Call),
            }
        }
    }

    /// The one that was found.
    fn program(&self) -> Option<&'a CStr> {
        let candidates = self.steps.iter().find_map(|step| match step {
            Step::Find(candidates) => Some(candidates),
            _ => None,
        });
        candidates.and_then(|candidates| candidates.get(self.program)).map(CString::as_c_str)
    }

    fn exec(&mut self) -> Result<(), Fail> {
        let path = self.program().ok_or(Fail::new(Doing::Call, Errno::ENOENT))?;
        let home = self.home.as_ref().and_then(|home| CStr::from_bytes_until_nul(home).ok());
        Err(sys::process::execve(path, &self.files.args, &mut self.files.env, home)).at(Doing::Call)
    }

    /// Nobody listens any more but whoever reads the container's output: `exec PROGRAM: REASON`, in one write.
    fn report_to_user(&self, fail: Fail) {
        let program = self.program().map_or(&b"container process"[..], CStr::to_bytes);
        let reason = Errno::from_raw(fail.errno).desc().as_bytes();
        // The longest reason that libc has is a line.
        let mut text = [0u8; 512];
        let mut len = 0;
        for part in [&b"exec "[..], &program[..program.len().min(400)], b": "] {
            text[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        let room = reason.len().min(text.len() - len - 1);
        text[len..len + room].copy_from_slice(&reason[..room]);
        text[len].make_ascii_lowercase();
        text[len + room] = b'\n';
        len += room + 1;
        let [_, _, stderr] = sys::process::standard_streams();
        let _ = nix::unistd::write(stderr, &text[..len]);
    }

    fn report(&self, at: usize, fail: Fail) {
        if self.started {
            return self.report_to_user(fail);
        }
        let message =
            Message { step: u16::try_from(at).unwrap_or(u16::MAX), doing: fail.doing, value: fail.errno };
        let mut bytes = [0u8; 8 + LOG_MAX];
        bytes[..8].copy_from_slice(&message.to_bytes());
        bytes[8..].copy_from_slice(&fail.log);
        let _ = sys::message::send(self.sync, &bytes, None);
    }
}
