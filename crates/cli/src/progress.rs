//! A pull as it is seen: on a terminal a bar for each layer under way and one for the whole, else plain lines.
//!
//! Nothing is set up before the first event, so that a `run` whose image is here pays nothing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use engine::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Standard output, docker's place for a `pull`.
    Out,
    /// Standard error, so that the output of a `run` is the container's alone.
    Err,
}

/// The progress of one pull. Events may come from several threads.
pub(crate) struct Progress {
    /// `None` shows warnings only.
    stream: Option<Stream>,
    /// What is said before the first event.
    opening: Option<String>,
    shown: Mutex<Option<Shown>>,
}

/// What is known since the first event.
struct Shown {
    layers: Vec<Layer>,
    /// Some layer was fetched.
    news: bool,
    screen: Screen,
}

struct Layer {
    name: String,
    size: u64,
    bytes: u64,
}

enum Screen {
    Lines(Stream),
    Bars(Bars),
}

struct Bars {
    all: MultiProgress,
    total: Option<ProgressBar>,
    /// Those of the layers under way, by index.
    layers: BTreeMap<usize, ProgressBar>,
}

impl Progress {
    /// Shows everything on `stream`, after the line `opening`.
    pub(crate) fn new(stream: Stream, opening: Option<String>) -> Self {
        Self { stream: Some(stream), opening, shown: Mutex::new(None) }
    }

    /// Shows warnings on standard error and nothing else.
    pub(crate) fn quiet() -> Self {
        Self { stream: None, opening: None, shown: Mutex::new(None) }
    }

    /// Takes an event.
    pub(crate) fn tell(&self, event: Event) {
        let Some(stream) = self.stream else {
            if let Event::Warning(text) = event {
                line(Stream::Err, &format!("rcr: warning: {text}"));
            }
            return;
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.get_or_insert_with(|| {
            let shown = Shown { layers: Vec::new(), news: false, screen: Screen::on(stream) };
            if let Some(opening) = &self.opening {
                shown.screen.line(opening);
            }
            shown
        });
        shown.take(event);
    }

    /// Takes the bars away, and answers whether a layer was fetched.
    pub(crate) fn end(self) -> bool {
        let Some(shown) = self.shown.into_inner().unwrap_or_else(PoisonError::into_inner) else {
            return false;
        };
        if let Screen::Bars(bars) = shown.screen {
            bars.layers.values().chain(&bars.total).for_each(ProgressBar::finish_and_clear);
        }
        shown.news
    }
}

impl Shown {
    fn take(&mut self, event: Event) {
        match event {
            Event::Resolving { location } => self.screen.line(&format!("Pulling from {location}")),
            Event::MirrorFailed { location, error } => {
                self.screen.line(&format!("Mirror {location} failed, trying the next place: {error}"));
            }
            Event::Layers(layers) => {
                let names = layers.iter().map(|l| (l.digest.short().to_owned(), l.size));
                self.layers = names.map(|(name, size)| Layer { name, size, bytes: 0 }).collect();
            }
            Event::LayerPresent { index } => {
                self.ended(index, "Already exists");
                // What is not fetched is no part of the total.
                if let Some(layer) = self.layers.get_mut(index) {
                    (layer.size, layer.bytes) = (0, 0);
                }
            }
            Event::LayerWaiting { index } => self.name(index, "Waiting for another process that pulls it"),
            Event::LayerProgress { index, bytes } => self.progress(index, bytes),
            Event::LayerDownloaded { index } => {
                let size = self.layers.get(index).map_or(0, |layer| layer.size);
                self.progress(index, size);
                match &self.screen {
                    Screen::Lines(_) => self.name(index, "Download complete"),
                    Screen::Bars(bars) => {
                        if let Some(bar) = bars.layers.get(&index) {
                            bar.set_message("Unpacking");
                        }
                    }
                }
            }
            Event::LayerDone { index } => {
                self.news = true;
                self.ended(index, "Pull complete");
            }
            Event::Retrying { what, after, error } => {
                self.screen.line(&format!("{what}: {error}; trying again in {:.0} s", after.as_secs_f64()));
            }
            Event::Warning(text) => self.screen.line(&format!("Warning: {text}")),
        }
    }

    /// A line about one layer.
    fn name(&self, index: usize, text: &str) {
        if let Some(layer) = self.layers.get(index) {
            self.screen.line(&format!("{}: {text}", layer.name));
        }
    }

    fn ended(&mut self, index: usize, text: &str) {
        if let Screen::Bars(bars) = &mut self.screen
            && let Some(bar) = bars.layers.remove(&index)
        {
            bar.finish_and_clear();
        }
        self.name(index, text);
    }

    fn progress(&mut self, index: usize, bytes: u64) {
        let Some(layer) = self.layers.get_mut(index) else { return };
        layer.bytes = bytes;
        let (done, size) = self.layers.iter().fold((0, 0), |(d, s), layer| (d + layer.bytes, s + layer.size));
        let layer = &self.layers[index];
        match &mut self.screen {
            Screen::Lines(_) if bytes == 0 => self.name(index, "Pulling fs layer"),
            Screen::Lines(_) => {}
            Screen::Bars(bars) => bars.draw(index, layer, done, size),
        }
    }
}

impl Screen {
    fn on(stream: Stream) -> Self {
        let (terminal, target) = match stream {
            Stream::Out => (io::stdout().is_terminal(), ProgressDrawTarget::stdout()),
            Stream::Err => (io::stderr().is_terminal(), ProgressDrawTarget::stderr()),
        };
        let moves = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if terminal && moves {
            let all = MultiProgress::with_draw_target(target);
            Self::Bars(Bars { all, total: None, layers: BTreeMap::new() })
        } else {
            Self::Lines(stream)
        }
    }

    /// A line that stays; bars move below it.
    fn line(&self, text: &str) {
        match self {
            Self::Lines(stream) => line(*stream, text),
            // An error here means that the terminal is gone.
            Self::Bars(bars) => drop(bars.all.println(text)),
        }
    }
}

impl Bars {
    /// Only layers under way have a bar: an image may have more layers than the terminal has lines.
    fn draw(&mut self, index: usize, layer: &Layer, done: u64, size: u64) {
        let all = &self.all;
        let total = self.total.get_or_insert_with(|| {
            let bar = all.add(ProgressBar::new(size).with_style(style(
                "{msg:12} [{wide_bar:.=>}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
            )));
            bar.set_message("Total");
            bar
        });
        let bar = self.layers.entry(index).or_insert_with(|| {
            let bar = ProgressBar::new(layer.size)
                .with_style(style("{prefix:12} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes}  {msg}"));
            bar.set_prefix(layer.name.clone());
            bar.set_message("Downloading");
            all.insert_before(total, bar)
        });
        bar.set_position(layer.bytes);
        total.set_length(size);
        total.set_position(done);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are sound").progress_chars("=> ")
}

fn line(stream: Stream, text: &str) {
    let text = format!("{text}\n");
    // A reader that went away shows when the result is written; the pull goes on.
    let _ = match stream {
        Stream::Out => io::stdout().lock().write_all(text.as_bytes()),
        Stream::Err => io::stderr().lock().write_all(text.as_bytes()),
    };
}
