//! All layers of an image at once: a few threads take the next one each, lowest first.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci::sink::{Layer, LayerSlot};

use crate::pull::Pull;
use crate::reader::{Connection, Origin};
use crate::{Error, Event};

/// How often a layer that another process is fetching is asked for again.
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// Fetches every layer that the sink wants. The first failure ends them all.
pub(crate) fn fetch(pull: &Pull<'_>, origin: &Origin, layers: &[Layer]) -> Result<(), Error> {
    let queue = Mutex::new(layers.iter().map(|layer| (layer, false)).collect::<VecDeque<_>>());
    let jobs = pull.request.jobs.clamp(1, layers.len().max(1));
    let results: Vec<Result<(), Error>> = std::thread::scope(|scope| {
        let worker = || {
            let result = work(pull, origin, &queue);
            if result.is_err() {
                pull.fail();
            }
            result
        };
        let threads: Vec<_> = (1..jobs).map(|_| scope.spawn(worker)).collect();
        let mut results = vec![worker()];
        for thread in threads {
            results.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    // Those that were told to stop say less than the one that failed.
    let mut cancelled = Ok(());
    for result in results {
        match result {
            Err(Error::Cancelled) => cancelled = Err(Error::Cancelled),
            other => other?,
        }
    }
    cancelled
}

/// Layers that nobody has taken, and whether the user knows that they are waited for.
type Queue<'a> = Mutex<VecDeque<(&'a Layer, bool)>>;

fn work(pull: &Pull<'_>, origin: &Origin, queue: &Queue<'_>) -> Result<(), Error> {
    let connection = origin.connect(pull)?;
    // Layers found busy since one was not; when that is all there is, wait.
    let mut busy = 0;
    loop {
        pull.check()?;
        let (next, left) = {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            (queue.pop_front(), queue.len())
        };
        let Some((layer, told)) = next else { return Ok(()) };
        if one(pull, origin, connection.as_ref(), layer)? {
            busy = 0;
            continue;
        }
        if !told {
            (pull.events)(Event::LayerWaiting { index: layer.index });
        }
        queue.lock().unwrap_or_else(PoisonError::into_inner).push_back((layer, true));
        busy += 1;
        if busy > left {
            std::thread::sleep(BUSY_WAIT);
            busy = 0;
        }
    }
}

/// Fetches one layer; `false` if another process is at it.
fn one(
    pull: &Pull<'_>,
    origin: &Origin,
    connection: Option<&Connection<'_>>,
    layer: &Layer,
) -> Result<bool, Error> {
    let index = layer.index;
    let ask = || {
        pull.sink
            .layer(index)
            .map_err(|source| Error::Sink { what: format!("layer {}", layer.digest), source })
    };
    let mut first = match ask()? {
        LayerSlot::Busy => return Ok(false),
        LayerSlot::Present => {
            (pull.events)(Event::LayerPresent { index });
            return Ok(true);
        }
        LayerSlot::Fetch(writer) => Some(writer),
    };
    let mut open = || {
        if let Some(writer) = first.take() {
            return Ok(Some(writer));
        }
        loop {
            pull.check()?;
            match ask()? {
                LayerSlot::Fetch(writer) => return Ok(Some(writer)),
                LayerSlot::Present => return Ok(None),
                LayerSlot::Busy => std::thread::sleep(BUSY_WAIT),
            }
        }
    };
    origin.layer(pull, connection, layer, &mut open)?;
    (pull.events)(Event::LayerDone { index });
    Ok(true)
}
