//! Volumes: directories that outlive a container, below ROOT/volumes.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::mount::{Kind, Point, is_name};
use crate::root::Root;
use crate::{Engine, Error};

/// Makes sure that what `point` shows is there: a path of the host as a directory, as docker does; a volume with what
/// the image has in its place. A volume is built in the container's directory `dir` and appears complete.
pub(crate) fn prepare(engine: &Engine, dir: &Path, root: Root<'_>, point: &Point) -> Result<(), Error> {
    match (point.kind, &point.name) {
        (Kind::Bind, _) => match fs::symlink_metadata(&point.source) {
            Err(e) if e.kind() == ErrorKind::NotFound => fs::create_dir_all(&point.source)
                .map_err(Error::io(format!("make directory {:?} for -v", point.source))),
            _ => Ok(()),
        },
        (Kind::Volume, Some(name)) => make(engine, dir, root, point, name),
        _ => Ok(()),
    }
}

fn make(engine: &Engine, dir: &Path, root: Root<'_>, point: &Point, name: &str) -> Result<(), Error> {
    let place = engine.volumes().join(name);
    if place.exists() {
        return Ok(());
    }
    let staging = dir.join("volume");
    let data = staging.join("_data");
    crate::place::make_dir(&staging, 0o700)?;
    crate::place::make_dir(&data, 0o755)?;
    if point.copy_up
        && let Some(from) = root.directory(&point.target)?
    {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let to = nix::fcntl::open(&data, flags, Mode::empty())
            .map_err(|e| Error::io(format!("open {data:?}"))(e.into()))?;
        store::copy_tree(from.as_fd(), to.as_fd())?;
    }
    match fs::rename(&staging, &place) {
        // Another container was first.
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            crate::tree::remove(&staging).map_err(Error::io(format!("remove {staging:?}")))
        }
        result => result.map_err(Error::io(format!("rename {staging:?} to {place:?}"))),
    }
}

/// Removes the anonymous volumes among `points`.
pub(crate) fn remove_anonymous(engine: &Engine, points: &[Point]) -> Result<(), Error> {
    for point in points.iter().filter(|point| point.anonymous) {
        if let Some(name) = point.name.as_deref().filter(|name| is_name(name)) {
            let place = engine.volumes().join(name);
            crate::tree::remove(&place).map_err(Error::io(format!("remove volume {place:?}")))?;
        }
    }
    Ok(())
}
