//! Networks on a real kernel, in network namespaces that each test makes for itself: a host, its containers, and another
//! host that it is connected to. Without root they count as ignored, by name.

#![allow(clippy::unwrap_used)] // a test that unwraps what is not there fails, as it should

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use network::{
    Attachment, Bridged, Driver, Network, Protocol, Published, Subnet, Table, Wishes, connect, set_up_bridge,
};
use sys::clone::{namespace, setns, unshare};
use sys::rtnetlink::{End, Kind, Netlink, Route};

const TABLE: &str = "rcr-test";
/// The host's addresses on the way to the other host, and that one's.
const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const OTHER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

const WISHES: Wishes = Wishes { default_route: true, hairpin: true };

fn main() -> std::process::ExitCode {
    type Test = (&'static str, fn(), Option<&'static str>);
    let root = if nix::unistd::geteuid().is_root() { None } else { Some("root") };
    let has_nft = std::process::Command::new("nft").arg("--version").output().is_ok();
    let nft = if has_nft { None } else { Some("nft") };
    let tests: [Test; 11] = [
        ("containers_reach_each_other_and_the_outside", containers_reach_each_other_and_the_outside, root),
        ("the_first_packet_through_a_new_cable_arrives", the_first_packet_through_a_new_cable_arrives, root),
        ("published_ports_are_reached_from_everywhere", published_ports_are_reached_from_everywhere, root),
        ("a_port_on_one_address_is_on_that_one_only", a_port_on_one_address_is_on_that_one_only, root),
        ("what_is_not_published_is_not_reached", what_is_not_published_is_not_reached, root),
        ("internal_networks_are_internal", internal_networks_are_internal, root),
        ("loopback_of_the_host_is_not_reached", loopback_of_the_host_is_not_reached, root),
        (
            "a_firewall_that_drops_is_opened_for_the_bridge_alone",
            a_firewall_that_drops_is_opened,
            root.or(nft),
        ),
        ("making_it_twice_changes_nothing", making_it_twice_changes_nothing, root),
        ("macvlan_joins_the_wire", || joins_the_wire(Driver::Macvlan), root.or_else(|| lacks("macvlan"))),
        ("ipvlan_joins_the_wire", || joins_the_wire(Driver::Ipvlan), root.or_else(|| lacks("ipvlan"))),
    ];
    let trials = tests.map(|(name, test, missing)| {
        let name = missing.map_or(name.to_owned(), |what| format!("{name} (skipped: the host lacks {what})"));
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

/// The kind of link, if the kernel cannot make one.
fn lacks(kind: &'static str) -> Option<&'static str> {
    let space = Space::new();
    let made = space.run(|| {
        let netlink = Netlink::open().unwrap();
        let peer = End { name: "b", ..End::default() };
        netlink.add_link(&End { name: "a", ..End::default() }, Kind::Veth { peer }).unwrap();
        let parent = netlink.link("a").unwrap().index;
        let kind = if kind == "macvlan" { Kind::Macvlan(parent) } else { Kind::Ipvlan(parent) };
        netlink.add_link(&End { name: "c", ..End::default() }, kind)
    });
    made.err().filter(|e| e.kind() == ErrorKind::Unsupported).map(|_| kind)
}

/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Less than the second after which TCP sends a lost packet again.
const SECOND_TRY: Duration = Duration::from_millis(900);

/// A network namespace.
struct Space(File);

impl Space {
    fn new() -> Space {
        let make = || {
            unshare(namespace::NET).unwrap();
            let netlink = Netlink::open().unwrap();
            netlink.set_up(netlink.link("lo").unwrap().index, true).unwrap();
            Space(File::open("/proc/thread-self/ns/net").unwrap())
        };
        std::thread::spawn(make).join().unwrap()
    }

    /// Does something there.
    fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.0.as_fd(), namespace::NET).unwrap();
                what()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sockets that listen there.
    fn listen(&self, address: SocketAddr) -> (TcpListener, UdpSocket) {
        self.run(|| (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()))
    }

    /// Connects from there: who the other side says that it talks to, or why not.
    fn reach(&self, server: &TcpListener, to: SocketAddr) -> Result<IpAddr, ErrorKind> {
        self.reach_within(PATIENCE, server, to)
    }

    /// Why it cannot connect from there.
    fn miss(&self, server: &TcpListener, to: SocketAddr) -> Option<ErrorKind> {
        self.reach_within(SECOND_TRY, server, to).err()
    }

    fn reach_within(
        &self,
        wait: Duration,
        server: &TcpListener,
        to: SocketAddr,
    ) -> Result<IpAddr, ErrorKind> {
        let connect = || TcpStream::connect_timeout(&to, wait);
        let mut client = self.run(connect).map_err(|e| e.kind())?;
        let (mut accepted, from) = server.accept().unwrap();
        let mut said = [0; 4];
        client.write_all(b"ping").unwrap();
        accepted.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"ping");
        accepted.write_all(b"pong").unwrap();
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"pong");
        Ok(from.ip())
    }

    /// As [`Space::reach`], by UDP, there and back.
    fn reach_by_udp(&self, server: &UdpSocket, to: SocketAddr) -> bool {
        self.reach_by_udp_within(PATIENCE, server, to)
    }

    fn reach_by_udp_within(&self, wait: Duration, server: &UdpSocket, to: SocketAddr) -> bool {
        let client = self.run(|| UdpSocket::bind((unspecified(to.ip()), 0)).unwrap());
        client.set_read_timeout(Some(wait)).unwrap();
        server.set_read_timeout(Some(wait)).unwrap();
        if client.send_to(b"ping", to).is_err() {
            return false;
        }
        let mut said = [0; 4];
        let Ok((4, from)) = server.recv_from(&mut said) else { return false };
        server.send_to(b"pong", from).unwrap();
        client.recv_from(&mut said).is_ok_and(|(_, from)| from == to) && &said == b"pong"
    }
}

/// A host with a network and its containers, and another host on its wire.
struct World {
    host: Space,
    other: Space,
    network: Network,
    containers: Vec<(Space, Attachment)>,
}

impl World {
    fn new(network: Network) -> World {
        let (host, other) = (Space::new(), Space::new());
        let there = other.0.as_raw_fd();
        host.run(|| {
            let netlink = Netlink::open().unwrap();
            let peer = End { name: "down0", namespace: Some(there), ..End::default() };
            netlink.add_link(&End { name: "up0", up: true, ..End::default() }, Kind::Veth { peer }).unwrap();
            let link = netlink.link("up0").unwrap();
            netlink.give(link.index, ip(HOST[0]), 24).unwrap();
            netlink.give(link.index, ip(HOST[1]), 64).unwrap();
            network::switch_on_forwarding(true).unwrap();
            if network.driver == Driver::Bridge {
                set_up_bridge(&netlink, &network).unwrap();
            }
            Table::open(TABLE).unwrap().set(&[bridged(&network)]).unwrap();
        });
        other.run(|| {
            let netlink = Netlink::open().unwrap();
            let link = netlink.link("down0").unwrap();
            netlink.set_up(link.index, true).unwrap();
            netlink.give(link.index, ip(OTHER[0]), 24).unwrap();
            netlink.give(link.index, ip(OTHER[1]), 64).unwrap();
            // It knows the way to the containers, as a neighbour on the host's wire may.
            for (net, prefix, host) in [("10.5.0.0", 24, HOST[0]), ("fd05::", 64, HOST[1])] {
                let to = Some((ip(net), prefix));
                netlink.add_route(Route { to, gateway: Some(ip(host)), link: None }).unwrap();
            }
        });
        World { host, other, network, containers: Vec::new() }
    }

    /// One more container.
    fn container(&mut self, addresses: [&str; 2]) {
        let space = Space::new();
        let id = format!("{:08x}", 0xabc_def0 + self.containers.len()).repeat(8);
        let addresses = vec![(ip(addresses[0]), 24), (ip(addresses[1]), 64)];
        let attachment = Attachment::new(&self.network, &id, 0, addresses);
        self.host.run(|| {
            let netlink = Netlink::open().unwrap();
            connect(&netlink, &self.network, &attachment, space.0.as_fd(), WISHES).unwrap();
        });
        self.containers.push((space, attachment));
    }

    fn with_two(network: Network) -> World {
        let mut world = World::new(network);
        world.container(["10.5.0.2", "fd05::2"]);
        world.container(["10.5.0.3", "fd05::3"]);
        world
    }

    fn publish(&self, container: usize, ports: &[Published]) {
        let (_, attachment) = &self.containers[container];
        let addresses: Vec<IpAddr> = attachment.addresses.iter().map(|(ip, _)| *ip).collect();
        self.host.run(|| Table::open(TABLE).unwrap().publish(ports, &addresses, "one").unwrap());
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn unspecified(of: IpAddr) -> IpAddr {
    if of.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn network(internal: bool) -> Network {
    let subnet = |net: &str| Subnet::new(net.parse().unwrap(), None, None).unwrap();
    Network {
        name: "net".to_owned(),
        id: "3f2a".repeat(16),
        driver: Driver::Bridge,
        link: "rcr0".to_owned(),
        subnets: vec![subnet("10.5.0.0/24"), subnet("fd05::/64")],
        internal,
        mtu: None,
        labels: std::collections::BTreeMap::new(),
        created: 0,
    }
}

fn bridged(network: &Network) -> Bridged {
    let subnets = network.subnets.iter().map(|s| s.subnet).collect();
    Bridged { link: network.link.clone(), subnets, internal: network.internal }
}

fn port(host_ip: Option<&str>, host_port: u16, protocol: Protocol) -> Published {
    Published { host_ip: host_ip.map(ip), host_port, container_port: 80, protocol }
}

fn both(host_port: u16) -> [Published; 2] {
    [port(None, host_port, Protocol::Tcp), port(None, host_port, Protocol::Udp)]
}

fn containers_reach_each_other_and_the_outside() {
    let world = World::with_two(network(false));
    let [one, two] = [&world.containers[0].0, &world.containers[1].0];
    for (from, to, host, other) in
        [("10.5.0.2", "10.5.0.3", HOST[0], OTHER[0]), ("fd05::2", "fd05::3", HOST[1], OTHER[1])]
    {
        let (server, udp) = two.listen((ip(to), 80).into());
        assert_eq!(one.reach(&server, (ip(to), 80).into()), Ok(ip(from)));
        assert!(one.reach_by_udp(&udp, (ip(to), 80).into()));
        assert!(world.host.reach(&server, (ip(to), 80).into()).is_ok(), "the host, directly");
        let (outside, udp) = world.other.listen((ip(other), 7).into());
        assert_eq!(one.reach(&outside, (ip(other), 7).into()), Ok(ip(host)), "outside the host talks");
        assert!(two.reach_by_udp(&udp, (ip(other), 7).into()));
    }
}

fn the_first_packet_through_a_new_cable_arrives() {
    // A busy machine may be late for another reason, but not each time.
    let late = (0..4).all(|_| {
        let world = World::with_two(network(false));
        let [one, two] = [&world.containers[0].0, &world.containers[1].0];
        ["10.5.0.3", "fd05::3"].iter().any(|to| {
            let (server, _) = two.listen((ip(to), 80).into());
            one.miss(&server, (ip(to), 80).into()).is_some()
        })
    });
    assert!(!late, "lost each time");
}

fn published_ports_are_reached_from_everywhere() {
    let world = World::with_two(network(false));
    let [one, two] = [&world.containers[0].0, &world.containers[1].0];
    world.publish(0, &both(8080));
    world.host.run(|| {
        let table = Table::open(TABLE).unwrap();
        table.publish(&both(8081), &[ip("10.5.0.3"), ip("fd05::3")], "two").unwrap();
        // A port has one owner.
        let error = table.publish(&both(8081), &[ip("10.5.0.2")], "one").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EEXIST), "{error}");
    });
    for (host, other) in [(HOST[0], OTHER[0]), (HOST[1], OTHER[1])] {
        let (server, udp) = one.listen((unspecified(ip(host)), 80).into());
        let address: SocketAddr = (ip(host), 8080).into();
        assert_eq!(world.other.reach(&server, address), Ok(ip(other)), "the container sees who it is");
        assert!(world.other.reach_by_udp(&udp, address));
        assert!(world.host.reach(&server, address).is_ok());
        assert!(two.reach(&server, address).is_ok(), "hairpin, from a sibling");
        assert!(two.reach_by_udp(&udp, address));
        assert!(one.reach(&server, address).is_ok(), "hairpin, from itself");
        let (second, _) = two.listen((unspecified(ip(host)), 80).into());
        assert!(world.other.reach(&second, (ip(host), 8081).into()).is_ok(), "two containers on port 80");
    }
    let (server, udp) = one.listen((ip("10.5.0.2"), 80).into());
    assert!(world.host.reach(&server, "127.0.0.1:8080".parse().unwrap()).is_ok());
    assert!(world.host.reach_by_udp(&udp, "127.0.0.1:8080".parse().unwrap()));
    world.host.run(|| {
        let table = Table::open(TABLE).unwrap();
        assert_eq!(table.unpublish(&|comment| comment == "one").unwrap(), 4);
        assert_eq!(table.published().unwrap(), ["two"; 4]);
    });
    assert!(world.other.miss(&server, (ip(HOST[0]), 8080).into()).is_some());
}

fn a_port_on_one_address_is_on_that_one_only() {
    let world = World::with_two(network(false));
    let (server, _) = world.containers[0].0.listen("0.0.0.0:80".parse().unwrap());
    world.publish(0, &[port(Some("127.0.0.1"), 8080, Protocol::Tcp)]);
    assert!(world.host.reach(&server, "127.0.0.1:8080".parse().unwrap()).is_ok());
    assert!(world.host.miss(&server, (ip(HOST[0]), 8080).into()).is_some());
    assert!(world.other.miss(&server, (ip(HOST[0]), 8080).into()).is_some());
    world.publish(0, &[port(Some(HOST[0]), 8080, Protocol::Tcp)]);
    assert!(world.other.reach(&server, (ip(HOST[0]), 8080).into()).is_ok());
}

fn what_is_not_published_is_not_reached() {
    let world = World::with_two(network(false));
    world.publish(0, &both(8080));
    for to in ["10.5.0.2", "fd05::2"] {
        let (server, udp) = world.containers[0].0.listen((ip(to), 81).into());
        assert_eq!(world.other.miss(&server, (ip(to), 81).into()), Some(ErrorKind::TimedOut));
        assert!(!world.other.reach_by_udp_within(SECOND_TRY, &udp, (ip(to), 81).into()));
    }
}

fn internal_networks_are_internal() {
    let world = World::with_two(network(true));
    let [one, two] = [&world.containers[0].0, &world.containers[1].0];
    for (to, gateway, other) in [("10.5.0.3", "10.5.0.1", OTHER[0]), ("fd05::3", "fd05::1", OTHER[1])] {
        let (server, _) = two.listen((ip(to), 80).into());
        assert!(one.reach(&server, (ip(to), 80).into()).is_ok());
        assert!(world.other.miss(&server, (ip(to), 80).into()).is_some());
        let (outside, _) = world.other.listen((ip(other), 7).into());
        assert!(one.miss(&outside, (ip(other), 7).into()).is_some());
        // Not even for one who makes himself a route.
        one.run(|| {
            let netlink = Netlink::open().unwrap();
            netlink.add_route(Route { to: None, gateway: Some(ip(gateway)), link: None }).unwrap();
        });
        assert!(one.miss(&outside, (ip(other), 7).into()).is_some());
    }
}

/// CVE-2020-8558: route_localnet lets neighbours address 127.0.0.1.
fn loopback_of_the_host_is_not_reached() {
    let world = World::with_two(network(false));
    let one = &world.containers[0].0;
    let address = "127.0.0.1:99".parse().unwrap();
    let (server, _) = world.host.listen(address);
    one.run(|| {
        let netlink = Netlink::open().unwrap();
        netlink.set_up(netlink.link("lo").unwrap().index, false).unwrap();
        for link in ["all", "eth0"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/route_localnet"), "1").unwrap();
        }
        let to = Some((ip("127.0.0.1"), 32));
        let link = Some(netlink.link("eth0").unwrap().index);
        netlink.add_route(Route { to, gateway: Some(ip("10.5.0.1")), link }).unwrap();
    });
    assert!(one.miss(&server, address).is_some());
}

/// As docker leaves the host: `iptables -P FORWARD DROP`, here in nft's words.
fn a_firewall_that_drops_is_opened() {
    let world = World::with_two(network(false));
    world.publish(0, &both(8080));
    let nft = |words: &str| {
        let out = std::process::Command::new("nft").arg(words).output().unwrap();
        assert!(out.status.success(), "{words}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    world.host.run(|| {
        for family in ["ip", "ip6"] {
            nft(&format!("add table {family} filter"));
            let base = "type filter hook forward priority 0; policy drop;";
            nft(&format!("add chain {family} filter FORWARD {{ {base} }}"));
            nft(&format!("add rule {family} filter FORWARD counter"));
        }
    });
    let before = world.host.run(|| nft("list table ip filter"));
    let (server, _) = world.containers[0].0.listen("0.0.0.0:80".parse().unwrap());
    let (outside, _) = world.other.listen((ip(OTHER[0]), 7).into());
    assert!(world.other.miss(&server, (ip(HOST[0]), 8080).into()).is_some());
    assert!(world.containers[0].0.miss(&outside, (ip(OTHER[0]), 7).into()).is_some());
    world.host.run(|| {
        let opened = network::open_firewalls_for(TABLE, "rcr0").unwrap();
        assert_eq!(opened, ["filter FORWARD", "filter FORWARD"]);
        assert!(network::open_firewalls_for(TABLE, "rcr0").unwrap().is_empty(), "once is enough");
    });
    assert!(world.other.reach(&server, (ip(HOST[0]), 8080).into()).is_ok());
    assert!(world.containers[0].0.reach(&outside, (ip(OTHER[0]), 7).into()).is_ok());
    let (hidden, _) = world.containers[0].0.listen((ip("10.5.0.2"), 81).into());
    assert!(world.other.miss(&hidden, (ip("10.5.0.2"), 81).into()).is_some(), "not more than before");
    world.host.run(|| {
        network::close_firewalls_for(TABLE, "rcr0").unwrap();
        let uncounted = |text: &str| text.lines().filter(|l| !l.contains("counter")).collect::<String>();
        let after = nft("list table ip filter");
        assert_eq!(uncounted(&after), uncounted(&before), "somebody else's table is as it was");
        assert!(!after.contains("rcr0"), "{after}");
    });
}

fn making_it_twice_changes_nothing() {
    let mut world = World::with_two(network(false));
    world.publish(0, &both(8080));
    let network = world.network.clone();
    world.host.run(|| {
        let netlink = Netlink::open().unwrap();
        let table = Table::open(TABLE).unwrap();
        let before = netlink.link("rcr0").unwrap();
        assert_eq!(set_up_bridge(&netlink, &network).unwrap(), before.index);
        table.set(&[bridged(&network)]).unwrap();
        assert_eq!(netlink.link("rcr0").unwrap(), before);
        assert_eq!(table.published().unwrap().len(), 4, "published ports stay");
        assert!(table.exists().unwrap());
    });
    let cables: Vec<String> = world.containers.iter().map(|(_, a)| a.host_link.clone()).collect();
    world.containers.clear();
    world.host.run(|| {
        let netlink = Netlink::open().unwrap();
        let names = || netlink.links().unwrap().into_iter().map(|link| link.name).collect::<Vec<_>>();
        // A cable goes with the container's namespace, which the kernel takes apart a moment later.
        for _ in 0..500 {
            if !cables.iter().any(|name| names().contains(name)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        network::remove_link(&netlink, "rcr0").unwrap();
        network::remove_link(&netlink, "rcr0").unwrap();
        let table = Table::open(TABLE).unwrap();
        table.remove().unwrap();
        table.remove().unwrap();
        assert!(!table.exists().unwrap());
        let mut left = names();
        // Kernels make tunnels and the like in each namespace.
        left.retain(|name| name == "lo" || name.starts_with("up") || name.starts_with("rcr"));
        assert_eq!(left, ["lo", "up0"]);
    });
}

fn joins_the_wire(driver: Driver) {
    let subnet = Subnet::new("192.0.2.0/24".parse().unwrap(), Some(ip(OTHER[0])), None).unwrap();
    let network = Network { driver, link: "up0".to_owned(), subnets: vec![subnet], ..network(false) };
    let world = World::new(network.clone());
    let space = Space::new();
    let attachment = Attachment::new(&network, &"5".repeat(64), 0, vec![(ip("192.0.2.50"), 24)]);
    world.host.run(|| {
        let netlink = Netlink::open().unwrap();
        connect(&netlink, &network, &attachment, space.0.as_fd(), WISHES).unwrap();
    });
    let (outside, _) = world.other.listen((ip(OTHER[0]), 7).into());
    assert_eq!(space.reach(&outside, (ip(OTHER[0]), 7).into()), Ok(ip("192.0.2.50")));
    assert!(attachment.host_link.is_empty());
}
