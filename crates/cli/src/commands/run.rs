//! `rcr run`.

use std::io::{self, IsTerminal};

use engine::{
    AttachOptions, Engine, PullPolicy, RemoveOptions, RestartPolicy, RunOptions, Source, StreamName,
};

use super::{attach, say};
use crate::commands::container_flags::ContainerFlags;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Stream};
use crate::value::keys;

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
    /// Run it in the background and print its ID
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that let go of the container's terminal; given, the container can run on without rcr
    #[arg(long, value_name = "KEYS", value_parser = keys::parse)]
    detach_keys: Option<std::vec::Vec<u8>>,
    /// false: signals end rcr, and the container runs on
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_default_value = true)]
    sig_proxy: bool,
    #[command(flatten)]
    pub(crate) container: ContainerFlags,
}

impl Run {
    pub(crate) fn execute(self, engine: &Engine) -> Result<u8, Error> {
        let quiet = self.container.quiet;
        let options = RunOptions { detach: self.detach, ..self.container.options()? };
        if self.detach && !options.attach.is_empty() {
            let why = "conflicting options: what runs in the background (-d) has no streams to connect (-a)";
            return Err(Error::Usage(why.to_owned()));
        }
        if self.detach {
            let id = with_image(&options, quiet, |events, cancel| {
                engine::run_detached(engine, &options, events, cancel)
            })?;
            say(&format!("{id}\n"))?;
            return Ok(0);
        }
        // Who can let go of a container, or see it started again, needs a monitor in between.
        if self.detach_keys.is_none() && self.sig_proxy && options.restart == RestartPolicy::No {
            let ended =
                with_image(&options, quiet, |events, cancel| engine::run(engine, &options, events, cancel))?;
            return Ok(ended.code);
        }
        let id =
            with_image(&options, quiet, |events, cancel| engine::create(engine, &options, events, cancel))?;
        let asked = |name| options.attach.is_empty() || options.attach.contains(&name);
        let attach = AttachOptions {
            stdin: options.interactive && asked(StreamName::Stdin),
            stdout: asked(StreamName::Stdout),
            stderr: asked(StreamName::Stderr),
            sig_proxy: self.sig_proxy,
            detach_keys: self.detach_keys.unwrap_or_else(attach::usual_keys),
        };
        match engine::start_attached(engine, &id, &attach) {
            Ok(attended) => attach::code(attended, &id),
            // As without a monitor: nothing is left of what could not be started.
            Err(error @ engine::Error::Interrupted(_)) => Err(error.into()),
            Err(error) => {
                let _ = engine::remove(engine, &id, RemoveOptions { force: false, volumes: true });
                Err(error.into())
            }
        }
    }
}

/// Does what may pull an image, and shows the pull.
pub(super) fn with_image<T>(
    options: &RunOptions,
    quiet: bool,
    work: impl FnOnce(&(dyn Fn(engine::Event) + Sync), &std::sync::atomic::AtomicBool) -> Result<T, engine::Error>,
) -> Result<T, Error> {
    let interrupt = Interrupt::listen();
    let progress = if quiet { Progress::quiet() } else { progress(options) };
    let done = work(&|event| progress.tell(event), interrupt.asked());
    progress.end();
    done.map_err(|error| interrupt.or(error))
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
