//! What there is by name, for completions and for guesses at what a mistyped name should have been.

use std::fs;
use std::path::Path;

use oci::Reference;

use crate::{Engine, image, name};

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// A container, in whatever state.
    Container,
    /// An image, by its names without a digest.
    Image,
    /// A network.
    Network,
    /// A volume that has a name.
    Volume,
}

/// The names of all things of a kind, sorted. Makes nothing, and what cannot be read has no names.
pub fn names(engine: &Engine, of: Thing) -> Vec<String> {
    if !engine.root.is_dir() {
        return Vec::new();
    }
    let mut all = match of {
        Thing::Container => files(&engine.names()),
        Thing::Volume => files(&engine.volumes()).into_iter().filter(|name| !name::is_id(name)).collect(),
        Thing::Network => {
            let networks = engine.networks().list().unwrap_or_default();
            // The default one is there for everybody, also before its first use.
            let default = std::iter::once(network::DEFAULT.to_owned());
            networks.into_iter().map(|network| network.name).chain(default).collect()
        }
        Thing::Image => {
            let images = image::images(engine).unwrap_or_default();
            let names = images.iter().flat_map(|image| &image.names).filter(|name| name.digest().is_none());
            names.map(Reference::familiar).collect()
        }
    };
    all.sort();
    all.dedup();
    all
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
