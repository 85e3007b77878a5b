//! criu, by which a container is checkpointed and restored: what it is asked, and the conversation with it.
//!
//! criu runs as `criu swrk`, a process of its own that is commanded over a socket in its RPC (criu.org/RPC), so that
//! nothing is linked and nothing costs anything until it is used. When what is asked is [`crate::lifecycle`]'s business;
//! the process is launched like any other, by a plan ([`crate::plan`]).

mod external;
#[cfg(test)]
mod golden;
mod images;
mod options;
mod rpc;
mod swrk;
mod wire;

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::unistd::geteuid;

pub use options::{CgroupsMode, Wishes};

pub(crate) use external::{
    Shared, check_mounts, keys, mounts, namespaces, other_name, place_in, with_other_names,
};
pub(crate) use images::{Images, is_pipe};
pub(crate) use options::{
    CONFIG_ANNOTATION, DUMP_LOG, RESTORE_LOG, Running, Stopped, dump, namespace_key, restore,
};
pub(crate) use rpc::{Feature, Kind, Notification, Version, request};
pub(crate) use swrk::{Criu, failure, no_streams, pair};

use crate::Error;

/// The oldest criu that is used: since 3.15 it restores into shared pid namespaces and tells when pages can be had.
pub(crate) const OLDEST: Version = Version(31_500);

/// The oldest criu whose `lsm_profile` works.
pub(crate) const OLDEST_WITH_LSM: Version = Version(31_600);

/// Refuses anybody but root.
///
/// # Errors
/// The caller is not root.
pub(crate) fn require_root(what: &str) -> Result<(), Error> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Error::new(format!(
        "{what} needs root: criu can neither stop nor make other processes without its rights"
    )))
}

/// Refuses a criu that is missing or too old.
///
/// # Errors
/// As it says.
pub(crate) fn require(oldest: Version, what: &str) -> Result<(), Error> {
    let mut criu = Criu::alone()?;
    let response = criu.ask(&request(Kind::Version, None, None), &mut |_, _| Ok(()))?;
    match response.version {
        Some(version) if version >= oldest => Ok(()),
        Some(version) => {
            Err(Error::new(format!("{what} needs criu {oldest} or newer, and the one in $PATH is {version}")))
        }
        None => Err(failure(Kind::Version, &response, criu.said(), None)),
    }
}

/// Refuses where criu or the kernel lacks something.
///
/// # Errors
/// As it says.
pub(crate) fn require_feature(feature: Feature) -> Result<(), Error> {
    let mut criu = Criu::alone()?;
    let response = criu.ask(&request(Kind::FeatureCheck, None, Some(feature)), &mut |_, _| Ok(()))?;
    if !response.success {
        return Err(failure(Kind::FeatureCheck, &response, criu.said(), None));
    }
    if response.features.contains(&(feature as u32)) {
        return Ok(());
    }
    Err(Error::new(format!("criu is missing features: {feature} (it, or this kernel, cannot do that)")))
}

/// Whether criu is there and finds that it can work on this kernel (`criu check`).
pub fn works() -> bool {
    let check = || -> Result<bool, Error> {
        require_root("criu")?;
        // It wants to be somewhere, and leaves nothing there.
        let anywhere = File::open("/").map_err(|e| Error::new("open /").because(e))?;
        let mut options = rpc::Options::default();
        options.number(rpc::Opt::ImagesDirFd, anywhere.as_raw_fd());
        Ok(Criu::alone()?.ask(&request(Kind::Check, Some(&options), None), &mut |_, _| Ok(()))?.success)
    };
    check().unwrap_or(false)
}
