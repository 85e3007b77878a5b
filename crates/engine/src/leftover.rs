//! Removes containers, and cleans up after processes that were killed while they worked on one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use runtime::ErrorKind;
use runtime::cgroup::{Cgroup, CgroupPath, Hierarchies, Version};
use store::Store;

use crate::lock::{Kind, Lock};
use crate::record::{Exit, RECORD, Record, read_started, stays};
use crate::{
    Engine, Error, commit, detach, in_full, joined, joining, monitor, name, name_server, place, plugins, shm,
    time, tree, volume,
};

/// Begins every command: makes the directories if this is the first, and buries what killed processes left. Costs one
/// look at a directory that is empty unless containers run.
pub(crate) fn enter(engine: &Engine) -> Result<(), Error> {
    if sys::process::gained_privileges() {
        // CVE-2020-5291's class: whoever may call it would be root.
        let cure = "take the set-user-ID bit and file capabilities off the program";
        return Err(Error::Invalid(format!("refuses to run with privileges its caller has not; {cure}")));
    }
    let locks = engine.locks();
    let entries = match fs::read_dir(&locks) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return engine.make_places(),
        result => result.map_err(Error::io(format!("list {locks:?}")))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(format!("list {locks:?}")))?;
        let id = entry.file_name().to_string_lossy().into_owned();
        let (container, kind) = match Kind::read(&id) {
            Some((container, kind)) => (container, Some(kind)),
            None if name::is_id(&id) => (id.as_str(), None),
            None => continue,
        };
        if let Some(lock) = Lock::try_take(engine, &id)? {
            let done = match kind {
                Some(Kind::Record) => joining::recover(engine, container, lock),
                Some(Kind::Restart) => detach::recover(engine, container, lock),
                Some(Kind::Frozen) => commit::recover(engine, container, lock),
                None if monitor::is_orphan(engine, container) => monitor::adopt(engine, container, lock),
                None => bury(engine, container, lock),
            };
            // What cannot be removed now stays for the next command, and for `rm`, which tells why; this one has
            // other work.
            if let Err(e) = done {
                let container = name::short(container);
                tracing::debug!("what was left of container {container} stays for now: {}", in_full(&e));
            }
        }
    }
    name_server::revive(engine);
    Ok(())
}

/// The process that had this lock is dead.
fn bury(engine: &Engine, id: &str, lock: Lock) -> Result<(), Error> {
    let dir = engine.container(id);
    let record = Record::read(&dir).ok().flatten();
    let kept = record.as_ref().filter(|record| !record.options.rm && stays(&dir));
    if let (None, Some(record)) = (kept, &record) {
        // First of all, because the rest takes a moment and who comes next may want it.
        name::release(engine, &record.name, id)?;
    }
    end_orphan(engine, id)?;
    // Without a record nothing was started.
    record.as_ref().map_or(Ok(()), remove_cgroup)?;
    monitor::remove_place(engine, id)?;
    joined::end(engine, id, &dir, true)?;
    if kept.is_none() {
        return destroy(engine, id, record.as_ref(), true, &Store::open(&engine.root)?, lock);
    }
    match Exit::read(&dir)? {
        // Made, and never started.
        None if read_started(&dir).is_none() => {}
        None => {
            let error = "rcr was killed while the container ran".to_owned();
            let finished = time::now();
            Exit { finished, code: 137, oom_killed: false, error, restarting: false }.write(&dir)?;
        }
        Some(exit) if exit.restarting => Exit { restarting: false, ..exit }.write(&dir)?,
        Some(_) => {}
    }
    lock.finish()
}

/// Removes all that the container is: its volumes if `volumes`, its name, its files, and last its lock.
pub(crate) fn destroy(
    engine: &Engine,
    id: &str,
    record: Option<&Record>,
    volumes: bool,
    store: &Store,
    lock: Lock,
) -> Result<(), Error> {
    let dir = engine.container(id);
    match record {
        Some(record) => {
            if volumes {
                volume::remove_anonymous(engine, id, &record.points)?;
            }
            name::release(engine, &record.name, id)?;
        }
        None => name::release_all(engine, id)?,
    }
    plugins::give_up(engine, id, &dir);
    // Without its record it exists no more, wherever this is killed.
    place::remove_file(&dir.join(RECORD))?;
    tree::remove(&dir).map_err(Error::io(format!("remove {dir:?}")))?;
    store.unpin(id)?;
    lock.finish()
}

/// Kills what runs and removes the runtime's state and the cgroup that it knows of.
pub(crate) fn end_runtime(engine: &Engine, id: &str) -> Result<(), Error> {
    let deleted = runtime::lifecycle::delete(&engine.states(), id, true);
    deleted
        .map_err(|source| Error::Runtime { what: format!("remove container {}", name::short(id)), source })?;
    shm::remove(engine, id)
}

/// As [`end_runtime`] after the death of who started it: the container's process may live some moments longer, and until
/// then the runtime says that it is being created.
fn end_orphan(engine: &Engine, id: &str) -> Result<(), Error> {
    for _ in 0..400 {
        match end_runtime(engine, id) {
            Err(Error::Runtime { source, .. }) if source.what() == ErrorKind::State => {
                sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
    end_runtime(engine, id)
}

/// Where the container's cgroups are, below each hierarchy's mount point.
pub(crate) fn cgroups_path(record: &Record) -> PathBuf {
    let parent = record.options.isolation.cgroup_parent.as_deref().unwrap_or("/");
    Path::new(parent).join(format!("rcr-{}", record.id))
}

/// The container's cgroups as far as they exist, by controller.
pub(crate) fn cgroups(record: &Record) -> Result<BTreeMap<String, PathBuf>, Error> {
    let fail = |source| Error::Runtime { what: format!("find cgroups of container {}", record.name), source };
    let hierarchies = Hierarchies::detect().map_err(fail)?;
    let path = CgroupPath::new(Some(&cgroups_path(record)), &record.id).map_err(fail)?;
    let mut found = BTreeMap::new();
    for hierarchy in hierarchies.iter() {
        if let Some(dir) = path.within(hierarchy, hierarchies.mode()).filter(|dir| dir.is_dir()) {
            if hierarchy.version == Version::V2 {
                found.insert(String::new(), dir.clone());
            }
            found.extend(hierarchy.controllers.iter().map(|controller| (controller.clone(), dir.clone())));
        }
    }
    Ok(found)
}

/// A process killed between making the cgroup and writing the runtime's state leaves one that only its name finds.
fn remove_cgroup(record: &Record) -> Result<(), Error> {
    let fail =
        |source| Error::Runtime { what: format!("remove cgroups of container {}", record.name), source };
    let paths = cgroups(record)?;
    if paths.is_empty() {
        return Ok(());
    }
    let cgroup = Cgroup::open(&paths).map_err(fail)?;
    cgroup.kill_all(nix::libc::SIGKILL).map_err(fail)?;
    cgroup.remove().map_err(fail)
}
