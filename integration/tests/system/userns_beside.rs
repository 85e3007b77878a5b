//! User namespaces beside what else a container has or shares: other containers' namespaces, the host's, networks,
//! privileges, a life in the background, an end by SIGKILL.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::host::Need::Root;
use harness::image::{Layer, Packing, write_layout};
use harness::leaks::{Snapshot, assert_none_since};
use harness::moments::{kill_after, moments};
use harness::world::{World, fails, ok, run, say};
use harness::{Case, cases};
use serde_json::json;

use crate::detached::{assert_no_container, inspect, rcr, until};
use crate::killed::{busy, kill_all};
use crate::network::on_a_host;
use crate::userns::{BUSYBOX, MAPPED, background, block, exec, remove, sh, world};

pub(crate) const CASES: &[Case] = cases!("userns_beside":
    another_ones_namespace_is_joined [Root, BUSYBOX, MAPPED],
    in_the_background_and_again [Root, BUSYBOX, MAPPED],
    what_is_the_hosts_is_shown_as_it_is [Root, BUSYBOX, MAPPED],
    on_a_network [Root, BUSYBOX, MAPPED],
    everything_a_privileged_one_has_ends_at_its_namespace [Root, BUSYBOX, MAPPED],
    kill_9_at_random_moments [Root, BUSYBOX, MAPPED],
    what_cannot_be_is_refused_by_name [Root, BUSYBOX, MAPPED],
);

fn another_ones_namespace_is_joined() {
    let (world, image) = world();
    let before = Snapshot::take();
    let pid = background(
        &world,
        "first",
        &["--userns=auto", "--ipc=shareable", "-v", "both:/both"],
        &image,
        "echo hello > /both/a; echo s > /dev/shm/s",
    );
    let ns =
        |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it runs").display().to_string();
    let script =
        "readlink /proc/self/ns/user; id -u; stat -c %u /bin /both/a; touch /new /both/b; stat -c %u /new";
    let joined = sh(&world, &image, &["--userns=container:first", "-v", "both:/both"], script);
    assert_eq!(joined, format!("{}\n0\n0\n0\n0", ns("user")));
    assert_eq!(
        sh(&world, &image, &[&format!("--userns=ns:/proc/{pid}/ns/user")], "readlink /proc/self/ns/user"),
        ns("user")
    );
    let all = [
        "--userns=container:first",
        "--pid=container:first",
        "--ipc=container:first",
        "--network=container:first",
    ];
    let script = "for n in user pid ipc net; do readlink /proc/self/ns/$n; done; ps | grep -c '[s]leep 1000'; cat /dev/shm/s; ls /sys/class/net";
    let wanted: Vec<String> = ["user", "pid", "ipc", "net"].map(ns).into();
    assert_eq!(sh(&world, &image, &all, script), format!("{}\n1\ns\nlo", wanted.join("\n")));
    // In the background too, and again.
    background(&world, "second", &["--userns=container:first"], &image, "");
    assert_eq!(inspect(&world, "second")["HostConfig"]["UsernsMode"], "container:first");
    assert_eq!(
        exec(&world, "second", "readlink /proc/self/ns/user; touch /x; stat -c %u /x"),
        format!("{}\n0", ns("user"))
    );
    ok(&mut rcr(&world, &["restart", "-t", "0", "second"]));
    assert_eq!(exec(&world, "second", "readlink /proc/self/ns/user"), ns("user"));
    ok(&mut rcr(&world, &["stop", "-t", "0", "second", "first"]));
    let words = ["cannot join the user namespace", "first", "does not run", "start it first"];
    fails(&mut rcr(&world, &["start", "second"]), 1, &words);
    ok(&mut rcr(&world, &["start", "first", "second"]));
    assert_eq!(exec(&world, "second", "stat -c %u /x"), "0");
    // The ids are taken as long as somebody has them, whoever they were chosen for.
    let ids = block(&world, "first");
    remove(&world, "first");
    ok(&mut rcr(&world, &["create", "--name", "third", "--userns=auto", &image]));
    assert_ne!(block(&world, "third"), ids);
    remove(&world, "second");
    ok(&mut rcr(&world, &["create", "--name", "fourth", "--userns=auto", &image]));
    assert_eq!(block(&world, "fourth"), ids);
    remove(&world, "third");
    remove(&world, "fourth");
    // One without a user namespace of its own has the host's.
    background(&world, "plain", &[], &image, "");
    let own = fs::read_link("/proc/self/ns/user").expect("a namespace").display().to_string();
    assert_eq!(sh(&world, &image, &["--userns=container:plain"], "readlink /proc/self/ns/user"), own);
    remove(&world, "plain");
    fails(&mut run(&world, &["--userns=container:nobody", &image]), 125, &["no such container: nobody"]);
    fails(
        &mut run(&world, &["--userns=ns:/proc/self/ns/net", &image]),
        125,
        &["/proc/self/ns/net", "no user namespace"],
    );
    fails(&mut run(&world, &["--userns=ns:/nowhere", &image]), 125, &["/nowhere", "No such file"]);
    ok(&mut rcr(&world, &["volume", "rm", "both"]));
    assert_none_since(&before);
}

fn in_the_background_and_again() {
    let (world, image) = world();
    let before = Snapshot::take();
    // Streams can be opened again by their names, terminals and health checks work.
    let flags = [
        "--userns=auto",
        "--health-cmd=test $(id -u) = 0",
        "--health-interval=1s",
        "--init",
        "--restart=on-failure",
    ];
    background(
        &world,
        "box",
        &flags,
        &image,
        "echo one > /dev/stdout; echo two > /proc/self/fd/2; echo kept > /kept",
    );
    assert_eq!(ok(&mut rcr(&world, &["logs", "box"])), "one");
    until("it is healthy", || inspect(&world, "box")["State"]["Health"]["Status"] == "healthy");
    let ids = block(&world, "box");
    ok(&mut rcr(&world, &["exec", "box", "rm", "/tmp/ready"]));
    ok(&mut rcr(&world, &["restart", "-t", "0", "box"]));
    until("it is ready again", || {
        say(&mut rcr(&world, &["exec", "box", "test", "-e", "/tmp/ready"])).code == 0
    });
    assert_eq!(exec(&world, "box", "stat -c '%u %n' /kept; cat /kept"), "0 /kept\nkept");
    assert_eq!(block(&world, "box"), ids, "it keeps its ids");
    ok(&mut rcr(&world, &["stop", "-t", "0", "box"]));
    remove(&world, "box");
    ok(&mut rcr(
        &world,
        &[
            "run",
            "-d",
            "-t",
            "--name",
            "tty",
            "--userns=auto",
            &image,
            "sh",
            "-c",
            "tty; stat -c %u $(tty); sleep 1000",
        ],
    ));
    until("it has a terminal", || ok(&mut rcr(&world, &["logs", "tty"])).contains("/dev/pts/0\r\n0\r"));
    remove(&world, "tty");
    let said = say(&mut run(
        &world,
        &["--rm", "--userns=auto", &image, "sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr"],
    ));
    assert_eq!((said.out.as_str(), said.err.as_str(), said.code), ("out\n", "err\n", 0));
    assert_none_since(&before);
}

fn what_is_the_hosts_is_shown_as_it_is() {
    let (world, image) = world();
    let before = Snapshot::take();
    let host = |kind: &str| {
        fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace").display().to_string()
    };
    for (flag, kind) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--network", "net")]
    {
        let script = format!(
            "readlink /proc/self/ns/{kind}; touch /sys/x 2> /dev/null; echo x > /proc/sys/kernel/panic; id -u"
        );
        let said =
            say(&mut run(&world, &["--rm", "--userns=auto", flag, "host", &image, "sh", "-c", &script]));
        assert_eq!((said.out, said.code), (format!("{}\n0\n", host(kind)), 0), "{flag}: {}", said.err);
    }
    // Host processes are seen, and not touched.
    let mut victim = Command::new("sleep").arg("1000").spawn().expect("it starts");
    let script =
        format!("test -d /proc/{0} && echo seen; kill -9 {0} 2> /dev/null || echo safe", victim.id());
    assert_eq!(sh(&world, &image, &["--userns=auto", "--pid=host", "--privileged"], &script), "seen\nsafe");
    assert!(victim.try_wait().expect("a child").is_none());
    victim.kill().expect("ours");
    victim.wait().expect("ours");
    // Limits and devices are what they are without one.
    let script = "cat /proc/self/limits | grep 'open files' | tr -s ' ' | cut -d' ' -f4; test -c /dev/null && echo x > /dev/null && echo ok";
    assert_eq!(
        sh(
            &world,
            &image,
            &["--userns=auto", "--ulimit=nofile=77:88", "-m=64m", "--device=/dev/zero:/dev/other"],
            script
        ),
        "77\nok"
    );
    assert_none_since(&before);
}

fn on_a_network() {
    on_a_host(|host| {
        let flags = ["--userns=auto", "--network=bridge"];
        let script = "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start | tr '\\t' ' '
            ip -o -4 addr show eth0 | wc -l; ls /sys/class/net | wc -l
            ip link add d0 type dummy 2> /dev/null || echo no admin";
        let all = [&["--rm"], &flags[..], &[&host.image, "sh", "-c", script]].concat();
        assert_eq!(ok(&mut run(&host.world, &all)), "0 65535\n0\n1\n2\nno admin");
        background(
            &host.world,
            "web",
            &[&flags[..], &["-p", "18080:80"]].concat(),
            &host.image,
            "mkdir /www; echo page > /www/index.html; httpd -p 80 -h /www",
        );
        let address = inspect(&host.world, "web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .expect("text")
            .to_owned();
        let got = ok(&mut run(
            &host.world,
            &["--rm", "--network=bridge", &host.image, "wget", "-qO-", &format!("http://{address}/")],
        ));
        assert_eq!(got, "page");
        // Its network can be had by others, with their own ids or with the host's.
        for userns in ["--userns=auto", "--userns=host", "--userns=container:web"] {
            let shared =
                ["--rm", userns, "--network=container:web", &host.image, "wget", "-qO-", "http://127.0.0.1/"];
            assert_eq!(ok(&mut run(&host.world, &shared)), "page", "{userns}");
        }
        remove(&host.world, "web");
        ok(&mut rcr(&host.world, &["network", "prune", "-f"]));
    });
}

fn everything_a_privileged_one_has_ends_at_its_namespace() {
    let (world, image) = world();
    let before = Snapshot::take();
    let clock = || Command::new("date").arg("+%Y").output().expect("date").stdout;
    let year = clock();
    let script = "id -u; mkdir -p /mnt && mount -t tmpfs x /mnt && echo mounts
        (mknod /node c 1 3 && echo node; echo 1 > /proc/sys/vm/drop_caches && echo caches; dmesg -c > /dev/null && echo log
        date -s 2000-01-01 > /dev/null; swapoff -a; cat /proc/kcore | head -c1; head -c1 /dev/mem) 2> /dev/null
        test -e /dev/zero && echo devices; true";
    assert_eq!(sh(&world, &image, &["--userns=auto", "--privileged"], script), "0\nmounts\ndevices");
    assert_eq!(clock(), year);
    assert_none_since(&before);
}

/// What was killed is found by the next command; what runs all the same is removed.
fn settled(world: &World) {
    until("all of it is killed", || {
        // One that was born while the others were looked for is not among them.
        let left = busy(world, "rcr");
        kill_all(&left);
        left.is_empty()
    });
    ok(&mut rcr(world, &["ps", "-a"]));
    until("it runs or not", || {
        let state = inspect(world, "xx")["State"].clone();
        state["Status"] != "running" || state["Pid"].as_i64() > Some(0)
    });
    say(&mut rcr(world, &["rm", "-f", "-v", "xx"]));
}

fn kill_9_at_random_moments() {
    let (world, image) = world();
    let before = Snapshot::take();
    let words = ["run", "-d", "--userns=auto", "--name", "xx", "-v", "/data", &image, "sleep", "1000"];
    let start = Instant::now();
    ok(&mut rcr(&world, &words));
    let whole = start.elapsed().max(Duration::from_millis(20));
    let first = block(&world, "xx");
    remove(&world, "xx");
    for moment in moments(30) {
        kill_after(&mut rcr(&world, &words), whole.mul_f64(moment), || kill_all(&busy(&world, "rcr")));
        settled(&world);
        assert_no_container(&world);
        assert_none_since(&before);
    }
    let front = ["run", "--userns=auto", "--name", "xx", &image, "sleep", "1000"];
    for moment in moments(10) {
        kill_after(&mut rcr(&world, &front), whole.mul_f64(2.0 * moment), || ());
        settled(&world);
        assert_no_container(&world);
        assert_none_since(&before);
    }
    ok(&mut rcr(&world, &words));
    assert_eq!(block(&world, "xx"), first, "no killed one holds ids");
    remove(&world, "xx");
    assert_none_since(&before);
}

fn what_cannot_be_is_refused_by_name() {
    let (world, image) = world();
    let before = Snapshot::take();
    let other = pulled_user(&world);
    for (flags, words) in [
        (
            &["--uidmap=0:1000:10", "--uidmap=5:5000:10"][..],
            &["--uidmap", "5:5000:10", "0:1000:10", "overlap in the container"][..],
        ),
        (&["--gidmap=0:1000:10", "--gidmap=10:1005:10"], &["overlap on the host"]),
        (&["--uidmap=1:1000:10"], &["--uidmap", "the container's root", "0:HOST:N"]),
        (&["--uidmap=0:1000:0"], &["--uidmap", "0:1000:0", "at least one"]),
        (&["--uidmap=0:4294967295:1"], &["--uidmap", "4294967294"]),
        (&["--uidmap=0"], &["--uidmap", "CONTAINER:HOST[:N]"]),
        (&["--uidmap=0:1000:10", "--userns=auto"], &["conflicting", "--userns private"]),
        (&["--uidmap=0:1000:10", "--userns=host"], &["conflicting"]),
        (&["--uidmap=0:1000:10", "--subuidname=bob"], &["conflicting", "--subuidname"]),
        (&["--userns=keep-id"], &["--userns", "keep-id", "without root", "auto"]),
        (&["--userns=nomap"], &["nomap", "without root"]),
        (&["--userns=auto:size=0"], &["size=0", "1 or more"]),
        (&["--userns=auto:size=4294967295"], &["no 4294967295 uids", "size=N"]),
        (&["--userns=auto:size=100", "-u", "1000"], &["user 1000", "auto:size=1001", "--uidmap"]),
        (&["--uidmap=0:1000:100", "--group-add=wheel", "--gidmap=0:1000:5"], &["group 10", "--gidmap"]),
        (&["--userns=auto", "--network=cni:x"], &["--userns", "cni", "exclude"]),
        (&["--userns=auto", "--pid=container:x"], &["--pid container:x", "--userns container:x"]),
        (&["--userns=auto", "--ipc=container:x"], &["--ipc container:x", "--userns container:x"]),
        (&["-v", "/tmp:/x:idmap=uids=0-1-1"], &["idmap=uids"]),
    ] {
        let all = [&["--rm"], flags, &[&image, "true"]].concat();
        fails(&mut run(&world, &all), 125, words);
        let said = say(&mut run(&world, &all)).err;
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
    fails(
        &mut run(&world, &["--rm", "--userns=auto:size=1000", &other]),
        125,
        &["user 1234", "auto:size=1235"],
    );
    assert_eq!(sh(&world, &other, &["--userns=auto"], "id -u"), "1234");
    assert_no_container(&world);
    assert_none_since(&before);
}

/// An image whose user is a number that its passwd has not.
fn pulled_user(world: &World) -> String {
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"], "User": "1234" });
    let dir = world.path().join("layout2");
    write_layout(&dir, "latest", &[Layer::busybox().into_tar()], Packing::Gzip, config);
    let name = format!("oci:{}:latest", dir.display());
    ok(world.rcr().args(["pull", "-q", &name]));
    name
}
