//! A container's volumes: directories that outlive it, below ROOT/volumes, made at their first use.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::mount::{Kind, Point, is_name};
use crate::record::{self, Record};
use crate::root::Root;
use crate::time::{self, Nanos};
use crate::{Engine, Error, name, options};

/// What is kept of a volume beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    pub(crate) created: Nanos,
    #[serde(default)]
    pub(crate) labels: Vec<(String, String)>,
}

impl VolumeRecord {
    /// That of a volume made now.
    pub(crate) fn new(labels: Vec<(String, String)>) -> Self {
        Self { created: time::now(), labels }
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("volume.json")
    }

    /// Reads it from a volume's directory; `None`: there is no such volume.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        if let Some(record) = record::read(&Self::path(dir))? {
            return Ok(Some(record));
        }
        // Volumes of the first versions have none.
        let made = fs::metadata(dir).ok().map(|stat| stat.mtime() * 1_000_000_000 + stat.mtime_nsec());
        Ok(made.map(|created| Self { created, labels: Vec::new() }))
    }
}

/// The right to count on volumes that are there (shared), or to take away one that nobody counts on (exclusive). Held
/// for moments: a volume is looked for and a record written, or records are read and a volume is renamed away.
pub(crate) fn lock(engine: &Engine, exclusive: bool) -> Result<Flock<File>, Error> {
    let dir = engine.volumes();
    let file = File::open(&dir).map_err(Error::io(format!("open {dir:?}")))?;
    let how = if exclusive { FlockArg::LockExclusive } else { FlockArg::LockShared };
    Flock::lock(file, how).map_err(|(_, e)| Error::io(format!("lock {dir:?}"))(e.into()))
}

/// Writes the record of a container with these points. From then on [`crate::volumes`] knows that it uses its volumes.
pub(crate) fn claim(engine: &Engine, dir: &Path, record: &Record) -> Result<(), Error> {
    let _lock = match record.points.iter().any(|point| point.kind == Kind::Volume) {
        true => Some(lock(engine, false)?),
        false => None,
    };
    record.write(dir)
}

/// Makes sure that what `point` of container `id` shows is there: a path of the host as a directory, as docker does
/// for `-v`; a volume, with what the image has in its place if there is nothing in it yet.
pub(crate) fn prepare(engine: &Engine, id: &str, root: Root<'_>, point: &Point) -> Result<(), Error> {
    match (point.kind, &point.name) {
        (Kind::Bind, _) => match fs::symlink_metadata(&point.source) {
            Err(e) if e.kind() == ErrorKind::NotFound && point.must_exist => Err(Error::Invalid(format!(
                "bind source path does not exist: {}; make it first, or use -v, which makes a directory",
                point.source.display()
            ))),
            Err(e) if e.kind() == ErrorKind::NotFound => fs::create_dir_all(&point.source)
                .map_err(Error::io(format!("make directory {:?} for -v", point.source))),
            _ => Ok(()),
        },
        (Kind::Volume, Some(name)) => fill(engine, id, root, point, name),
        _ => Ok(()),
    }
}

fn fill(engine: &Engine, id: &str, root: Root<'_>, point: &Point, name: &str) -> Result<(), Error> {
    let place = engine.volumes().join(name);
    let data = place.join("_data");
    let exists = match fs::read_dir(&data) {
        Ok(mut entries) => match entries.next() {
            None if point.copy_up => true,
            _ => return Ok(()),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => false,
        Err(e) => return Err(Error::io(format!("list {data:?}"))(e)),
    };
    let from = if point.copy_up { root.directory(&point.target)? } else { None };
    if exists {
        let Some(from) = from else { return Ok(()) };
        let shared = users(engine, name)?.iter().any(|user| user.id != id);
        // Others have it mounted: the directory itself must stay.
        return if shared { copy(&from, &data) } else { replace(engine, id, &from, &data) };
    }
    let staging = engine.container(id).join("volume");
    build(&staging, &VolumeRecord::new(Vec::new()), from.as_ref())?;
    publish(&staging, &place).map(drop)
}

/// Makes a volume at `staging`, with the content of `from`.
pub(crate) fn build(staging: &Path, record: &VolumeRecord, from: Option<&OwnedFd>) -> Result<(), Error> {
    crate::place::make_dir(staging, 0o700)?;
    crate::place::make_dir(&staging.join("_data"), 0o755)?;
    record::write(&VolumeRecord::path(staging), record)?;
    from.map_or(Ok(()), |from| copy(from, &staging.join("_data")))
}

/// Puts a volume where it belongs; `false`: another process was first, and its volume stays.
pub(crate) fn publish(staging: &Path, place: &Path) -> Result<bool, Error> {
    match fs::rename(staging, place) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            crate::tree::remove(staging).map_err(Error::io(format!("remove {staging:?}")))?;
            Ok(false)
        }
        Err(e) => Err(Error::io(format!("rename {staging:?} to {place:?}"))(e)),
    }
}

/// Puts a copy of `from` in the place of an empty directory, all at once.
fn replace(engine: &Engine, id: &str, from: &OwnedFd, data: &Path) -> Result<(), Error> {
    let staging = engine.container(id).join("volume");
    crate::place::make_dir(&staging, 0o755)?;
    copy(from, &staging)?;
    publish(&staging, data).map(drop)
}

fn copy(from: &OwnedFd, to: &Path) -> Result<(), Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let to = nix::fcntl::open(to, flags, Mode::empty())
        .map_err(|e| Error::io(format!("open {to:?}"))(e.into()))?;
    store::copy_tree(from.as_fd(), to.as_fd())?;
    Ok(())
}

/// Containers that use a volume, whether they run or not.
pub(crate) fn users(engine: &Engine, name: &str) -> Result<Vec<Record>, Error> {
    let uses = |record: &Record| record.points.iter().any(|point| point.name.as_deref() == Some(name));
    Ok(name::records(engine)?.into_iter().filter(uses).collect())
}

/// Removes the anonymous volumes among `points` that no container but `id` uses.
pub(crate) fn remove_anonymous(engine: &Engine, id: &str, points: &[Point]) -> Result<(), Error> {
    for point in points.iter().filter(|point| point.anonymous) {
        if let Some(name) = point.name.as_deref().filter(|name| is_name(name)) {
            let lock = lock(engine, true)?;
            if users(engine, name)?.iter().any(|user| user.id != id) {
                continue;
            }
            let gone = take_away(engine, name)?;
            drop(lock);
            crate::tree::remove(&gone).map_err(Error::io(format!("remove {gone:?}")))?;
        }
    }
    // One that was killed in between may have left a part of them.
    if points.iter().any(|point| point.anonymous) { crate::volumes::sweep(engine) } else { Ok(()) }
}

/// Renames a volume to what the next command that removes volumes takes for garbage. The caller holds the lock.
pub(crate) fn take_away(engine: &Engine, name: &str) -> Result<PathBuf, Error> {
    let place = engine.volumes().join(name);
    let gone = garbage(engine)?;
    match fs::rename(&place, &gone) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("rename {place:?} to {gone:?}"))(e))
        }
        _ => Ok(gone),
    }
}

/// Begins the name of what is being made or removed; no volume's name begins so.
pub(crate) const GARBAGE: &str = ".garbage-";

/// A path that nobody uses, for a directory that is removed if this process is killed.
pub(crate) fn garbage(engine: &Engine) -> Result<PathBuf, Error> {
    Ok(engine.volumes().join(format!("{GARBAGE}{}", name::new_id()?)))
}

/// What `--volumes-from CONTAINER[:ro|rw]` brings: the other's binds and volumes.
pub(crate) fn from_others(engine: &Engine, options: &options::RunOptions) -> Result<Vec<Point>, Error> {
    let mut points: Vec<Point> = Vec::new();
    for wanted in &options.volumes_from {
        let (container, mode) = wanted.split_once(':').unwrap_or((wanted, "rw"));
        if !matches!(mode, "ro" | "rw" | "z" | "Z") {
            return Err(Error::Invalid(format!(
                "invalid mode {mode:?} of --volumes-from {wanted}: wants ro or rw"
            )));
        }
        let id = name::resolve(engine, container)?;
        let none = || Error::NoSuchContainer(container.to_owned());
        let other = Record::read(&engine.container(&id))?.ok_or_else(none)?;
        for mut point in other.points.into_iter().filter(|point| point.kind != Kind::Tmpfs) {
            point.copy_up = false;
            if mode == "ro" && point.writable() {
                point.options.push("rro".to_owned());
            }
            points.retain(|earlier| earlier.target != point.target);
            points.push(point);
        }
    }
    Ok(points)
}
