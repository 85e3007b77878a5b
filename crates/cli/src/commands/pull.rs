//! `rcr pull`.

use std::path::PathBuf;

use engine::{Engine, Platform, PullOptions, PulledImage};

use super::say;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Stream};

/// Download an image from a registry, an OCI layout or an archive
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr pull python:3.8.5-alpine
  rcr pull ghcr.io/owner/name@sha256:DIGEST   exactly this image
  rcr pull oci-archive:image.tar               without a registry")]
pub(crate) struct Pull {
    /// Print the image ID and nothing else
    #[arg(short, long)]
    quiet: bool,
    /// Take the image for OS/ARCH[/VARIANT] instead of the host's
    #[arg(long)]
    platform: Option<Platform>,
    /// false: allow plain http and certificates that cannot be verified
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// Certificates for the registry (*.crt, *.cert and *.key)
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Credentials, before those of $REGISTRY_AUTH_FILE, auth.json and ~/.docker/config.json
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Pull {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let options = PullOptions {
            image: self.image,
            platform: self.platform,
            tls_verify: self.tls_verify,
            cert_dir: self.cert_dir,
            auth_file: self.authfile,
        };
        let progress = if self.quiet { Progress::quiet() } else { Progress::new(Stream::Out, None) };
        let (pulled, news) = fetch(engine, &options, progress)?;
        if self.quiet {
            return say(&format!("{}\n", pulled.id));
        }
        let mut text = String::new();
        if let Some(digest) = &pulled.digest {
            text += &format!("Digest: {digest}\n");
        }
        let status = if news { "Downloaded newer image for" } else { "Image is up to date for" };
        match pulled.names.first() {
            Some(name) => text += &format!("Status: {status} {}\n{name}\n", name.familiar()),
            None => text += &format!("Status: {status} {}\n{}\n", options.image, pulled.id),
        }
        say(&text)
    }
}

/// Pulls an image under the eyes of `progress`, and answers whether a layer was fetched for it.
pub(super) fn fetch(
    engine: &Engine,
    options: &PullOptions,
    progress: Progress,
) -> Result<(PulledImage, bool), Error> {
    let interrupt = Interrupt::listen();
    let pulled = engine::pull(engine, options, &|event| progress.tell(event), interrupt.asked());
    let news = progress.end();
    Ok((pulled.map_err(|error| interrupt.or(error))?, news))
}
