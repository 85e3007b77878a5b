//! Images by the names that users give them.

use std::sync::atomic::AtomicBool;

use oci::{Digest, Platform, Reference};
use puller::{Request, Settings, Source};
use store::{Image, Sink, Store};

use crate::leftover::enter;
use crate::options::{PullOptions, PullPolicy, RunOptions};
use crate::{Engine, Error, Event, ImageSummary, PulledImage, RemovedImage, name};

/// Fetches an image and gives it its names. `events` is called from several threads. Once `cancel` is set the pull
/// ends within a second, with [`Error::Pull`].
///
/// # Errors
/// Whatever the registry, the network, the image or the store is to blame for.
pub fn pull(
    engine: &Engine,
    options: &PullOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<PulledImage, Error> {
    enter(engine)?;
    Ok(fetch(&Store::open(&engine.root)?, options, events, cancel)?.0)
}

/// The second thing keeps the image from being taken for garbage.
fn fetch(
    store: &Store,
    options: &PullOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<(PulledImage, Sink), Error> {
    let source: Source = options.image.parse().map_err(|e| Error::Invalid(format!("{e}")))?;
    fetch_as(store, source, options, events, cancel)
}

/// As [`fetch`], for a source that may have no text: a path with a colon.
pub(crate) fn fetch_from(
    store: &Store,
    source: Source,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<(PulledImage, Sink), Error> {
    fetch_as(store, source, &PullOptions::new(""), events, cancel)
}

fn fetch_as(
    store: &Store,
    source: Source,
    options: &PullOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<(PulledImage, Sink), Error> {
    let mut settings = Settings::of_process();
    settings.auth_files.splice(0..0, options.auth_file.clone());
    let request = Request {
        platform: options.platform.clone(),
        settings,
        tls_verify: options.tls_verify,
        cert_dir: options.cert_dir.clone(),
        ..Request::new(source)
    };
    let sink = store.sink()?;
    let pulled = puller::pull(&request, &sink, events, cancel)?;
    for reference in &pulled.names {
        store.tag(reference, &pulled.config)?;
    }
    Ok((PulledImage { id: pulled.config, digest: pulled.pinned, names: pulled.names }, sink))
}

/// The image that `run` is about, pulled if the policy says so; then with what keeps it until it is pinned.
pub(crate) fn obtain(
    store: &Store,
    options: &RunOptions,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<(Image, Option<Sink>), Error> {
    let found = match options.pull {
        PullPolicy::Always => None,
        PullPolicy::Missing | PullPolicy::Never => find(store, &options.image, options.platform.as_ref())?,
    };
    match found {
        Some(image) => Ok((image, None)),
        None if options.pull == PullPolicy::Never => Err(Error::NoSuchImage(options.image.clone())),
        None => {
            let asked = PullOptions {
                platform: options.platform.clone(),
                tls_verify: options.tls_verify,
                ..PullOptions::new(&options.image)
            };
            let (pulled, sink) = fetch(store, &asked, events, cancel)?;
            Ok((store.image(&pulled.id)?, Some(sink)))
        }
    }
}

/// The image of that name or ID, if it is here and for the platform. What a layout or archive holds may have changed
/// since it was read, so that is never "here".
pub(crate) fn find(store: &Store, wanted: &str, platform: Option<&Platform>) -> Result<Option<Image>, Error> {
    if matches!(wanted.parse(), Ok(source) if !matches!(source, Source::Registry(_))) {
        return Ok(None);
    }
    match store.resolve(wanted) {
        Ok(image) => {
            Ok(Some(image).filter(|image| platform.is_none_or(|p| p.rank(&platform_of(image)).is_some())))
        }
        Err(store::Error::NoImage(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What the image says it runs on.
pub(crate) fn platform_of(image: &Image) -> Platform {
    let config = &image.config;
    Platform::normalised(
        &config.os().to_string(),
        &config.architecture().to_string(),
        config.variant().as_deref(),
    )
}

/// All images, newest first.
///
/// # Errors
/// The store cannot be read.
pub fn images(engine: &Engine) -> Result<Vec<ImageSummary>, Error> {
    enter(engine)?;
    let store = Store::open(&engine.root)?;
    let names = store.names()?;
    Ok(store.images()?.iter().map(|image| summary(image, &names)).collect())
}

/// What a listing says of an image; `names` are those of all images.
pub(crate) fn summary(image: &Image, names: &[(Reference, Digest)]) -> ImageSummary {
    ImageSummary {
        names: names.iter().filter(|(_, id)| *id == image.id).map(|(name, _)| name.clone()).collect(),
        platform: platform_of(image),
        created: image.config.created().clone(),
        labels: labels(image),
        id: image.id.clone(),
        manifest: image.manifest.clone(),
        size: image.size,
    }
}

/// Labels of the image's config, sorted.
pub(crate) fn labels(image: &Image) -> Vec<(String, String)> {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone());
    let mut labels: Vec<_> = labels.unwrap_or_default().into_iter().collect();
    labels.sort();
    labels
}

/// Removes a name, or with its ID an image and, with `force`, all its names.
///
/// # Errors
/// [`Error::NoSuchImage`], [`Error::ImageInUse`].
pub fn remove_image(engine: &Engine, image: &str, force: bool) -> Result<Vec<RemovedImage>, Error> {
    enter(engine)?;
    let store = Store::open(&engine.root)?;
    let removed = store.remove(image, force).map_err(|e| match e {
        store::Error::NoImage(wanted) => Error::NoSuchImage(wanted),
        store::Error::InUse { holders, .. } => {
            let holder = holders.into_iter().next().unwrap_or_default();
            let names = name::records(engine).unwrap_or_default();
            let container = names.into_iter().find(|record| record.id == holder).map(|record| record.name);
            Error::ImageInUse { image: image.to_owned(), container: container.unwrap_or(holder) }
        }
        other => other.into(),
    })?;
    let untagged = removed.untagged.into_iter().map(RemovedImage::Untagged);
    Ok(untagged.chain(removed.deleted.map(RemovedImage::Deleted)).collect())
}

/// Names of one image.
pub(crate) fn names_of(store: &Store, image: &Image) -> Result<Vec<Reference>, Error> {
    let names = store.names()?;
    Ok(names.into_iter().filter(|(_, id)| *id == image.id).map(|(name, _)| name).collect())
}
