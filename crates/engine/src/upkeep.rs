//! The store as a whole: is it sound, and what in it is of no use any more.

use oci::Digest;
use store::Store;
pub use store::{Finding, Problem};

use crate::{ContainerStatus, Engine, Error, RemoveOptions, RemovedImage, ps, remove};

/// What [`prune`] may remove, besides containers that do not run and what killed processes left.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneOptions {
    /// Every image that no container uses; otherwise only those without a name.
    pub all_images: bool,
    /// The containers' volumes without a name.
    pub volumes: bool,
}

/// What [`prune`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// IDs of containers.
    pub containers: Vec<String>,
    /// Images and their names.
    pub images: Vec<RemovedImage>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Bytes of images and layers; the containers' own files are not counted.
    pub bytes: u64,
}

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

/// Removes containers that do not run, images without use, and layers and documents without an image.
///
/// # Errors
/// The store or the records cannot be read or written; what was removed before stays removed.
pub fn prune(engine: &Engine, options: PruneOptions) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    for container in ps(engine, true)? {
        if container.status.is_up() || matches!(container.status, ContainerStatus::Restarting(_)) {
            continue;
        }
        match remove(engine, &container.id, RemoveOptions { force: false, volumes: options.volumes }) {
            Ok(id) => pruned.containers.push(id),
            // Someone else was quicker, or it is being started just now.
            Err(Error::NoSuchContainer(_) | Error::Running(_)) => {}
            Err(error) => return Err(error),
        }
    }
    pruned.networks = crate::prune_networks(engine)?;
    let store = Store::open(&engine.root)?;
    let names = store.names()?;
    for image in store.images()? {
        let own: Vec<_> = names.iter().filter(|(_, id)| *id == image.id).collect();
        if !own.is_empty() && !options.all_images {
            continue;
        }
        let in_use = |id: &Digest| store.pins().map(|pins| pins.iter().any(|pin| pin.image == *id));
        if in_use(&image.id)? {
            continue;
        }
        match store.remove(image.id.as_str(), true) {
            Ok(removed) => {
                pruned.bytes += removed.reclaimed.bytes;
                pruned.images.extend(removed.untagged.into_iter().map(RemovedImage::Untagged));
                pruned.images.extend(removed.deleted.map(RemovedImage::Deleted));
            }
            Err(store::Error::NoImage(_) | store::Error::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    pruned.bytes += store.gc()?.bytes;
    Ok(pruned)
}
