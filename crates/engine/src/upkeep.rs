//! The store as a whole: is it sound, and what in it is of no use any more.

use store::Store;
pub use store::{Finding, Problem};

use crate::size::written;
use crate::{
    ContainerStatus, ContainerSummary, Engine, Error, ImageSummary, RemoveOptions, RemovedImage, images, ps,
    remove,
};

/// Checks every record, document and layer of the store. An empty answer is a sound store.
///
/// # Errors
/// The store cannot be read.
pub fn fsck(engine: &Engine) -> Result<Vec<Finding>, Error> {
    let mut findings = Store::open(&engine.root)?.fsck()?;
    // The store knows only its own; these are the engine's, in the same place.
    let networks = engine.root.join("networks");
    let ours = [engine.containers(), engine.locks(), engine.names(), engine.volumes(), networks];
    findings.retain(|finding| finding.problem != Problem::Stray || !ours.contains(&finding.path));
    Ok(findings)
}

/// Removes the containers that do not run and that `wanted` holds for; tells their IDs and how many bytes they had written.
/// Their volumes stay.
///
/// # Errors
/// The records cannot be read, or a container not removed; what was removed before stays removed.
pub fn prune_containers(
    engine: &Engine,
    wanted: impl Fn(&ContainerSummary) -> bool,
) -> Result<(Vec<String>, u64), Error> {
    let (mut ids, mut bytes) = (Vec::new(), 0);
    for container in ps(engine, true)? {
        let restarting = matches!(container.status, ContainerStatus::Restarting(_));
        if container.status.is_up() || restarting || !wanted(&container) {
            continue;
        }
        let size = written(&engine.container(&container.id).join("upper")).unwrap_or(0);
        match remove(engine, &container.id, RemoveOptions::default()) {
            Ok(id) => {
                bytes += size;
                ids.push(id);
            }
            // Someone else was quicker, or it is being started just now.
            Err(Error::NoSuchContainer(_) | Error::Running(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((ids, bytes))
}

/// Removes the images that no container uses and that `wanted` holds for, with all their names, and then layers and
/// documents that no image needs. Tells what went, and how many bytes that gave back.
///
/// # Errors
/// The store cannot be read or written; what was removed before stays removed.
pub fn prune_images(
    engine: &Engine,
    wanted: impl Fn(&ImageSummary) -> bool,
) -> Result<(Vec<RemovedImage>, u64), Error> {
    let (mut gone, mut bytes) = (Vec::new(), 0);
    let images = images(engine)?;
    let store = Store::open(&engine.root)?;
    for image in images.iter().filter(|image| wanted(image)) {
        // Asked each time, because a container may just have been made of it.
        if store.pins()?.iter().any(|pin| pin.image == image.id) {
            continue;
        }
        match store.remove(image.id.as_str(), true) {
            Ok(removed) => {
                bytes += removed.reclaimed.bytes;
                gone.extend(removed.untagged.into_iter().map(RemovedImage::Untagged));
                gone.extend(removed.deleted.map(RemovedImage::Deleted));
            }
            Err(store::Error::NoImage(_) | store::Error::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes += store.gc()?.bytes;
    Ok((gone, bytes))
}
