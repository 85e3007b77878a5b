//! The user namespace of a container: which ids of the host it gets (podman-run(1), `--userns`), and the namespace itself.
//!
//! Which ids are taken is known from the containers' records alone: one that is gone has given its ids back.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid};
use oci::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use runtime::Stdio;
use serde::{Deserialize, Serialize};
use store::Owners;
use sys::userns::{IdMap, Range, outside};

use crate::ids::{IdRange, Ids, Pool, SUBGID, SUBUID, sound, subids, whole};
use crate::list::life;
use crate::record::{self, Record};
use crate::root::Root;
use crate::user::{self, User};
use crate::{Engine, Error, host, name};

/// `--userns`, `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Userns {
    /// The host's: ids are what they are.
    #[default]
    Host,
    /// A new one, with ids that no other container has.
    Auto {
        /// How many; as many as the image needs if not given, and 65,536 at least.
        size: Option<u32>,
        /// Ids that are to be these.
        forced: Ids,
    },
    /// A new one with these ids.
    Private(Ids),
    /// A new one with the ids that /etc/subuid and /etc/subgid give to these names.
    SubIds {
        /// In /etc/subuid.
        users: String,
        /// In /etc/subgid.
        groups: String,
    },
    /// That of another container, by name or ID, which runs.
    Container(String),
    /// The one at this path.
    Path(PathBuf),
}

/// How many ids a container gets at least, if it is not said.
const USUAL_SIZE: u32 = 65_536;
/// What an image's passwd and group name beyond makes no container's range larger.
const LARGEST_NAMED: u32 = 1 << 20;
/// Since when overlay takes id-mapped layers.
const KERNEL: (u32, u32) = (5, 19);

/// Refuses what a user namespace cannot be combined with, and kernels that cannot do it.
///
/// # Errors
/// The other flag, or the kernel's version.
pub(crate) fn check(userns: &Userns, kernel: (u32, u32)) -> Result<(), String> {
    if *userns != Userns::Host && kernel < KERNEL {
        let (major, minor) = kernel;
        return Err(format!(
            "a user namespace (--userns) needs Linux 5.19, since when overlay shows layers by other ids; this is Linux \
             {major}.{minor}: leave out --userns"
        ));
    }
    Ok(())
}

/// Chooses the ids of a new container and notes them in its record. Nobody else chooses until the answer is dropped, which
/// is to be done once the record is written.
///
/// # Errors
/// Ids that no map can have; none are left; a user that has none.
pub(crate) fn choose(
    engine: &Engine,
    record: &mut Record,
    root: Root<'_>,
) -> Result<Option<Flock<File>>, Error> {
    let isolation = &record.options.isolation;
    isolation.check_userns(&record.options.network, host::kernel_version()).map_err(Error::Invalid)?;
    let (ids, lock) = match &isolation.userns {
        Userns::Host | Userns::Container(_) | Userns::Path(_) => return Ok(None),
        Userns::Private(ids) => (ids.clone(), None),
        Userns::SubIds { users, groups } => {
            let uid = whole(SUBUID, &subids(SUBUID)?, users).map_err(Error::Invalid)?;
            let gid = whole(SUBGID, &subids(SUBGID)?, groups).map_err(Error::Invalid)?;
            (Ids { uid, gid }, None)
        }
        Userns::Auto { size, forced } => {
            let named =
                user::highest_id(&root.read("/etc/passwd")?, &root.read("/etc/group")?, LARGEST_NAMED);
            let size = size.unwrap_or(USUAL_SIZE.max(named + 1));
            let pools = (Pool::read(SUBUID)?, Pool::read(SUBGID)?);
            let lock = lock(engine)?;
            let others = taken_ids(engine)?;
            let taken = |of: fn(&Ids) -> &Vec<IdRange>| -> Vec<(u64, u64)> {
                others.iter().flat_map(of).map(|range| (range.outside.into(), range.end_outside())).collect()
            };
            let uid = pools.0.pick("uid", size, &forced.uid, taken(|ids| &ids.uid));
            let gid = pools.1.pick("gid", size, &forced.gid, taken(|ids| &ids.gid));
            (Ids { uid: uid.map_err(Error::Invalid)?, gid: gid.map_err(Error::Invalid)? }, Some(lock))
        }
    };
    for (flag, ranges) in [("--uidmap", &ids.uid), ("--gidmap", &ids.gid)] {
        sound(flag, ranges).map_err(Error::Invalid)?;
    }
    record.ids = Some(ids);
    Ok(lock)
}

/// The right to choose ids, held while records are read and one is written.
fn lock(engine: &Engine) -> Result<Flock<File>, Error> {
    let dir = engine.containers();
    let file = File::open(&dir).map_err(Error::io(format!("open {dir:?}")))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| Error::io(format!("lock {dir:?}"))(e.into()))
}

/// The ids that containers have: their own, and those of namespaces that they have joined, which may outlive the container
/// they were made for.
fn taken_ids(engine: &Engine) -> Result<Vec<Ids>, Error> {
    let mut all = Vec::new();
    for other in name::records(engine)? {
        let joins = matches!(other.options.isolation.userns, Userns::Container(_) | Userns::Path(_));
        let joined = if joins { record::read(&joined_ids(engine, &other.id))? } else { None };
        all.extend(other.ids.into_iter().chain(joined));
    }
    Ok(all)
}

/// Where the ids of a namespace are noted that a container has joined.
fn joined_ids(engine: &Engine, id: &str) -> PathBuf {
    engine.container(id).join("ids.json")
}

/// The user namespace of a container that is about to start.
#[derive(Debug)]
pub(crate) struct Users {
    file: File,
    map: IdMap,
    /// User and group of the host that are root in it.
    root: (u32, u32),
    /// It is there already, and the container joins it.
    pub(crate) joined: bool,
}

impl Users {
    /// `None`: the container has the host's.
    ///
    /// # Errors
    /// The container whose namespace it shall have does not run; there is none at the path.
    pub(crate) fn open(engine: &Engine, record: &Record) -> Result<Option<Users>, Error> {
        let userns = &record.options.isolation.userns;
        let (file, map, joined) = match (&record.ids, userns) {
            (Some(ids), _) => {
                let map = ids.to_map();
                (sys::userns::make(&map).map_err(failed)?, map, false)
            }
            (None, Userns::Container(_) | Userns::Path(_)) => {
                // Its ids are this container's before they can be anybody else's.
                let _choosing = lock(engine)?;
                let file = match userns {
                    Userns::Path(path) => at_path(path)?,
                    Userns::Container(name) => of_container(engine, name)?,
                    _ => return Ok(None),
                };
                if is_own(&file)? {
                    return Ok(None);
                }
                let map = sys::userns::maps_of(file.as_fd()).map_err(failed)?;
                record::write(&joined_ids(engine, &record.id), &Ids::of(&map))?;
                (file, map, true)
            }
            (None, _) => return Ok(None),
        };
        let (Some(uid), Some(gid)) = (outside(&map.uid, 0), outside(&map.gid, 0)) else {
            return Err(Error::Invalid(
                "the user namespace to be joined has no root: its maps lack id 0".to_owned(),
            ));
        };
        Ok(Some(Users { file, map, root: (uid, gid), joined }))
    }

    pub(crate) fn owners(&self) -> Owners<'_> {
        Owners { users: self.file.as_fd(), root: self.root }
    }

    /// User and group of the host that are root in it.
    pub(crate) fn root(&self) -> (u32, u32) {
        self.root
    }

    /// Where this process finds it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// The maps, as a runtime spec has them.
    pub(crate) fn mappings(&self) -> (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>) {
        let of = |ranges: &[Range]| {
            let one = |range: &Range| {
                let mapping = LinuxIdMappingBuilder::default().container_id(range.inside);
                mapping.host_id(range.outside).size(range.size).build().ok()
            };
            ranges.iter().filter_map(one).collect()
        };
        (of(&self.map.uid), of(&self.map.gid))
    }

    /// Whether a group of the container is one on the host.
    pub(crate) fn has_group(&self, gid: u32) -> bool {
        outside(&self.map.gid, gid).is_some()
    }

    /// The last of the groups that follow on the container's root's without a gap, there and on the host.
    pub(crate) fn last_group(&self) -> u32 {
        let first = self.map.gid.iter().find(|range| range.inside == 0);
        first.map_or(0, |range| range.size - 1)
    }

    /// Refuses a user that has no id on the host.
    ///
    /// # Errors
    /// The id, and what would give it one.
    pub(crate) fn check(&self, user: &User) -> Result<(), Error> {
        let lacking = |what: &str, id: u32| {
            Err(Error::Invalid(format!(
                "the container's {what} {id} is no id of its user namespace; make it larger with --userns auto:size={} or \
                 --{}map",
                u64::from(id) + 1,
                if what == "user" { "uid" } else { "gid" }
            )))
        };
        if outside(&self.map.uid, user.uid).is_none() {
            return lacking("user", user.uid);
        }
        match user.groups.iter().chain([&user.gid]).find(|gid| !self.has_group(**gid)) {
            Some(gid) => lacking("group", *gid),
            None => Ok(()),
        }
    }

    /// Gives pipes that a container has for streams to its root, who could not open them again otherwise. What is not
    /// given are this process's own.
    pub(crate) fn own_pipes(&self, stdio: &Stdio) -> Result<(), Error> {
        let own = sys::process::standard_streams();
        let given = [&stdio.stdin, &stdio.stdout, &stdio.stderr];
        for (given, own) in given.into_iter().zip(own) {
            let fd = given.as_ref().map_or(own, AsFd::as_fd);
            let kind = fstat(fd).map(|stat| stat.st_mode & SFlag::S_IFMT.bits());
            if kind == Ok(SFlag::S_IFIFO.bits()) {
                let (uid, gid) = self.root;
                nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(|e| Error::io("give a pipe to the container's root")(e.into()))?;
            }
        }
        Ok(())
    }

    /// Gives a file of the host to the container's root.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        let (uid, gid) = self.root;
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))
            .map_err(Error::io(format!("give {path:?} to the container's root")))
    }
}

fn of_container(engine: &Engine, container: &str) -> Result<File, Error> {
    let id = name::resolve(engine, container)?;
    let not_running = || {
        Error::Invalid(format!(
            "cannot join the user namespace of container {container}: it does not run; start it first"
        ))
    };
    let pid = life(engine, &id)?.pid.ok_or_else(not_running)?;
    let file = File::open(format!("/proc/{pid}/ns/user")).map_err(|_| not_running())?;
    // Whose number it was before it was opened.
    if life(engine, &id)?.pid == Some(pid) { Ok(file) } else { Err(not_running()) }
}

fn at_path(path: &Path) -> Result<File, Error> {
    let file = File::open(path).map_err(Error::io(format!("--userns ns:{}", path.display())))?;
    match sys::clone::namespace_kind(file.as_fd()) {
        Ok(sys::clone::namespace::USER) => Ok(file),
        _ => Err(Error::Invalid(format!(
            "--userns ns:{}: it is no user namespace; wants a path such as /proc/PID/ns/user",
            path.display()
        ))),
    }
}

fn is_own(file: &File) -> Result<bool, Error> {
    let own = "/proc/self/ns/user";
    let own = fs::metadata(own).map_err(Error::io(format!("look at {own:?}")))?;
    let other = file.metadata().map_err(Error::io("look at a user namespace"))?;
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

fn failed(failed: sys::userns::Failed) -> Error {
    Error::io(failed.what)(failed.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused() {
        assert!(check(&Userns::Path("/x".into()), (5, 18)).unwrap_err().contains("5.18"));
        assert_eq!(
            (check(&Userns::Host, (5, 14)), check(&Userns::Path("/x".into()), (5, 19))),
            (Ok(()), Ok(()))
        );
    }
}
