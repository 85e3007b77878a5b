//! The network of containers: networks and who has which address on them, the links, routes and rules that they are made
//! of, and the files that name hosts inside a container.
//!
//! Everything is done by netlink; no program is run but CNI plugins for the networks that they make. What belongs to a container is found by its ID: leases by what they
//! point to, published ports by their comment. Knows nothing of images and runtimes.

mod attach;
mod bridge;
mod cni;
mod error;
mod files;
mod firewall;
mod forwarding;
mod hostname;
mod lease;
mod link;
mod mode;
mod names;
mod network;
mod networks;
mod nft;
mod port;
mod rules;

pub use attach::{Attachment, Wishes, connect, disconnect, lead_out, plug_in_again};
pub use bridge::{remove_link, set_up as set_up_bridge};
pub use cni::{Place as PluginPlace, Plugged, make_namespace, remove_namespace};
pub use error::Error;
pub use files::{Dns, hosts, names_a_server, names_loopback_only, resolv_conf};
pub use firewall::{close_for as close_firewalls_for, open_for as open_firewalls_for};
pub use forwarding::switch_on as switch_on_forwarding;
pub use hostname::{Hostname, ParseHostnameError};
pub use lease::Leases;
pub use link::ContainerLink;
pub use mode::{Join, Mode, ParseModeError, parse_mac};
pub use names::{LookUp, Member, NameServer, NameServerPlace};
pub use network::{Driver, Network, Subnet};
pub use networks::{DEFAULT, Networks, NewNetwork, SetUp};
pub use port::{Exposed, Held, PortRequest, Protocol, Published, hold};
pub use rules::{Bridged, Table};
