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

impl Stream {
    fn writer(self) -> Box<dyn Write + Send> {
        match self {
            Self::Out => Box::new(io::stdout()),
            Self::Err => Box::new(io::stderr()),
        }
    }
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
    /// It was heard of before.
    begun: bool,
}

enum Screen {
    Lines(Box<dyn Write + Send>),
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
                // Nobody is left to tell when standard error is closed.
                let _ = writeln!(io::stderr(), "rcr: warning: {text}");
            }
            return;
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.get_or_insert_with(|| {
            let mut shown = Shown { layers: Vec::new(), news: false, screen: Screen::on(stream) };
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
                self.layers =
                    names.map(|(name, size)| Layer { name, size, bytes: 0, begun: false }).collect();
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
    fn name(&mut self, index: usize, text: &str) {
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
        let first = !std::mem::replace(&mut layer.begun, true);
        let (done, size) = self.layers.iter().fold((0, 0), |(d, s), layer| (d + layer.bytes, s + layer.size));
        let layer = &self.layers[index];
        match &mut self.screen {
            Screen::Lines(_) if first => self.name(index, "Pulling fs layer"),
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
            Self::Lines(stream.writer())
        }
    }

    /// A line that stays; bars move below it.
    fn line(&mut self, text: &str) {
        // A reader that went away shows when the result is written; the pull goes on.
        let _ = match self {
            Self::Lines(to) => to.write_all(format!("{text}\n").as_bytes()).and_then(|()| to.flush()),
            Self::Bars(bars) => bars.all.println(text),
        };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indicatif::InMemoryTerm;

    use super::*;

    fn shown(screen: Screen, layers: u8) -> Shown {
        let layers = (0..layers).map(|n| Layer {
            name: format!("layer-{n}"),
            size: 2_000_000,
            bytes: 0,
            begun: false,
        });
        Shown { layers: layers.collect(), news: false, screen }
    }

    fn progress(index: usize, bytes: u64) -> Event {
        Event::LayerProgress { index, bytes }
    }

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_say_each_thing_once() {
        let paper = Paper::default();
        let mut shown = shown(Screen::Lines(Box::new(paper.clone())), 2);
        for event in [
            Event::Resolving { location: "docker.io/library/x".into() },
            Event::LayerPresent { index: 0 },
            progress(1, 0),
            progress(1, 1_000_000),
            Event::Retrying {
                what: "layer".into(),
                after: std::time::Duration::from_secs(2),
                error: "reset".into(),
            },
            progress(1, 0),
            progress(1, 2_000_000),
            Event::LayerDownloaded { index: 1 },
            Event::LayerDone { index: 1 },
            Event::LayerDone { index: 9 },
        ] {
            shown.take(event);
        }
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "Pulling from docker.io/library/x\nlayer-0: Already exists\nlayer-1: Pulling fs layer\n\
             layer: reset; trying again in 2 s\nlayer-1: Download complete\nlayer-1: Pull complete\n"
        );
        assert!(shown.news);
    }

    #[test]
    fn bars_of_layers_under_way_stand_above_the_total() {
        let term = InMemoryTerm::new(8, 100);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255);
        let all = MultiProgress::with_draw_target(target);
        // More layers than the terminal has lines.
        let mut shown = shown(Screen::Bars(Bars { all, total: None, layers: BTreeMap::new() }), 20);
        shown.take(progress(0, 500_000));
        std::thread::sleep(std::time::Duration::from_millis(20));
        shown.take(progress(1, 1_000_000));
        std::thread::sleep(std::time::Duration::from_millis(20));
        shown.take(Event::LayerDownloaded { index: 1 });
        let text = term.contents();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0].starts_with("layer-0 ") && lines[0].contains("500.00 kB/2.00 MB  Downloading"),
            "{text}"
        );
        assert!(
            lines[1].starts_with("layer-1 ") && lines[1].contains("2.00 MB/2.00 MB  Unpacking"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("Total ")
                && lines[2].contains("2.50 MB/40.00 MB")
                && lines[2].contains("/s  "),
            "{text}"
        );
        shown.take(Event::LayerDone { index: 1 });
        shown.take(progress(0, 600_000));
        let text = term.contents();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "layer-1: Pull complete", "{text}");
        assert!(
            lines.len() == 3 && lines[1].starts_with("layer-0 ") && lines[2].starts_with("Total "),
            "{text}"
        );
        let progress = Progress { stream: Some(Stream::Err), opening: None, shown: Mutex::new(Some(shown)) };
        assert!(progress.end());
        assert_eq!(term.contents(), "layer-1: Pull complete");
    }
}
