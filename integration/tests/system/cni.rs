//! `--network cni:NAME`: networks that Debian's CNI plugins make, on a host of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::host::Need::{Path, Program, Root};
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};
use sys::rtnetlink::Netlink;

use crate::network::{Host, answers, on_a_host, talk};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");
const BRIDGE: harness::host::Need = Path("/usr/lib/cni/bridge");
const PORTMAP: harness::host::Need = Path("/usr/lib/cni/portmap");

pub(crate) const CASES: &[Case] = cases!("cni":
    plugins_give_addresses_names_and_a_route [Root, BUSYBOX, BRIDGE],
    a_port_is_passed_on_by_a_plugin [Root, BUSYBOX, BRIDGE, PORTMAP, Program("iptables")],
    several_lists_make_several_links [Root, BUSYBOX, BRIDGE],
    plugins_are_called_in_order_and_in_reverse [Root, BUSYBOX],
    a_plugin_that_fails_leaves_nothing_of_those_before_it [Root, BUSYBOX, BRIDGE],
    whatever_kills_rcr_the_next_command_takes_back [Root, BUSYBOX, BRIDGE, Program("iptables")],
    what_a_plugin_does_not_take_back_is_tried_again [Root, BUSYBOX],
    detached_ones_have_it_again_after_a_restart [Root, BUSYBOX, BRIDGE],
    what_is_wrong_with_a_list_is_said [Root, BUSYBOX],
);

/// A host with a directory for lists of plugins and one for plugins of the test's own.
struct Plugins<'a>(&'a Host);

impl Plugins<'_> {
    fn on_a_host(test: impl FnOnce(&Plugins<'_>) + Send) {
        on_a_host(|host| {
            let plugins = Plugins(host);
            fs::create_dir(plugins.lists()).expect("writable");
            fs::create_dir(plugins.own()).expect("writable");
            test(&plugins);
            assert_eq!(fs::read_dir(host.world.path().join("run/netns")).into_iter().flatten().count(), 0);
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.world.path().join(name)
    }

    fn lists(&self) -> PathBuf {
        self.path("net.d")
    }

    fn own(&self) -> PathBuf {
        self.path("plugins")
    }

    fn list(&self, name: &str, plugins: &Value) {
        let list = json!({ "cniVersion": "1.0.0", "name": name, "plugins": plugins });
        fs::write(self.lists().join(format!("{name}.conflist")), list.to_string()).expect("writable");
    }

    /// A plugin that is a shell script; what it is told is in $request.
    fn script(&self, name: &str, script: &str) {
        let file = self.own().join(name);
        fs::write(&file, format!("#!/bin/sh\nrequest=$(cat)\n{script}\n")).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn bridge(&self, name: &str, subnet: &str) -> Value {
        json!({
            "type": "bridge", "bridge": name, "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "capabilities": { "ips": true, "mac": true },
            "ipam": {
                "type": "host-local", "dataDir": self.path("ipam"), "routes": [{ "dst": "0.0.0.0/0" }],
                "ranges": [[{ "subnet": subnet }]],
            },
        })
    }

    fn with_environment(&self, mut command: Command) -> Command {
        let path = format!("{}:/usr/lib/cni", self.own().display());
        command.env("NETCONFPATH", self.lists()).env("CNI_PATH", path).stdin(Stdio::null());
        command
    }

    fn rcr(&self, args: &[&str]) -> Command {
        self.with_environment(self.0.rcr(args))
    }

    fn run(&self, flags: &[&str], script: &str) -> Command {
        self.with_environment(self.0.run(flags, &["sh", "-c", script]))
    }

    fn detached(&self, name: &str, flags: &[&str], script: &str) -> Value {
        let all = [&["run", "-d", "--name", name], flags, &[&self.0.image, "sh", "-c", script]].concat();
        ok(&mut self.rcr(&all));
        self.0.inspect(name)
    }

    /// Addresses that host-local has given away.
    fn addresses(&self) -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(self.path("ipam"))
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|network| fs::read_dir(network.path()).expect("readable").flatten())
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .collect();
        all.sort();
        all
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

fn links() -> Vec<String> {
    let links = Netlink::open().expect("netlink").links().expect("links");
    links.into_iter().map(|link| link.name).filter(|name| name.starts_with("veth")).collect()
}

fn rules() -> String {
    ok(Command::new("iptables").args(["-t", "nat", "-S"]))
}

fn plugins_give_addresses_names_and_a_route() {
    Plugins::on_a_host(|plugins| {
        let mut bridge = plugins.bridge("cni0", "10.77.0.0/24");
        bridge["dns"] = json!({ "nameservers": ["10.77.0.1"], "search": ["inside"] });
        plugins.list("net", &json!([bridge]));
        let script = "ip -4 -o addr show; ip route; cat /etc/hosts /etc/resolv.conf; ip link show eth0; \
                      ping -c1 -W2 10.77.0.1 >/dev/null && echo reached; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
        let said = ok(&mut plugins.run(&["--network", "cni:net", "-h", "web"], script));
        for words in [
            "127.0.0.1/8",
            "10.77.0.2/24",
            "default via 10.77.0.1 dev eth0",
            "10.77.0.2\tweb\n",
            "nameserver 10.77.0.1\nsearch inside\n",
            "reached\n0",
        ] {
            assert!(said.contains(words), "{words:?}: {said}");
        }
        assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
        let flags = ["--network", "cni:net:ip=10.77.0.99,mac=02:00:00:00:00:99", "--dns", "9.9.9.9"];
        let said = ok(&mut plugins.run(&flags, "ip addr show eth0; cat /etc/resolv.conf"));
        assert!(said.contains("10.77.0.99/24") && said.contains("02:00:00:00:00:99"), "{said}");
        assert!(said.contains("nameserver 9.9.9.9\n") && !said.contains("10.77.0.1\n"), "{said}");
        let said =
            ok(&mut plugins.run(&["--network", "cni:net", "--ip", "10.77.0.98"], "ip -4 addr show eth0"));
        assert!(said.contains("10.77.0.98/24"), "{said}");
        let found = plugins.detached("web", &["--network", "cni:net"], "sleep 100");
        assert_eq!(found["HostConfig"]["NetworkMode"], "cni:net");
        let network = &found["NetworkSettings"]["Networks"]["net"];
        assert_eq!((&network["IPPrefixLen"], &network["Gateway"]), (&json!(24), &json!("10.77.0.1")));
        let ip = network["IPAddress"].as_str().expect("an address");
        // Another one on the same network reaches it, and one that shares its namespace is it.
        ok(&mut plugins.run(&["--network", "cni:net"], &format!("ping -c1 -W2 {ip}")));
        let shared = ok(&mut plugins.run(&["--network", "container:web"], "ip -4 -o addr show eth0"));
        assert!(shared.contains(ip), "{shared}");
        ok(&mut plugins.rcr(&["rm", "-f", "web"]));
        assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
    });
}

fn a_port_is_passed_on_by_a_plugin() {
    Plugins::on_a_host(|plugins| {
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true });
        plugins.list("net", &json!([plugins.bridge("cni0", "10.77.0.0/24"), portmap]));
        plugins.list("bare", &json!([plugins.bridge("cni1", "10.78.0.0/24")]));
        let before = rules();
        let flags = ["--network", "cni:net", "-p", "8080:80"];
        plugins.detached("web", &flags, &answers("web", 80));
        assert_eq!(talk("127.0.0.1:8080"), "web");
        assert_eq!(ok(&mut plugins.rcr(&["port", "web"])), "80/tcp -> 0.0.0.0:8080");
        assert!(rules().contains("--to-destination 10.77.0.2:80"), "{}", rules());
        fails(&mut plugins.run(&flags, "true"), 125, &["8080", "in use by container web"]);
        fails(
            &mut plugins.run(&["--network", "cni:bare", "-p", "8081:80"], "true"),
            125,
            &["cni:bare", "portMappings", "--publish"],
        );
        ok(&mut plugins.rcr(&["rm", "-f", "web"]));
        let left: Vec<String> =
            rules().lines().filter(|rule| rule.contains("10.77.0.2")).map(str::to_owned).collect();
        assert_eq!(left, Vec::<String>::new(), "before: {before}");
        assert_eq!(plugins.addresses(), Vec::<String>::new());
    });
}

fn several_lists_make_several_links() {
    Plugins::on_a_host(|plugins| {
        plugins.list("one", &json!([plugins.bridge("cni0", "10.77.0.0/24")]));
        let single = json!({
            "cniVersion": "0.4.0", "name": "two", "type": "ptp",
            "ipam": { "type": "host-local", "dataDir": plugins.path("ipam"), "subnet": "10.78.0.0/24" },
        });
        fs::write(plugins.lists().join("two.conf"), single.to_string()).expect("writable");
        let flags = ["--network", "cni:one", "--network", "cni:two"];
        let said = ok(&mut plugins.run(&flags, "ip -4 -o addr show; cat /etc/hosts"));
        assert!(
            said.contains("eth0    inet 10.77.0.2/24") && said.contains("eth1    inet 10.78.0.2/24"),
            "{said}"
        );
        plugins.list("lo", &json!([{ "type": "loopback" }]));
        let said =
            ok(&mut plugins.run(&["--network", "cni:lo", "--network", "cni:one"], "ip -4 -o addr show"));
        assert!(said.contains("lo    inet 127.0.0.1/8") && said.contains("eth1    inet 10.77.0."), "{said}");
        fails(
            &mut plugins.run(&["--network", "cni:one", "--network", "bridge"], "true"),
            125,
            &["cni:one", "combined"],
        );
        plugins.detached("both", &flags, "sleep 100");
        fails(&mut plugins.rcr(&["network", "connect", "bridge", "both"]), 1, &["cni:one,cni:two"]);
        ok(&mut plugins.rcr(&["rm", "-f", "both"]));
        assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
    });
}

/// Notes what it is asked, and says what it was told before.
const NOTE: &str = r#"
kind=${0##*/}
printf '%s %s %s\n' "$CNI_COMMAND" "$kind" "$CNI_IFNAME" >> "${0%/*}/../log"
printf '%s' "$request" > "${0%/*}/../$kind.$CNI_COMMAND"
[ -n "$CNI_CONTAINERID" ] && { [ -e "$CNI_NETNS" ] || [ $CNI_COMMAND = DEL ]; } || exit 9
[ $CNI_COMMAND = DEL ] || printf '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24"}],"by":"%s"}' $kind
"#;

fn plugins_are_called_in_order_and_in_reverse() {
    Plugins::on_a_host(|plugins| {
        plugins.script("first", NOTE);
        plugins.script("second", NOTE);
        plugins.list(
            "net",
            &json!([{ "type": "first", "capabilities": { "aliases": true } }, { "type": "second", "x": 1 }]),
        );
        ok(&mut plugins.run(&["--network", "cni:net:alias=db"], "true"));
        assert_eq!(plugins.log(), "ADD first eth0\nADD second eth0\nDEL second eth0\nDEL first eth0\n");
        let told = |file: &str| -> Value {
            serde_json::from_str(&fs::read_to_string(plugins.path(file)).expect("a request")).expect("JSON")
        };
        assert_eq!(
            told("first.ADD"),
            json!({ "cniVersion": "1.0.0", "name": "net", "type": "first", "runtimeConfig": { "aliases": { "net": ["db"] } } })
        );
        let second = told("second.ADD");
        assert_eq!((&second["prevResult"]["by"], &second["x"]), (&json!("first"), &json!(1)));
        assert_eq!(second.get("runtimeConfig"), None);
        for file in ["second.DEL", "first.DEL"] {
            assert_eq!(told(file)["prevResult"]["by"], "second", "{file}");
        }
        // The list may be gone when the container ends.
        plugins.detached("web", &["--network", "cni:net"], "sleep 100");
        fs::remove_file(plugins.lists().join("net.conflist")).expect("there");
        ok(&mut plugins.rcr(&["rm", "-f", "web"]));
        assert!(plugins.log().ends_with("DEL second eth0\nDEL first eth0\n"), "{}", plugins.log());
        assert_eq!(plugins.log().lines().count(), 8);
    });
}

fn a_plugin_that_fails_leaves_nothing_of_those_before_it() {
    Plugins::on_a_host(|plugins| {
        plugins.script("bad", r#"[ $CNI_COMMAND = DEL ] || { echo '{"code":11,"msg":"no way","details":"it rains"}'; exit 1; }"#);
        plugins.list("net", &json!([plugins.bridge("cni0", "10.77.0.0/24"), { "type": "bad" }]));
        for detached in [&["--rm"][..], &["-d"]] {
            let args = [&["run"], detached, &["--network", "cni:net", &plugins.0.image, "true"]].concat();
            fails(&mut plugins.rcr(&args), 125, &["network cni:net: plugin \"bad\" (ADD): no way; it rains"]);
            assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
            assert_eq!(ok(&mut plugins.rcr(&["ps", "-aq"])), "");
        }
        // As it does after a container that could not be started for another reason.
        plugins.list("net", &json!([plugins.bridge("cni0", "10.77.0.0/24")]));
        let args = ["run", "--rm", "--network", "cni:net", &plugins.0.image, "/no/such"];
        fails(&mut plugins.rcr(&args), 127, &["/no/such"]);
        assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
        plugins.list("none", &json!([{ "type": "nothing-of-the-kind" }]));
        fails(
            &mut plugins.run(&["--network", "cni:none"], "true"),
            125,
            &[
                "cni:none",
                "\"nothing-of-the-kind\"",
                "/usr/lib/cni",
                "containernetworking-plugins",
                "CNI_PATH",
            ],
        );
    });
}

fn whatever_kills_rcr_the_next_command_takes_back() {
    Plugins::on_a_host(|plugins| {
        plugins.script("slow", "[ $CNI_COMMAND = DEL ] || sleep 0.2");
        plugins.list("net", &json!([plugins.bridge("cni0", "10.77.0.0/24"), { "type": "slow" }]));
        let before = rules();
        for moment in 0..24 {
            let mut child = plugins
                .run(&["--network", "cni:net"], "sleep 100")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("rcr starts");
            std::thread::sleep(Duration::from_millis(15 * moment));
            child.kill().expect("it lives");
            child.wait().expect("a child");
            // A plugin that it has just called goes on for a moment, as it may after any caller's death.
            std::thread::sleep(Duration::from_millis(400));
            assert_eq!(ok(&mut plugins.rcr(&["ps", "-aq"])), "", "moment {moment}");
            assert_eq!((plugins.addresses(), links()), (vec![], vec![]), "moment {moment}");
        }
        assert_eq!(rules(), before);
        plugins.script("slow", "[ $CNI_COMMAND = ADD ] || sleep 0.1");
        for moment in 0..8 {
            plugins.detached("web", &["--network", "cni:net"], "sleep 100");
            let mut child =
                plugins.rcr(&["rm", "-f", "web"]).stdout(Stdio::null()).spawn().expect("rcr starts");
            std::thread::sleep(Duration::from_millis(30 * moment));
            child.kill().expect("it has not been waited for");
            child.wait().expect("a child");
            ok(&mut plugins.rcr(&["rm", "-f", "web"]));
            assert_eq!((plugins.addresses(), links()), (vec![], vec![]), "moment {moment}");
        }
        assert_eq!(rules(), before);
        // And its monitor with it, in the middle of its life.
        let found = plugins.detached("web", &["--network", "cni:net"], "sleep 100");
        let id = found["Id"].as_str().expect("an ID");
        let pid = found["State"]["Pid"].as_i64().expect("a pid");
        ok(Command::new("pkill").args(["-9", "-f", &format!("rcr-monitor.*{id}")]));
        ok(Command::new("kill").args(["-9", &pid.to_string()]));
        std::thread::sleep(Duration::from_millis(300));
        ok(&mut plugins.rcr(&["ps"]));
        assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
        ok(&mut plugins.rcr(&["rm", "web"]));
        assert_eq!(rules(), before);
    });
}

fn what_a_plugin_does_not_take_back_is_tried_again() {
    Plugins::on_a_host(|plugins| {
        plugins.script(
            "moody",
            &format!(
                "[ $CNI_COMMAND = DEL ] && [ -e {} ] && {{ echo in a mood >&2; exit 1; }}\n{NOTE}",
                plugins.path("mood").display()
            ),
        );
        plugins.list("net", &json!([{ "type": "moody" }]));
        let deletions = || plugins.log().lines().filter(|line| line.starts_with("DEL")).count();
        fs::write(plugins.path("mood"), "").expect("writable");
        // The end of the container does not wait for it.
        let args = ["run", "--name", "web", "--network", "cni:net", &plugins.0.image, "sh", "-c", "exit 7"];
        let said = say(&mut plugins.rcr(&args));
        assert_eq!(said.code, 7, "{}", said.err);
        assert!(said.err.contains("network cni:net: plugin \"moody\" (DEL): in a mood"), "{}", said.err);
        fails(&mut plugins.rcr(&["start", "web"]), 1, &["plugin \"moody\" (DEL): in a mood"]);
        assert_eq!(deletions(), 0);
        fs::remove_file(plugins.path("mood")).expect("there");
        assert_eq!(say(&mut plugins.rcr(&["start", "-a", "web"])).code, 7);
        assert_eq!(deletions(), 2, "before the start, and after the end");
        // Gone for good, it is told what is left.
        fs::write(plugins.path("mood"), "").expect("writable");
        let said = say(&mut plugins.run(&["--name", "two", "--network", "cni:net"], "true"));
        assert!(
            said.code == 0 && said.err.contains("leaves something behind: network cni:net"),
            "{}",
            said.err
        );
        ok(&mut plugins.rcr(&["rm", "web"]));
        assert_eq!(ok(&mut plugins.rcr(&["ps", "-aq"])), "");
    });
}

fn detached_ones_have_it_again_after_a_restart() {
    Plugins::on_a_host(|plugins| {
        plugins.list("net", &json!([plugins.bridge("cni0", "10.77.0.0/24")]));
        plugins.detached("web", &["--network", "cni:net", "--restart", "on-failure:1"], "sleep 0.3; exit 1");
        harness::stage::until("it has ended twice", || {
            let found = plugins.0.inspect("web");
            found["State"]["Status"] == "exited" && found["RestartCount"] == 1
        });
        assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
        ok(&mut plugins.rcr(&["rm", "web"]));
        plugins.detached("up", &["--network", "cni:net"], "sleep 100");
        assert_eq!(plugins.addresses().len(), 1);
        ok(&mut plugins.rcr(&["restart", "-t", "0", "up"]));
        assert_eq!(plugins.addresses().len(), 1);
        ok(&mut plugins.rcr(&["exec", "up", "ping", "-c1", "-W2", "10.77.0.1"]));
        ok(&mut plugins.rcr(&["stop", "-t", "0", "up"]));
        assert_eq!((plugins.addresses(), links()), (vec![], vec![]));
        ok(&mut plugins.rcr(&["rm", "up"]));
    });
}

fn what_is_wrong_with_a_list_is_said() {
    Plugins::on_a_host(|plugins| {
        let run = |flags: &[&str]| plugins.run(flags, "true");
        fails(&mut run(&["--network", "cni:net"]), 125, &["no network cni:net in", "there are none"]);
        plugins.list("other", &json!([{ "type": "bridge" }]));
        fails(&mut run(&["--network", "cni:net"]), 125, &["no network cni:net", "there are other"]);
        fails(&mut run(&["--network", "cni:"]), 125, &["--network", "cni:NAME"]);
        fs::write(plugins.lists().join("a.conf"), "{").expect("writable");
        fails(&mut run(&["--network", "cni:net"]), 125, &["a.conf", "no JSON object"]);
        fails(
            &mut run(&["--network", "cni:other:ip=10.0.0.5"]),
            125,
            &["cni:other", "capability ips", "ip="],
        );
        fails(&mut run(&["--network", "cni:other", "--network-alias", "x"]), 125, &["capability aliases"]);
        fails(&mut run(&["--network", "cni:other", "--network", "cni:other"]), 125, &["given twice"]);
    });
}
