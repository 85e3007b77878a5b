//! Containers find each other by name: a small DNS server for each bridge network that users make, at the network's
//! gateway address. It is a process of its own, started by the first container and gone with the last.
//!
//! The default network has none, as with docker; nor have macvlan and ipvlan, on whose wire the host has no address.

mod control;
mod directory;
mod message;
mod resolvers;
mod server;
mod stream;

pub use control::Place as NameServerPlace;
pub use directory::{LookUp, Member};
pub use server::Server as NameServer;
