//! Containers that find each other by name, and the server that makes them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::host::Need::{Path, Root};
use harness::stage::until;
use harness::world::{ok, say};
use harness::{Case, cases};
use sys::clone::{namespace, unshare};

use crate::network::{Host, Outside, on_a_host};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("names":
    containers_find_each_other_on_a_network_of_their_own [Root, BUSYBOX],
    all_else_is_asked_of_the_hosts_resolvers_or_the_containers_own [Root, BUSYBOX],
    an_internal_network_asks_nobody [Root, BUSYBOX],
    the_default_network_has_no_names [Root, BUSYBOX],
    nobody_outside_the_network_is_answered [Root, BUSYBOX],
    the_server_goes_with_the_last_container_and_is_small [Root, BUSYBOX],
    a_killed_server_is_started_again_by_the_next_command [Root, BUSYBOX],
    noise_and_floods_do_not_end_it [Root, BUSYBOX],
    another_dns_server_on_every_address_is_named [Root, BUSYBOX],
    names_are_answered_by_ipv6_too [Root, BUSYBOX],
    the_bridge_asks_resolvers_that_only_the_host_reaches [Root, BUSYBOX],
    who_gets_no_resolver_is_told [Root, BUSYBOX],
);

impl Host {
    /// Process ids of this store's servers of names.
    fn name_servers(&self) -> Vec<i32> {
        let store = self.world.path().join("store");
        let store = store.to_string_lossy();
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        pids.filter(|pid: &i32| {
            // A dead one has no words.
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.starts_with("rcr-names\0") && words.contains(&*store)
        })
        .collect()
    }

    /// What a shell in a container on `network` prints.
    fn shell(&self, network: &str, script: &str) -> String {
        ok(&mut self.run(&["--network", network], &["sh", "-c", script]))
    }

    /// Makes these the host's resolvers for this test alone.
    fn set_resolvers(&self, text: &str) {
        let file = self.world.path().join("resolv.conf");
        std::fs::write(&file, text).expect("writable");
        unshare(namespace::MOUNT).expect("a mount namespace");
        ok(Command::new("mount").args(["--make-rprivate", "/"]));
        ok(Command::new("mount").arg("--bind").arg(&file).arg("/etc/resolv.conf"));
    }
}

/// A DNS server that knows one address for every name. By UDP it tells half, so that TCP is asked for `long.example`.
fn upstream(at: &str, address: [u8; 4]) {
    let at: SocketAddr = at.parse().expect("an address");
    let (udp, tcp) = (UdpSocket::bind(at).expect("a port"), TcpListener::bind(at).expect("a port"));
    let answer = move |question: &[u8], udp: bool| {
        let long = question.windows(4).any(|bytes| bytes == b"long");
        let cut = udp && long;
        let mut message = question.to_vec();
        message[2] = 0x81 | if cut { 2 } else { 0 };
        message[3] = 0x80;
        // Only the question is repeated, and what else came with it left out.
        let end = 12 + message[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
        message.truncate(end);
        message[6..12].copy_from_slice(&[0; 6]);
        // Type A has an answer; of AAAA there is none.
        if !cut && message[end - 3] == 1 {
            message[7] = 1;
            message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04");
            message.extend(address);
        }
        message
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(&buffer[..length], true), from);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut question).is_ok() {
                let message = answer(&question, false);
                let length = u16::try_from(message.len()).expect("short").to_be_bytes();
                let _ = stream.write_all(&[&length[..], &message].concat());
            }
        }
    });
}

fn containers_find_each_other_on_a_network_of_their_own() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "back"]));
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.8.0.0/24", "front"]));
        let flags = ["--network", "back", "--network-alias", "data", "-h", "dbhost"];
        let (db, _) = host.server("db", &flags, "sleep 1000");
        let id = host.inspect("db")["Id"].as_str().expect("an ID")[..12].to_owned();
        let (two, _) = host.server("two", &["--network", "back:alias=data"], "sleep 1000");
        for name in ["db", "DB", "data", "dbhost", "db.back", &id] {
            let out = host.shell("back", &format!("nslookup {name}"));
            assert!(out.contains("Address: 10.9.0.2") && out.contains("Address: fd09::2"), "{name}: {out}");
        }
        let out =
            host.shell("back", "cat /etc/resolv.conf; nslookup data; ping -c 1 -W 5 db; nslookup 10.9.0.2");
        assert!(out.starts_with("nameserver 10.9.0.1\n") && out.contains("ndots:0"), "{out}");
        assert!(out.contains("10.9.0.2") && out.contains("10.9.0.3"), "an alias of two: {out}");
        assert!(out.contains("1 packets received") && out.contains("name = db.back"), "{out}");
        // A name of the other network only for who is on both.
        assert!(!host.shell("front", "nslookup db; true").contains("10.9.0.2"));
        let mut both = host.run(&["--network", "front", "--network", "back"], &["nslookup", "db"]);
        assert!(ok(&mut both).contains("10.9.0.2"));
        until("one is left, for the network that is in use", || host.name_servers().len() == 1);
        host.end("db", db);
        assert!(!host.shell("back", "nslookup -type=a db; true").contains("10.9.0.2"));
        host.end("two", two);
    });
}

fn all_else_is_asked_of_the_hosts_resolvers_or_the_containers_own() {
    on_a_host(|host| {
        host.set_resolvers(
            "nameserver 127.0.0.9\nnameserver 127.0.0.53\nsearch corp.example\noptions timeout:1\n",
        );
        // The first one is dead.
        upstream("127.0.0.53:53", [192, 0, 2, 7]);
        upstream("127.0.0.54:53", [192, 0, 2, 8]);
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        let out = host.shell("back", "cat /etc/resolv.conf; nslookup some.example");
        assert!(out.contains("search corp.example\noptions timeout:1 ndots:0"), "{out}");
        assert!(out.contains("Address: 192.0.2.7"), "{out}");
        // Cut off by UDP; whole by TCP, which busybox does not speak.
        let question = r"\0\036\0\1\1\0\0\1\0\0\0\0\0\0\4long\7example\0\0\1\0\1";
        let ask = format!("printf '{question}' | nc -w 2 10.9.0.1 53 | tail -c 4 | od -An -tu1");
        let out = host.shell("back", &format!("{ask}; {ask}"));
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["192", "0", "2", "7"].repeat(2), "{out}");
        let flags = [
            "--network",
            "back",
            "--dns",
            "127.0.0.54",
            "--dns-search",
            "x.example",
            "--dns-option",
            "ndots:2",
        ];
        let out = ok(&mut host.run(&flags, &["sh", "-c", "cat /etc/resolv.conf; nslookup some.example"]));
        assert!(out.starts_with("nameserver 10.9.0.1\nsearch x.example\noptions ndots:2\n"), "{out}");
        assert!(out.contains("Address: 192.0.2.8"), "{out}");
        // Without names the container asks by itself.
        let out = ok(&mut host.run(&["--dns", "192.0.2.9"], &["cat", "/etc/resolv.conf"]));
        assert_eq!(out, "nameserver 192.0.2.9\nsearch corp.example\noptions timeout:1");
    });
}

fn an_internal_network_asks_nobody() {
    on_a_host(|host| {
        host.set_resolvers("nameserver 127.0.0.53\n");
        upstream("127.0.0.53:53", [192, 0, 2, 7]);
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "--internal", "in"]));
        let (db, _) = host.server("db", &["--network", "in"], "sleep 1000");
        let out = host.shell("in", "nslookup -type=a db; nslookup -type=a some.example 2>&1; true");
        assert!(out.contains("Address: 10.9.0.2") && out.contains("SERVFAIL"), "{out}");
        assert!(!out.contains("192.0.2.7"), "{out}");
        host.end("db", db);
    });
}

fn the_default_network_has_no_names() {
    on_a_host(|host| {
        host.set_resolvers("nameserver 192.0.2.53\n");
        let (db, _) = host.server("db", &[], "sleep 1000");
        let out = ok(&mut host.run(&[], &["cat", "/etc/resolv.conf"]));
        assert_eq!(out, "nameserver 192.0.2.53");
        assert!(host.name_servers().is_empty());
        host.end("db", db);
    });
}

fn nobody_outside_the_network_is_answered() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.8.0.0/24", "front"]));
        let (db, _) = host.server("db", &["--network", "back"], "sleep 1000");
        let (web, _) = host.server("web", &["--network", "front"], "sleep 1000");
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x02db\0\0\x01\0\x01";
        let ask = || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time");
            socket.send_to(question, "10.9.0.1:53").expect("sent");
            let mut answer = [0; 512];
            socket.recv(&mut answer).ok().map(|_| answer[3] & 15)
        };
        assert_eq!(ask(), Some(5), "the host is told that it is no container of the network");
        assert_eq!(Outside::new().run(ask), None, "a neighbour of the host is told nothing");
        let out = host.shell("front", "nslookup -type=a db 10.9.0.1 2>&1; true");
        assert!(!out.contains("10.9.0.2"), "{out}");
        assert!(host.shell("back", "nslookup -type=a db 10.9.0.1").contains("10.9.0.2"));
        host.end("db", db);
        host.end("web", web);
    });
}

fn the_server_goes_with_the_last_container_and_is_small() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        let (db, _) = host.server("db", &["--network", "back"], "sleep 1000");
        let (mut web, _) = host.server("web", &["--network", "back"], "sleep 1000");
        host.shell("back", "for i in 1 2 3 4 5 6 7 8; do nslookup db; done");
        let servers = host.name_servers();
        let status = std::fs::read_to_string(format!("/proc/{}/status", servers[0])).expect("it lives");
        let line =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        let own: u64 = line("RssAnon:").split(' ').next().and_then(|kb| kb.parse().ok()).expect("a number");
        assert!(own <= 1024, "{own} KiB");
        assert_eq!(
            (line("CapEff:"), line("CapPrm:"), line("NoNewPrivs:")),
            ("0000000000000000", "0000000000000000", "1")
        );
        // Nothing of whoever started it: three streams, watch, control, two sockets.
        let open = std::fs::read_dir(format!("/proc/{}/fd", servers[0])).expect("its descriptors").count();
        assert!(open <= 8, "{open} descriptors");
        host.end("db", db);
        assert_eq!(host.name_servers(), servers);
        // The end of the last one is not seen by anybody; the next command clears up.
        web.kill().expect("killed");
        web.wait().expect("it ends");
        ok(&mut host.rcr(&["ps"]));
        until("the server ends", || host.name_servers().is_empty());
        let left: Vec<_> =
            std::fs::read_dir(host.world.path().join("run/names")).expect("there").flatten().collect();
        assert!(left.iter().all(|entry| entry.file_name() == "lock"), "{left:?}");
    });
}

fn a_killed_server_is_started_again_by_the_next_command() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        let ask = "echo ready > /tmp/ready; while sleep 0.05; do nslookup -type=a db > /tmp/said 2>&1 && echo ok; done";
        let (db, _) = host.server("db", &["--network", "back"], "sleep 1000");
        let mut web = host.run(&["--name", "web", "--network", "back"], &["sh", "-c", ask]);
        let mut web = web.stdout(Stdio::piped()).spawn().expect("rcr starts");
        let mut out = std::io::BufReader::new(web.stdout.take().expect("a pipe"));
        let mut hear = || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut out, &mut line).expect("output");
            assert_eq!(line, "ok\n");
        };
        hear();
        for _ in 0..3 {
            let [server] = host.name_servers()[..] else { panic!("one server") };
            ok(Command::new("kill").args(["-9", &server.to_string()]));
            until("it is dead", || host.name_servers().is_empty());
            ok(&mut host.rcr(&["ps"]));
            assert_eq!(host.name_servers().len(), 1);
            hear();
            hear();
        }
        host.end("web", web);
        host.end("db", db);
        // Killed and not needed any more, it leaves nothing either.
        until("it ends", || host.name_servers().is_empty());
        let (db, _) = host.server("db", &["--network", "back"], "sleep 1000");
        ok(Command::new("kill").args(["-9", &host.name_servers()[0].to_string()]));
        host.end("db", db);
        ok(&mut host.rcr(&["ps"]));
        until("it ends", || host.name_servers().is_empty());
        let left = std::fs::read_dir(host.world.path().join("run/names")).expect("there").count();
        assert_eq!(left, 1, "the lock alone");
    });
}

fn noise_and_floods_do_not_end_it() {
    on_a_host(|host| {
        host.set_resolvers("nameserver 127.0.0.53\n");
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        let (db, _) = host.server("db", &["--network", "back"], "sleep 1000");
        // Noise by UDP and TCP, connections that say nothing, and more questions than anybody answers (the resolver is dead).
        let script = "for i in $(seq 40); do head -c 300 /dev/urandom | nc -u -w 1 10.9.0.1 53 & done
            for i in $(seq 20); do head -c 3000 /dev/urandom | nc -w 1 10.9.0.1 53 & sleep 1 | nc 10.9.0.1 53 & done
            for i in $(seq 100); do nslookup -type=a no-$i.example & done
            sleep 0.5; nslookup -type=a db; exit 0";
        let out = ok(host.run(&["--network", "back"], &["sh", "-c", script]).stderr(Stdio::null()));
        assert!(out.contains("Address: 10.9.0.2"), "{out}");
        assert_eq!(host.name_servers().len(), 1);
        assert!(host.shell("back", "nslookup -type=a db").contains("10.9.0.2"));
        host.end("db", db);
    });
}

fn another_dns_server_on_every_address_is_named() {
    on_a_host(|host| {
        let _other = UdpSocket::bind("0.0.0.0:53").expect("the port is free here");
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        let said = say(&mut host.run(&["--network", "back"], &["true"]));
        assert_eq!(said.code, 125);
        for word in ["port 53 of 10.9.0.1", "another DNS server", "every address"] {
            assert!(said.err.contains(word), "{}", said.err);
        }
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert_eq!(host.leases(), 0);
    });
}

fn names_are_answered_by_ipv6_too() {
    on_a_host(|host| {
        host.set_resolvers("nameserver 127.0.0.53\n");
        upstream("127.0.0.53:53", [192, 0, 2, 7]);
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "back"]));
        let (db, _) = host.server("db", &["--network", "back"], "sleep 1000");
        let out = host.shell("back", "nslookup db fd09::1; nslookup -type=a some.example fd09::1");
        for word in ["[fd09::1]:53", "Address: 10.9.0.2", "Address: fd09::2", "Address: 192.0.2.7"] {
            assert!(out.contains(word), "{word}: {out}");
        }
        // By TCP: a question for db, type A, behind its length.
        let question = r"\0\024\0\1\1\0\0\1\0\0\0\0\0\0\2db\0\0\1\0\1";
        let ask = format!("printf '{question}' | nc -w 2 fd09::1 53 | tail -c 4 | od -An -tu1");
        let out = host.shell("back", &ask);
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["10", "9", "0", "2"], "{out}");
        // Nobody but its containers is answered by that address either.
        let out = host.shell("bridge", "nslookup -type=a db fd09::1 2>&1; true");
        assert!(!out.contains("10.9.0.2"), "{out}");
        host.end("db", db);
    });
}

fn the_bridge_asks_resolvers_that_only_the_host_reaches() {
    on_a_host(|host| {
        host.set_resolvers("nameserver 127.0.0.53\nsearch corp.example\n");
        upstream("127.0.0.53:53", [192, 0, 2, 7]);
        let (db, _) = host.server("db", &["--dns", "192.0.2.9"], "sleep 1000");
        assert!(host.name_servers().is_empty(), "nobody asks it");
        let out =
            host.shell("bridge", "cat /etc/resolv.conf; nslookup -type=a db; nslookup -type=a some.example");
        assert!(out.starts_with("nameserver 10.77.0.1\nsearch corp.example\n"), "{out}");
        // It still has no names of containers: the resolver knows each.
        assert!(!out.contains("10.77.0.2") && out.matches("Address: 192.0.2.7").count() == 2, "{out}");
        let out = ok(&mut host.run(&["--dns-search", "x.example"], &["cat", "/etc/resolv.conf"]));
        assert_eq!(out, "nameserver 10.77.0.1\nsearch x.example");
        // On a network of its own that one's server is the one, and the bridge's when that is left.
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        let (web, _) = host.server("web", &["--network", "back"], "sleep 1000");
        ok(&mut host.rcr(&["network", "connect", "bridge", "web"]));
        let resolv_conf = || ok(&mut host.rcr(&["exec", "web", "cat", "/etc/resolv.conf"]));
        assert!(resolv_conf().starts_with("nameserver 10.9.0.1\n"), "{}", resolv_conf());
        ok(&mut host.rcr(&["network", "disconnect", "back", "web"]));
        assert!(resolv_conf().starts_with("nameserver 10.77.0.1\n"), "{}", resolv_conf());
        let out = ok(&mut host.rcr(&["exec", "web", "nslookup", "-type=a", "some.example"]));
        assert!(out.contains("Address: 192.0.2.7"), "{out}");
        host.end("web", web);
        host.end("db", db);
        until("it goes with the last one", || host.name_servers().is_empty());
    });
}

fn who_gets_no_resolver_is_told() {
    on_a_host(|host| {
        let _outside = Outside::new();
        host.set_resolvers("nameserver 127.0.0.1\n");
        // Another server on every address hears what containers ask the bridge.
        let other = UdpSocket::bind("0.0.0.0:53").expect("the port is free here");
        let said = say(&mut host.run(&[], &["cat", "/etc/resolv.conf"]));
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "nameserver 10.77.0.1\n", ""));
        assert!(host.name_servers().is_empty());
        drop(other);
        // On the wire the host has no address that could be asked.
        let create = ["network", "create", "-d", "macvlan", "-o", "parent=up0", "--subnet", "192.0.2.0/24"];
        ok(&mut host.rcr(
            &[&create[..], &["--gateway", "192.0.2.2", "--ip-range", "192.0.2.64/26", "wire"]].concat(),
        ));
        let said = say(&mut host.run(&["--network", "wire"], &["cat", "/etc/resolv.conf"]));
        assert_eq!((said.code, said.out.as_str()), (0, ""));
        assert!(said.err.contains("no name server") && said.err.contains("--dns"), "{}", said.err);
        let said =
            say(&mut host.run(&["--network", "wire", "--dns", "192.0.2.2"], &["cat", "/etc/resolv.conf"]));
        assert_eq!((said.out.as_str(), said.err.as_str()), ("nameserver 192.0.2.2\n", ""));
    });
}
