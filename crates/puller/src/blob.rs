//! One layer's bytes from registries into a writer: resumed where they break off, stopped where there are too
//! many, fetched elsewhere where they are wrong.

use oci::sink::{Layer, LayerWriter, SinkError, WrongContent};

use crate::error::chain;
use crate::http::{Answer, Ask, Failure, Http};
use crate::pull::Pull;
use crate::registry::Registry;
use crate::tries::Tries;
use crate::{Error, Event};

/// Progress that gives a broken download all its tries back.
const REFILL: u64 = 1 << 20;
/// Bytes between two events of progress.
pub(crate) const EVENT_STEP: u64 = 128 << 10;

/// Makes a writer; `None` if the layer has come from elsewhere meanwhile.
pub(crate) type Open<'o> = dyn FnMut() -> Result<Option<Box<dyn LayerWriter>>, Error> + 'o;

/// How one place failed.
enum Outcome {
    Done,
    /// This place cannot serve the layer, another one might.
    Elsewhere(Error),
    Fatal(Error),
}

/// Fetches `layer` from the first of `places` that can serve it.
pub(crate) async fn fetch(
    pull: &Pull<'_>,
    http: &Http<'_>,
    places: &[Registry],
    layer: &Layer,
    open: &mut Open<'_>,
) -> Result<(), Error> {
    let mut first = None;
    for (n, place) in places.iter().enumerate() {
        match from_place(pull, http, place, layer, open).await {
            Outcome::Done => return Ok(()),
            Outcome::Fatal(error) => return Err(error),
            Outcome::Elsewhere(error) => {
                if n + 1 < places.len() {
                    let error = crate::error::one_line(&chain(&error), 300);
                    (pull.events)(Event::MirrorFailed { location: place.name(), error });
                }
                first.get_or_insert(error);
            }
        }
    }
    Err(first.expect("there is at least one place"))
}

async fn from_place(
    pull: &Pull<'_>,
    http: &Http<'_>,
    place: &Registry,
    layer: &Layer,
    open: &mut Open<'_>,
) -> Outcome {
    let mut resumed = false;
    for last in [false, true] {
        let writer = match open() {
            Ok(Some(writer)) => writer,
            Ok(None) => return Outcome::Done,
            Err(error) => return Outcome::Fatal(error),
        };
        let mut download = Download { pull, layer, place, writer, received: 0, announced: 0, resumed: false };
        let stored = match download.run(http).await {
            Err(stop) => Err(stop),
            Ok(()) => {
                resumed = download.resumed;
                (pull.events)(Event::LayerDownloaded { index: layer.index });
                download.writer.finish().map_err(Stop::Sink)
            }
        };
        match stored {
            Ok(()) => return Outcome::Done,
            Err(Stop::Place(error)) => return Outcome::Elsewhere(error),
            Err(Stop::Fatal(error)) => return Outcome::Fatal(error),
            Err(Stop::Sink(source)) => {
                let wrong = source.is::<WrongContent>();
                let error =
                    Error::Sink { what: format!("layer {} from {}", layer.digest, place.name()), source };
                match (wrong, resumed && !last) {
                    (false, _) => return Outcome::Fatal(error),
                    // Two halves that do not fit: once more in one piece.
                    (true, true) => {}
                    (true, false) => return Outcome::Elsewhere(error),
                }
            }
        }
    }
    unreachable!("the second round returns")
}

/// Why a download stopped.
enum Stop {
    Place(Error),
    Fatal(Error),
    Sink(SinkError),
}

struct Download<'a> {
    pull: &'a Pull<'a>,
    layer: &'a Layer,
    place: &'a Registry,
    writer: Box<dyn LayerWriter>,
    /// Bytes handed to the writer.
    received: u64,
    /// `received` at the last event.
    announced: u64,
    resumed: bool,
}

impl Download<'_> {
    async fn run(&mut self, http: &Http<'_>) -> Result<(), Stop> {
        let what = format!("layer {}", self.layer.digest);
        let path = self.place.blob_path(&self.layer.digest);
        let mut tries = Tries::new(self.pull, &what);
        let mut refilled_at = 0;
        // A server whose ranges are not to be trusted is asked for the whole again, and the start is skipped.
        let mut ranges = true;
        loop {
            let from = (ranges && self.received > 0).then_some(self.received);
            let ask = Ask { from, ..Ask::default() };
            let answer = match self.place.get(self.pull, http, &what, &path, &ask, &mut tries).await {
                Ok(answer) => answer,
                Err(Error::NotFound { detail, name: location, .. }) => {
                    return Err(Stop::Place(Error::NoBlob {
                        digest: self.layer.digest.clone(),
                        location,
                        detail,
                    }));
                }
                Err(error @ Error::Cancelled) => return Err(Stop::Fatal(error)),
                Err(error) => return Err(Stop::Place(error)),
            };
            let Some(skip) = start_of(&answer, from, self.received, self.layer.size) else {
                ranges = false;
                let reason = "the range of its answer is not the one asked for".to_owned();
                let error = Error::Protocol { what: what.clone(), location: self.place.name(), reason };
                tries.again(error, None).await.map_err(Stop::Place)?;
                continue;
            };
            self.resumed |= self.received > 0;
            match self.copy(answer, skip).await? {
                None if self.received == self.layer.size => return Ok(()),
                failure => {
                    if self.received >= refilled_at + REFILL {
                        refilled_at = self.received;
                        tries.refill();
                    }
                    let (got, size) = (self.received, self.layer.size);
                    let failure = failure.unwrap_or_else(|| {
                        Failure::Broken(format!("the body ended at byte {got} of {size}"))
                    });
                    let error = failure.about(self.place.place.reference.registry(), &what);
                    tries.again(error, None).await.map_err(Stop::Place)?;
                }
            }
        }
    }

    /// Hands a body to the writer, its first `skip` bytes left out. `Ok(Some(_))`: it broke off.
    async fn copy(&mut self, mut answer: Answer, mut skip: u64) -> Result<Option<Failure>, Stop> {
        // A whole body must have the size of the blob; a range may be shorter than what was asked for.
        if let Some(length) = answer.length
            && answer.status.as_u16() == 200
            && length != self.layer.size
        {
            return Err(self.wrong_size(length.to_string()));
        }
        loop {
            self.pull.check().map_err(Stop::Fatal)?;
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(None),
                // All is here; that the end of the body was lost matters to nobody.
                Err(_) if self.received == self.layer.size => return Ok(None),
                Err(failure) => return Ok(Some(failure)),
            };
            let mut bytes = chunk.as_ref();
            if skip > 0 {
                let n = usize::try_from(skip).map_or(bytes.len(), |s| s.min(bytes.len()));
                skip -= n as u64;
                bytes = &bytes[n..];
            }
            if bytes.len() as u64 > self.layer.size - self.received {
                return Err(self.wrong_size("more".to_owned()));
            }
            self.writer.write(bytes).map_err(Stop::Sink)?;
            self.received += bytes.len() as u64;
            if self.received - self.announced >= EVENT_STEP || self.received == self.layer.size {
                self.announced = self.received;
                (self.pull.events)(Event::LayerProgress { index: self.layer.index, bytes: self.received });
            }
        }
    }

    fn wrong_size(&self, actual: String) -> Stop {
        let (what, location) = (format!("layer {}", self.layer.digest), self.place.name());
        Stop::Place(Error::WrongSize { what, location, expected: self.layer.size, actual })
    }
}

/// How many bytes at the start of an answer's body are known already; `None` if its range is not to be used.
fn start_of(answer: &Answer, from: Option<u64>, received: u64, size: u64) -> Option<u64> {
    match (answer.status.as_u16(), from) {
        (206, Some(from)) => {
            let range = answer.header("content-range")?.strip_prefix("bytes ")?;
            let (span, total) = range.split_once('/')?;
            let (first, last) = span.split_once('-')?;
            let right = first.trim().parse() == Ok(from)
                && last.trim().parse::<u64>().is_ok_and(|last| last < size)
                && (total == "*" || total.parse() == Ok(size));
            right.then_some(0)
        }
        (206 | 416, _) => None,
        _ => Some(received),
    }
}
