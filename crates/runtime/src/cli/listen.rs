//! Descriptors that are handed on to the container: systemd's sockets (sd_listen_fds(3)) and `--preserve-fds`.

use std::env;

use crate::Error;

/// The first descriptor after the standard streams; SD_LISTEN_FDS_START.
const FIRST: u32 = 3;

/// How many sockets systemd passed to this very process.
pub(crate) fn count() -> u32 {
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") == Some(std::process::id()) { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
}

/// How many descriptors after the standard streams the container keeps; each must be open.
pub(crate) fn preserved(listen: u32, preserve: u32) -> Result<u32, Error> {
    for number in 0..preserve {
        let path = format!("/proc/self/fd/{}", u64::from(FIRST) + u64::from(listen) + u64::from(number));
        std::fs::symlink_metadata(path).map_err(|e| {
            Error::new(format!("unable to stat preserved-fd {number} (of {preserve})")).because(e)
        })?;
    }
    listen.checked_add(preserve).ok_or_else(|| Error::new("too many descriptors to preserve"))
}
