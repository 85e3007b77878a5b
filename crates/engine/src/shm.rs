//! /dev/shm of a container that shares it: mounted on the host, from where each container that may have it takes it.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::isolation::Ipc;
use crate::record::Record;
use crate::{Engine, Error, name, place};

/// docker's size of it, in bytes.
const USUAL: u64 = 64 << 20;

/// Mounts that of container `id`, anew. `root` are user and group of the host that are the container's root, if others are.
pub(crate) fn make(
    engine: &Engine,
    id: &str,
    size: Option<u64>,
    root: Option<(u32, u32)>,
) -> Result<PathBuf, Error> {
    remove(engine, id)?;
    let path = engine.shm(id);
    place::make_dir_all(&path)?;
    let (uid, gid) = root.unwrap_or_default();
    let options = format!("mode=1777,size={},uid={uid},gid={gid}", size.unwrap_or(USUAL));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let mounted = mount(Some("shm"), &path, Some("tmpfs"), flags, Some(options.as_str()));
    mounted.map_err(|e| Error::io(format!("mount a tmpfs on {path:?}"))(e.into()))?;
    Ok(path)
}

/// That of another container, which must be willing.
pub(crate) fn of_other(engine: &Engine, container: &str) -> Result<PathBuf, Error> {
    let id = name::resolve(engine, container)?;
    let record = Record::read(&engine.container(&id))?;
    let record = record.ok_or_else(|| Error::NoSuchContainer(container.to_owned()))?;
    if record.options.isolation.ipc != Ipc::Shareable {
        return Err(Error::Invalid(format!(
            "cannot join the ipc namespace of container {container}: it is not shareable; make it with --ipc shareable"
        )));
    }
    Ok(engine.shm(&id))
}

/// Takes it off the host; who has it keeps it. It is no error that it is not there.
pub(crate) fn remove(engine: &Engine, id: &str) -> Result<(), Error> {
    let path = engine.shm(id);
    if !path.exists() {
        return Ok(());
    }
    unmount(&path).map_err(|e| Error::io(format!("unmount {path:?}"))(e.into()))?;
    std::fs::remove_dir(&path).map_err(Error::io(format!("remove {path:?}")))
}

fn unmount(path: &Path) -> Result<(), Errno> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EINVAL) => Ok(()),
        done => done,
    }
}
