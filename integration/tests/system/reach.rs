//! Who reaches whom: containers, the host, another host behind NAT, and other engines' containers beside them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::client::{Docker, Network, Podman};
use harness::host::Need::{Path, Program, Root};
use harness::stage::until;
use harness::world::{World, ok, say};
use harness::{Case, cases, image};
use serde_json::json;
use sys::clone::{namespace, setns};

use crate::clients::archive;
use crate::network::{Host, Outside, answers, on_a_host, talk};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("reach":
    the_outside_is_reached_behind_nat_in_both_families [Root, BUSYBOX],
    published_ports_are_reached_from_outside [Root, BUSYBOX],
    udp_and_ranges_of_ports [Root, BUSYBOX],
    an_internal_network_has_no_way_out_even_for_root [Root, BUSYBOX],
    macvlan_is_on_the_hosts_wire [Root, BUSYBOX],
    fifty_at_once_find_and_reach_each_other [Root, BUSYBOX],
    docker_and_podman_beside_it_go_on [Root, BUSYBOX, Program("dockerd"), Path("/usr/bin/docker"), Program("podman"),
        Program("runc"), Program("skopeo"), Program("iptables"), Program("iptables-save"), Path("/usr/lib/podman/netavark")],
);

impl Host {
    /// Does something in the network of a running container.
    pub(crate) fn within<T: Send>(&self, container: &str, what: impl FnOnce() -> T + Send) -> T {
        let pid = self.inspect(container)["State"]["Pid"].to_string();
        let there = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("it runs");
        std::thread::scope(|scope| {
            let there = || {
                setns(there.as_fd(), namespace::NET).expect("a namespace");
                what()
            };
            scope.spawn(there).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Says who calls to each that connects, for as long as the process lives.
pub(crate) fn mirror(listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let mut said = [0; 64];
            let _ = stream.read(&mut said);
            let _ = stream.write_all(from.ip().to_string().as_bytes());
        }
    });
}

/// Sends each datagram back.
pub(crate) fn echo(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut said = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut said) {
            let _ = socket.send_to(&said[..length], from);
        }
    });
}

/// Whether what is sent to `to` comes back.
pub(crate) fn comes_back(to: &str) -> bool {
    let to: SocketAddr = to.parse().expect("an address");
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time");
    let mut said = [0; 4];
    socket.send_to(b"ping", to).is_ok() && socket.recv(&mut said).is_ok() && &said == b"ping"
}

pub(crate) fn is_refused_or_lost(to: &str) -> bool {
    TcpStream::connect_timeout(&to.parse().expect("an address"), Duration::from_millis(700)).is_err()
}

fn the_outside_is_reached_behind_nat_in_both_families() {
    on_a_host(|host| {
        let outside = Outside::new();
        for at in ["192.0.2.2:7", "[2001:db8::2]:7"] {
            mirror(outside.run(|| TcpListener::bind(at).expect("a port")));
        }
        host_makes(host, "back");
        for network in ["bridge", "back"] {
            let script = "echo hello | nc -w 5 192.0.2.2 7; echo; echo hello | nc -w 5 2001:db8::2 7";
            let out = ok(&mut host.run(&["--network", network], &["sh", "-c", script]));
            assert_eq!(out, "192.0.2.1\n2001:db8::1", "{network}: it is the host that outside sees");
        }
        // What is not published is not reached from there, though it knows the way.
        let (web, ip) = host.server("web", &[], &answers("one", 80));
        assert_eq!(talk(&format!("{ip}:80")), "one");
        assert!(outside.run(|| is_refused_or_lost(&format!("{ip}:80"))));
        host.end("web", web);
    });
}

fn host_makes(host: &Host, network: &str) {
    ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", network]));
}

fn published_ports_are_reached_from_outside() {
    on_a_host(|host| {
        let outside = Outside::new();
        let (one, _) = host.server("one", &["-p", "8080:80"], "sleep 1000");
        let (two, _) = host.server("two", &["-p", "8081:80"], "sleep 1000");
        for (name, port) in [("one", 8080), ("two", 8081)] {
            // Two containers on port 80, in both families.
            mirror(host.within(name, || TcpListener::bind("[::]:80").expect("port 80")));
            let seen = outside.run(|| talk(&format!("192.0.2.1:{port}")));
            assert!(seen.ends_with("192.0.2.2"), "the container sees who it is: {seen}");
            assert_eq!(outside.run(|| talk(&format!("[2001:db8::1]:{port}"))), "2001:db8::2");
            for at in ["127.0.0.1", "192.0.2.1", "10.77.0.1", "[2001:db8::1]"] {
                talk(&format!("{at}:{port}"));
            }
            // Hairpin: from a sibling, and from itself, by the host's address.
            for from in ["one", "two"] {
                host.within(from, || talk(&format!("192.0.2.1:{port}")));
            }
        }
        host.end("one", one);
        host.end("two", two);
        assert!(outside.run(|| is_refused_or_lost("192.0.2.1:8080")));
    });
}

fn udp_and_ranges_of_ports() {
    on_a_host(|host| {
        let outside = Outside::new();
        let flags = ["-p", "5300:53/udp", "-p", "7000-7002:8000-8002", "-p", "127.0.0.1:9000:90"];
        let (web, _) = host.server("web", &flags, "sleep 1000");
        echo(host.within("web", || UdpSocket::bind("0.0.0.0:53").expect("a port")));
        for port in [8000, 8002, 90] {
            mirror(host.within("web", || TcpListener::bind(("0.0.0.0", port)).expect("a port")));
        }
        assert!(outside.run(|| comes_back("192.0.2.1:5300")));
        for to in ["127.0.0.1:5300", "192.0.2.1:5300"] {
            assert!(comes_back(to), "{to}");
        }
        let (other, _) = host.server("other", &[], "sleep 1000");
        assert!(host.within("other", || comes_back("192.0.2.1:5300")), "hairpin");
        for port in [7000, 7002] {
            assert_eq!(outside.run(|| talk(&format!("192.0.2.1:{port}"))), "192.0.2.2");
        }
        assert!(outside.run(|| is_refused_or_lost("192.0.2.1:7001")), "nobody listens there");
        talk("127.0.0.1:9000");
        assert!(outside.run(|| is_refused_or_lost("192.0.2.1:9000")), "on loopback only");
        host.end("web", web);
        host.end("other", other);
    });
}

fn an_internal_network_has_no_way_out_even_for_root() {
    on_a_host(|host| {
        let outside = Outside::new();
        mirror(outside.run(|| TcpListener::bind("192.0.2.2:7").expect("a port")));
        ok(&mut host.rcr(&["network", "create", "--internal", "--subnet", "10.9.0.0/24", "in"]));
        let (web, ip) = host.server("web", &["--network", "in"], &answers("one", 80));
        let script = "echo hello | nc -w 5 web 80; ip route add default via 10.9.0.1; echo hello | nc -w 1 192.0.2.2 7; true";
        let flags = ["--network", "in", "--cap-add", "NET_ADMIN"];
        assert_eq!(ok(&mut host.run(&flags, &["sh", "-c", script])), "one");
        assert!(outside.run(|| is_refused_or_lost(&format!("{ip}:80"))));
        host.end("web", web);
    });
}

fn macvlan_is_on_the_hosts_wire() {
    on_a_host(|host| {
        let outside = Outside::new();
        mirror(outside.run(|| TcpListener::bind("192.0.2.2:7").expect("a port")));
        let create = ["network", "create", "-d", "macvlan", "-o", "parent=up0", "--subnet", "192.0.2.0/24"];
        let more = ["--gateway", "192.0.2.2", "--ip-range", "192.0.2.64/26", "wire"];
        ok(&mut host.rcr(&[&create[..], &more].concat()));
        let out =
            ok(&mut host.run(&["--network", "wire"], &["sh", "-c", "echo hello | nc -w 5 192.0.2.2 7"]));
        assert_eq!(out, "192.0.2.65", "it is itself that outside sees");
        let (web, ip) = host.server("web", &["--network", "wire"], &answers("one", 80));
        assert_eq!(outside.run(|| talk(&format!("{ip}:80"))), "one");
        host.end("web", web);
        assert_eq!(host.leases(), 0);
    });
}

fn fifty_at_once_find_and_reach_each_other() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "net"]));
        // Each answers on port 80, and calls the one after it until that answers.
        let start = |number: u32| {
            let name = format!("c{number}");
            let next = format!("c{}", (number + 1) % 50);
            let script = format!(
                "{{ {}; }} > /dev/null & for i in $(seq 300); do echo hello | nc -w 2 {next} 80 2>/dev/null | grep {next} && break; sleep 0.1; done; read x",
                answers(&name, 80)
            );
            let mut run = host.run(&["-i", "--name", &name, "--network", "net"], &["sh", "-c", &script]);
            run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("rcr starts")
        };
        let mut children: Vec<_> = (0..50).map(start).collect();
        for (number, child) in children.iter_mut().enumerate() {
            let mut line = String::new();
            let out = child.stdout.as_mut().expect("a pipe");
            std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("output");
            assert_eq!(line.trim(), format!("c{}", (number + 1) % 50));
        }
        for child in children {
            child.wait_with_output().expect("it ends");
        }
        assert_eq!(host.leases(), 0);
    });
}

/// All three with bridges, rules and published ports in one host, docker's with its policy of DROP.
fn docker_and_podman_beside_it_go_on() {
    let run = || {
        let world = World::new();
        let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
        let image = image::busybox_layout(&world.path().join("rcr-layout"), config);
        // Its directory goes last of all.
        let host = Host { world, image };
        let world = &host.world;
        let docker = Docker::start(world, None);
        ok(docker.command().args(["load", "-q", "-i"]).arg(archive(
            world,
            "docker-archive",
            "box:latest",
            &["sh"],
        )));
        docker.network.enter();
        let mut podman = Podman::new(world, None);
        podman.network = Network::here();
        ok(podman.command().args(["load", "-q", "-i"]).arg(archive(
            world,
            "docker-archive",
            "localhost/box",
            &["sh"],
        )));
        let script = |name| answers(name, 80);
        ok(docker.command().args([
            "run",
            "-d",
            "-p",
            "9001:80",
            "--name",
            "dock",
            "box",
            "sh",
            "-c",
            &script("docker"),
        ]));
        let run =
            ["run", "-d", "-p", "9002:80", "--name", "pod", "localhost/box", "sh", "-c", &script("podman")];
        // Debian's crun, podman's first choice, refuses hybrid cgroups.
        let mut pod = podman.command();
        ok(pod
            .args(["--runtime", "runc"])
            .args(run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()));
        // What docker does where it is the one who switches forwarding on.
        ok(Command::new("iptables").args(["-P", "FORWARD", "DROP"]));
        let rules = || {
            let all = ok(&mut Command::new("iptables-save"));
            let lines = all.lines().filter(|line| !line.starts_with('#'));
            // Chains are followed by their counters.
            lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect::<Vec<_>>()
        };
        let before = rules();
        assert!(before.iter().any(|line| line.starts_with(":FORWARD DROP")), "{before:?}");
        let outside = Outside::new();
        mirror(outside.run(|| TcpListener::bind("192.0.2.2:7").expect("a port")));
        let (ours, _) = host.server("ours", &["-p", "9003:80"], &answers("rcr", 80));
        for (port, says) in [(9001, "docker"), (9002, "podman"), (9003, "rcr")] {
            assert_eq!(talk(&format!("127.0.0.1:{port}")), says, "from loopback");
            // Debian 12's podman does not open a policy of DROP for its own published ports, with or without others.
            if says != "podman" {
                assert_eq!(outside.run(|| talk(&format!("192.0.2.1:{port}"))), says, "from outside");
                let from_ours = host.within("ours", || talk(&format!("192.0.2.1:{port}")));
                assert_eq!(from_ours, says, "from our container");
            }
        }
        let call = ["sh", "-c", "echo hello | nc -w 5 192.0.2.2 7"];
        assert_eq!(ok(&mut host.run(&[], &call)), "192.0.2.1");
        assert_eq!(ok(docker.command().args(["exec", "dock"]).args(call)), "192.0.2.1");
        assert_eq!(ok(podman.command().args(["exec", "pod"]).args(call).stdin(Stdio::null())), "192.0.2.1");
        let visit = ["sh", "-c", "echo hello | nc -w 5 192.0.2.1 9003"];
        assert_eq!(ok(docker.command().args(["exec", "dock"]).args(visit)), "rcr");
        host.end("ours", ours);
        ok(&mut host.rcr(&["network", "prune", "-f"]));
        assert_eq!(rules(), before, "their rules are as they were");
        until("the cables are gone", || {
            !say(Command::new("ip").args(["-o", "link"])).out.lines().any(|line| line.contains(": rcr"))
        });
        podman.remove("pod");
    };
    std::thread::scope(|scope| {
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
