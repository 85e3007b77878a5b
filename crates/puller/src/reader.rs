//! The places an image is read from: registries in turn, or one local layout or archive.

use std::sync::OnceLock;

use oci::sink::Layer;
use tokio::runtime::{Builder, Runtime};

use crate::archive::DockerArchive;
use crate::document::Descriptor;
use crate::error::one_line;
use crate::http::Http;
use crate::image::{self, Fetched, Image};
use crate::layout::Layout;
use crate::pull::Pull;
use crate::registry::Registry;
use crate::tls::Tls;
use crate::{Error, Event, Source, blob};

/// Where this pull reads; shared by its threads.
pub(crate) enum Origin {
    /// Mirrors and last the image's own registry.
    Registries {
        places: Vec<Registry>,
        tls: Tls,
        chosen: OnceLock<usize>,
    },
    Layout(Layout),
    DockerArchive(DockerArchive),
}

/// One thread's way to one place.
pub(crate) enum Reader<'a> {
    Registry(&'a Connection<'a>, &'a Registry),
    Layout(&'a Layout),
    DockerArchive(&'a DockerArchive),
}

/// One thread's HTTP clients and the runtime that drives them.
pub(crate) struct Connection<'a> {
    runtime: Runtime,
    http: Http<'a>,
}

impl Origin {
    pub(crate) fn open(pull: &Pull<'_>) -> Result<Self, Error> {
        let request = pull.request;
        Ok(match &request.source {
            Source::Registry(reference) => {
                let places = pull.registries.places(reference)?;
                let places =
                    places.into_iter().map(|place| Registry::new(place, request.tls_verify)).collect();
                Self::Registries { places, tls: Tls::new(request), chosen: OnceLock::new() }
            }
            Source::OciDir { path, tag } => Self::Layout(Layout::dir(path, tag.as_deref())),
            Source::OciArchive { path, tag } => Self::Layout(Layout::archive(pull, path, tag.as_deref())?),
            Source::DockerArchive { path, name } => {
                Self::DockerArchive(DockerArchive::open(pull, path, name.as_ref())?)
            }
        })
    }

    /// Finds the image: in the first place that has it.
    pub(crate) fn image(&self, pull: &Pull<'_>) -> Result<Image, Error> {
        match self {
            Self::Layout(layout) => {
                (pull.events)(Event::Resolving { location: layout.location() });
                let (root, names) = layout.root()?;
                image::find(pull, &Reader::Layout(layout), root, names)
            }
            Self::DockerArchive(archive) => {
                (pull.events)(Event::Resolving { location: archive.location() });
                let (root, names) = archive.root();
                let image = image::find(pull, &Reader::DockerArchive(archive), root, names)?;
                Ok(Image { pinned: None, ..image })
            }
            Self::Registries { places, tls, chosen } => {
                let connection = Connection::new(pull, tls)?;
                let mut mirrors = Vec::new();
                for (index, place) in places.iter().enumerate() {
                    (pull.events)(Event::Resolving { location: place.name() });
                    match image_at(pull, &connection, place) {
                        Ok(image) => {
                            let _ = chosen.set(index);
                            return Ok(image);
                        }
                        Err(error @ (Error::Cancelled | Error::Sink { .. })) => return Err(error),
                        Err(error) if place.place.mirror => {
                            let (location, error) = (place.name(), one_line(&error.to_string(), 300));
                            mirrors.push(format!("{location}: {error}"));
                            (pull.events)(Event::MirrorFailed { location, error });
                        }
                        Err(primary) if mirrors.is_empty() => return Err(primary),
                        Err(primary) => {
                            let primary = Box::new(primary);
                            return Err(Error::Mirrors { primary, mirrors: mirrors.join("; ") });
                        }
                    }
                }
                unreachable!("the last place is the image's own, which returns")
            }
        }
    }

    /// What one thread needs to fetch layers; `None` for local files.
    pub(crate) fn connect<'a>(&'a self, pull: &'a Pull<'a>) -> Result<Option<Connection<'a>>, Error> {
        match self {
            Self::Registries { tls, .. } => Connection::new(pull, tls).map(Some),
            _ => Ok(None),
        }
    }

    /// Feeds one layer to a writer that `open` makes, from the place that had the manifest, then from others.
    /// `open` is called again where bytes already written turned out to be bad.
    pub(crate) fn layer(
        &self,
        pull: &Pull<'_>,
        connection: Option<&Connection<'_>>,
        layer: &Layer,
        open: &mut blob::Open<'_>,
    ) -> Result<(), Error> {
        match (self, connection) {
            (Self::Registries { places, chosen, .. }, Some(Connection { runtime, http })) => {
                let places = &places[chosen.get().copied().unwrap_or(0)..];
                runtime.block_on(pull.unless_stopped(blob::fetch(pull, http, places, layer, open)))
            }
            (Self::Layout(layout), _) => layout.layer(pull, layer, open),
            (Self::DockerArchive(archive), _) => archive.layer(pull, layer, open),
            (Self::Registries { .. }, None) => unreachable!("a registry's threads have a connection"),
        }
    }
}

fn image_at(pull: &Pull<'_>, connection: &Connection<'_>, place: &Registry) -> Result<Image, Error> {
    let reference = &place.place.reference;
    let kept = match reference.digest() {
        Some(digest) => pull.kept(digest)?.map(|bytes| (bytes, digest.clone(), None)),
        None => None,
    };
    let (bytes, digest, media_type) = match kept {
        Some(kept) => kept,
        None => {
            let manifest = place.manifest(pull, &connection.http, None);
            match connection.runtime.block_on(pull.unless_stopped(manifest)) {
                Err(Error::NotFound { detail, .. }) => return Err(connection.not_found(pull, place, detail)),
                other => other?,
            }
        }
    };
    let Source::Registry(name) = &pull.request.source else { unreachable!("only registries have places") };
    let root = Fetched { bytes, digest, media_type };
    image::find(pull, &Reader::Registry(connection, place), root, vec![name.clone()])
}

impl<'a> Connection<'a> {
    fn new(pull: &'a Pull<'a>, tls: &'a Tls) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(|e| {
            Error::Unreachable {
                host: pull.request.source.to_string(),
                reason: format!("start the network code: {e}"),
            }
        })?;
        Ok(Self { runtime, http: Http::new(tls, &pull.request.limits) })
    }

    /// "No such image", with the tags that do exist where the registry tells.
    fn not_found(&self, pull: &Pull<'_>, place: &Registry, detail: String) -> Error {
        let reference = &place.place.reference;
        let mut hint = String::new();
        if let (Some(tag), None) = (reference.tag(), reference.digest()) {
            let tags = async { Ok(place.tags_like(pull, &self.http, tag).await) };
            match self.runtime.block_on(pull.unless_stopped(tags)) {
                Ok(Some(tags)) if !tags.is_empty() => {
                    hint = format!("; did you mean the tag {}?", tags.join(" or "))
                }
                _ => {}
            }
        }
        Error::NotFound { name: reference.to_string(), detail, hint }
    }
}

impl Reader<'_> {
    /// A name of the place, for messages.
    pub(crate) fn location(&self) -> String {
        match self {
            Self::Registry(_, place) => place.name(),
            Self::Layout(layout) => layout.location(),
            Self::DockerArchive(archive) => archive.location(),
        }
    }

    /// The bytes of a manifest, index or config; at most as many as its descriptor says, not verified.
    pub(crate) fn document(&self, pull: &Pull<'_>, entry: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Self::Layout(layout) => layout.document(entry),
            Self::DockerArchive(archive) => Ok(archive.document(entry)),
            Self::Registry(connection, place) => {
                let work = async {
                    match entry.kind() {
                        oci::MediaKind::Index | oci::MediaKind::Manifest => {
                            Ok(place.manifest(pull, &connection.http, Some(&entry.digest)).await?.0)
                        }
                        _ => place.config(pull, &connection.http, &entry.digest, entry.size).await,
                    }
                };
                match connection.runtime.block_on(pull.unless_stopped(work)) {
                    Err(Error::NotFound { detail, name: location, .. }) => {
                        Err(Error::NoBlob { digest: entry.digest.clone(), location, detail })
                    }
                    other => other,
                }
            }
        }
    }
}
