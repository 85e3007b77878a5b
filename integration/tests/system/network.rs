//! Networks of containers, in a network namespace of the test's own that stands for the host.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, say};
use harness::{Case, cases, image};
use serde_json::{Value, json};
use sys::clone::{namespace, setns, unshare};
use sys::rtnetlink::{End, Kind, Netlink, Route};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("network":
    a_container_on_the_bridge_has_addresses_and_a_route [Root, BUSYBOX],
    a_host_that_cannot_have_a_bridge_says_what_to_do [Root, BUSYBOX, Program("setpriv")],
    a_published_port_leads_to_the_container_and_has_one_owner [Root, BUSYBOX],
    networks_are_made_used_and_removed [Root, BUSYBOX],
    addresses_can_be_asked_for [Root, BUSYBOX],
    several_networks_at_once [Root, BUSYBOX],
    a_container_shares_another_ones_network [Root, BUSYBOX],
    exposed_ports_are_published_with_p_in_capitals [Root, BUSYBOX],
    flags_of_docker_for_addresses_and_hosts [Root, BUSYBOX],
    a_killed_run_leaves_no_address_and_no_port [Root, BUSYBOX],
    fifty_at_once_have_an_address_each [Root, BUSYBOX],
    wishes_that_make_no_sense_are_refused [Root, BUSYBOX],
    pruning_leaves_nothing_on_the_host [Root, BUSYBOX, Program("nft")],
);

/// A store, an image, and a host without any network but loopback: this thread is in it, and with it what it starts.
pub(crate) struct Host {
    pub(crate) world: World,
    pub(crate) image: String,
}

/// Runs a test in a host of its own, and sees that the real one has nothing more afterwards.
pub(crate) fn on_a_host(test: impl FnOnce(&Host) + Send) {
    let before = Snapshot::take();
    let run = || {
        unshare(namespace::NET).expect("a network namespace");
        let netlink = Netlink::open().expect("netlink");
        netlink.set_up(netlink.link("lo").expect("lo").index, true).expect("lo is up");
        let world = World::new();
        let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
        let image = image::busybox_layout(&world.path().join("layout"), config);
        test(&Host { world, image });
    };
    std::thread::scope(|scope| {
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_none_since(&before);
}

/// Containers of a test that failed would hold what it was given, locks for instance.
impl Drop for Host {
    fn drop(&mut self) {
        for id in say(&mut self.rcr(&["ps", "-aq"])).out.lines() {
            say(&mut self.rcr(&["rm", "-f", id]));
        }
    }
}

/// Another host on the wire of the test's, 192.0.2.2 beside its 192.0.2.1, which knows that the containers are behind that.
pub(crate) struct Outside(File);

impl Outside {
    pub(crate) fn new() -> Outside {
        let ip = |text: &str| text.parse().expect("an address");
        let make = || {
            unshare(namespace::NET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("a namespace")
        };
        let outside = Outside(std::thread::spawn(make).join().expect("a namespace"));
        let netlink = Netlink::open().expect("netlink");
        let peer = End { name: "down0", namespace: Some(outside.0.as_raw_fd()), ..End::default() };
        netlink
            .add_link(&End { name: "up0", up: true, ..End::default() }, Kind::Veth { peer })
            .expect("a cable");
        let link = netlink.link("up0").expect("up0").index;
        netlink.give(link, ip("192.0.2.1"), 24).expect("an address");
        netlink.give(link, ip("2001:db8::1"), 64).expect("an address");
        // What NAT hides the containers from has no other way.
        for via in ["192.0.2.2", "2001:db8::2"] {
            netlink.add_route(Route { to: None, gateway: Some(ip(via)), link: None }).expect("a route");
        }
        outside.run(|| {
            let netlink = Netlink::open().expect("netlink");
            netlink.set_up(netlink.link("lo").expect("lo").index, true).expect("lo is up");
            let link = netlink.link("down0").expect("down0").index;
            netlink.set_up(link, true).expect("it is up");
            netlink.give(link, ip("192.0.2.2"), 24).expect("an address");
            netlink.give(link, ip("2001:db8::2"), 64).expect("an address");
            for (to, prefix, gateway) in [("10.0.0.0", 8, "192.0.2.1"), ("fd00::", 8, "2001:db8::1")] {
                let route = Route { to: Some((ip(to), prefix)), gateway: Some(ip(gateway)), link: None };
                netlink.add_route(route).expect("a route");
            }
        });
        outside
    }

    /// Does something there.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let there = || {
                setns(self.0.as_fd(), namespace::NET).expect("a namespace");
                what()
            };
            scope.spawn(there).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Host {
    pub(crate) fn rcr(&self, args: &[&str]) -> Command {
        let mut command = self.world.rcr();
        command.args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, flags: &[&str], command: &[&str]) -> Command {
        self.rcr(&[&["run", "--rm"], flags, &[self.image.as_str()], command].concat())
    }

    /// A container that stays, with its address on the first network.
    pub(crate) fn server(&self, name: &str, flags: &[&str], script: &str) -> (Child, String) {
        let all = [&["--name", name], flags].concat();
        let mut child =
            self.run(&all, &["sh", "-c", script]).stdout(Stdio::null()).spawn().expect("rcr starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        let ip = loop {
            let found = self.inspect(name);
            let networks = found["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
            let ip = networks.values().next().and_then(|n| n["IPAddress"].as_str()).unwrap_or_default();
            if found["State"]["Status"] == "running" && !ip.is_empty() {
                break Some(ip.to_owned());
            }
            if Instant::now() > deadline {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let Some(ip) = ip else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} never ran");
        };
        (child, ip)
    }

    pub(crate) fn inspect(&self, name: &str) -> Value {
        let said = say(&mut self.rcr(&["inspect", name]));
        let all: Value = serde_json::from_str(&said.out).unwrap_or_default();
        all[0].clone()
    }

    pub(crate) fn inspect_network(&self, name: &str) -> Value {
        let all: Value =
            serde_json::from_str(&ok(&mut self.rcr(&["network", "inspect", name]))).expect("JSON");
        all[0].clone()
    }

    pub(crate) fn end(&self, name: &str, mut child: Child) {
        ok(&mut self.rcr(&["rm", "-f", name]));
        child.wait().expect("rcr ends");
    }

    /// Addresses that somebody holds.
    pub(crate) fn leases(&self) -> usize {
        let networks =
            std::fs::read_dir(self.world.path().join("run/leases")).into_iter().flatten().flatten();
        networks.map(|network| std::fs::read_dir(network.path()).expect("readable").count()).sum()
    }
}

/// Says a line to a server and hears its answer; it may need a moment to listen.
pub(crate) fn talk(to: &str) -> String {
    let address: SocketAddr = to.parse().expect("an address");
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut stream = loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(stream) => break stream,
            Err(e) => assert!(Instant::now() < deadline, "{to}: {e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut answer = String::new();
    stream.write_all(b"hello\n").expect("it takes a line");
    stream.read_to_string(&mut answer).expect("it answers");
    answer.trim_end().to_owned()
}

/// Answers each connection on a port with its name.
pub(crate) fn answers(name: &str, port: u16) -> String {
    format!("while :; do echo {name} | nc -l -p {port}; done")
}

fn a_container_on_the_bridge_has_addresses_and_a_route() {
    on_a_host(|host| {
        let script = "ip -o addr show eth0; ip route; hostname -i; cat /etc/hosts; ping -c 1 -W 5 10.77.0.1";
        let out = ok(&mut host.run(&["-h", "web"], &["sh", "-c", script]));
        assert!(out.contains("inet 10.77.0.2/16"), "{out}");
        assert!(out.contains("inet6 fd"), "{out}");
        assert!(out.contains("default via 10.77.0.1 dev eth0"), "{out}");
        assert!(out.contains("10.77.0.2\tweb"), "{out}");
        assert!(out.contains("1 packets received"), "{out}");
        assert_eq!(host.leases(), 0);
        // What comes next gets the same address, and by it is found at once.
        let again = ok(&mut host.run(&["--network", "bridge"], &["sh", "-c", "hostname -i"]));
        assert!(again.contains("10.77.0.2"), "{again}");
        let alone = ok(&mut host.run(&["--network", "none"], &["sh", "-c", "ip -o link | wc -l"]));
        assert_eq!(alone, "1");
    });
}

/// As in a container that is privileged but for its network.
fn a_host_that_cannot_have_a_bridge_says_what_to_do() {
    on_a_host(|host| {
        let before = Snapshot::take();
        let without = |flags: &[&str]| {
            let run = host.run(flags, &["echo", "ran"]);
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"]).arg(run.get_program());
            command.args(run.get_args()).stdin(Stdio::null());
            command.envs(run.get_envs().filter_map(|(key, value)| Some((key, value?))));
            command
        };
        fails(&mut without(&[]), 125, &["network bridge cannot be made", "--network host", "--network none"]);
        assert_none_since(&before);
        assert_eq!(host.leases(), 0);
        assert_eq!(ok(&mut host.rcr(&["ps", "-aq"])), "");
        assert_eq!(ok(&mut without(&["--network", "host"])), "ran");
    });
}

fn a_published_port_leads_to_the_container_and_has_one_owner() {
    on_a_host(|host| {
        let flags = ["--network", "bridge", "-p", "8080:80", "-p", "127.0.0.1::81"];
        let (web, ip) =
            host.server("web", &flags, &format!("{} & {}", answers("one", 80), answers("two", 81)));
        for place in ["127.0.0.1:8080", "10.77.0.1:8080"] {
            assert_eq!(talk(place), "one", "{place}");
        }
        assert_eq!(talk(&format!("{ip}:80")), "one");
        let chosen = ok(&mut host.rcr(&["port", "web", "81"]));
        assert!(chosen.starts_with("127.0.0.1:"), "{chosen}");
        assert_eq!(talk(&chosen), "two");
        let listed = ok(&mut host.rcr(&["ps", "--format", "{{.Names}} {{.Ports}} {{.Networks}}"]));
        assert!(listed.starts_with("web 0.0.0.0:8080->80/tcp, 127.0.0.1:"), "{listed}");
        assert_eq!(host.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"], "8080");
        let mut second = host.run(&["--network", "bridge", "-p", "8080:80"], &["true"]);
        fails(&mut second, 125, &["0.0.0.0:8080/tcp", "in use by container web", "-p"]);
        // Nobody else on the host can listen there either.
        assert!(std::net::TcpListener::bind("0.0.0.0:8080").is_err());
        // A sibling reaches it by the host's address, and itself too.
        let visit = ["sh", "-c", "echo hello | nc -w 5 10.77.0.1 8080"];
        assert_eq!(ok(&mut host.run(&["--network", "bridge"], &visit)), "one");
        host.end("web", web);
        assert!(std::net::TcpListener::bind("0.0.0.0:8080").is_ok());
        assert_eq!(host.leases(), 0);
    });
}

fn networks_are_made_used_and_removed() {
    on_a_host(|host| {
        let id =
            ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "--label", "a=b", "back"]));
        assert_eq!(id.len(), 64);
        fails(&mut host.rcr(&["network", "create", "back"]), 1, &["network with name back already exists"]);
        let mut overlapping = host.rcr(&["network", "create", "--subnet", "10.9.0.128/25", "b"]);
        fails(&mut overlapping, 1, &["10.9.0.128/25", "network back", "--subnet"]);
        let listed = ok(&mut host.rcr(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Labels}}"]));
        assert_eq!(listed, "back bridge a=b");
        assert_eq!(ok(&mut host.rcr(&["network", "ls", "-q", "--no-trunc", "-f", "name=back"])), id);
        let (db, ip) = host.server("db", &["--network", "back"], &answers("data", 5432));
        assert_eq!(ip, "10.9.0.2");
        let visit = ["sh", "-c", "echo hello | nc -w 5 10.9.0.2 5432"];
        assert_eq!(ok(&mut host.run(&["--network", &id[..12]], &visit)), "data");
        let seen: Value =
            serde_json::from_str(&ok(&mut host.rcr(&["network", "inspect", "back"]))).expect("JSON");
        let members = seen[0]["Containers"].as_object().cloned().unwrap_or_default();
        assert!(members.values().any(|c| c["Name"] == "db" && c["IPv4Address"] == "10.9.0.2/24"), "{seen}");
        fails(&mut host.rcr(&["network", "rm", "back"]), 1, &["in use by container db"]);
        host.end("db", db);
        assert_eq!(ok(&mut host.rcr(&["network", "rm", "back"])), "back");
        fails(&mut host.rcr(&["network", "rm", "back"]), 1, &["no such network: back"]);
        ok(&mut host.rcr(&["network", "rm", "-f", "back"]));
        fails(&mut host.run(&["--network", "back"], &["true"]), 125, &["no such network: back"]);
        // An internal network has no way out.
        ok(&mut host.rcr(&["network", "create", "--internal", "in"]));
        let routes = ok(&mut host.run(&["--network", "in"], &["ip", "route"]));
        assert!(!routes.contains("default"), "{routes}");
    });
}

fn addresses_can_be_asked_for() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "net"]));
        let wish = "net:ip=10.9.0.77,ip6=fd09::77,mac=02:00:00:00:00:07";
        let (fixed, ip) = host.server("fixed", &["--network", wish], "sleep 1000");
        assert_eq!(ip, "10.9.0.77");
        let shown = &host.inspect("fixed")["NetworkSettings"]["Networks"]["net"];
        assert_eq!(shown["GlobalIPv6Address"], "fd09::77");
        assert_eq!(shown["MacAddress"], "02:00:00:00:00:07");
        let mut same = host.run(&["--network", "net:ip=10.9.0.77"], &["true"]);
        fails(&mut same, 125, &["10.9.0.77", "network net", "container fixed"]);
        let mut outside = host.run(&["--network", "net:ip=10.10.0.1"], &["true"]);
        fails(&mut outside, 125, &["10.10.0.1", "10.9.0.0/24"]);
        host.end("fixed", fixed);
        assert_eq!(host.leases(), 0);
    });
}

fn several_networks_at_once() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "one"]));
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.10.0.0/24", "two"]));
        let (server, _) = host.server("server", &["--network", "two"], &answers("two", 80));
        let script = "ip route; ip -o -4 addr; echo hello | nc -w 5 10.10.0.2 80";
        let out = ok(&mut host.run(&["--network", "one", "--network", "two"], &["sh", "-c", script]));
        assert!(out.contains("default via 10.9.0.1 dev eth0"), "{out}");
        assert!(out.contains("eth1") && out.contains("inet 10.10.0.3/24"), "{out}");
        assert!(out.ends_with("two"), "{out}");
        // Who is on the other network only does not get here.
        let mut stranger =
            host.run(&["--network", "one"], &["sh", "-c", "echo hello | nc -w 1 10.10.0.2 80"]);
        assert_ne!(say(&mut stranger).out.trim(), "two");
        host.end("server", server);
    });
}

fn a_container_shares_another_ones_network() {
    on_a_host(|host| {
        let (web, ip) = host.server("web", &["-h", "webhost"], &answers("one", 80));
        let script = "hostname; hostname -i; cat /etc/hosts; echo hello | nc -w 5 127.0.0.1 80";
        let out = ok(&mut host.run(&["--network", "container:web"], &["sh", "-c", script]));
        let first: Vec<&str> = out.lines().take(2).collect();
        assert!(first[0] == "webhost" && first[1].contains(&ip), "{out}");
        assert!(out.contains(&format!("{ip}\twebhost")) && out.ends_with("one"), "{out}");
        assert_eq!(host.leases(), 2, "the address is the other one's, in both families");
        for (flags, words) in [
            (&["--network", "container:web", "-p", "1:1"][..], &["--publish", "container:web"][..]),
            (&["--network", "container:web", "-h", "x"], &["--hostname"]),
            (&["--network", "container:web", "--dns", "1.1.1.1"], &["--dns"]),
            (&["--network", "container:none-such"], &["no such container: none-such"]),
            (&["--network", "container:"], &["container:NAME"]),
        ] {
            fails(&mut host.run(flags, &["true"]), 125, words);
        }
        host.end("web", web);
        let mut ended = host.rcr(&["run", "--name", "ended", &host.image, "true"]);
        ok(&mut ended);
        fails(&mut host.run(&["--network", "container:ended"], &["true"]), 125, &["ended", "does not run"]);
        ok(&mut host.rcr(&["rm", "ended"]));
    });
}

fn exposed_ports_are_published_with_p_in_capitals() {
    on_a_host(|host| {
        let config = json!({ "Env": ["PATH=/bin"], "ExposedPorts": { "80/tcp": {}, "nonsense": {} } });
        let image = image::busybox_layout(&host.world.path().join("exposing"), config);
        let script = format!("{} & {}", answers("one", 80), answers("two", 81));
        let mut run =
            host.rcr(&["run", "--rm", "--name", "web", "-P", "--expose", "81", &image, "sh", "-c", &script]);
        let mut web = run.stdout(Stdio::null()).spawn().expect("rcr starts");
        harness::stage::until("it runs", || host.inspect("web")["State"]["Running"] == true);
        for (port, says) in [("80", "one"), ("81", "two")] {
            let at = ok(&mut host.rcr(&["port", "web", port]));
            assert_eq!(talk(&at.replace("0.0.0.0", "127.0.0.1")), says, "{at}");
        }
        assert_eq!(ok(&mut host.rcr(&["port", "web"])).lines().count(), 2);
        ok(&mut host.rcr(&["rm", "-f", "web"]));
        web.wait().expect("rcr ends");
        // An exposed port alone is no published one.
        ok(&mut host.rcr(&["run", "--rm", "--expose", "82", &image, "true"]));
    });
}

fn flags_of_docker_for_addresses_and_hosts() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "net"]));
        let flags = ["--network", "net", "--ip", "10.9.0.77", "--ip6", "fd09::77"];
        let flags = [&flags[..], &["--mac-address", "02:00:00:00:00:07"]].concat();
        let hosts = [
            "--add-host",
            "db:10.0.0.7",
            "--add-host=host.local:host-gateway",
            "--add-host",
            "six:[fd00::1]",
        ];
        let script = "ip -o addr show eth0; ip link show eth0; cat /etc/hosts";
        let out = ok(&mut host.run(&[&flags[..], &hosts].concat(), &["sh", "-c", script]));
        for part in [
            "inet 10.9.0.77/24",
            "inet6 fd09::77/64",
            "02:00:00:00:00:07",
            "10.0.0.7\tdb\n",
            "10.9.0.1\thost.local\n",
            "fd00::1\tsix",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
        for (flags, words) in [
            (&["--network", "none", "--ip", "10.9.0.7"][..], &["--ip", "--network none"][..]),
            (&["--network", "net", "--network", "b", "--ip", "10.9.0.7"], &["--ip", "NAME:ip="]),
            (&["--add-host", "db"], &["--add-host", "db:10.0.0.7"]),
            (&["--add-host", "d b:10.0.0.1"], &["hostname"]),
            (&["--dns", "localhost"], &["--dns", "localhost"]),
            (&["--dns-search", "a b"], &["--dns-search", "one word"]),
            (&["--expose", "x"], &["--expose", "PORT"]),
            (&["--network", "none", "--add-host", "h:host-gateway"], &["host-gateway", "no address"]),
        ] {
            fails(&mut host.run(flags, &["true"]), 125, words);
        }
        assert_eq!(host.leases(), 0);
    });
}

fn a_killed_run_leaves_no_address_and_no_port() {
    on_a_host(|host| {
        let flags = ["--network", "bridge", "-p", "8080:80"];
        for _ in 0..5 {
            let (mut web, ip) = host.server("web", &flags, &answers("one", 80));
            assert_eq!(ip, "10.77.0.2");
            assert_eq!(talk("127.0.0.1:8080"), "one");
            web.kill().expect("killed");
            web.wait().expect("it ends");
            // Any command cleans up.
            assert_eq!(ok(&mut host.rcr(&["ps", "-aq"])), "");
            assert_eq!(host.leases(), 0);
            assert!(TcpStream::connect("127.0.0.1:8080").is_err());
        }
    });
}

fn fifty_at_once_have_an_address_each() {
    on_a_host(|host| {
        let start = |_| {
            let mut run = host.run(&["-i", "--network", "bridge"], &["sh", "-c", "hostname -i; read x"]);
            run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("rcr starts")
        };
        let mut children: Vec<Child> = (0..50).map(start).collect();
        let mut addresses = Vec::new();
        for child in &mut children {
            let mut line = String::new();
            let out = child.stdout.as_mut().expect("a pipe");
            std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("output");
            let ip = line.split_whitespace().find(|word| word.starts_with("10.77.0.")).map(str::to_owned);
            addresses.push(ip.unwrap_or_else(|| panic!("no address in {line:?}")));
        }
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 50);
        for child in children {
            assert!(child.wait_with_output().expect("it ends").status.code().is_some());
        }
        assert_eq!(host.leases(), 0);
    });
}

fn wishes_that_make_no_sense_are_refused() {
    on_a_host(|host| {
        let before = Snapshot::take();
        for (flags, words) in [
            (&["--network", "host", "--network", "bridge"][..], &["host", "cannot be combined"][..]),
            (&["--network", "a", "--network", "a"], &["network a is given twice"]),
            (&["--network", "none", "-p", "8080:80"], &["--network none"]),
            (&["--network", "bridge", "-p", "1-3:1-2"], &["same length"]),
            (&["--network", "bridge:colour=red"], &["alias="]),
            (&["--network", "../x"], &["no such network"]),
        ] {
            fails(&mut host.run(flags, &["true"]), 125, words);
        }
        for (args, words) in [
            (&["network", "create", "none"][..], &["reserved"][..]),
            (&["network", "create", "../x"], &["invalid network name"]),
            (&["network", "create", "-d", "overlay", "x"], &["bridge, macvlan or ipvlan"]),
            (&["network", "create", "-d", "macvlan", "--subnet", "10.9.0.0/24", "x"], &["parent=LINK"]),
            (&["network", "create", "--subnet", "10.9.0.0/33", "x"], &["10.9.0.0/33"]),
            (&["network", "create", "--gateway", "10.9.0.1", "x"], &["--gateway", "--subnet"]),
            (&["network", "inspect", "x"], &["no such network: x"]),
            (&["port", "x"], &["no such container: x"]),
        ] {
            let said = say(&mut host.rcr(args));
            assert_ne!(said.code, 0, "{args:?}");
            for word in words {
                assert!(said.err.contains(word), "{args:?}: {}", said.err);
            }
        }
        assert_none_since(&before);
    });
}

fn pruning_leaves_nothing_on_the_host() {
    on_a_host(|host| {
        let rules = || ok(Command::new("nft").args(["list", "ruleset"]));
        assert_eq!(rules(), "");
        ok(&mut host.rcr(&["network", "create", "other"]));
        for network in ["bridge", "other"] {
            ok(&mut host.run(&["--network", network, "-p", "8080:80"], &["true"]));
        }
        assert!(rules().contains("table inet rcr-"));
        assert_eq!(ok(&mut host.rcr(&["network", "prune", "-f"])), "bridge\nother");
        assert_eq!(rules(), "");
        let links = Netlink::open().expect("netlink").links().expect("links");
        assert!(!links.iter().any(|link| link.name.starts_with("rcr")), "{links:?}");
    });
}
