//! restore: a container again, from the files of a checkpoint, by criu.

use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci::runtime::{LinuxNamespace, LinuxNamespaceType};
use sys::clone::{namespace, setns};

use super::barrier::Barriers;
use super::create::{CONFIG, Design, announce, bring_up, kill_and_reap, log_plan};
use super::directory::Directory;
use super::record::Record;
use super::{CreateOptions, Created};
use crate::cgroup::{Cgroup, MountOptions};
use crate::criu::{self, Criu, Images, Kind, Notification, Wishes};
use crate::drive::leave_line_ends;
use crate::launch::Request;
use crate::plan::{self, Barrier, Plan};
use crate::{Console, Error, ErrorKind, Stdio, seal};

/// Where the root file system is attached for criu, in the state directory as criu's mount namespace shows it.
const PLACE: &str = "criu-root";

/// Makes a container from its bundle, as [`super::create`] does, and puts the processes of a checkpoint into it. Returns
/// when they run. Of the hooks only prestart and createRuntime run, as the container's own part is in the checkpoint.
///
/// # Errors
/// As [`super::create`]; images that are not fit for use; no criu; what criu says, with its log's path. Nothing is left
/// then.
pub fn restore(options: CreateOptions<'_>, wishes: &Wishes) -> Result<Created, Error> {
    criu::require_root("restore")?;
    let images = Images::for_restore(wishes)?;
    let pipes = images.pipes()?;
    criu::require(criu::OLDEST, "restore")?;
    for (flag, value) in
        [("--lsm-profile", &wishes.lsm_profile), ("--lsm-mount-context", &wishes.lsm_mount_context)]
    {
        if value.is_some() {
            criu::require(criu::OLDEST_WITH_LSM, flag)?;
        }
    }
    bring_up(options, false, |options, design, cgroup, directory, record| {
        let restore = Restore { design, cgroup, directory, wishes, images: &images, pipes };
        restore.run(options, record)
    })
}

/// One restore: what it needs that is known before anything runs.
struct Restore<'a> {
    design: &'a Design,
    cgroup: &'a OnceCell<Cgroup>,
    directory: &'a Directory,
    wishes: &'a Wishes,
    images: &'a Images,
    /// Standard streams that stand for pipes of the images.
    pipes: Vec<(String, i32)>,
}

/// A namespace that the container joins, and criu gets a descriptor of.
struct Inherited {
    /// criu's word for it.
    kind: &'static str,
    key: String,
    fd: OwnedFd,
}

impl Restore<'_> {
    fn run(self, options: CreateOptions<'_>, record: &mut Record) -> Result<Created, Error> {
        criu::check_mounts(&self.design.spec)?;
        let (pid_file, pidfd_socket) = (options.pid_file, options.pidfd_socket);
        // A wrong path is found before anything runs.
        let console = match &options.console {
            Console::Socket(path) => Some(
                UnixStream::connect(path)
                    .map_err(|e| Error::new(format!("connect to console socket {path:?}")).because(e))?,
            ),
            _ => None,
        };
        let terminal = self.design.spec.process().as_ref().and_then(|p| p.terminal()) == Some(true);
        let stdio = if terminal { criu::no_streams()? } else { options.stdio };
        let state = std::fs::canonicalize(self.directory.path())
            .map_err(|e| Error::new(format!("find {:?}", self.directory.path())).because(e))?;
        self.directory.make_directory(PLACE, 0o700)?;
        let result = self.bring_back(&state.join(PLACE), stdio, console, record);
        // Nothing was ever mounted there but in criu's mount namespace.
        let removed = self.directory.remove_directory(PLACE);
        let created = result?;
        if let (Some(master), Console::Relay) = (&created.console, &options.console) {
            // Its modes came back with it. The container can do without.
            let _ = leave_line_ends(master);
        }
        let told = removed.and_then(|()| announce(&created, pid_file, pidfd_socket));
        if let Err(e) = told {
            kill_and_reap(created.pidfd.as_fd());
            return Err(e);
        }
        Ok(created)
    }

    fn bring_back(
        &self,
        place: &Path,
        stdio: Stdio,
        console: Option<UnixStream>,
        record: &mut Record,
    ) -> Result<Created, Error> {
        let shared = criu::namespaces(&self.design.spec)?;
        let inherited = inherit(&shared)?;
        let joined: Vec<_> = shared
            .into_iter()
            .filter(|shared| !shared.external)
            .map(|shared| (shared.kind, shared.path))
            .collect();
        let (ours, theirs) = criu::pair()?;
        let rootfs = PathBuf::from(&record.rootfs);
        let plan = plan::criu(theirs.as_raw_fd(), std::env::vars_os())?;
        let plan = plan::criu_in(place, &rootfs, &self.design.plan, plan)?;
        log_plan(&plan);
        let network = inherited.iter().find(|one| one.kind == "net");
        let network_locked = network.map_or(Ok(false), |one| is_locked(one.fd.as_fd()))?;
        let mut descriptors = self.pipes.clone();
        descriptors.extend(inherited.iter().map(|one| (one.key.clone(), one.fd.as_raw_fd())));
        let kept = inherited.into_iter().map(|one| one.fd).chain([theirs]).collect();
        let Restore { design, cgroup, directory, .. } = *self;
        let config = record.annotations.get(criu::CONFIG_ANNOTATION).cloned();
        let barriers =
            Barriers { design, cgroup, directory, record, unit: None, devices_set: false, connect: None };
        let mut events = Events { barriers, console, kept: None, init: None };
        let mut criu = self.launch(&plan, kept, stdio, ours, &mut events.barriers)?;
        let seen = self.images.seen_by(criu.pid())?;
        let root = open_directory(&rootfs)?;
        let mut mounts = criu::mounts(&self.design.plan);
        for mount in &mut mounts {
            // criu takes paths apart, and knows no `.` in them. What is not there is an error of its own.
            if let Ok(source) = std::fs::canonicalize(&mount.source) {
                mount.source = source.into_os_string();
            }
        }
        let container = criu::Stopped {
            root: place,
            config: config.as_deref(),
            mounts: &criu::with_other_names(&mounts, &|mount| criu::other_name(root.as_fd(), mount)),
            joined: &joined,
            inherited: &descriptors,
            network_locked,
            cgroups: &cgroups(criu.pid())?,
        };
        let asked = criu::restore(self.wishes, seen.places(), &container);
        asked.to_string().lines().for_each(|line| tracing::debug!("criu restore: {line}"));
        let cgroup2 = MountOptions::read(&design.host.cgroups);
        let answer = criu.ask(&criu::request(Kind::Restore, Some(&asked), None), &mut |notification, fd| {
            events.hear(notification, fd)
        });
        if let Some(Err(e)) = cgroup2.map(|options| options.keep()) {
            tracing::warn!("{e:#}");
        }
        let Events { kept, init, .. } = events;
        let result = answer.and_then(move |response| {
            if response.success && criu.end()? {
                return Ok(());
            }
            Err(criu::failure(Kind::Restore, &response, None, Some((self.images, criu::RESTORE_LOG))))
        });
        match (result, init) {
            (Ok(()), Some((pid, pidfd))) => Ok(Created { pid, pidfd, console: kept, notify: None }),
            (Ok(()), None) => {
                Err(Error::new("criu restored the container, but did not say which process its init is"))
            }
            (Err(e), init) => {
                if let Some((_, pidfd)) = init {
                    kill_and_reap(pidfd.as_fd());
                }
                Err(e)
            }
        }
    }

    /// Starts criu, in the container's cgroup, so that whatever it makes is in there from the beginning.
    fn launch(
        &self,
        plan: &Plan,
        kept: Vec<OwnedFd>,
        stdio: Stdio,
        ours: OwnedFd,
        barriers: &mut Barriers<'_>,
    ) -> Result<Criu, Error> {
        let request = Request {
            plan,
            rootfs: None,
            cgroup: self.cgroup.get().and_then(Cgroup::v2_dir),
            v1_tasks: self.cgroup.get().map_or(Ok(Vec::new()), Cgroup::v1_tasks)?,
            exec_fifo: None,
            kept,
            stdio,
            console: Console::None,
        };
        Criu::launch(request, ours, &mut |at| match at.barrier {
            Barrier::Cgroup => barriers.enter_cgroup(at.pid),
            _ => Ok(()),
        })
    }
}

/// What happens while criu restores.
struct Events<'a> {
    barriers: Barriers<'a>,
    /// Where the terminal goes; without one it is kept.
    console: Option<UnixStream>,
    kept: Option<OwnedFd>,
    init: Option<(i32, OwnedFd)>,
}

impl Events<'_> {
    fn hear(&mut self, notification: &Notification, fd: Option<OwnedFd>) -> Result<(), Error> {
        // criu's moments: criu.org/Action_scripts.
        if notification.is("setup-namespaces") {
            self.meet(notification.pid)?;
            if self.has_own(LinuxNamespaceType::Network) {
                loopback_of(notification.pid)?;
            }
            return self.barriers.runtime_hooks(notification.pid);
        }
        if notification.is("post-restore") {
            let pid = notification.pid;
            self.meet(pid)?;
            self.remember_time(pid)?;
            return self.barriers.ready(pid);
        }
        if notification.is("orphan-pts-master") {
            let master = fd.ok_or_else(|| Error::new("criu sent no terminal"))?;
            return self.pass_on(master);
        }
        Ok(())
    }

    /// Gets hold of the init, which is a child of this process.
    fn meet(&mut self, pid: i32) -> Result<(), Error> {
        let fail = |e| Error::new(format!("open process {pid}")).because(e);
        self.init = Some((pid, sys::pidfd::open(pid).map_err(fail)?));
        Ok(())
    }

    fn has_own(&self, kind: LinuxNamespaceType) -> bool {
        let linux = self.barriers.design.spec.linux().as_ref();
        let list = linux.and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
        list.iter().any(|n| n.typ() == kind && n.path().as_deref().is_none_or(|p| p.as_os_str().is_empty()))
    }

    /// criu restores into a time namespace, so that the clocks go on where they were: an `exec` has to join it.
    fn remember_time(&self, pid: i32) -> Result<(), Error> {
        let Design { spec, .. } = self.barriers.design;
        let inode =
            |process: &str| std::fs::metadata(format!("/proc/{process}/ns/time")).map(|stat| stat.ino());
        let (Ok(own), Ok(its)) = (inode("self"), inode(&pid.to_string())) else { return Ok(()) };
        let mut spec = spec.clone();
        let Some(namespaces) = spec.linux_mut().as_mut().map(|l| l.namespaces_mut().get_or_insert_default())
        else {
            return Ok(());
        };
        if own == its || namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Time) {
            return Ok(());
        }
        let mut time = LinuxNamespace::default();
        time.set_typ(LinuxNamespaceType::Time);
        namespaces.push(time);
        let config = serde_json::to_vec(&spec).map_err(|e| Error::new("write config.json").because(e))?;
        self.barriers.directory.write(CONFIG, &config)
    }

    fn pass_on(&mut self, master: OwnedFd) -> Result<(), Error> {
        match self.console.take() {
            Some(socket) => sys::message::send(socket.as_fd(), b"orphan-pts-master", Some(master.as_fd()))
                .map_err(|e| Error::new("send the terminal to the console socket").because(e)),
            None => {
                self.kept = Some(master);
                Ok(())
            }
        }
    }
}

/// Opens the namespaces that criu is given a descriptor of.
fn inherit(shared: &[criu::Shared]) -> Result<Vec<Inherited>, Error> {
    let mut inherited = Vec::new();
    for one in shared.iter().filter(|one| one.external) {
        let at = format!("linux.namespaces[{}].path {:?}", one.index, one.path);
        let fail = |e| {
            Error::new(format!("open {at} (a namespace that is shared must be there to restore into it)"))
                .because(e)
        };
        let file = File::open(&one.path).map_err(fail)?;
        let wanted = if one.kind == "net" { namespace::NET } else { namespace::PID };
        if sys::clone::namespace_kind(file.as_fd()).map_err(fail)? != wanted {
            return Err(Error::new(format!("{at} is a namespace of another kind")).kind(ErrorKind::Invalid));
        }
        inherited.push(Inherited { kind: one.kind, key: criu::namespace_key(one.kind), fd: file.into() });
    }
    Ok(inherited)
}

/// Brings up `lo` in the network namespace of a process, as it was when the container was created: criu restores no
/// devices. Hooks come after it, connections too.
fn loopback_of(pid: i32) -> Result<(), Error> {
    let fail = |e: std::io::Error| Error::new("bring up lo in the container").because(e);
    let network = File::open(format!("/proc/{pid}/ns/net")).map_err(fail)?;
    within(network.as_fd(), sys::process::loopback_up).map_err(fail)
}

/// Whether criu's rules that lock a network are there: its chain of iptables(8), which it made by the same programs.
fn is_locked(network: BorrowedFd<'_>) -> Result<bool, Error> {
    let list = || Command::new("iptables").args(["-w", "-n", "-L", "CRIU"]).env_remove(seal::MARK).output();
    match within(network, list) {
        Ok(output) => Ok(output.status.success()),
        // Without the program there was no lock either.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::new("look for criu's lock in the network namespace").because(e)),
    }
}

/// Does something in another network namespace. This process has one thread.
fn within<T>(network: BorrowedFd<'_>, act: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let own = File::open("/proc/self/ns/net")?;
    setns(network, namespace::NET)?;
    let result = act();
    // Back to where this process came from, which takes no right that it had not a moment ago.
    setns(own.as_fd(), namespace::NET)?;
    result
}

/// The cgroup of each controller that a process is in: /proc/PID/cgroup, as criu takes it.
fn cgroups(pid: i32) -> Result<Vec<(String, String)>, Error> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::new(format!("read {path}")).because(e))?;
    Ok(parse_cgroups(&text))
}

fn parse_cgroups(text: &str) -> Vec<(String, String)> {
    let mut cgroups = Vec::new();
    for line in text.lines() {
        // Only the path may contain colons.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        cgroups.extend(controllers.split(',').map(|controller| (controller.to_owned(), path.to_owned())));
    }
    cgroups
}

fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty())
        .map_err(|e| Error::new(format!("open root.path {path:?}")).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_controller_has_its_cgroup() {
        let text = "3:name=systemd:/a:b\n2:cpu,cpuacct:/c\n0::/d\nnonsense\n";
        let found: Vec<_> = parse_cgroups(text).into_iter().map(|(c, p)| format!("{c} {p}")).collect();
        assert_eq!(found, ["name=systemd /a:b", "cpu /c", "cpuacct /c", " /d"]);
    }
}
