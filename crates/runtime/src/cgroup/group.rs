//! One container's cgroup: the directories it has in the mounted hierarchies, and how processes get into them.

use super::dir::{Dir, gone, is, not_permitted, remove_made};
use super::{CgroupPath, Hierarchies, Mode, Version};
use crate::{Error, ErrorKind};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, Pid, faccessat};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// The directories of a container, one in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) dirs: Vec<Dir>,
    /// Missing permission is no error: the container has what the caller may give.
    pub(super) tolerate: bool,
}

impl Cgroup {
    /// Makes the directories, parents included, in all hierarchies. v1 cpusets are filled from their parents, v2
    /// controllers switched on. On failure all that it made is removed.
    ///
    /// `tolerate`: a hierarchy where the caller may not make directories is left out (rootless without a
    /// `cgroupsPath`); [`Cgroup::limit`] then refuses limits for it.
    ///
    /// # Errors
    /// The call that failed, with its path; a cgroup that has processes or is frozen.
    pub fn create(hierarchies: &Hierarchies, path: &CgroupPath, tolerate: bool) -> Result<Cgroup, Error> {
        let mode = hierarchies.mode();
        let mut cgroup = Cgroup { dirs: Vec::new(), tolerate };
        let result = cgroup.make_dirs(hierarchies, path, mode).and_then(|()| cgroup.check_unused());
        if let Err(e) = result {
            cgroup.dirs.iter().for_each(|dir| remove_made(&dir.made));
            return Err(e);
        }
        Ok(cgroup)
    }

    /// The directories of a container whose first process systemd has put into some of them: those that are missing
    /// are made, as [`Cgroup::create`] makes them.
    ///
    /// # Errors
    /// The call that failed, with its path.
    pub fn adopt(hierarchies: &Hierarchies, path: &CgroupPath, tolerate: bool) -> Result<Cgroup, Error> {
        let mut cgroup = Cgroup { dirs: Vec::new(), tolerate };
        let result = cgroup.make_dirs(hierarchies, path, hierarchies.mode());
        if let Err(e) = result {
            cgroup.dirs.iter().for_each(|dir| remove_made(&dir.made));
            return Err(e);
        }
        Ok(cgroup)
    }

    fn make_dirs(&mut self, hierarchies: &Hierarchies, path: &CgroupPath, mode: Mode) -> Result<(), Error> {
        for hierarchy in hierarchies.iter() {
            let Some(path) = path.within(hierarchy, mode) else { continue };
            match Dir::make(hierarchy, path) {
                Ok(dir) => self.dirs.push(dir),
                Err(e) if self.tolerate && denied(&e) => continue,
                Err(e) => return Err(Error::new("unable to apply cgroup configuration").because(e)),
            }
            if mode == Mode::V2 {
                self.dirs.iter().for_each(Dir::enable_all);
            }
        }
        Ok(())
    }

    /// Two containers in one cgroup would be killed, frozen and limited together.
    fn check_unused(&self) -> Result<(), Error> {
        if self.dirs.iter().all(|dir| !dir.was_there()) {
            return Ok(());
        }
        self.check_empty()
    }

    /// Refuses a cgroup that holds processes or is frozen.
    ///
    /// # Errors
    /// So it is; it can't be read.
    pub fn check_empty(&self) -> Result<(), Error> {
        let processes = self.pids()?.len();
        if processes > 0 {
            return Err(Error::new(format!(
                "container's cgroup is not empty: {processes} process(es) found"
            )));
        }
        if self.is_frozen()? {
            return Err(Error::new("container's cgroup unexpectedly frozen"));
        }
        Ok(())
    }

    /// The cgroup of a container that exists, from what [`Cgroup::paths`] gave. Directories that are gone are
    /// left out.
    ///
    /// # Errors
    /// A directory can't be opened.
    pub fn open(paths: &BTreeMap<String, PathBuf>) -> Result<Cgroup, Error> {
        let mut dirs: Vec<Dir> = Vec::new();
        for (controller, path) in paths {
            // Controllers that are mounted together share a directory.
            if let Some(dir) = dirs.iter_mut().find(|d| d.path == *path) {
                dir.controllers.push(controller.clone());
                continue;
            }
            let (version, controllers) = match controller.as_str() {
                "" => (Version::V2, Vec::new()),
                name => (Version::V1, vec![name.to_owned()]),
            };
            match Dir::open(version, controllers, path.clone()) {
                Ok(dir) => dirs.push(dir),
                Err(e) if gone(&e) => {}
                Err(e) => return Err(Error::new(format!("open {path:?}")).because(e)),
            }
        }
        Ok(Cgroup { dirs, tolerate: false })
    }

    /// As [`Cgroup::open`], but only what [`Cgroup::is_frozen`] looks at: who lists containers asks for no more.
    ///
    /// # Errors
    /// As [`Cgroup::open`].
    pub fn open_freezer(paths: &BTreeMap<String, PathBuf>) -> Result<Cgroup, Error> {
        let freezer = ["freezer", ""].into_iter().find_map(|controller| paths.get_key_value(controller));
        Cgroup::open(
            &freezer.map(|(controller, path)| (controller.clone(), path.clone())).into_iter().collect(),
        )
    }

    /// As [`Cgroup::open`], for a further process. Where the container runs an init system on cgroup v2, its own
    /// directory has been removed or hands out controllers and so takes no process (cgroups(7)): then it is the one
    /// that `init` is in.
    ///
    /// # Errors
    /// As [`Cgroup::open`]; `init` is gone or its cgroup can't be seen from here.
    pub fn open_for_exec(paths: &BTreeMap<String, PathBuf>, init: Pid) -> Result<Cgroup, Error> {
        let cgroup = Cgroup::open(paths)?;
        let only_v2 = paths.keys().eq([""]);
        if !only_v2 || cgroup.unified().is_some_and(Dir::takes_processes) {
            return Ok(cgroup);
        }
        let file = format!("/proc/{init}/cgroup");
        let text = fs::read_to_string(&file).map_err(|e| Error::new(format!("read {file:?}")).because(e))?;
        let hierarchies = Hierarchies::detect()?;
        let inside = text.lines().find_map(|line| line.strip_prefix("0::"));
        let dir = inside.zip(hierarchies.unified()).and_then(|(inside, h)| h.dir(Path::new(inside)));
        let dir =
            dir.ok_or_else(|| Error::new(format!("the cgroup of process {init} is not visible here")))?;
        Cgroup::open(&BTreeMap::from([(String::new(), dir)]))
    }

    /// Controller → directory, as runc's state.json has it in `cgroup_paths`; the unified hierarchy is `""`.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for dir in &self.dirs {
            if dir.version == Version::V2 {
                paths.insert(String::new(), dir.path.clone());
            }
            for controller in &dir.controllers {
                paths.insert(controller.clone(), dir.path.clone());
            }
        }
        paths
    }

    /// This cgroup with other directories below it (`exec --cgroup`), which must exist. `below` is controller →
    /// path; the one for `""` is for all.
    ///
    /// # Errors
    /// An unknown controller, a path that would leave this cgroup or does not exist.
    pub fn below(&self, below: &BTreeMap<String, String>) -> Result<Cgroup, Error> {
        let mut paths = self.paths();
        for (controller, sub) in below {
            if Path::new(sub).components().any(|c| c == Component::ParentDir) {
                return Err(Error::new(format!("bad sub cgroup path: {sub}")).kind(ErrorKind::Invalid));
            }
            let sub = sub.trim_start_matches('/');
            if controller.is_empty() {
                paths.values_mut().for_each(|path| *path = self.longer(path, sub));
            } else {
                match paths.get_mut(controller) {
                    Some(path) => *path = self.longer(path, sub),
                    None => {
                        let message =
                            format!("unknown controller {controller} in --cgroup {controller}:{sub}");
                        return Err(Error::new(message).kind(ErrorKind::Invalid));
                    }
                }
            }
        }
        for path in paths.values() {
            if let Err(e) = fs::metadata(path) {
                return Err(Error::new(format!("error adding pid to cgroup {path:?}")).because(e));
            }
        }
        Ok(Cgroup { tolerate: self.tolerate, ..Cgroup::open(&paths)? })
    }

    fn longer(&self, path: &Path, sub: &str) -> PathBuf {
        if sub.is_empty() { path.to_owned() } else { path.join(sub) }
    }

    /// The open `tasks` files of the v1 hierarchies. A process without threads that writes `0` to each has joined
    /// them all.
    ///
    /// This way needs no lock of all processes, while [`Cgroup::join`] waits for an RCU grace period (ten
    /// milliseconds) unless somebody else just did.
    ///
    /// # Errors
    /// A file can't be opened.
    pub fn v1_tasks(&self) -> Result<Vec<OwnedFd>, Error> {
        let mut files = Vec::new();
        for dir in self.dirs.iter().filter(|dir| dir.version == Version::V1) {
            match dir.open_to_write("tasks") {
                Ok(file) => files.push(file.into()),
                Err(e) if self.tolerate && not_permitted(&e) => {}
                Err(e) => return Err(dir.failed("open", "tasks", e)),
            }
        }
        Ok(files)
    }

    /// Moves process `pid` into the directories; `by_systemd`: but for those that are systemd's to move it into.
    ///
    /// # Errors
    /// The hierarchy that refused.
    pub fn join(&self, pid: Pid, by_systemd: bool) -> Result<(), Error> {
        for dir in &self.dirs {
            if by_systemd && (dir.version == Version::V2 || dir.has("name=systemd")) {
                continue;
            }
            if let Err(e) = dir.join(pid) {
                if self.tolerate && not_permitted(&e) {
                    continue;
                }
                let place = dir.path.join("cgroup.procs");
                return Err(
                    Error::new(format!("error adding pid {pid} to cgroups: write {place:?}")).because(e)
                );
            }
        }
        Ok(())
    }

    /// Whether this process may clone another one into the v2 directory: it must be able to write `cgroup.procs` there
    /// and in the nearest cgroup above both (cgroup-v2, "Delegation Containment"). `own`: the directory it is in itself.
    pub fn takes_children_of(&self, own: &Path) -> bool {
        let Some(dir) = self.unified() else { return true };
        let common = dir.path.ancestors().find(|above| own.starts_with(above));
        common.into_iter().chain([dir.path.as_path()]).all(|dir| {
            faccessat(AT_FDCWD, &dir.join("cgroup.procs"), AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
        })
    }

    /// The v2 directory, for `CLONE_INTO_CGROUP`.
    pub fn v2_dir(&self) -> Option<BorrowedFd<'_>> {
        self.unified().map(|dir| dir.fd.as_fd())
    }

    pub(super) fn unified(&self) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.version == Version::V2)
    }

    pub(super) fn v1(&self, controller: &str) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.has(controller))
    }
}

impl Dir {
    /// No controller that works on processes as a whole is handed to its children.
    fn takes_processes(&self) -> bool {
        // Those of threads don't mind (cgroup-v2, "Threads").
        let threaded = ["cpu", "cpuset", "perf_event", "pids"];
        let given = self.read("cgroup.subtree_control").unwrap_or_default();
        given.split_whitespace().all(|controller| threaded.contains(&controller))
    }

    fn join(&self, pid: Pid) -> io::Result<()> {
        let mut file = self.open_to_write("cgroup.procs")?;
        let mut tries = 0;
        loop {
            match file.write_all(pid.to_string().as_bytes()) {
                // A process that is just being forked has no scheduler group yet (cpu_cgroup_can_attach).
                Err(e) if is(&e, Errno::EINVAL) && tries < 5 => {
                    tries += 1;
                    sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }
}

fn denied(e: &Error) -> bool {
    let cause = std::error::Error::source(e).and_then(|s| s.downcast_ref::<io::Error>());
    cause.is_some_and(not_permitted)
}
