//! `rcr run`.

use std::io::{self, IsTerminal};

use engine::{Engine, PullPolicy, RunOptions, Source};

use crate::commands::container_flags::ContainerFlags;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Stream};

/// Make a container from an image, run a command in it and wait for its end
///
/// Exits with the command's own code, 128+N if signal N killed it, 127 if it does not exist, 126 if it cannot be
/// executed, 125 if rcr failed before.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_usage = "rcr run [OPTIONS] IMAGE [COMMAND] [ARG]...")]
#[command(after_help = "Examples:
  rcr run --rm python:3.8.5-alpine python3 -c 'print(6*7)'
  rcr run --rm -it -v \"$PWD:/work\" -w /work python:3.8.5-alpine sh
  rcr run --rm -p 8080:80 -m 256m --name web python:3.8.5-alpine python3 -m http.server 80")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) container: ContainerFlags,
}

impl Run {
    pub(crate) fn execute(self, engine: &Engine) -> Result<u8, Error> {
        let quiet = self.container.quiet;
        let options = self.container.options()?;
        let interrupt = Interrupt::listen();
        let progress = if quiet { Progress::quiet() } else { progress(&options) };
        let ended = engine::run(engine, &options, &|event| progress.tell(event), interrupt.asked());
        progress.end();
        match ended {
            Ok(ended) => Ok(ended.code),
            Err(error) => Err(interrupt.or(error)),
        }
    }
}

/// How a pull that nobody asked for is shown. A layout or archive on this machine is read each time, which is no news
/// where lines would stay.
fn progress(options: &RunOptions) -> Progress {
    match options.image.parse() {
        Ok(Source::Registry(_)) if options.pull == PullPolicy::Missing => {
            Progress::new(Stream::Err, Some(format!("Unable to find image '{}' locally", options.image)))
        }
        Ok(Source::Registry(_)) => Progress::new(Stream::Err, None),
        _ if io::stderr().is_terminal() => Progress::new(Stream::Err, None),
        _ => Progress::quiet(),
    }
}
