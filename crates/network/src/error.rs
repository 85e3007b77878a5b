//! What can go wrong with a network.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::nft::NftError;

/// Why a network could not be made, found, joined or left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No network of that name or ID.
    #[error("no such network: {0}; list them (rcr network ls)")]
    NotFound(String),
    /// The name belongs to another network.
    #[error("network with name {0} already exists; take another name, or remove it (rcr network rm {0})")]
    NameInUse(String),
    /// A value that cannot be used; the text says which and why.
    #[error("{0}")]
    Invalid(String),
    /// The addresses of a new network are in use on this host.
    #[error("subnet {subnet} overlaps {with}; take another (--subnet)")]
    Overlap {
        /// The subnet asked for.
        subnet: IpNet,
        /// What has it: a network, or a route of the host.
        with: String,
    },
    /// A container asked for an address that another one has.
    #[error("address {address} of network {network} is in use by container {by}; take another address")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// The network.
        network: String,
        /// ID of the container.
        by: String,
    },
    /// Every address of a network is in use.
    #[error("network {network} has no free address in {subnet}; use a larger subnet")]
    Exhausted {
        /// The network.
        network: String,
        /// The subnet that is full.
        subnet: IpNet,
    },
    /// A change of links, addresses or routes that the kernel refused.
    #[error("{what}")]
    Link {
        /// What was to be done.
        what: String,
        /// The kernel's errno.
        #[source]
        source: io::Error,
    },
    /// A file of the host or of a network's own.
    #[error("{what}")]
    Io {
        /// The call and the file.
        what: String,
        /// Its errno.
        #[source]
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{path:?} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not parse.
        #[source]
        source: serde_json::Error,
    },
    /// From nftables.
    #[error(transparent)]
    Nftables(#[from] NftError),
}

impl Error {
    /// There is no such network.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound(_))
    }

    /// For `map_err` of a call about links.
    pub(crate) fn link(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Link { what, source }
    }

    /// For `map_err` of a call about a file.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
