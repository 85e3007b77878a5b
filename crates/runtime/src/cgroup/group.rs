//! One container's cgroup: the directories it has in the mounted hierarchies.

use super::{CgroupPath, Hierarchies, Setting};
use crate::Error;
use crate::devices::Rule;
use nix::unistd::Pid;
use oci::runtime::LinuxResources;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// The directories of a container, one in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {}

impl Cgroup {
    /// Makes the directories, parents included, in all hierarchies. v1 cpusets are filled from their parents, v2
    /// controllers switched on. On failure all that it made is removed.
    ///
    /// `tolerate`: a hierarchy where the caller may not make directories is left out (rootless without a
    /// `cgroupsPath`); [`Cgroup::apply`] then refuses settings for it.
    ///
    /// # Errors
    /// The call that failed, with its path.
    pub fn create(hierarchies: &Hierarchies, path: &CgroupPath, tolerate: bool) -> Result<Cgroup, Error> {
        let _ = (hierarchies, path, tolerate);
        todo!()
    }

    /// The cgroup of a container that exists, from what [`Cgroup::paths`] gave. Directories that are gone are
    /// left out.
    ///
    /// # Errors
    /// A directory can't be opened.
    pub fn open(paths: &BTreeMap<String, PathBuf>) -> Result<Cgroup, Error> {
        let _ = paths;
        todo!()
    }

    /// Controller → directory, as runc's state.json has it in `cgroup_paths`; the unified hierarchy is `""`.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        todo!()
    }

    /// A cgroup below this one (`exec --cgroup`): it must exist. `below` is relative and without `..`;
    /// `controllers` empty = all.
    ///
    /// # Errors
    /// A path that would leave this cgroup, or that does not exist.
    pub fn below(&self, controllers: &[&str], below: &str) -> Result<Cgroup, Error> {
        let _ = (controllers, below);
        todo!()
    }

    /// Moves process `pid` into the v1 hierarchies, and into v2 unless `in_v2` says it was cloned there.
    ///
    /// # Errors
    /// The hierarchy that refused.
    pub fn join(&self, pid: Pid, in_v2: bool) -> Result<(), Error> {
        let _ = (pid, in_v2);
        todo!()
    }

    /// The v2 directory, for `CLONE_INTO_CGROUP`.
    pub fn v2_dir(&self) -> Option<BorrowedFd<'_>> {
        todo!()
    }

    /// Writes all limits of `resources` (device rules excepted) where their controllers are mounted.
    ///
    /// # Errors
    /// An invalid value, a controller that is not there, or the kernel's refusal.
    pub fn limit(&self, resources: &LinuxResources) -> Result<(), Error> {
        let _ = resources;
        todo!()
    }

    /// Writes `settings` in order.
    ///
    /// # Errors
    /// A controller that is not there, or the kernel's refusal.
    pub fn apply(&self, settings: &[Setting]) -> Result<(), Error> {
        let _ = settings;
        todo!()
    }

    /// Replaces the device rules, with never a moment that allows more than either set.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_devices(&self, rules: &[Rule]) -> Result<(), Error> {
        let _ = rules;
        todo!()
    }

    /// All processes in it and below it.
    ///
    /// # Errors
    /// `cgroup.procs` can't be read.
    pub fn pids(&self) -> Result<Vec<Pid>, Error> {
        todo!()
    }

    /// Sends `signal` (a number) to all processes in it and below it; SIGKILL so that no fork escapes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill_all(&self, signal: i32) -> Result<(), Error> {
        let _ = signal;
        todo!()
    }

    /// Stops all processes and waits until they stand still.
    ///
    /// # Errors
    /// No freezer, or it did not come to rest; then all run again.
    pub fn freeze(&self) -> Result<(), Error> {
        todo!()
    }

    /// Undoes [`Cgroup::freeze`].
    ///
    /// # Errors
    /// No freezer, or the kernel's refusal.
    pub fn thaw(&self) -> Result<(), Error> {
        todo!()
    }

    /// Whether [`Cgroup::freeze`] holds. A cgroup that is gone is not frozen.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        todo!()
    }

    /// Removes the directories, those below them first; waits for processes that are dying, at most about two
    /// seconds. Directories that are gone are no error; parents stay.
    ///
    /// # Errors
    /// The directories that are still there.
    pub fn remove(&self) -> Result<(), Error> {
        todo!()
    }
}
