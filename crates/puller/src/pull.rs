//! The pull from its beginning to its end: the manifest, then all layers at once, then the commit.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci::sink::ImageSink;

use crate::image::Image;
use crate::reader::Origin;
use crate::registries::Registries;
use crate::request::{Pulled, Request};
use crate::{Error, Event, Source, layers};

/// What every part of one pull shares.
pub(crate) struct Pull<'a> {
    pub(crate) request: &'a Request,
    pub(crate) sink: &'a dyn ImageSink,
    pub(crate) events: &'a (dyn Fn(Event) + Sync),
    pub(crate) registries: Registries,
    cancel: &'a AtomicBool,
    /// One part has failed: the others need not go on.
    failed: AtomicBool,
    warned: Mutex<HashSet<String>>,
}

/// Fetches an image into `sink`, and returns when it is committed there or has failed; no thread outlives the
/// call. `events` is called from several threads. Once `cancel` is set the pull ends within a second with
/// [`Error::Cancelled`], as long as the sink's own calls return.
///
/// # Errors
/// See [`Error`]. Nothing is committed then; what the sink holds of unfinished layers it was told to drop.
pub fn pull(
    request: &Request,
    sink: &dyn ImageSink,
    events: &(dyn Fn(Event) + Sync),
    cancel: &AtomicBool,
) -> Result<Pulled, Error> {
    let registries = match request.source {
        Source::Registry(_) => Registries::read(&request.settings.registries)?,
        _ => Registries::default(),
    };
    let failed = AtomicBool::new(false);
    let pull = Pull { request, sink, events, registries, cancel, failed, warned: Mutex::default() };
    let origin = Origin::open(&pull)?;
    let image = origin.image(&pull)?;
    receive(&pull, &origin, &image)?;
    Ok(Pulled { manifest: image.manifest, config: image.config, pinned: image.pinned, names: image.names })
}

fn receive(pull: &Pull<'_>, origin: &Origin, image: &Image) -> Result<(), Error> {
    (pull.events)(Event::Layers(image.layers.clone()));
    let sink_failed = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Sink { what, source }
    };
    pull.sink.begin(&image.layers).map_err(sink_failed("the list of layers"))?;
    layers::fetch(pull, origin, &image.layers)?;
    pull.check()?;
    pull.sink.commit(&image.manifest, &image.config).map_err(sink_failed("the image"))
}

impl Pull<'_> {
    /// Fails if the caller has asked for the end or another part of this pull has failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.stopped() { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Ends the other parts of this pull.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Runs `work` until it ends or the pull is stopped.
    pub(crate) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let stopped = async {
            while !self.stopped() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            result = work => result,
            () = stopped => Err(Error::Cancelled),
        }
    }

    /// Passes on a warning the first time it is met.
    pub(crate) fn warn_once(&self, text: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < 100 && warned.insert(text.to_owned()) {
            drop(warned);
            (self.events)(Event::Warning(text.to_owned()));
        }
    }

    /// Keeps a document in the sink.
    pub(crate) fn keep(&self, what: &str, digest: &oci::Digest, bytes: &[u8]) -> Result<(), Error> {
        let what = || format!("{what} {digest}");
        self.sink.put_document(digest, bytes).map_err(|source| Error::Sink { what: what(), source })
    }

    /// A document that the sink has already.
    pub(crate) fn kept(&self, digest: &oci::Digest) -> Result<Option<Vec<u8>>, Error> {
        self.sink
            .document(digest)
            .map_err(|source| Error::Sink { what: format!("document {digest}"), source })
    }
}
