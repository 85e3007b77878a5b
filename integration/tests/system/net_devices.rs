//! `linux.netDevices`: devices of the host that a container gets. They are veths, which every kernel has.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::Stage;
use harness::world::{ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("net_devices":
    a_device_moves_with_what_it_has [Root, BUSYBOX, Program("ip")],
    devices_are_renamed_and_numbered [Root, BUSYBOX, Program("ip")],
    a_namespace_that_lives_on_keeps_its_device [Root, BUSYBOX, Program("ip")],
    hooks_find_the_devices_moved [Root, BUSYBOX, Program("ip")],
    what_cannot_move_is_refused_and_stays_as_it_was [Root, BUSYBOX, Program("ip")],
    a_failed_start_brings_the_devices_home [Root, BUSYBOX, Program("ip")],
);

/// A pair of veths on the host, of which the first is to move. Dropped, it is gone, wherever it went.
struct Pair {
    name: String,
    peer: String,
}

impl Pair {
    fn new(letter: char) -> Pair {
        let pid = std::process::id();
        let pair = Pair { name: format!("rt{letter}{pid}"), peer: format!("rt{letter}{pid}p") };
        ip(&["link", "add", &pair.name, "type", "veth", "peer", "name", &pair.peer]);
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Its other half goes with it.
        say(Command::new("ip").args(["link", "del", &self.peer]));
    }
}

fn ip(args: &[&str]) -> String {
    ok(Command::new("ip").args(args))
}

fn on_host(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// A bundle that shows its network, with these devices.
fn stage(script: &str, devices: &Value) -> Stage {
    Stage::new(script, |config, _| config["linux"]["netDevices"] = devices.clone())
}

fn a_device_moves_with_what_it_has() {
    let before = Snapshot::take();
    let pair = Pair::new('a');
    let (name, peer) = (pair.name.as_str(), pair.peer.as_str());
    ip(&["link", "set", name, "mtu", "1400", "address", "02:11:22:33:44:55", "up"]);
    ip(&["link", "set", peer, "up"]);
    ip(&["address", "add", "192.0.2.7/24", "broadcast", "192.0.2.255", "dev", name]);
    ip(&["address", "add", "198.51.100.1", "peer", "198.51.100.2/32", "dev", name]);
    ip(&["address", "add", "2001:db8::7/64", "nodad", "dev", name]);
    // Neither of these is for other hosts; the one of IPv6 is of the link.
    ip(&["address", "add", "127.0.0.33/32", "scope", "host", "dev", name]);
    let stage = stage(&format!("ip address show dev {name}; ip route"), &json!({ name: {} }));
    let said = stage.run("box");
    assert_eq!(said.code, 0, "{}", said.err);
    for words in [
        "mtu 1400",
        "link/ether 02:11:22:33:44:55",
        "inet 192.0.2.7/24 brd 192.0.2.255 scope global",
        "inet 198.51.100.1 peer 198.51.100.2/32",
        "inet6 2001:db8::7/64",
        ",UP",
        "192.0.2.0/24 dev",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert!(!said.out.contains("127.0.0.33"), "{}", said.out);
    // A virtual device ends with the namespace.
    drop(pair);
    assert_none_since(&before);
}

fn devices_are_renamed_and_numbered() {
    let (one, two, three) = (Pair::new('a'), Pair::new('b'), Pair::new('c'));
    let devices = json!({
        &one.name: { "name": "inside" },
        &two.name: { "name": "net%d" },
        &three.name: { "name": "net%d" },
    });
    let said = stage("ls /sys/class/net", &devices).run("box");
    let mut names: Vec<&str> = said.out.split_whitespace().collect();
    names.sort_unstable();
    // The kernel's tunnels are in every namespace of some hosts.
    names.retain(|name| *name == "inside" || name.starts_with("net") || name.starts_with("rt"));
    assert_eq!(names, ["inside", "net0", "net1"], "{}", said.err);
}

/// A network namespace with a name.
struct Netns(String);

impl Netns {
    fn new() -> Netns {
        let name = format!("rcr-test-{}", std::process::id());
        ip(&["netns", "add", &name]);
        Netns(name)
    }

    fn namespace(&self) -> Value {
        json!({ "type": "network", "path": format!("/run/netns/{}", self.0) })
    }

    fn ip(&self, args: &[&str]) -> String {
        ip(&[&["-n", &self.0], args].concat())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        say(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

fn join(config: &mut Value, netns: &Netns) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|namespace| namespace["type"] != "network");
    namespaces.push(netns.namespace());
}

fn a_namespace_that_lives_on_keeps_its_device() {
    let netns = Netns::new();
    let pair = Pair::new('a');
    ip(&["address", "add", "169.254.169.77/32", "dev", &pair.name]);
    let stage = Stage::new("ip address show dev ctr0", |config, _| {
        join(config, &netns);
        config["linux"]["netDevices"] = json!({ &pair.name: { "name": "ctr0" } });
    });
    let said = stage.run("box");
    assert!(said.out.contains("169.254.169.77/32"), "{}{}", said.out, said.err);
    assert!(!on_host(&pair.name));
    assert!(netns.ip(&["address", "show", "dev", "ctr0"]).contains("169.254.169.77/32"));
    // Its owner may take it back.
    netns.ip(&["link", "set", "dev", "ctr0", "netns", "1", "name", &pair.name]);
}

fn hooks_find_the_devices_moved() {
    let pair = Pair::new('a');
    let stage = Stage::new("true", |config, dir| {
        let script = format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip link show in0 > {}",
            dir.join("seen").display()
        );
        config["linux"]["netDevices"] = json!({ &pair.name: { "name": "in0" } });
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    });
    let said = stage.run("box");
    assert_eq!(said.code, 0, "{}", said.err);
    let seen = std::fs::read_to_string(stage.dir.join("seen")).expect("the hook ran");
    assert!(seen.contains("in0"), "{seen}");
}

fn what_cannot_move_is_refused_and_stays_as_it_was() {
    let netns = Netns::new();
    netns.ip(&["link", "add", "taken", "type", "veth", "peer", "name", "other"]);
    let (one, two) = (Pair::new('a'), Pair::new('b'));
    for pair in [&one, &two] {
        ip(&["link", "set", &pair.name, "up"]);
        ip(&["address", "add", "192.0.2.9/24", "dev", &pair.name]);
    }
    let bridge = format!("rtz{}", std::process::id());
    let before = Snapshot::take();
    let show = |name: &str| ip(&["-o", "address", "show", "dev", name]);
    let as_it_was = [show(&one.name), show(&two.name)];
    for (devices, words) in [
        (json!({ "lo": {} }), "linux.netDevices.lo: the loopback device cannot be moved"),
        (
            json!({ "no-such-dev": {} }),
            "linux.netDevices.no-such-dev: find the network device: no such device",
        ),
        (
            json!({ &one.name: {}, &two.name: { "name": "taken" } }),
            "exists in the container's network namespace",
        ),
        (json!({ &one.name: { "name": "lo" } }), "exists in the container's network namespace"),
        (json!({ &one.name: { "name": "a/b" } }), "invalid network device name"),
        (json!({ &bridge: {} }), "find the network device"),
    ] {
        let stage = Stage::new("true", |config, _| {
            join(config, &netns);
            config["linux"]["netDevices"] = devices.clone();
        });
        let said = stage.run("box");
        assert_eq!(said.code, 1, "{devices}: {}", said.out);
        assert!(said.err.contains(words), "{devices}: {}", said.err);
        assert_none_since(&before);
        let now = [show(&one.name), show(&two.name)];
        // The index is the only thing that may have changed.
        let place = |lines: &[String]| -> Vec<String> {
            let words =
                lines.iter().flat_map(|l| l.lines()).map(|l| l.split_once(": ").map_or(l, |(_, l)| l));
            words.filter(|l| l.contains("inet ")).map(str::to_owned).collect()
        };
        assert_eq!(place(&now), place(&as_it_was), "{devices}");
        assert!(ip(&["link", "show", "dev", &one.name]).contains(",UP"), "{devices}: it was left off");
    }
    let stage = Stage::new("true", |config, _| {
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "network");
        config["linux"]["netDevices"] = json!({ &one.name: {} });
    });
    let said = stage.run("box");
    assert!(
        said.err.contains("unable to move network devices without a private NET namespace"),
        "{}",
        said.err
    );
}

fn a_failed_start_brings_the_devices_home() {
    let pair = Pair::new('a');
    ip(&["link", "set", &pair.name, "up"]);
    ip(&["address", "add", "192.0.2.9/24", "dev", &pair.name]);
    let before = Snapshot::take();
    let alter: [fn(&mut Value); 3] = [
        |config| config["process"]["args"] = json!(["/no/such/program"]),
        |config| config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] }),
        |config| {
            let mount =
                json!({ "destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"] });
            config["mounts"].as_array_mut().expect("mounts").push(mount);
        },
    ];
    for alter in alter {
        let stage = Stage::new("true", |config, _| {
            config["linux"]["netDevices"] = json!({ &pair.name: { "name": "inside0" } });
            alter(config);
        });
        let mut create = stage.world.runtime();
        create.arg("create").arg("--bundle").arg(&stage.dir).arg("box");
        let said = say(create.stdin(Stdio::null()).stdout(Stdio::null()));
        assert_eq!(said.code, 1, "{}", said.err);
        let shown = ip(&["address", "show", "dev", &pair.name]);
        assert!(shown.contains(",UP") && shown.contains("192.0.2.9/24"), "{}: {shown}", said.err);
        assert_none_since(&before);
    }
}
