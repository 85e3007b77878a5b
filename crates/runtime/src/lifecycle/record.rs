//! state.json: what must be remembered of a container between two commands, and the status that follows from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci::runtime::Hooks;
use serde::{Deserialize, Serialize};

use super::directory::{Directory, no_such_container};
use super::proc_stat::ProcStat;
use crate::cgroup::Cgroup;
use crate::hook::HookState;
use crate::resctrl::Group;
use crate::systemd::Unit;
use crate::{Error, State, Status};

const FILE: &str = "state.json";

/// The stored facts. Names are runc's where runc has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(rename = "ociVersion")]
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// 0 until there is one.
    pub(crate) init_process_pid: i32,
    /// Start time of that process in clock ticks since boot; with it the number cannot be mistaken for a later process.
    pub(crate) init_process_start: u64,
    pub(crate) created: String,
    pub(crate) bundle: String,
    pub(crate) rootfs: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Controller to directory; the unified hierarchy is `""`.
    pub(crate) cgroup_paths: BTreeMap<String, PathBuf>,
    /// The unit that its cgroup belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Unit>,
    /// Its resctrl group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resctrl: Option<Group>,
    /// It has a pid namespace of its own, so that its init takes all its processes with it when it dies.
    pub(crate) own_pid_namespace: bool,
    /// The hooks that are still to run.
    #[serde(default)]
    pub(crate) hooks: Option<Hooks>,
}

impl Record {
    /// Stores it.
    pub(crate) fn write(&self, directory: &Directory) -> Result<(), Error> {
        let json = serde_json::to_vec(self).map_err(|e| Error::new("write state.json").because(e))?;
        directory.write(FILE, &json)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// No such container (also when its creation never got as far as storing a state), or a damaged file.
    pub(crate) fn read(directory: &Directory) -> Result<Record, Error> {
        let json = directory.read(FILE)?.ok_or_else(no_such_container)?;
        serde_json::from_slice(&json)
            .map_err(|e| Error::new(format!("parse {:?}", directory.path().join(FILE))).because(e))
    }

    /// Whether its init process lives.
    pub(crate) fn is_alive(&self) -> Result<bool, Error> {
        let stat = ProcStat::read(self.init_process_pid)?;
        Ok(stat.is_some_and(|stat| !stat.is_dead() && stat.start_time == self.init_process_start))
    }

    /// Its cgroup, as far as it still exists.
    pub(crate) fn cgroup(&self) -> Result<Cgroup, Error> {
        Cgroup::open(&self.cgroup_paths)
    }

    /// Where it is in its life.
    pub(crate) fn status(&self, directory: &Directory) -> Result<Status, Error> {
        if self.init_process_pid == 0 {
            return Ok(Status::Creating);
        }
        if !self.is_alive()? {
            return Ok(Status::Stopped);
        }
        if Cgroup::open_freezer(&self.cgroup_paths)?.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if directory.has_fifo() { Status::Created } else { Status::Running })
    }

    /// Its state.
    pub(crate) fn state(&self, directory: &Directory) -> Result<State, Error> {
        let status = self.status(directory)?;
        Ok(State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.init_process_pid },
            status,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: String::new(),
        })
    }

    /// What its hooks are told.
    pub(crate) fn hook_state(&self, status: Status, pid: Option<i32>) -> HookState<'_> {
        HookState {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }
}
