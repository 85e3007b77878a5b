//! How much room everything takes: images, containers, volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use store::{Image, Store};

use crate::leftover::enter;
use crate::size::written;
use crate::{ContainerSummary, Engine, Error, ImageSummary, VolumeSummary, image, ps, volumes};

/// What `system df` says. All sizes are bytes of file content.
#[derive(Debug, Clone)]
pub struct DiskUsage {
    /// All images, newest first.
    pub images: Vec<ImageRoom>,
    /// Their layers, each once however many images have it.
    pub layers: u64,
    /// Layers that no container's image has.
    pub unused_layers: u64,
    /// All containers, newest first.
    pub containers: Vec<ContainerRoom>,
    /// All volumes by name, and their sizes.
    pub volumes: Vec<(VolumeSummary, u64)>,
}

/// An image in [`DiskUsage`].
#[derive(Debug, Clone)]
pub struct ImageRoom {
    /// The image, with its whole size.
    pub image: ImageSummary,
    /// What of it other images have too.
    pub shared: u64,
    /// How many containers were made of it.
    pub containers: usize,
}

/// A container in [`DiskUsage`].
#[derive(Debug, Clone)]
pub struct ContainerRoom {
    /// The container.
    pub container: ContainerSummary,
    /// What it has written.
    pub written: u64,
    /// How many volumes it has.
    pub volumes: usize,
}

/// Measures everything, which takes a walk through all that containers have written and through all volumes.
///
/// # Errors
/// The records or the store cannot be read.
pub fn disk_usage(engine: &Engine) -> Result<DiskUsage, Error> {
    enter(engine)?;
    let all = ps(engine, true)?;
    let store = Store::open(&engine.root)?;
    let (names, sizes) = (store.names()?, store.layer_sizes()?);
    let images = store.images()?;
    let users = |image: &Image| all.iter().filter(|container| container.image_id == image.id).count();
    let used: Vec<&Image> = images.iter().filter(|image| users(image) > 0).collect();
    let room = |image: &Image| ImageRoom {
        image: image::summary(image, &names),
        shared: shared(image, &images, &sizes),
        containers: users(image),
    };
    let layers = sum(images.iter(), &sizes);
    Ok(DiskUsage {
        images: images.iter().map(room).collect(),
        unused_layers: layers - sum(used.into_iter(), &sizes),
        layers,
        volumes: measured(volumes(engine)?),
        containers: all.iter().map(|container| occupied(engine, container)).collect(),
    })
}

/// Bytes of the layers of these images, each layer once.
fn sum<'a>(images: impl Iterator<Item = &'a Image>, sizes: &BTreeMap<PathBuf, u64>) -> u64 {
    let layers: BTreeSet<&PathBuf> = images.flat_map(|image| &image.layers).collect();
    layers.into_iter().filter_map(|layer| sizes.get(layer)).sum()
}

/// Bytes of the layers of `image` that another image has too.
fn shared(image: &Image, all: &[Image], sizes: &BTreeMap<PathBuf, u64>) -> u64 {
    let others = || all.iter().filter(|other| other.id != image.id);
    let is_shared = |layer: &&PathBuf| others().any(|other| other.layers.contains(layer));
    image.layers.iter().filter(is_shared).filter_map(|layer| sizes.get(layer)).sum()
}

/// What cannot be measured because it just goes counts as nothing.
fn measured(volumes: Vec<VolumeSummary>) -> Vec<(VolumeSummary, u64)> {
    let size = |volume: VolumeSummary| {
        let bytes = written(&volume.mountpoint).unwrap_or(0);
        (volume, bytes)
    };
    volumes.into_iter().map(size).collect()
}

fn occupied(engine: &Engine, container: &ContainerSummary) -> ContainerRoom {
    ContainerRoom {
        written: written(&engine.container(&container.id).join("upper")).unwrap_or(0),
        volumes: container.volumes,
        container: container.clone(),
    }
}
