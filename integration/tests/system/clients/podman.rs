//! podman.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use harness::client::Podman;
use harness::host::Need::{self, Path as File, Program, Root};
use harness::image::busybox_layout;
use harness::world::{World, binary, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

use super::{RESIZED, SIZED, archive, cannot_start, cgroup_value, many, namespace, on_terminal, until};

const BUSYBOX: Need = File("/bin/busybox");
const PODMAN: Need = Program("podman");

pub(crate) const CASES: &[Case] = cases!("clients::podman":
    runs_containers [Root, BUSYBOX, PODMAN],
    a_terminal_in_exec [Root, BUSYBOX, PODMAN, Program("python3")],
    pauses_measures_and_limits [Root, BUSYBOX, PODMAN],
    out_of_memory_is_reported_as_under_runc [Root, BUSYBOX, PODMAN, Program("runc")],
    health_is_checked [Root, BUSYBOX, PODMAN],
    a_pod_shares_namespaces [Root, BUSYBOX, PODMAN],
    plays_a_kubernetes_pod [Root, BUSYBOX, PODMAN, Program("curl")],
    user_namespaces [Root, BUSYBOX, PODMAN],
    without_root [Root, BUSYBOX, PODMAN, Program("newuidmap"), Program("runuser"), Program("skopeo")],
    many_containers [Root, BUSYBOX, PODMAN],
);

/// podman on rcr-runtime with the image `box`.
struct Stage {
    podman: Podman,
    // Removed after podman has unmounted what is in it.
    world: World,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let podman = Podman::new(&world, Some(&binary("rcr-runtime")));
        let pull = |name: &str, command: &[&str]| {
            let config = json!({ "Cmd": command, "Env": ["PATH=/bin"] });
            let image = busybox_layout(&world.path().join(name), config);
            let id = ok(podman.command().args(["pull", "-q", &image]));
            let id = id.lines().last().expect("an ID").to_owned();
            ok(podman.command().args(["tag", &id, &format!("localhost/{name}")]));
        };
        pull("box", &["sh"]);
        // The first process of pods.
        pull("pause", &["sleep", "1000000"]);
        Self { podman, world }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.podman.command();
        command.args(words).stdin(Stdio::null());
        command
    }

    /// `podman run --network none FLAGS box COMMAND`.
    fn run(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut all = self.command(&["run", "--network", "none"]);
        all.args(flags).arg("localhost/box").args(command);
        all
    }

    /// Starts one in the background. conmon keeps what it gets as standard error.
    fn detach(&self, flags: &[&str], command: &[&str]) {
        ok(self.run(&[&["-d"], flags].concat(), command).stderr(Stdio::null()));
    }

    fn pid(&self, name: &str) -> Value {
        self.podman.inspect(name)["State"]["Pid"].clone()
    }
}

fn runs_containers() {
    let stage = Stage::new();
    assert_eq!(ok(&mut stage.run(&["--rm"], &["echo", "hello"])), "hello");
    assert_eq!(say(&mut stage.run(&["--rm"], &["sh", "-c", "exit 7"])).code, 7);
    cannot_start(stage.run(&["--rm"], &["no-such-command"]), 127, "executable file not found in $PATH");
    cannot_start(stage.run(&["--rm"], &["/no/such/command"]), 127, "no such file or directory");
    cannot_start(stage.run(&["--rm"], &["/etc/passwd"]), 126, "permission denied");
    cannot_start(stage.run(&["--rm"], &["/etc"]), 126, "permission denied");
    let limits = ["--rm", "--user", "1000:1000", "--read-only", "--memory", "64m"];
    assert_eq!(ok(&mut stage.run(&limits, &["id", "-u"])), "1000");
    let mut other = stage.podman.command();
    other.arg("--runtime").arg(binary("rcr-runtime")).args(["run", "--rm", "--network", "none"]);
    assert_eq!(ok(other.args(["localhost/box", "echo", "by flag"])), "by flag");
    let script = "trap 'echo asked; exit 3' TERM; echo up; echo oops >&2; while :; do sleep 0.1; done";
    stage.detach(&["--name", "stays"], &["sh", "-c", script]);
    assert_eq!(stage.podman.inspect("stays")["OCIRuntime"], "rcr", "it was really rcr-runtime");
    let exec = |command: &[&str]| stage.command(&[&["exec", "stays"], command].concat());
    assert!(ok(&mut exec(&["ps", "-o", "pid,comm"])).contains("1 sh"));
    assert_eq!(say(&mut exec(&["sh", "-c", "exit 9"])).code, 9);
    cannot_start(exec(&["no-such-command"]), 127, "executable file not found in $PATH");
    cannot_start(exec(&["/etc/passwd"]), 126, "permission denied");
    assert!(ok(&mut stage.command(&["top", "stays"])).contains("sleep 0.1"));
    ok(&mut stage.command(&["stop", "-t", "10", "stays"]));
    assert_eq!(stage.podman.inspect("stays")["State"]["ExitCode"], 3, "it ended by itself");
    let logs = say(&mut stage.command(&["logs", "stays"]));
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("up\nasked\n", "oops\n"));
    ok(stage.command(&["start", "stays"]).stderr(Stdio::null()));
    ok(&mut stage.command(&["kill", "-s", "KILL", "stays"]));
    assert_eq!(ok(&mut stage.command(&["wait", "stays"])), "137");
    ok(stage.command(&["start", "stays"]).stderr(Stdio::null()));
    stage.podman.remove("stays");
}

fn a_terminal_in_exec() {
    let stage = Stage::new();
    stage.detach(&["--name", "stays"], &["sleep", "1000"]);
    let exec = stage.command(&["exec", "-it", "stays", "sh", "-c", SIZED]);
    let said = on_terminal(&stage.world, RESIZED, &exec);
    assert_eq!(said.code, 4, "{}{}", said.out, said.err);
    let run = stage.run(&["--rm", "-it"], &["sh", "-c", "test -t 0 && echo terminal; read x; echo got $x"]);
    let said = on_terminal(&stage.world, "expect terminal\nsend more\nexpect got more\n", &run);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
}

fn pauses_measures_and_limits() {
    let stage = Stage::new();
    stage.detach(&["--name", "stays", "--memory", "64m", "--pids-limit", "50"], &["sleep", "1000"]);
    let pid = stage.pid("stays");
    let stats = ok(&mut stage.command(&["stats", "--no-stream", "--format", "json", "stays"]));
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!((&stats[0]["name"], &stats[0]["pids"]), (&json!("stays"), &json!("1")), "{stats}");
    // Of 64 MiB, in units of a thousand.
    assert!(stats[0]["mem_usage"].as_str().is_some_and(|usage| usage.ends_with("/ 67.11MB")), "{stats}");
    ok(&mut stage.command(&["pause", "stays"]));
    assert_eq!(stage.podman.inspect("stays")["State"]["Status"], "paused");
    // runc's freezer on v1; v2's own on v2.
    let frozen = cgroup_value(&pid, "freezer", "freezer.state", "cgroup.freeze");
    assert!(frozen == "FROZEN" || frozen == "1", "{frozen}");
    ok(&mut stage.command(&["unpause", "stays"]));
    assert_eq!(stage.podman.inspect("stays")["State"]["Status"], "running");
    let limit = || cgroup_value(&pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit(), (64 << 20).to_string());
    ok(&mut stage.command(&["update", "--memory", "32m", "--memory-swap", "32m", "--cpus", "0.5", "stays"]));
    assert_eq!(limit(), (32 << 20).to_string());
    let quota = cgroup_value(&pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(["50000", "50000 100000"].contains(&quota.as_str()), "{quota}");
    stage.podman.remove("stays");
}

fn out_of_memory_is_reported_as_under_runc() {
    let stage = Stage::new();
    let report = |runtime: &str| {
        let mut hungry = stage.podman.command();
        hungry.args(["--runtime", runtime, "run", "--network", "none", "--name", "hungry"]);
        hungry.args(["--memory", "32m", "--memory-swap", "32m", "localhost/box", "tail", "/dev/zero"]);
        let code = say(hungry.stdin(Stdio::null())).code;
        let killed = stage.podman.inspect("hungry")["State"]["OOMKilled"].take();
        ok(&mut stage.command(&["rm", "hungry"]));
        (code, killed)
    };
    let ours = report(&binary("rcr-runtime").to_string_lossy());
    assert_eq!(ours.0, 137);
    // It is conmon who looks, and on cgroup v1 under some kernels it sees nothing.
    assert_eq!(ours, report("runc"));
}

fn health_is_checked() {
    let stage = Stage::new();
    let flags = ["--name", "stays", "--health-cmd", "test -e /tmp/well", "--health-retries", "1"];
    stage.detach(&flags, &["sleep", "1000"]);
    let check = || say(&mut stage.command(&["healthcheck", "run", "stays"])).code;
    assert_eq!(check(), 1);
    assert_eq!(stage.podman.inspect("stays")["State"]["Health"]["Status"], "unhealthy");
    ok(&mut stage.command(&["exec", "stays", "touch", "/tmp/well"]));
    assert_eq!(check(), 0);
    assert_eq!(stage.podman.inspect("stays")["State"]["Health"]["Status"], "healthy");
    stage.podman.remove("stays");
}

fn a_pod_shares_namespaces() {
    let stage = Stage::new();
    for (share, shares_pid) in [("net,ipc,uts", false), ("net,ipc,uts,pid", true)] {
        let create = ["pod", "create", "--name", "pod", "--network", "none", "--share", share];
        // podman 4.3 cannot remove a pod's own cgroup where some v1 hierarchies are missing.
        ok(stage.command(&create).arg("--share-parent=false"));
        let start = |name: &str, script: &str| {
            let run = ["run", "-d", "--pod", "pod", "--name", name, "localhost/box", "sh", "-c", script];
            ok(stage.command(&run).stderr(Stdio::null()));
            stage.pid(name)
        };
        let server = start("server", "mkdir /srv; echo served > /srv/page; exec httpd -f -p 8080 -h /srv");
        let client = start("client", "exec sleep 1000");
        for kind in ["net", "ipc", "uts"] {
            assert_eq!(namespace(&server, kind), namespace(&client, kind), "{kind}");
        }
        assert_eq!(namespace(&server, "pid") == namespace(&client, "pid"), shares_pid);
        assert_ne!(namespace(&server, "mnt"), namespace(&client, "mnt"));
        let fetch = ["exec", "client", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/page"];
        until("the page", || say(&mut stage.command(&fetch)).out == "served\n");
        let processes = ok(&mut stage.command(&["exec", "client", "ps"]));
        assert_eq!(processes.contains("httpd"), shares_pid, "{processes}");
        assert_eq!(ok(&mut stage.command(&["exec", "client", "hostname"])), "pod");
        ok(&mut stage.command(&["pod", "pause", "pod"]));
        ok(&mut stage.command(&["pod", "unpause", "pod"]));
        ok(&mut stage.command(&["pod", "stop", "-t", "1", "pod"]));
        ok(&mut stage.command(&["pod", "start", "pod"]));
        until("the page again", || say(&mut stage.command(&fetch)).out == "served\n");
        ok(&mut stage.command(&["pod", "rm", "-f", "-t", "0", "pod"]));
    }
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  hostname: front
  runtimeClassName: rcr
  restartPolicy: Never
  containers:
  - name: server
    image: localhost/box
    imagePullPolicy: Never
    command: [sh, -c, 'echo $GREETING > /shared/page; exec httpd -f -p 80 -h /shared']
    env: [{ name: GREETING, value: played }]
    ports: [{ containerPort: 80, hostPort: 8088 }]
    resources: { limits: { memory: 64Mi } }
    securityContext: { capabilities: { drop: [NET_RAW] } }
    volumeMounts: [{ name: shared, mountPath: /shared }]
  - name: reader
    image: localhost/box
    imagePullPolicy: Never
    command: [sleep, '1000']
    volumeMounts: [{ name: shared, mountPath: /shared }]
  volumes: [{ name: shared, emptyDir: {} }]
";

fn plays_a_kubernetes_pod() {
    let stage = Stage::new();
    let file = stage.world.path().join("pod.yaml");
    fs::write(&file, POD).expect("writable");
    let file = file.to_str().expect("UTF-8");
    ok(stage.command(&["kube", "play", file]).stderr(Stdio::null()));
    let mut curl = stage.podman.network.command("curl");
    curl.args(["-s", "--max-time", "2", "http://127.0.0.1:8088/page"]);
    until("the page on the host's port", || say(&mut curl).out == "played\n");
    let reader = |command: &[&str]| ok(&mut stage.command(&[&["exec", "web-reader"], command].concat()));
    assert_eq!(reader(&["wget", "-q", "-O", "-", "http://localhost/page"]), "played");
    assert_eq!(reader(&["cat", "/shared/page"]), "played");
    assert_eq!(reader(&["hostname"]), "front");
    let pid = stage.pid("web-server");
    assert_eq!(cgroup_value(&pid, "memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    // It fails to remove the pod's cgroup where some v1 hierarchies are missing.
    say(&mut stage.command(&["kube", "down", file]));
    assert_eq!(ok(&mut stage.command(&["ps", "-aq"])), "");
}

fn user_namespaces() {
    let stage = Stage::new();
    let maps = ["--rm", "--uidmap", "0:200000:65536", "--gidmap", "0:300000:65536"];
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; echo x > /tmp/x; stat -c %u:%g /tmp/x";
    let out = ok(&mut stage.run(&maps, &["sh", "-c", script]));
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "200000", "65536", "0", "300000", "65536", "0", "0:0"]);
    stage.detach(&["--name", "stays", "--uidmap", "0:200000:65536"], &["sleep", "1000"]);
    let status = fs::read_to_string(format!("/proc/{}/status", stage.pid("stays"))).expect("it lives");
    assert!(status.lines().any(|line| line.starts_with("Uid:\t200000\t")), "{status}");
    assert_eq!(ok(&mut stage.command(&["exec", "-u", "1000", "stays", "id", "-u"])), "1000");
    stage.podman.remove("stays");
}

/// Run by root in a mount and a pid namespace of its own, which take all with them when they end.
const WITHOUT_ROOT: &str = r#"
set -e
echo 'daemon:300000:65536' > ids
mount --bind ids /etc/subuid
mount --bind ids /etc/subgid
exec runuser -u daemon -- sh -e -c '
    export HOME=$PWD/home
    podman="podman --root $HOME/root --runroot $HOME/runroot --tmpdir $HOME/tmp --storage-driver vfs"
    $podman pull -q oci-archive:box.tar > $HOME/id
    $podman tag $(cat $HOME/id) localhost/box
    run="$podman run --network none"
    $run --rm localhost/box sh -c "id -u; cat /proc/self/uid_map"
    $run --rm --userns keep-id localhost/box id -u
    $run -d --name stays localhost/box sleep 1000 > $HOME/id
    $podman exec stays ps -o pid,comm
    $podman container inspect --format "{{.OCIRuntime}}" stays
    code=0; $run --rm localhost/box no-such-command || code=$?
    echo code $code
    $podman rm -f -t 0 stays > $HOME/id
'
"#;

fn without_root() {
    let world = World::new();
    let dir = world.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("its owner");
    archive(&world, "oci-archive", "box:latest", &["sh"]);
    // Where the user may reach it.
    let runtime = dir.join("rcr-runtime");
    fs::copy(binary("rcr-runtime"), &runtime).expect("a copy");
    Podman::configure(dir, Some(&runtime));
    for name in ["home", "run", "networks"] {
        fs::create_dir(dir.join(name)).expect("writable");
        ok(Command::new("chown").arg("daemon").arg(dir.join(name)));
    }
    let mut all = Command::new("unshare");
    all.args([
        "--mount",
        "--propagation",
        "slave",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        WITHOUT_ROOT,
    ]);
    all.current_dir(dir).env("XDG_RUNTIME_DIR", dir.join("run"));
    all.env("CONTAINERS_CONF", dir.join("containers.conf")).stdin(Stdio::null());
    let said = say(&mut all);
    let words: Vec<&str> = said.out.split_whitespace().collect();
    let [uid, inside, own, one, first, rest, length, kept, seen @ ..] = &words[..] else {
        panic!("{}{}", said.out, said.err)
    };
    let map = (*uid, *inside, *one, *first, *rest, *length);
    assert_eq!(map, ("0", "0", "1", "1", "300000", "65536"), "{}{}", said.out, said.err);
    assert_eq!(own, kept, "the caller's own id");
    assert!(seen.join(" ").contains("1 sleep"), "{}", said.out);
    assert!(seen.ends_with(&["rcr", "code", "127"]), "{}{}", said.out, said.err);
}

fn many_containers() {
    let stage = Stage::new();
    many("podman", |number| {
        let number = number.to_string();
        assert_eq!(ok(&mut stage.run(&["--rm"], &["echo", &number])), number);
    });
    assert_eq!(ok(&mut stage.command(&["ps", "-aq"])), "");
}
