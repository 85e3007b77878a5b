//! docker.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use harness::client::Docker;
use harness::host::Need::{self, Path as File, Program, Root};
use harness::world::{World, binary, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

use super::{RESIZED, SIZED, archive, cannot_start, cgroup_value, many, on_terminal, until};

const BUSYBOX: Need = File("/bin/busybox");
const DOCKERD: Need = Program("dockerd");
const DOCKER: Need = File("/usr/bin/docker");
const SKOPEO: Need = Program("skopeo");

pub(crate) const CASES: &[Case] = cases!("clients::docker":
    runs_containers [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO, Program("python3")],
    pauses_measures_and_limits [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO],
    restarts_and_checks_health [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO],
    publishes_ports [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO, Program("curl"), Program("iptables")],
    a_swarm_of_two_services [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO, Program("iptables")],
    builds_copies_and_commits [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO],
    containers_look_as_under_runc [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO, Program("runc")],
    many_containers [Root, BUSYBOX, DOCKERD, DOCKER, SKOPEO],
);

/// dockerd on rcr-runtime with the image `box`.
struct Stage {
    docker: Docker,
    world: World,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let docker = Docker::start(&world, Some(&binary("rcr-runtime")));
        ok(docker.command().args(["load", "-q", "-i"]).arg(archive(
            &world,
            "docker-archive",
            "box:latest",
            &["sh"],
        )));
        Self { docker, world }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.docker.command();
        command.args(words).stdin(Stdio::null());
        command
    }

    /// `docker run FLAGS box COMMAND`.
    fn run(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut all = self.command(&["run"]);
        all.args(flags).arg("box").args(command);
        all
    }

    fn state(&self, name: &str) -> Value {
        self.docker.inspect(name)["State"].take()
    }
}

fn runs_containers() {
    let stage = Stage::new();
    assert_eq!(ok(&mut stage.command(&["info", "--format", "{{.DefaultRuntime}}"])), "rcr");
    assert_eq!(ok(&mut stage.run(&["--rm"], &["echo", "hello"])), "hello");
    assert_eq!(ok(&mut stage.run(&["--rm", "--runtime", "rcr"], &["echo", "by flag"])), "by flag");
    assert_eq!(say(&mut stage.run(&["--rm"], &["sh", "-c", "exit 7"])).code, 7);
    cannot_start(stage.run(&["--rm"], &["no-such-command"]), 127, "executable file not found in $PATH");
    cannot_start(stage.run(&["--rm"], &["/no/such/command"]), 127, "no such file or directory");
    cannot_start(stage.run(&["--rm"], &["/etc/passwd"]), 126, "permission denied");
    cannot_start(stage.run(&["--rm"], &["/etc"]), 126, "OCI runtime create failed");
    let limits = [
        &["--rm", "--user", "1000:1000", "--read-only", "--memory", "64m", "--cpus", "0.5"][..],
        &["--pids-limit", "20", "--network", "none"],
    ];
    assert_eq!(ok(&mut stage.run(&limits.concat(), &["id", "-u"])), "1000");
    let script = "trap 'echo asked; exit 3' TERM; echo up; echo oops >&2; while :; do sleep 0.1; done";
    ok(&mut stage.run(&["-d", "--name", "stays"], &["sh", "-c", script]));
    assert_eq!(stage.docker.inspect("stays")["HostConfig"]["Runtime"], "rcr", "it was really rcr-runtime");
    let exec = |command: &[&str]| stage.command(&[&["exec", "stays"], command].concat());
    assert!(ok(&mut exec(&["ps"])).contains("sleep 0.1"));
    assert_eq!(say(&mut exec(&["sh", "-c", "exit 9"])).code, 9);
    let said = say(&mut exec(&["no-such-command"]));
    assert_eq!(said.code, 126 + i32::from(said.code == 127), "{}{}", said.out, said.err);
    assert!((said.out + &said.err).contains("executable file not found in $PATH"));
    assert_eq!(say(&mut exec(&["/etc/passwd"])).code, 126);
    // By the host's ps and the runtime's list of processes.
    assert!(ok(&mut stage.command(&["top", "stays"])).contains("sleep 0.1"));
    let on = stage.command(&["exec", "-it", "stays", "sh", "-c", SIZED]);
    let said = on_terminal(&stage.world, RESIZED, &on);
    assert_eq!(said.code, 4, "{}{}", said.out, said.err);
    ok(&mut stage.command(&["stop", "-t", "10", "stays"]));
    assert_eq!(stage.state("stays")["ExitCode"], 3, "it ended by itself");
    let logs = say(&mut stage.command(&["logs", "stays"]));
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("up\nasked\n", "oops\n"));
    ok(&mut stage.command(&["start", "stays"]));
    ok(&mut stage.command(&["kill", "stays"]));
    assert_eq!(ok(&mut stage.command(&["wait", "stays"])), "137");
    ok(&mut stage.command(&["start", "stays"]));
    ok(&mut stage.command(&["rm", "-f", "stays"]));
}

fn pauses_measures_and_limits() {
    let stage = Stage::new();
    ok(&mut stage.run(&["-d", "--name", "stays", "--memory", "64m"], &["sleep", "1000"]));
    let pid = stage.state("stays")["Pid"].take();
    let stats = ok(&mut stage.command(&["stats", "--no-stream", "--format", "{{json .}}", "stays"]));
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!((&stats["Name"], &stats["PIDs"]), (&json!("stays"), &json!("1")), "{stats}");
    assert!(stats["MemUsage"].as_str().is_some_and(|usage| usage.ends_with("/ 64MiB")), "{stats}");
    ok(&mut stage.command(&["pause", "stays"]));
    assert_eq!(stage.state("stays")["Status"], "paused");
    let frozen = cgroup_value(&pid, "freezer", "freezer.state", "cgroup.freeze");
    assert!(frozen == "FROZEN" || frozen == "1", "{frozen}");
    ok(&mut stage.command(&["unpause", "stays"]));
    assert_eq!(stage.state("stays")["Status"], "running");
    let limit = || cgroup_value(&pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit(), (64 << 20).to_string());
    ok(&mut stage.command(&["update", "--memory", "32m", "--memory-swap", "32m", "--cpus", "0.5", "stays"]));
    assert_eq!(limit(), (32 << 20).to_string());
    let quota = cgroup_value(&pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(["50000", "50000 100000"].contains(&quota.as_str()), "{quota}");
    let flags = ["--name", "hungry", "--memory", "32m", "--memory-swap", "32m"];
    assert_eq!(say(&mut stage.run(&flags, &["tail", "/dev/zero"])).code, 137);
    let state = stage.state("hungry");
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&json!(true), &json!(137)), "{state}");
}

fn restarts_and_checks_health() {
    let stage = Stage::new();
    ok(&mut stage.run(&["-d", "--name", "failing", "--restart", "on-failure:2"], &["sh", "-c", "exit 3"]));
    ok(&mut stage.run(&["-d", "--name", "stays", "--restart", "always"], &["sleep", "1000"]));
    let flags = ["-d", "--name", "checked", "--health-cmd", "test -e /tmp/well", "--health-retries", "1"];
    ok(&mut stage.run(&[&flags[..], &["--health-interval", "200ms"]].concat(), &["sleep", "1000"]));
    let first = stage.state("stays")["Pid"].take();
    ok(Command::new("kill").args(["-KILL", &first.to_string()]));
    let again = || {
        let state = stage.state("stays");
        state["Running"] == true && state["Pid"] != first && state["Pid"] != 0
    };
    until("a new process", again);
    assert_eq!(stage.docker.inspect("stays")["RestartCount"], 1);
    let health = || stage.state("checked")["Health"]["Status"].take();
    until("ill", || health() == "unhealthy");
    ok(&mut stage.command(&["exec", "checked", "touch", "/tmp/well"]));
    until("well", || health() == "healthy");
    let given_up = || {
        let all = stage.docker.inspect("failing");
        all["RestartCount"] == 2 && all["State"]["Status"] == "exited"
    };
    until("two restarts and no more", given_up);
    assert_eq!(stage.state("failing")["ExitCode"], 3);
    ok(&mut stage.command(&["stop", "-t", "0", "stays"]));
    assert_eq!(stage.state("stays")["Status"], "exited", "a stopped one is not restarted");
}

const SERVER: &str = "mkdir -p /srv; echo served > /srv/page; exec httpd -f -p 80 -h /srv";

fn publishes_ports() {
    let stage = Stage::new();
    ok(&mut stage.run(&["-d", "--name", "server", "-p", "8089:80"], &["sh", "-c", SERVER]));
    let mut curl = stage.docker.network.command("curl");
    curl.args(["-s", "--max-time", "2", "http://127.0.0.1:8089/page"]);
    until("the page on the host's port", || say(&mut curl).out == "served\n");
    ok(&mut stage.command(&["network", "create", "mesh"]));
    ok(&mut stage.run(&["-d", "--name", "named", "--network", "mesh"], &["sh", "-c", SERVER]));
    let fetch = ["wget", "-q", "-O", "-", "http://named/page"];
    assert_eq!(ok(&mut stage.run(&["--rm", "--network", "mesh"], &fetch)), "served");
    let shared = ok(&mut stage.run(&["--rm", "--network", "container:server"], &["cat", "/proc/net/tcp"]));
    assert!(!shared.contains(":0050 "), "a listener of IPv6 serves IPv4 too: {shared}");
    ok(&mut stage.command(&["rm", "-f", "server", "named"]));
    let links = ok(stage.docker.network.command("ip").args(["-o", "link"]));
    assert!(!links.contains("veth"), "{links}");
}

fn a_swarm_of_two_services() {
    let stage = Stage::new();
    ok(&mut stage.command(&[
        "swarm",
        "init",
        "--advertise-addr",
        "127.0.0.1",
        "--listen-addr",
        "127.0.0.1:2377",
    ]));
    ok(&mut stage.command(&["network", "create", "-d", "overlay", "mesh"]));
    // Without IPVS in the kernel there are no virtual addresses: names are those of the tasks.
    let service = |name: &str, script: &str| {
        let flags = ["--network", "mesh", "--endpoint-mode", "dnsrr", "--no-resolve-image", "--detach"];
        let mut create = stage.command(&["service", "create", "--name", name]);
        ok(create.args(flags).args(["box", "sh", "-c", script]));
    };
    service("server", SERVER);
    service("client", "until wget -q -O - http://server/page; do sleep 0.2; done; exec sleep 1000");
    until("the page by the service's name", || {
        say(&mut stage.command(&["service", "logs", "--raw", "client"])).out.contains("served")
    });
    for name in ["server", "client"] {
        let task = ok(&mut stage.command(&["ps", "-q", "--filter", &format!("name={name}")]));
        assert_eq!(stage.docker.inspect(&task)["HostConfig"]["Runtime"], "rcr", "{name}");
    }
    ok(&mut stage.command(&["service", "scale", "--detach", "server=2"]));
    until("two servers", || {
        let tasks = ok(&mut stage.command(&["ps", "-q", "--filter", "name=server"]));
        tasks.lines().count() == 2
    });
    ok(&mut stage.command(&["service", "rm", "server", "client"]));
    ok(&mut stage.command(&["swarm", "leave", "--force"]));
}

fn builds_copies_and_commits() {
    let stage = Stage::new();
    let context = stage.world.path().join("context");
    fs::create_dir(&context).expect("writable");
    let lines = "FROM box\nRUN echo built > /built && mkdir -m 700 /home/alice/own\nUSER 1000\nCMD [\"cat\", \"/built\"]\n";
    fs::write(context.join("Dockerfile"), lines).expect("writable");
    let mut build = stage.command(&["build", "-q", "--network", "none", "-t", "made", "."]);
    ok(build.current_dir(&context).env("DOCKER_BUILDKIT", "0"));
    assert_eq!(ok(&mut stage.command(&["run", "--rm", "made"])), "built");
    ok(&mut stage.run(&["-d", "--name", "stays", "-v", "kept:/kept"], &["sleep", "1000"]));
    ok(stage.command(&["cp", "Dockerfile", "stays:/copied"]).current_dir(&context));
    assert!(ok(&mut stage.command(&["exec", "stays", "cat", "/copied"])).contains("FROM box"));
    let flags = ["exec", "-u", "alice", "-w", "/tmp", "-e", "WORD=given", "stays"];
    let said = ok(stage.command(&flags).args(["sh", "-c", "id -un; pwd; echo $WORD; touch file"]));
    assert_eq!(said, "alice\n/tmp\ngiven");
    ok(&mut stage.command(&["exec", "-d", "stays", "touch", "/kept/later"]));
    until("the detached exec", || say(&mut stage.command(&["exec", "stays", "ls", "/kept/later"])).code == 0);
    // It is paused meanwhile.
    ok(&mut stage.command(&["commit", "stays", "grown"]));
    assert_eq!(ok(&mut stage.command(&["run", "--rm", "grown", "stat", "-c", "%U", "/tmp/file"])), "alice");
    let processes = ok(&mut stage.run(&["--rm", "--pid", "container:stays"], &["ps", "-o", "pid,comm"]));
    assert!(processes.contains("1 sleep"), "{processes}");
    ok(&mut stage.command(&["restart", "-t", "0", "stays"]));
    assert_eq!(ok(&mut stage.run(&["--rm", "--volumes-from", "stays"], &["ls", "/kept"])), "later");
    let text = "line\n".repeat(200_000);
    let input = stage.world.path().join("input");
    fs::write(&input, &text).expect("writable");
    let mut cat = stage.run(&["--rm", "-i"], &["cat"]);
    cat.stdin(fs::File::open(&input).expect("readable"));
    assert!(say(&mut cat).out == text, "input and output of a megabyte");
}

/// What has ever differed between runtimes: users and capabilities, namespaces, limits, devices, mounts, terminals.
const LOOKS: &[&[&str]] = &[
    &["--network", "none"],
    &[
        "-u",
        "1000:1000",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "CHOWN",
        "--security-opt",
        "no-new-privileges",
    ],
    &["--read-only", "--tmpfs", "/tmp:size=1m,mode=1777", "--security-opt", "seccomp=unconfined"],
    &["--pid", "host", "--ipc", "host", "--uts", "host", "--network", "host"],
    &[
        "-m",
        "64m",
        "--memory-swap",
        "128m",
        "--cpus",
        "0.5",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "30",
        "--oom-score-adj",
        "500",
    ],
    &[
        "--ulimit",
        "nofile=100:200",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=80",
        "--shm-size",
        "8m",
        "-w",
        "/made/up",
    ],
    &[
        "--device",
        "/dev/null:/dev/deep/null:r",
        "--cap-drop",
        "ALL",
        "-e",
        "WORD=given",
        "--domainname",
        "example.test",
    ],
    &["-v", "/usr/share:/deep/er:ro", "-v", "/dev/shm:/dev/shm", "--ipc", "none", "--cgroupns", "private"],
    &["-t", "--init", "--security-opt", "systempaths=unconfined"],
];

fn containers_look_as_under_runc() {
    let stage = Stage::new();
    for flags in LOOKS {
        let look = |runtime: &str| {
            let host_uts = flags.contains(&"--uts");
            let name: &[&str] = if host_uts { &[] } else { &["--hostname", "same"] };
            let flags = [&["--rm", "--runtime", runtime], name, flags].concat();
            say(&mut stage.run(&flags, &["sh", "-c", include_str!("look.sh")])).out
        };
        let (ours, theirs) = (look("rcr"), look("runc"));
        assert!(theirs.lines().count() > 50, "{flags:?}: {theirs}");
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (left, right) = (lines(&ours), lines(&theirs));
        let (more, less): (Vec<_>, Vec<_>) =
            (left.difference(&right).collect(), right.difference(&left).collect());
        assert!(more.is_empty() && less.is_empty(), "{flags:?}\nrcr-runtime: {more:#?}\nrunc: {less:#?}");
    }
}

fn many_containers() {
    let stage = Stage::new();
    many("docker", |number| {
        let number = number.to_string();
        assert_eq!(ok(&mut stage.run(&["--rm"], &["echo", &number])), number);
    });
    assert_eq!(ok(&mut stage.command(&["ps", "-aq"])), "");
}
