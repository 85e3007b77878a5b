//! The networks of one store: a file each, made and removed by users; the network `bridge` is made at first use.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::fcntl::{Flock, FlockArg};
use sys::rtnetlink::Netlink;

use crate::network::{Driver, Network, Subnet};
use crate::rules::{Bridged, Table};
use crate::{Error, Leases, NameServer, NameServerPlace, firewall, forwarding};

/// The network of containers that name none.
pub const DEFAULT: &str = "bridge";

/// Names that mean something else.
const RESERVED: [&str; 5] = ["none", "host", "default", "container", "ns"];

/// Second bytes of the /16s below 10.0.0.0/8 out of which networks get a /24 each; the default one gets the first that is
/// free as a whole.
const POOL: std::ops::RangeInclusive<u8> = 77..=127;

/// Where the networks of one store are, and what of the host is theirs.
#[derive(Debug, Clone)]
pub struct Networks {
    /// Descriptions, one file a network.
    dir: PathBuf,
    /// Who has which address.
    leases: PathBuf,
    /// Where servers of names are found.
    names: PathBuf,
    /// Distinguishes what several stores have on one host; empty for the host's usual store.
    suffix: String,
}

/// What a new network is asked to be.
#[derive(Debug, Clone, Default)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// How containers are joined to it.
    pub driver: Driver,
    /// Its subnets, each with gateway and range, if they are not to be chosen.
    pub subnets: Vec<(IpNet, Option<IpAddr>, Option<IpNet>)>,
    /// It has IPv6 too.
    pub ipv6: bool,
    /// Nothing beyond it can be reached from it.
    pub internal: bool,
    /// The host's link that macvlan and ipvlan build on.
    pub parent: Option<String>,
    /// Name of the bridge, if it is not to be chosen.
    pub bridge: Option<String>,
    /// Longest packet, in bytes.
    pub mtu: Option<u32>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What it took to have a network on the host.
#[derive(Debug, Default)]
pub struct SetUp {
    /// The sysctls that had to be switched on.
    pub switched: Vec<&'static str>,
    /// Bridge or rules had to be made. If containers are on the network, they must be plugged in and published again.
    pub made: bool,
}

impl Networks {
    /// Those below `root`, with leases below `runroot`; nothing is touched. `usual` is whether this is the host's usual
    /// store, whose names on the host are plain: `rcr0` and `rcr`.
    pub fn new(root: &Path, runroot: &Path, usual: bool) -> Networks {
        let suffix = if usual { String::new() } else { format!("{:08x}", hash(root)) };
        Networks {
            dir: root.join("networks"),
            leases: runroot.join("leases"),
            names: runroot.join("names"),
            suffix,
        }
    }

    /// Name of the table of nftables.
    pub fn table(&self) -> String {
        if self.suffix.is_empty() { "rcr".to_owned() } else { format!("rcr-{}", self.suffix) }
    }

    /// The leases of a network.
    pub fn leases(&self, network: &Network) -> Leases {
        Leases::new(&self.leases, network)
    }

    /// Where the server of names of the network with this ID is found.
    pub fn name_server(&self, network: &str) -> NameServerPlace {
        NameServerPlace::new(&self.names, network)
    }

    /// All servers of names that are, or were until they were killed.
    pub fn name_servers(&self) -> Vec<NameServerPlace> {
        NameServerPlace::all(&self.names)
    }

    /// Listens as the server of names of a network; `None`: another process does.
    ///
    /// # Errors
    /// The port is somebody else's.
    pub fn serve_names(&self, network: &Network) -> Result<Option<NameServer>, Error> {
        NameServer::open(network, self.leases.clone(), self.name_server(&network.id))
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged.
    pub fn list(&self) -> Result<Vec<Network>, Error> {
        let fail = || Error::io(format!("list {:?}", self.dir));
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(fail())?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(fail())?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.extend(read(&path)?);
            }
        }
        found.sort_by(|a: &Network, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The network of this name, ID, or beginning of an ID.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a beginning of several IDs.
    pub fn find(&self, wanted: &str) -> Result<Network, Error> {
        if is_name(wanted)
            && let Some(network) = read(&self.file(wanted))?
        {
            return Ok(network);
        }
        let hex = !wanted.is_empty() && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        let all = if hex { self.list()? } else { Vec::new() };
        let mut fitting = all.into_iter().filter(|network| network.id.starts_with(wanted));
        match (fitting.next(), fitting.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => {
                Err(Error::Invalid(format!("{wanted:?} is the beginning of several IDs; give more digits")))
            }
            (None, _) => Err(Error::NotFound(wanted.chars().take(100).collect())),
        }
    }

    /// The network `bridge`, made if need be.
    ///
    /// # Errors
    /// As [`Networks::create`].
    pub fn default_network(&self, netlink: &Netlink) -> Result<Network, Error> {
        match self.find(DEFAULT) {
            Err(Error::NotFound(_)) => {}
            other => return other,
        }
        let new = NewNetwork { name: DEFAULT.to_owned(), ipv6: true, ..NewNetwork::default() };
        match self.create(netlink, new) {
            // Another process was faster.
            Err(Error::NameInUse(_)) => self.find(DEFAULT),
            other => other,
        }
    }

    /// Describes a new network. Nothing is made on the host before a container joins it.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::Overlap`], [`Error::Invalid`].
    pub fn create(&self, netlink: &Netlink, new: NewNetwork) -> Result<Network, Error> {
        check_name(&new.name)?;
        if read(&self.file(&new.name))?.is_some() {
            return Err(Error::NameInUse(new.name));
        }
        let id = random_id()?;
        let link = match (new.driver, new.parent, new.bridge) {
            (Driver::Bridge, Some(_), _) => {
                return Err(Error::Invalid(
                    "a bridge has no parent; use --driver macvlan or ipvlan".to_owned(),
                ));
            }
            (Driver::Bridge, None, bridge) => {
                let first = new.name == DEFAULT && self.suffix.is_empty();
                let made_up = if first { "rcr0".to_owned() } else { format!("rcr-{}", &id[..11]) };
                bridge.unwrap_or(made_up)
            }
            (_, Some(parent), None) => parent,
            (driver, ..) => {
                return Err(Error::Invalid(format!(
                    "{driver} wants the host's link it builds on: -o parent=LINK"
                )));
            }
        };
        // IFNAMSIZ without the NUL.
        if link.is_empty() || link.len() > 15 || link.contains(['/', ' ']) {
            return Err(Error::Invalid(format!("{link:?} is no name of a link: at most 15 bytes")));
        }
        let taken = self.taken(netlink)?;
        let on_the_wire = new.driver != Driver::Bridge;
        let mut subnets = Vec::new();
        for (subnet, gateway, range) in new.subnets {
            let subnet = Subnet::new(subnet, gateway, range)?;
            // A macvlan network is meant to be one that the host's link is on.
            let overlap = taken
                .iter()
                .find(|(net, of_network, _)| overlaps(*net, subnet.subnet) && (*of_network || !on_the_wire));
            if let Some((_, _, with)) = overlap {
                return Err(Error::Overlap { subnet: subnet.subnet, with: with.clone() });
            }
            subnets.push(subnet);
        }
        if !subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv4()) {
            if on_the_wire {
                return Err(Error::Invalid(format!("{} wants the subnet of the wire: --subnet", new.driver)));
            }
            let taken: Vec<IpNet> = taken.iter().map(|(net, ..)| *net).collect();
            let net = free_subnet(&taken, new.name == DEFAULT).ok_or_else(|| {
                Error::Invalid("every subnet for new networks is in use; give one (--subnet)".to_owned())
            })?;
            subnets.push(Subnet::new(net, None, None)?);
        }
        if new.ipv6 && !subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6()) {
            subnets.push(Subnet::new(local_subnet(&id), None, None)?);
        }
        subnets.sort_by_key(|subnet| subnet.subnet.addr().is_ipv6());
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let network = Network {
            name: new.name,
            id,
            driver: new.driver,
            link,
            subnets,
            internal: new.internal,
            mtu: new.mtu,
            labels: new.labels,
            created: i64::try_from(created).unwrap_or(i64::MAX),
        };
        self.write(&network)?;
        Ok(network)
    }

    /// Forgets a network and removes its bridge and rules. The caller knows that no container is on it.
    ///
    /// # Errors
    /// The kernel's; a file cannot be removed.
    pub fn remove(&self, netlink: &Netlink, network: &Network) -> Result<(), Error> {
        let file = self.file(&network.name);
        fs::remove_file(&file).map_err(Error::io(format!("remove {file:?}")))?;
        self.leases(network).remove_all()?;
        if network.driver == Driver::Bridge {
            firewall::close_for(&self.table(), &network.link)?;
            crate::remove_link(netlink, &network.link)?;
            let table = Table::open(&self.table())?;
            if table.exists()? {
                self.set_rules(&table)?;
            }
        }
        Ok(())
    }

    /// Makes sure that a bridge network is there on the host: forwarding, bridge, rules.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_up(&self, netlink: &Netlink, network: &Network) -> Result<SetUp, Error> {
        let mut set_up = SetUp::default();
        if network.driver != Driver::Bridge {
            return Ok(set_up);
        }
        if !network.internal {
            let ipv6 = network.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6());
            set_up.switched = forwarding::switch_on(ipv6)?;
        }
        let table = Table::open(&self.table())?;
        let there = netlink.link(&network.link).is_ok_and(|link| link.up) && table.exists()?;
        crate::bridge::set_up(netlink, network)?;
        if !there {
            self.set_rules(&table)?;
            set_up.made = true;
        }
        // Each time: a firewall may have come up since.
        firewall::open_for(&self.table(), &network.link)?;
        Ok(set_up)
    }

    /// One process at a time, or an older list of networks could replace a newer one.
    fn set_rules(&self, table: &Table) -> Result<(), Error> {
        let path = self.dir.join("lock");
        let file = fs::File::create(&path).map_err(Error::io(format!("open {path:?}")))?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, e)| Error::io(format!("lock {path:?}"))(e.into()))?;
        let bridged: Vec<Bridged> = self
            .list()?
            .into_iter()
            .filter(|network| network.driver == Driver::Bridge)
            .map(|network| Bridged {
                link: network.link,
                subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
                internal: network.internal,
            })
            .collect();
        if bridged.is_empty() {
            table.remove()?
        } else {
            table.set(&bridged)?
        }
        Ok(())
    }

    /// What is in use: the net, whether it is that of a network, and whose.
    fn taken(&self, netlink: &Netlink) -> Result<Vec<(IpNet, bool, String)>, Error> {
        let routes = netlink.routes().map_err(Error::link("list the routes"))?;
        let of_routes = routes.into_iter().filter_map(|route| {
            let (ip, prefix) = route.to?;
            let net = IpNet::new(ip, prefix).ok().filter(|net| net.prefix_len() > 0)?;
            Some((net, false, format!("a route of the host to {net}")))
        });
        let mut taken: Vec<_> = of_routes.collect();
        for network in self.list()? {
            for subnet in network.subnets {
                taken.push((subnet.subnet, true, format!("network {}", network.name)));
            }
        }
        Ok(taken)
    }

    /// Writes a description that is there as a whole or not at all, and never replaces one.
    fn write(&self, network: &Network) -> Result<(), Error> {
        let (path, new) = (self.file(&network.name), self.dir.join(format!("{}.new", network.id)));
        let json = serde_json::to_vec_pretty(network)
            .map_err(|source| Error::Damaged { path: path.clone(), source })?;
        fs::create_dir_all(&self.dir).map_err(Error::io(format!("make {:?}", self.dir)))?;
        fs::write(&new, json).map_err(Error::io(format!("write {new:?}")))?;
        let linked = fs::hard_link(&new, &path);
        fs::remove_file(&new).map_err(Error::io(format!("remove {new:?}")))?;
        match linked {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(Error::NameInUse(network.name.clone())),
            other => other.map_err(Error::io(format!("link {path:?}"))),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }
}

fn read(path: &Path) -> Result<Option<Network>, Error> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io(format!("read {path:?}")))?,
    };
    let parsed =
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
    Ok(Some(parsed))
}

/// docker's rule for names, which also keeps them from being paths.
fn is_name(name: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && name.len() <= 200 && name.bytes().all(rest)
}

fn check_name(name: &str) -> Result<(), Error> {
    let name: String = name.chars().take(300).collect();
    if !is_name(&name) {
        return Err(Error::Invalid(format!(
            "invalid network name {name:?}: wants [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 200 characters"
        )));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(Error::Invalid(format!("the network name {name:?} is reserved; take another one")));
    }
    Ok(())
}

fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first subnet of the pool that nobody uses: a /24, for the default network a /16.
fn free_subnet(taken: &[IpNet], whole: bool) -> Option<IpNet> {
    let free = |net: &IpNet| !taken.iter().any(|other| overlaps(*net, *other));
    let net = |b, c, prefix| IpNet::V4(Ipv4Net::new_assert([10, b, c, 0].into(), prefix));
    if whole {
        return POOL.map(|b| net(b, 0, 16)).find(free);
    }
    // The first is the default network's, also before there is one.
    POOL.skip(1).flat_map(|b| (0..=255).map(move |c| net(b, c, 24))).find(free)
}

/// A unique local subnet with a random global ID (RFC 4193): the bits come from the network's own random ID.
fn local_subnet(id: &str) -> IpNet {
    let global = u128::from_str_radix(&id[..10], 16).unwrap_or(1);
    let address = 0xfd_u128 << 120 | global << 80;
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), 64))
}

fn random_id() -> Result<String, Error> {
    let mut bytes = [0; 32];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::io("read \"/dev/urandom\""))?;
    Ok(bytes.iter().fold(String::with_capacity(64), |id, byte| id + &format!("{byte:02x}")))
}

/// FNV-1a: the same path gives the same names in every version of rcr.
fn hash(path: &Path) -> u32 {
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> (tempfile::TempDir, Networks, Netlink) {
        let dir = tempfile::tempdir().unwrap();
        let networks = Networks::new(dir.path(), &dir.path().join("run"), false);
        (dir, networks, Netlink::open().unwrap())
    }

    fn new(name: &str) -> NewNetwork {
        NewNetwork { name: name.to_owned(), ..NewNetwork::default() }
    }

    fn with_subnet(name: &str, subnet: &str) -> NewNetwork {
        NewNetwork { subnets: vec![(subnet.parse().unwrap(), None, None)], ..new(name) }
    }

    #[test]
    fn networks_are_kept_and_found() {
        let (_dir, networks, netlink) = networks();
        assert!(networks.list().unwrap().is_empty());
        let made = networks.create(&netlink, NewNetwork { ipv6: true, ..new("web") }).unwrap();
        assert_eq!(made.subnets.len(), 2);
        assert!(made.subnets[1].subnet.to_string().starts_with("fd"), "{made:?}");
        assert!(made.link.len() <= 15 && made.link.starts_with("rcr-"), "{made:?}");
        for wanted in ["web", &made.id, &made.id[..12]] {
            assert_eq!(networks.find(wanted).unwrap(), made);
        }
        assert!(matches!(networks.find("nope"), Err(Error::NotFound(_))));
        assert!(matches!(networks.create(&netlink, new("web")), Err(Error::NameInUse(_))));
        let default = networks.default_network(&netlink).unwrap();
        assert_eq!(networks.default_network(&netlink).unwrap(), default);
        assert_eq!(default.subnets[0].subnet.prefix_len(), 16);
        let names: Vec<String> = networks.list().unwrap().into_iter().map(|network| network.name).collect();
        assert_eq!(names, ["bridge", "web"]);
    }

    #[test]
    fn names_are_never_paths_nor_reserved() {
        let (_dir, networks, netlink) = networks();
        for bad in ["", ".", "../x", "a/b", "-x", "a b", "a\n", &"x".repeat(400), "none", "host", "container"]
        {
            assert!(matches!(networks.create(&netlink, new(bad)), Err(Error::Invalid(_))), "{bad:?}");
            assert!(networks.find(bad).is_err());
        }
    }

    #[test]
    fn subnets_do_not_overlap() {
        let (_dir, networks, netlink) = networks();
        networks.create(&netlink, with_subnet("a", "10.200.0.0/16")).unwrap();
        let said = networks.create(&netlink, with_subnet("b", "10.200.3.0/24")).unwrap_err().to_string();
        assert!(said.contains("10.200.3.0/24") && said.contains("network a"), "{said}");
        let taken = ["10.77.3.0/24", "10.78.0.0/24", "10.0.0.0/28"].map(|net| net.parse().unwrap());
        assert_eq!(free_subnet(&taken, true), "10.79.0.0/16".parse().ok());
        assert_eq!(free_subnet(&taken, false), "10.78.1.0/24".parse().ok());
        assert_eq!(free_subnet(&["10.0.0.0/8".parse().unwrap()], false), None);
    }

    #[test]
    fn drivers_say_what_they_want() {
        let (_dir, networks, netlink) = networks();
        let macvlan = NewNetwork { driver: Driver::Macvlan, ..with_subnet("m", "10.201.0.0/24") };
        let said = networks.create(&netlink, macvlan.clone()).unwrap_err().to_string();
        assert!(said.contains("parent=LINK"), "{said}");
        let with_parent = NewNetwork { parent: Some("eth7".to_owned()), ..macvlan };
        assert_eq!(networks.create(&netlink, with_parent).unwrap().link, "eth7");
        let bridge = NewNetwork { parent: Some("eth7".to_owned()), ..new("b") };
        assert!(networks.create(&netlink, bridge).unwrap_err().to_string().contains("macvlan"));
        let long = NewNetwork { bridge: Some("sixteen-bytes-xx".to_owned()), ..new("l") };
        assert!(networks.create(&netlink, long).is_err());
    }

    #[test]
    fn several_stores_have_names_of_their_own() {
        let of = |root: &str, usual| Networks::new(Path::new(root), Path::new("/run"), usual).table();
        assert_eq!(of("/var/lib/rcr", true), "rcr");
        assert!(of("/a", false).starts_with("rcr-") && of("/a", false) != of("/b", false));
    }
}
