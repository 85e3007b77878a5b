//! `rcr cp`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use engine::{CopyOptions, Engine};

use crate::error::Error;

/// Copy files between a container and the host
///
/// A directory is copied into a directory that exists, else under its new name; DIR/. means what is in it. `-` is a tar
/// on standard input or output.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "rcr cp [OPTIONS] CONTAINER:SRC DEST|-\n       rcr cp [OPTIONS] SRC|- CONTAINER:DEST"
)]
pub(crate) struct Cp {
    /// Keep owners
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link at SRC points to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing (nothing is said anyway; docker's users type it)
    #[arg(short, long)]
    quiet: bool,
    /// From where
    #[arg(value_name = "SRC")]
    from: String,
    /// Where to
    #[arg(value_name = "DEST")]
    to: String,
}

/// `CONTAINER:PATH`; a path that begins with `/` or `.` is the host's, whatever is in it.
fn split(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) || text == "-" {
        return None;
    }
    text.split_once(':').filter(|(container, _)| !container.is_empty())
}

impl Cp {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let options = CopyOptions { archive: self.archive, follow: self.follow_link };
        match (split(&self.from), split(&self.to)) {
            (Some((container, from)), None) if self.to == "-" => {
                let mut stdout = io::stdout().lock();
                if stdout.is_terminal() {
                    return Err(Error::Usage("refuses to write a tar to a terminal; redirect it".to_owned()));
                }
                engine::copy_out_tar(engine, container, from, options, &mut stdout)?;
                stdout.flush().map_err(Error::Output)
            }
            (Some((container, from)), None) => {
                Ok(engine::copy_out(engine, container, from, Path::new(&self.to), options)?)
            }
            (None, Some((container, to))) if self.from == "-" => {
                Ok(engine::copy_in_tar(engine, container, to, options, &mut io::stdin().lock())?)
            }
            (None, Some((container, to))) => {
                Ok(engine::copy_in(engine, Path::new(&self.from), container, to, options)?)
            }
            (Some(_), Some(_)) => Err(Error::Usage("copying between containers is not supported".to_owned())),
            (None, None) => Err(Error::Usage("one of SRC and DEST must be CONTAINER:PATH".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_side_is_the_containers() {
        for (text, want) in [
            ("web:/etc", Some(("web", "/etc"))),
            ("web:rel", Some(("web", "rel"))),
            ("./web:x", None),
            ("/a:b", None),
            (":x", None),
            ("file", None),
            ("-", None),
        ] {
            assert_eq!(split(text), want, "{text}");
        }
    }
}
