//! `--link`: what a container is told of another one, by file, environment and name.

use harness::host::Need::{Path, Root};
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

use crate::network::{Host, on_a_host};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("links":
    a_linked_container_is_in_the_hosts_and_the_environment [Root, BUSYBOX],
    a_container_is_linked_by_id_with_all_families_and_through_another_ones_network [Root, BUSYBOX],
    a_new_address_reaches_who_has_linked_it [Root, BUSYBOX],
    on_a_network_with_names_the_alias_is_one_more_for_one_container [Root, BUSYBOX],
    what_cannot_be_linked_is_told_and_leaves_nothing [Root, BUSYBOX],
    who_has_linked_others_is_started_after_them [Root, BUSYBOX],
);

impl Host {
    /// A container in the background.
    fn stays(&self, name: &str, flags: &[&str]) -> String {
        let all = [&["run", "-d", "--name", name], flags, &[self.image.as_str(), "sleep", "1000"]].concat();
        ok(&mut self.rcr(&all))
    }

    fn exec(&self, name: &str, script: &str) -> String {
        ok(&mut self.rcr(&["exec", name, "sh", "-c", script]))
    }

    /// The first address of a running container.
    fn address(&self, name: &str) -> String {
        let networks = self.inspect(name)["NetworkSettings"]["Networks"].clone();
        let first = networks.as_object().and_then(|all| all.values().next().cloned()).unwrap_or_default();
        first["IPAddress"].as_str().expect("an address").to_owned()
    }
}

fn a_linked_container_is_in_the_hosts_and_the_environment() {
    on_a_host(|host| {
        let flags = ["--expose", "5432", "--expose", "8000-8002", "-e", "PASS=x=y", "-e", "HOME=/h", "-t"];
        let id = host.stays("db", &flags);
        let ip = host.address("db");
        host.stays("web", &["--link", "db:data-base", "--link", "/db:/web/db", "-e", "DB_NAME=mine"]);
        let hosts = host.exec("web", "cat /etc/hosts");
        let short = &id[..12];
        for line in [format!("{ip}\tdata-base {short} db"), format!("{ip}\tdb {short}")] {
            assert!(hosts.lines().any(|other| other == line), "{line}: {hosts}");
        }
        host.exec("web", "ping -c 1 -W 5 data-base && ping -c 1 -W 5 db");
        // The process that runs, and one more, know the same.
        for env in [host.exec("web", "tr '\\0' '\\n' < /proc/1/environ"), host.exec("web", "env")] {
            for entry in [
                format!("DATA_BASE_PORT=tcp://{ip}:5432"),
                format!("DATA_BASE_PORT_5432_TCP=tcp://{ip}:5432"),
                format!("DATA_BASE_PORT_5432_TCP_ADDR={ip}"),
                "DATA_BASE_PORT_5432_TCP_PORT=5432".to_owned(),
                "DATA_BASE_PORT_5432_TCP_PROTO=tcp".to_owned(),
                format!("DATA_BASE_PORT_8000_TCP_START=tcp://{ip}:8000"),
                "DATA_BASE_PORT_8000_TCP_PORT_END=8002".to_owned(),
                "DATA_BASE_NAME=/web/data-base".to_owned(),
                "DATA_BASE_ENV_PASS=x=y".to_owned(),
                // The container's own goes before.
                "DB_NAME=mine".to_owned(),
            ] {
                assert_eq!(env.lines().filter(|line| *line == entry).count(), 1, "{entry}: {env}");
            }
            for key in
                ["DATA_BASE_ENV_HOME", "DATA_BASE_ENV_PATH", "DATA_BASE_ENV_HOSTNAME", "DATA_BASE_ENV_TERM"]
            {
                assert!(!env.contains(key), "{key}: {env}");
            }
        }
        let links = |name: &str| host.inspect(name)["HostConfig"]["Links"].clone();
        assert_eq!(links("web"), json!(["/db:/web/data-base", "/db:/web/db"]));
        assert_eq!(links("db"), Value::Null);
        ok(&mut host.rcr(&["rename", "db", "store"]));
        assert_eq!(links("web"), json!(["/store:/web/data-base", "/store:/web/db"]));
    });
}

fn a_container_is_linked_by_id_with_all_families_and_through_another_ones_network() {
    on_a_host(|host| {
        let id = host.stays("db", &["-h", "dbhost"]);
        host.stays("side", &["--network", "container:db"]);
        let ip = host.address("db");
        let networks = host.inspect("db")["NetworkSettings"]["Networks"]["bridge"].clone();
        let ip6 = networks["GlobalIPv6Address"].as_str().unwrap_or_default().to_owned();
        let out = ok(&mut host.run(&["--link", &id[..6], "--link", "side"], &["cat", "/etc/hosts"]));
        assert!(out.contains(&format!("{ip}\t{} dbhost db\n", &id[..6])), "{out}");
        assert!(out.contains(&format!("{ip}\tside dbhost\n")), "{out}");
        if !ip6.is_empty() {
            assert!(out.ends_with(&format!("{ip6}\tside dbhost")), "{out}");
        }
    });
}

fn a_new_address_reaches_who_has_linked_it() {
    on_a_host(|host| {
        host.stays("db", &[]);
        let old = host.address("db");
        host.stays("web", &["--link", "db:data", "--add-host", "data.old:10.1.2.3"]);
        host.exec("web", "echo '10.9.9.9 mine' >> /etc/hosts");
        ok(&mut host.rcr(&["stop", "-t", "0", "db"]));
        host.stays("thief", &[]);
        assert_eq!(host.address("thief"), old);
        ok(&mut host.rcr(&["start", "db"]));
        let new = host.address("db");
        assert_ne!(new, old);
        let hosts = host.exec("web", "cat /etc/hosts");
        let of_data: Vec<&str> = hosts.lines().filter(|line| line.contains("\tdata ")).collect();
        assert!(of_data.iter().any(|line| line.starts_with(&format!("{new}\t"))), "{hosts}");
        assert!(!of_data.iter().any(|line| line.starts_with(&format!("{old}\t"))), "{hosts}");
        assert!(hosts.contains("10.1.2.3\tdata.old\n") && hosts.contains("10.9.9.9 mine\n"), "{hosts}");
        host.exec("web", "ping -c 1 -W 5 data");
        // What its processes were told is as old as they are; after its next start it is new, too.
        assert!(host.exec("web", "env").contains("DATA_NAME=/web/data"));
        ok(&mut host.rcr(&["restart", "-t", "0", "web"]));
        let again = host.exec("web", "cat /etc/hosts");
        assert!(again.contains(&format!("\n{new}\tdata ")), "{again}");
        // A successor of the same name is what is meant from then on.
        ok(&mut host.rcr(&["rm", "-f", "db"]));
        ok(&mut host.rcr(&["stop", "-t", "0", "web"]));
        fails(&mut host.rcr(&["start", "web"]), 1, &["could not get container for db", "no such container"]);
        host.stays("db", &["-h", "second"]);
        ok(&mut host.rcr(&["start", "web"]));
        assert!(host.exec("web", "cat /etc/hosts").contains("\tdata second db\n"));
    });
}

fn on_a_network_with_names_the_alias_is_one_more_for_one_container() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        let flags = ["--network", "back", "--link", "db:data"];
        // It may come later.
        let early =
            [&["run", "-d", "--name", "web"], &flags[..], &[host.image.as_str(), "sleep", "1000"]].concat();
        let said = say(&mut host.rcr(&early));
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.contains("no container db yet"), "{}", said.err);
        host.stays("db", &["--network", "back"]);
        let ip = host.address("db");
        let out =
            host.exec("web", "nslookup data; nslookup data.back; ping -c 1 -W 5 data; cat /etc/hosts; env");
        assert_eq!(out.matches(&format!("Address: {ip}")).count(), 2, "{out}");
        assert!(!out.contains("DATA_NAME") && !out.contains(&format!("{ip}\tdata")), "{out}");
        host.stays("other", &["--network", "back"]);
        fails(&mut host.rcr(&["exec", "other", "ping", "-c", "1", "-W", "2", "data"]), 1, &["data"]);
        let found = host.inspect("web");
        assert_eq!(found["NetworkSettings"]["Networks"]["back"]["Links"], json!(["db:data"]));
        // Its address may change, and so may its name if it was there.
        ok(&mut host.rcr(&["stop", "-t", "0", "db"]));
        host.stays("thief", &["--network", "back"]);
        ok(&mut host.rcr(&["start", "db"]));
        assert_ne!(host.address("db"), ip);
        host.exec("web", "ping -c 1 -W 5 data");
        host.stays("late", &["--network", "back", "--link", "db:data"]);
        ok(&mut host.rcr(&["rename", "db", "store"]));
        host.exec("late", "ping -c 1 -W 5 data");
    });
}

fn what_cannot_be_linked_is_told_and_leaves_nothing() {
    on_a_host(|host| {
        ok(&mut host.rcr(&["network", "create", "--subnet", "10.9.0.0/24", "back"]));
        ok(&mut host.rcr(&["create", "--name", "idle", &host.image, "sleep", "1000"]));
        host.stays("hosts", &["--network", "host"]);
        host.stays("away", &["--network", "back"]);
        host.stays("db", &[]);
        let count = || ok(&mut host.rcr(&["ps", "-aq"])).lines().count();
        let (before, leases) = (count(), host.leases());
        for (flags, words) in [
            (
                &["--link", "nobody"][..],
                &["could not get container for nobody", "no such container", "rcr ps -a"][..],
            ),
            (
                &["--link", "idle:x"],
                &["Cannot link to a non running container: /idle AS /", "rcr start idle"],
            ),
            (&["--link", "hosts:x"], &["host type networking", "hosts"]),
            (&["--link", "away:x"], &["Cannot link to /away", "back", "bridge", "rcr network connect"]),
            (&["--link", "db:x", "--link", "away:x"], &["db and away cannot both be called x"]),
            (&["--link", "db:a:b"], &["--link", "invalid link \"db:a:b\"", "db:database"]),
            (&["--link", "db:a\nb"], &["--link", "alias", "letters, digits"]),
            (&["--link", ""], &["--link", "CONTAINER:ALIAS"]),
            (&["--link", "db", "--network", "host"], &["conflicting options", "--link", "--network host"]),
            (&["--link", "db", "--network", "none"], &["conflicting options", "--link", "--network none"]),
            (&["--link", "db", "--network", "container:db"], &["conflicting options", "--link"]),
        ] {
            fails(&mut host.run(flags, &["true"]), 125, words);
            assert_eq!((count(), host.leases()), (before, leases), "{flags:?}");
        }
        // What is made and cannot be started stays as it was.
        ok(&mut host.rcr(&["create", "--name", "web", "--link", "idle", &host.image, "sleep", "1000"]));
        fails(&mut host.rcr(&["start", "web"]), 1, &["non running container: /idle AS /web/idle"]);
        assert_eq!(
            (host.inspect("web")["State"]["Status"].clone(), host.leases()),
            (json!("created"), leases)
        );
        ok(&mut host.rcr(&["start", "idle", "web"]));
        host.exec("web", "ping -c 1 -W 5 idle");
    });
}

fn who_has_linked_others_is_started_after_them() {
    on_a_host(|host| {
        host.stays("db", &["--restart", "always"]);
        host.stays("web", &["--link", "db", "--restart", "always"]);
        ok(&mut host.rcr(&["stop", "-t", "0", "web", "db"]));
        ok(&mut host.rcr(&["rm", "db"]));
        ok(&mut host.rcr(&["create", "--name", "db", "--restart", "always", &host.image, "sleep", "1000"]));
        ok(&mut host.rcr(&["start", "--all", "--filter", "restart-policy=always"]));
        host.exec("web", "ping -c 1 -W 5 db");
    });
}
