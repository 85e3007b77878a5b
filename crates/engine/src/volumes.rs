//! `volume create`, `ls`, `inspect`, `rm`, `prune`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::leftover::enter;
use crate::mount::is_name;
use crate::record::Record;
use crate::size::written;
use crate::volume::{GARBAGE, VolumeRecord, build, garbage, lock, publish, take_away};
use crate::{Engine, Error, name, tree};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSummary {
    /// Its name; 64 hex digits if nobody named it.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Where its files are on the host.
    pub mountpoint: PathBuf,
    /// Names of the containers that use it, whether they run or not.
    pub users: Vec<String>,
}

impl VolumeSummary {
    /// It was made for one container, without a name.
    pub fn is_anonymous(&self) -> bool {
        name::is_id(&self.name)
    }
}

/// Makes a volume, with a name that is made up if none is given, and tells the name. That it is there already is no
/// error, and changes nothing.
///
/// # Errors
/// The name cannot be one.
pub fn create_volume(
    engine: &Engine,
    wanted: Option<&str>,
    labels: Vec<(String, String)>,
) -> Result<String, Error> {
    enter(engine)?;
    sweep(engine)?;
    let name = match wanted {
        Some(name) => name.to_owned(),
        None => name::new_id()?,
    };
    check(&name)?;
    let place = engine.volumes().join(&name);
    if place.exists() {
        return Ok(name);
    }
    let staging = garbage(engine)?;
    let lock = lock(engine, false)?;
    let made = build(&staging, &VolumeRecord::new(labels), None).and_then(|()| publish(&staging, &place));
    drop(lock);
    if made.is_err() {
        // The first error is the one to tell.
        let _ = tree::remove(&staging);
    }
    made.map(|_| name)
}

fn check(name: &str) -> Result<(), Error> {
    match is_name(name) {
        true => Ok(()),
        false => {
            Err(Error::Invalid(format!("invalid volume name {name:?}: wants [a-zA-Z0-9][a-zA-Z0-9_.-]*")))
        }
    }
}

/// All volumes, by name.
///
/// # Errors
/// The volumes or the containers' records cannot be read.
pub fn volumes(engine: &Engine) -> Result<Vec<VolumeSummary>, Error> {
    enter(engine)?;
    let dir = engine.volumes();
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Error::io(format!("list {dir:?}")))? {
        let entry = entry.map_err(Error::io(format!("list {dir:?}")))?;
        names.extend(entry.file_name().into_string().ok().filter(|name| is_name(name)));
    }
    names.sort();
    let records = name::records(engine)?;
    let found = names.iter().map(|name| summary(engine, name, &records)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// One volume.
///
/// # Errors
/// [`Error::NoSuchVolume`].
pub fn inspect_volume(engine: &Engine, name: &str) -> Result<VolumeSummary, Error> {
    enter(engine)?;
    let none = || Error::NoSuchVolume(name.to_owned());
    let found = if is_name(name) { summary(engine, name, &name::records(engine)?)? } else { None };
    found.ok_or_else(none)
}

/// `None`: it has gone meanwhile.
fn summary(engine: &Engine, name: &str, records: &[Record]) -> Result<Option<VolumeSummary>, Error> {
    let dir = engine.volumes().join(name);
    let Some(record) = VolumeRecord::read(&dir)? else { return Ok(None) };
    let uses = |record: &&Record| record.points.iter().any(|point| point.name.as_deref() == Some(name));
    Ok(Some(VolumeSummary {
        name: name.to_owned(),
        created: record.created.div_euclid(1_000_000_000),
        labels: record.labels,
        mountpoint: dir.join("_data"),
        users: records.iter().filter(uses).map(|record| record.name.clone()).collect(),
    }))
}

/// Removes a volume that no container uses.
///
/// # Errors
/// [`Error::NoSuchVolume`], [`Error::VolumeInUse`].
pub fn remove_volume(engine: &Engine, name: &str) -> Result<(), Error> {
    enter(engine)?;
    sweep(engine)?;
    let lock = lock(engine, true)?;
    let volume = inspect_volume(engine, name)?;
    if !volume.users.is_empty() {
        return Err(Error::VolumeInUse { name: name.to_owned(), containers: volume.users });
    }
    let gone = take_away(engine, name)?;
    drop(lock);
    discard(&gone)
}

/// Another process may be removing the same.
fn discard(path: &Path) -> Result<(), Error> {
    match tree::remove(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(format!("remove {path:?}"))(e)),
        _ => Ok(()),
    }
}

/// Removes the volumes that no container uses and that `wanted` holds for; tells their names and the bytes that this
/// gave back.
///
/// # Errors
/// The volumes cannot be read or removed; what was removed before stays removed.
pub fn prune_volumes(
    engine: &Engine,
    wanted: impl Fn(&VolumeSummary) -> bool,
) -> Result<(Vec<String>, u64), Error> {
    let (mut names, mut bytes) = (Vec::new(), 0);
    enter(engine)?;
    sweep(engine)?;
    for volume in volumes(engine)?.into_iter().filter(|volume| volume.users.is_empty() && wanted(volume)) {
        let size = written(&volume.mountpoint).unwrap_or(0);
        match remove_volume(engine, &volume.name) {
            Ok(()) => {
                bytes += size;
                names.push(volume.name);
            }
            // Somebody was quicker, or has just begun to use it.
            Err(Error::NoSuchVolume(_) | Error::VolumeInUse { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((names, bytes))
}

/// Removes what killed processes were about to remove or had not made whole.
pub(crate) fn sweep(engine: &Engine) -> Result<(), Error> {
    let dir = engine.volumes();
    // Whoever makes a volume holds the lock too, so what is there now is nobody's.
    let lock = lock(engine, true)?;
    let entries = fs::read_dir(&dir).map_err(Error::io(format!("list {dir:?}")))?.flatten();
    let is_garbage = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(GARBAGE.as_bytes()))
    };
    let garbage: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_garbage).collect();
    drop(lock);
    garbage.iter().try_for_each(|path| discard(path))
}
