//! Containers that get and lose networks while they run, and what is left when that is interrupted.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::host::Need::{Path, Program, Root};
use harness::moments::{kill_after, moments};
use harness::stage::until;
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use sys::rtnetlink::Netlink;

use crate::network::{Host, answers, on_a_host, talk};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");
const NSENTER: harness::host::Need = Program("nsenter");

pub(crate) const CASES: &[Case] = cases!("joining":
    a_running_container_gets_and_loses_a_network [Root, BUSYBOX, NSENTER],
    ports_and_routes_move_to_the_network_that_is_left [Root, BUSYBOX, NSENTER],
    a_container_that_does_not_run_has_it_at_its_next_start [Root, BUSYBOX],
    what_cannot_be_joined_is_told [Root, BUSYBOX],
    kill_9_at_40_moments_of_connect_and_disconnect [Root, BUSYBOX, NSENTER],
    kill_9_at_30_moments_of_a_run_on_a_network [Root, BUSYBOX],
    flushed_rules_and_a_removed_bridge_are_repaired [Root, BUSYBOX, Program("nft"), Program("ip")],
    a_reboot_leaves_nothing_in_the_way [Root, BUSYBOX],
);

impl Host {
    /// What a program of the host prints in the network of a running container.
    fn inside(&self, container: &str, words: &[&str]) -> String {
        let pid = self.inspect(container)["State"]["Pid"].to_string();
        ok(Command::new("nsenter").args(["-t", &pid, "-n"]).args(words))
    }

    /// A file that is bound into a container.
    fn file(&self, container: &str, name: &str) -> String {
        let id = self.inspect(container)["Id"].as_str().expect("an ID").to_owned();
        std::fs::read_to_string(self.world.path().join("store/containers").join(id).join(name))
            .expect("there")
    }

    /// Names of the host's ends of cables.
    fn cables(&self) -> Vec<String> {
        let links = Netlink::open().expect("netlink").links().expect("links");
        let veths = links.into_iter().filter(|link| link.kind.as_deref() == Some("veth"));
        veths.map(|link| link.name).filter(|name| name.starts_with("rcr")).collect()
    }

    /// Nothing is left of any container. The kernel takes links away some moments after their namespace's end.
    fn is_empty(&self) {
        assert_eq!(self.leases(), 0);
        until("the end of the links", || self.cables().is_empty());
    }

    fn create(&self, name: &str, subnet: &str) {
        ok(&mut self.rcr(&["network", "create", "--subnet", subnet, name]));
    }
}

fn a_running_container_gets_and_loses_a_network() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        let (web, _) = host.server("web", &["-h", "webhost"], &answers("one", 80));
        ok(&mut host.rcr(&["network", "connect", "--alias", "shop", "--ip", "10.9.0.50", "back", "web"]));
        let shown = &host.inspect("web")["NetworkSettings"]["Networks"];
        assert_eq!(shown["back"]["IPAddress"], "10.9.0.50");
        assert!(host.inside("web", &["ip", "-o", "addr", "show", "eth1"]).contains("inet 10.9.0.50/24"));
        assert!(host.inside("web", &["ip", "route"]).contains("default via 10.77.0.1 dev eth0"), "as before");
        assert!(host.file("web", "hosts").contains("10.9.0.50\twebhost\n"));
        assert!(host.file("web", "resolv.conf").starts_with("nameserver 10.9.0.1\n"));
        let visit =
            ["sh", "-c", "echo hello | nc -w 5 10.9.0.50 80; nslookup -type=a shop; nslookup -type=a web"];
        let out = ok(&mut host.run(&["--network", "back"], &visit));
        assert!(out.starts_with("one") && out.matches("Address: 10.9.0.50").count() == 2, "{out}");
        fails(&mut host.rcr(&["network", "connect", "back", "web"]), 1, &["web", "network back", "already"]);
        ok(&mut host.rcr(&["network", "disconnect", "back", "web"]));
        assert_eq!(
            host.inspect("web")["NetworkSettings"]["Networks"].as_object().map(serde_json::Map::len),
            Some(1)
        );
        assert!(!host.inside("web", &["ip", "-o", "addr"]).contains("10.9.0"));
        assert!(
            !host.file("web", "hosts").contains("10.9.0") && host.file("web", "hosts").contains("webhost")
        );
        assert!(!host.file("web", "resolv.conf").contains("10.9.0"));
        assert_eq!((host.cables().len(), host.leases()), (1, 2));
        fails(&mut host.rcr(&["network", "disconnect", "back", "web"]), 1, &["web", "not on network back"]);
        ok(&mut host.rcr(&["network", "disconnect", "-f", "back", "web"]));
        // And once more, which gets the same link's name.
        ok(&mut host.rcr(&["network", "connect", "back", "web"]));
        assert!(host.inside("web", &["ip", "-o", "addr", "show", "eth1"]).contains("inet 10.9.0.2/24"));
        host.end("web", web);
        host.is_empty();
    });
}

fn ports_and_routes_move_to_the_network_that_is_left() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        let (web, _) = host.server("web", &["-p", "8080:80"], &answers("one", 80));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        ok(&mut host.rcr(&["network", "connect", "back", "web"]));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        ok(&mut host.rcr(&["network", "disconnect", "bridge", "web"]));
        assert!(host.inside("web", &["ip", "route"]).contains("default via 10.9.0.1 dev eth1"));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        assert_eq!(host.leases(), 1);
        // Off the last one, nothing leads to it; back on, all does.
        ok(&mut host.rcr(&["network", "disconnect", "back", "web"]));
        assert!(
            TcpStream::connect_timeout(
                &"127.0.0.1:8080".parse().expect("an address"),
                Duration::from_secs(1)
            )
            .is_err()
        );
        assert!(!host.inside("web", &["ip", "-o", "link"]).contains("eth"));
        ok(&mut host.rcr(&["network", "connect", "bridge", "web"]));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        assert!(host.inside("web", &["ip", "route"]).contains("default via 10.77.0.1 dev eth0"));
        host.end("web", web);
        host.is_empty();
    });
}

fn a_container_that_does_not_run_has_it_at_its_next_start() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        ok(&mut host.rcr(&["run", "--name", "ended", &host.image, "true"]));
        ok(&mut host.rcr(&["network", "connect", "back", "ended"]));
        assert_eq!(host.inspect("ended")["HostConfig"]["NetworkMode"], "bridge,back");
        assert_eq!(host.leases(), 0, "it has no address while it does not run");
        fails(&mut host.rcr(&["network", "connect", "back", "ended"]), 1, &["already"]);
        ok(&mut host.rcr(&["network", "disconnect", "bridge", "ended"]));
        assert_eq!(host.inspect("ended")["HostConfig"]["NetworkMode"], "back");
        ok(&mut host.rcr(&["rm", "ended"]));
    });
}

fn what_cannot_be_joined_is_told() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        let (web, _) = host.server("web", &["--network", "back"], "sleep 1000");
        let mut alone = host.run(&["--name", "alone", "--network", "none"], &["sleep", "1000"]);
        let mut alone = alone.spawn().expect("rcr starts");
        until("it runs", || host.inspect("alone")["State"]["Running"] == true);
        host.create("front", "10.8.0.0/24");
        for (args, words) in [
            (&["connect", "none-such", "web"][..], &["no such network: none-such"][..]),
            (&["connect", "front", "none-such"], &["no such container: none-such"]),
            (&["connect", "front", "alone"], &["alone", "--network none"]),
            (&["connect", "--ip", "10.9.9.9", "front", "web"], &["10.9.9.9", "10.8.0.0/24"]),
            (&["connect", "--mac-address", "x", "front", "web"], &["--mac-address"]),
            (&["disconnect", "front", "web"], &["not on network front"]),
        ] {
            let said = say(&mut host.rcr(&[&["network"], args].concat()));
            assert_ne!(said.code, 0, "{args:?}");
            for word in words {
                assert!(said.err.contains(word), "{args:?}: {}", said.err);
            }
        }
        assert_eq!((host.cables().len(), host.leases()), (1, 1), "nothing of it stays");
        ok(&mut host.rcr(&["network", "disconnect", "--force", "front", "none-such"]));
        ok(&mut host.rcr(&["rm", "-f", "alone"]));
        alone.wait().expect("rcr ends");
        host.end("web", web);
    });
}

fn kill_9_at_40_moments_of_connect_and_disconnect() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        let (web, _) = host.server("web", &["-p", "8080:80"], &answers("one", 80));
        let join = |word| host.rcr(&["network", word, "back", "web"]);
        let start = Instant::now();
        ok(&mut join("connect"));
        ok(&mut join("disconnect"));
        let whole = start.elapsed() / 2;
        let (mut on, mut off) = (0, 0);
        for (number, moment) in moments(40).enumerate() {
            let word = if number % 2 == 0 { "connect" } else { "disconnect" };
            kill_after(&mut join(word), whole.mul_f64(moment), || ());
            // Any command cleans up.
            ok(&mut host.rcr(&["ps"]));
            let networks = host.inspect("web")["NetworkSettings"]["Networks"].clone();
            let is_on = !networks["back"].is_null();
            *(if is_on { &mut on } else { &mut off }) += 1;
            let many = usize::from(is_on);
            // Two families on the default network, one on the other.
            assert_eq!((host.cables().len(), host.leases()), (1 + many, 2 + many), "killed at {moment:.2}");
            let links = host.inside("web", &["ip", "-o", "link"]);
            assert_eq!(links.contains("eth1"), is_on, "killed at {moment:.2}: {links}");
            assert_eq!(talk("127.0.0.1:8080"), "one", "it still answers");
            let locks =
                std::fs::read_dir(host.world.path().join("store/container-locks")).expect("there").count();
            assert_eq!(locks, 1, "killed at {moment:.2}: its own alone");
        }
        assert!(on > 0 && off > 0, "{on} times on, {off} times off");
        host.end("web", web);
        host.is_empty();
    });
}

fn kill_9_at_30_moments_of_a_run_on_a_network() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        let run =
            || host.run(&["--network", "back", "--network", "bridge", "-p", "8080:80"], &["sleep", "0.02"]);
        ok(&mut run());
        let start = Instant::now();
        ok(&mut run());
        let whole = start.elapsed();
        let (other, _) = host.server("other", &["-p", "8081:80", "--network", "back"], &answers("other", 80));
        for moment in moments(30) {
            kill_after(&mut run(), whole.mul_f64(moment), || ());
            assert_eq!(ok(&mut host.rcr(&["ps", "-q"])).lines().count(), 1, "killed at {moment:.2}");
            assert_eq!(host.leases(), 1, "killed at {moment:.2}");
            until("the cables go with the namespace", || host.cables().len() == 1);
            assert_eq!(talk("127.0.0.1:8081"), "other", "what lives still answers");
            assert!(
                TcpStream::connect("127.0.0.1:8080").is_err(),
                "killed at {moment:.2}: a port that leads nowhere"
            );
        }
        host.end("other", other);
        ok(&mut run());
    });
}

fn flushed_rules_and_a_removed_bridge_are_repaired() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        let (web, _) = host.server("web", &["-p", "8080:80"], &answers("one", 80));
        let (db, _) = host.server("db", &["--network", "back", "-p", "8081:80"], &answers("data", 80));
        ok(Command::new("nft").args(["flush", "ruleset"]));
        ok(&mut host.run(&[], &["true"]));
        assert_eq!((talk("10.77.0.1:8080"), talk("127.0.0.1:8081")), ("one".to_owned(), "data".to_owned()));
        let bridge = host.inspect_network("back")["Link"].as_str().expect("a link").to_owned();
        ok(Command::new("ip").args(["link", "delete", &bridge]));
        let out = ok(&mut host
            .run(&["--network", "back"], &["sh", "-c", "nslookup -type=a db; echo hello | nc -w 5 db 80"]));
        assert!(out.contains("Address: 10.9.0.2") && out.ends_with("data"), "{out}");
        assert_eq!((talk("127.0.0.1:8080"), talk("127.0.0.1:8081")), ("one".to_owned(), "data".to_owned()));
        host.end("web", web);
        host.end("db", db);
    });
}

/// What a reboot takes: processes, links, rules, and everything in the directory of running containers.
fn a_reboot_leaves_nothing_in_the_way() {
    on_a_host(|host| {
        host.create("back", "10.9.0.0/24");
        let (mut web, _) = host.server("web", &["--network", "back", "-p", "8080:80"], &answers("one", 80));
        web.kill().expect("killed");
        web.wait().expect("it ends");
        std::fs::remove_dir_all(host.world.path().join("run")).expect("removed");
        let netlink = Netlink::open().expect("netlink");
        for link in netlink.links().expect("links").iter().filter(|link| link.name.starts_with("rcr")) {
            // The other end of a cable may have taken it along.
            let _ = netlink.delete_link(link.index);
        }
        // Whoever comes first cleans up; of two at once the second would find the name taken for a moment more.
        assert_eq!(ok(&mut host.rcr(&["ps", "-aq"])), "");
        let (web, ip) = host.server("web", &["--network", "back", "-p", "8080:80"], &answers("two", 80));
        assert_eq!((ip.as_str(), talk("127.0.0.1:8080").as_str()), ("10.9.0.2", "two"));
        host.end("web", web);
    });
}
