//! rcr and monitors killed while a container comes to a network, changes networks, and goes: what is gone leaves nothing, and
//! what lives beside it answers all the time.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use harness::host::Need::{Path, Program, Root};
use harness::leaks::Snapshot;
use harness::moments::{kill_after, moments};
use harness::world::{ok, say};
use harness::{Case, cases};
use sys::rtnetlink::Netlink;

use crate::killed::{busy, kill_all};
use crate::network::{Host, answers, on_a_host, talk};
use crate::reach::mirror;

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("killed_on_a_network":
    kill_9_at_random_moments_of_a_container_on_networks [Root, BUSYBOX, Program("nft")],
);

/// How long a probe of the living one may take; who kills everything on two processors makes it wait.
const PATIENCE: Duration = Duration::from_secs(5);

fn kill_9_at_random_moments_of_a_container_on_networks() {
    on_a_host(|host| {
        for (name, subnet) in [("back", "10.9.0.0/24"), ("front", "10.8.0.0/24")] {
            ok(&mut host.rcr(&["network", "create", "--subnet", subnet, name]));
        }
        let lives = ["run", "-d", "--name", "lives", "--network", "back", "-p", "8081:80", &host.image];
        ok(&mut host.rcr(&[&lives[..], &["sleep", "1000"]].concat()));
        mirror(host.within("lives", || TcpListener::bind("[::]:80").expect("port 80")));
        let script = answers("xx", 80);
        let flags = ["run", "-d", "--name", "xx", "--network", "back", "-p", "8080:80", "-p", "5300:53/udp"];
        let run = [&flags[..], &[&host.image, "sh", "-c", &script]].concat();
        let connect = ["network", "connect", "--alias", "other", "front", "xx"];
        let disconnect = ["network", "disconnect", "-f", "front", "xx"];
        let (stop, start, restart) =
            (["stop", "-t", "0", "xx"], ["start", "xx"], ["restart", "-t", "0", "xx"]);
        let remove = ["rm", "-f", "xx"];
        // Each command, and those that make it have something to do, of which some have nothing to do.
        let steps: [(&[&str], &[&[&str]]); 7] = [
            (&run, &[&remove]),
            (&connect, &[&run, &start, &disconnect]),
            (&disconnect, &[&run, &start, &connect]),
            (&stop, &[&run, &start, &connect]),
            (&start, &[&run, &stop]),
            (&restart, &[&run, &start]),
            (&remove, &[&run, &start]),
        ];
        let prepare = |steps: &[&[&str]]| steps.iter().for_each(|words| drop(say(&mut host.rcr(words))));
        let lengths = steps.map(|(command, before)| {
            prepare(before);
            let start = Instant::now();
            ok(&mut host.rcr(command));
            start.elapsed()
        });
        settle(host, &Snapshot::take(), "before");
        let before = Snapshot::take();
        let over = AtomicBool::new(false);
        let probes = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let _over = Over(&over);
            scope.spawn(|| {
                host.within("lives", || {
                    while !over.load(Ordering::Relaxed) {
                        assert!(knows("lives"), "the name of what lives");
                        probes.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                })
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    talk("127.0.0.1:8081");
                    probes.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let mut seen = (0, 0);
            for (number, moment) in moments(6).enumerate() {
                for ((command, first), length) in steps.iter().zip(lengths) {
                    prepare(first);
                    // Some come through: then it is its monitor alone that is killed.
                    kill_after(&mut host.rcr(command), length.mul_f64(1.2 * moment), || {
                        kill_all(&busy(&host.world, "rcr"));
                        // Every other time all monitors too.
                        if number % 2 == 1 {
                            kill_all(&busy(&host.world, "rcr-monitor"));
                        }
                    });
                    let when = format!("{} killed at {moment:.2}", command[..2].join(" "));
                    match settle(host, &before, &when) {
                        true => seen.0 += 1,
                        false => seen.1 += 1,
                    }
                }
            }
            assert!(seen.0 > 0 && seen.1 > 0, "up {} times, not up {} times", seen.0, seen.1);
        });
        let probes = probes.into_inner();
        assert!(probes > 50, "{probes} answers");
        ok(&mut host.rcr(&["rm", "-f", "lives"]));
        ok(&mut host.rcr(&["network", "prune", "-f"]));
        assert_eq!(ok(Command::new("nft").args(["list", "ruleset"])), "");
    });
}

/// Tells the threads beside a test that it is over, also when it panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks the server of names of network `back`, whose container this thread's network is.
fn knows(name: &str) -> bool {
    let mut question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    question.push(u8::try_from(name.len()).expect("short"));
    question.extend(name.as_bytes());
    question.extend(b"\0\0\x01\0\x01");
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket.send_to(&question, "10.9.0.1:53").expect("sent");
    let mut answer = [0; 512];
    // No error, one answer at least.
    socket.recv(&mut answer).is_ok_and(|length| length > 12 && answer[3] & 15 == 0 && answer[7] > 0)
}

/// After the next command nothing is left of what is gone, and what is there is whole. Whoever is not killed may have some
/// work to finish, and the kernel takes links away some moments after their namespace's end. Answers whether the
/// container is up.
fn settle(host: &Host, before: &Snapshot, when: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match look(host, before) {
            Ok(up) => return up,
            Err(wrong) => assert!(Instant::now() < deadline, "{when}: {wrong}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn look(host: &Host, before: &Snapshot) -> Result<bool, String> {
    let listed = say(&mut host.rcr(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]));
    let is = |wrong: bool, what: &dyn Fn() -> String| if wrong { Err(what()) } else { Ok(()) };
    is(listed.code != 0, &|| format!("{listed:?}"))?;
    let state = listed.out.lines().find_map(|line| line.strip_prefix("xx ")).unwrap_or_default();
    is(!["", "created", "running", "exited"].contains(&state), &|| format!("{listed:?}"))?;
    is(!listed.out.contains("lives running"), &|| format!("{listed:?}"))?;
    let (there, up) = (!state.is_empty(), state == "running");
    let shown = if there { host.inspect("xx") } else { serde_json::Value::Null };
    is(up && shown["State"]["Pid"].as_i64() <= Some(0), &|| "it runs without a process".to_owned())?;
    // What lives has one address and one cable; so has the other for each network.
    let networks = shown["NetworkSettings"]["Networks"].as_object().map_or(0, serde_json::Map::len);
    let many = if up { networks } else { 0 };
    is(up && many == 0, &|| "it runs without a network".to_owned())?;
    let (leases, cables) = (host.leases(), cables());
    is(leases != 1 + many || cables != 1 + many, &|| {
        format!("{networks} networks, {leases} leases, {cables} cables")
    })?;
    // What it asks for is what it has.
    let asked = shown["HostConfig"]["NetworkMode"].as_str().unwrap_or_default().split(',').count();
    is(up && asked != many, &|| format!("it asks for {asked} networks and has {many}"))?;
    for (dir, many) in [
        ("store/containers", there),
        ("store/container-names", there),
        ("store/container-locks", up),
        ("run/attach", up),
        ("run/containers", up),
    ] {
        let names = std::fs::read_dir(host.world.path().join(dir)).map_err(|e| format!("{dir}: {e}"))?;
        let names: Vec<_> = names.flatten().map(|entry| entry.file_name()).collect();
        is(names.len() != 1 + usize::from(many), &|| format!("{dir} holds {names:?}"))?;
    }
    let rules = ok(Command::new("nft").args(["list", "ruleset"]));
    // One for each family that it has an address of.
    for port in ["8080 comment", "5300 comment"] {
        let found = rules.matches(port).count();
        is(found != usize::from(up), &|| format!("{found} rules for {port}\n{rules}"))?;
    }
    let bound = UdpSocket::bind("0.0.0.0:5300").is_err() && TcpListener::bind("0.0.0.0:8080").is_err();
    is(bound != up, &|| format!("ports are held: {bound}, it runs: {up}"))?;
    if up {
        is(talk("127.0.0.1:8080") != "xx", &|| "another answers at its port".to_owned())?;
        is(!host.within("lives", || knows("xx")), &|| "its name is not known".to_owned())?;
    } else {
        let left = Snapshot::take().since(before);
        // Commands of this very test are none, and a new monitor of what lives is another process.
        let left: Vec<_> = left.iter().filter(|line| !line.contains("rcr-monitor")).collect();
        is(!left.is_empty(), &|| format!("left behind: {left:?}"))?;
    }
    let monitors = busy(&host.world, "rcr-monitor").len();
    is(monitors != 1 + usize::from(up), &|| format!("{monitors} monitors"))?;
    Ok(up)
}

/// Cables of containers in this thread's network.
fn cables() -> usize {
    let links = Netlink::open().expect("netlink").links().expect("links");
    let veths = links.into_iter().filter(|link| link.kind.as_deref() == Some("veth"));
    veths.filter(|link| link.name.starts_with("rcr")).count()
}
