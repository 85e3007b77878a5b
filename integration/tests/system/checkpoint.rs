//! checkpoint and restore: what goes on afterwards, and what is kept. The tests want a kernel on which criu works.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use harness::bundle::Bundle;
use harness::host::Need::{Criu, Path as FileNeed, Program, Root};
use harness::host::{Need, unified};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, create, delete, end_of, quiet, state, until};
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("checkpoint":
    a_process_goes_on_where_it_was [Root, BUSYBOX, Criu],
    left_running_it_goes_on_at_once [Root, BUSYBOX, Criu],
    a_pre_dump_is_the_parent_of_a_checkpoint [Root, BUSYBOX, Criu],
    a_paused_container_comes_back_running [Root, BUSYBOX, Criu],
    pipes_and_exit_code_are_those_of_the_restore [Root, BUSYBOX, Criu],
    a_terminal_goes_to_the_console_socket [Root, BUSYBOX, Criu],
    bind_mounts_are_bound_again [Root, BUSYBOX, Criu],
    limits_are_those_of_the_configuration [Root, BUSYBOX, Criu, Need::PureCgroup2],
    hooks_run_and_see_the_new_process [Root, BUSYBOX, Criu],
    connections_are_kept_in_the_own_network [Root, BUSYBOX, Criu, Program("iptables-restore")],
    connections_are_kept_in_a_shared_network [Root, BUSYBOX, Criu, Program("iptables-restore"), Program("ip")],
    the_configuration_of_criu_is_chosen_by_annotation [Root, BUSYBOX, Criu],
    memory_moves_when_it_is_needed [Root, BUSYBOX, Criu],
);

/// Counts in a file of the root.
pub(crate) const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done";

/// A stage whose root can be written.
pub(crate) fn stage(script: &str, adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
    Stage::new(script, |config, dir| {
        config["root"]["readonly"] = json!(false);
        adjust(config, dir);
    })
}

/// Starts the container of a stage.
pub(crate) fn start(stage: &Stage, id: &str) {
    create(stage, id);
    quiet(stage.world.runtime().args(["start", id]));
}

/// A directory of this test's.
pub(crate) fn place(bundle: &Bundle, name: &str) -> PathBuf {
    bundle.world.path().join(name)
}

pub(crate) fn checkpoint(bundle: &Bundle, id: &str, images: &str, flags: &[&str]) -> Command {
    let mut command = bundle.world.runtime();
    command.arg("checkpoint").arg("--image-path").arg(place(bundle, images)).args(flags).arg(id);
    command
}

pub(crate) fn restore(bundle: &Bundle, id: &str, images: &str, flags: &[&str]) -> Command {
    let mut command = bundle.world.runtime();
    command.arg("restore").arg("--bundle").arg(&bundle.dir).arg("--image-path").arg(place(bundle, images));
    command.args(flags).arg(id);
    command
}

/// Changes config.json.
pub(crate) fn change(bundle: &Bundle, change: impl FnOnce(&mut Value)) {
    let file = bundle.dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
    change(&mut config);
    fs::write(&file, config.to_string()).expect("writable");
}

pub(crate) fn count(bundle: &Bundle) -> u64 {
    let text = fs::read_to_string(bundle.rootfs().join("count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

pub(crate) fn exec(bundle: &Bundle, id: &str, script: &str) -> String {
    ok(bundle.world.runtime().args(["exec", id, "sh", "-c", script]).stdin(Stdio::null()))
}

pub(crate) fn is_gone(bundle: &Bundle, id: &str) {
    fails(bundle.world.runtime().args(["state", id]), 1, &["does not exist"]);
}

fn a_process_goes_on_where_it_was() {
    let bundle = stage(COUNTER, |_, _| ());
    let before = Snapshot::take();
    start(&bundle, "counter");
    // A child of the init when its parent is gone; one that was left alone by its exec would not be.
    exec(&bundle, "counter", "sleep 1000 > /dev/null 2>&1 &");
    let clock = "cut -d. -f1 /proc/uptime";
    for round in 0..2 {
        until("a count", || count(&bundle) > 3);
        let then: u64 = exec(&bundle, "counter", clock).parse().expect("seconds");
        ok(&mut checkpoint(&bundle, "counter", "images", &[]));
        is_gone(&bundle, "counter");
        assert_none_since(&before);
        let counted = count(&bundle);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(count(&bundle), counted, "it still runs");
        let pid_file = place(&bundle, "pid");
        let flags = ["-d", "--pid-file", pid_file.to_str().expect("UTF-8")];
        quiet(&mut restore(&bundle, "counter", "images", &flags));
        until("the next count", || count(&bundle) > counted);
        assert!(count(&bundle) < counted + 1000, "it began anew");
        let state = state(&bundle, "counter");
        assert_eq!(state["status"], "running", "{round}");
        assert_eq!(state["pid"].to_string(), fs::read_to_string(&pid_file).expect("a pid file"));
        assert!(!place(&bundle, "state/counter/criu-root").exists());
        assert!(exec(&bundle, "counter", "ps -o args").contains("sleep 1000"), "the other process is lost");
        assert!(exec(&bundle, "counter", "ip address show lo").contains("127.0.0.1/8"));
        // Both are in the time namespace that criu made.
        let now: u64 = exec(&bundle, "counter", clock).parse().expect("seconds");
        assert!(now >= then && now < then + 120, "{then} seconds up, then {now}");
        let its = exec(&bundle, "counter", "readlink /proc/1/ns/time; readlink /proc/self/ns/time");
        let its: Vec<_> = its.lines().collect();
        assert_eq!(its[0], its[1]);
    }
    delete(&bundle, "counter");
    assert_none_since(&before);
}

fn left_running_it_goes_on_at_once() {
    let bundle = stage(COUNTER, |_, _| ());
    let before = Snapshot::take();
    start(&bundle, "counter");
    until("a count", || count(&bundle) > 3);
    let pid = state(&bundle, "counter")["pid"].clone();
    ok(&mut checkpoint(&bundle, "counter", "images", &["--leave-running"]));
    let counted = count(&bundle);
    until("the next count", || count(&bundle) > counted);
    assert_eq!(state(&bundle, "counter")["pid"], pid);
    assert_eq!(state(&bundle, "counter")["status"], "running");
    fails(&mut restore(&bundle, "counter", "images", &["-d"]), 1, &["already exists"]);
    delete(&bundle, "counter");
    // The images are good all the same.
    quiet(&mut restore(&bundle, "counter", "images", &["-d"]));
    let counted = count(&bundle);
    until("the next count", || count(&bundle) > counted);
    delete(&bundle, "counter");
    assert_none_since(&before);
}

fn a_pre_dump_is_the_parent_of_a_checkpoint() {
    let bundle = stage(COUNTER, |_, _| ());
    start(&bundle, "counter");
    until("a count", || count(&bundle) > 3);
    ok(&mut checkpoint(&bundle, "counter", "before", &["--pre-dump"]));
    assert_eq!(state(&bundle, "counter")["status"], "running");
    assert!(place(&bundle, "before/pages-1.img").exists());
    let work = place(&bundle, "work");
    let flags = ["--parent-path", "../before", "--auto-dedup", "--work-path", work.to_str().expect("UTF-8")];
    ok(&mut checkpoint(&bundle, "counter", "images", &flags));
    is_gone(&bundle, "counter");
    assert_eq!(fs::read_link(place(&bundle, "images/parent")).expect("a link"), Path::new("../before"));
    assert!(work.join("dump.log").exists() && !place(&bundle, "images/dump.log").exists());
    let counted = count(&bundle);
    quiet(&mut restore(&bundle, "counter", "images", &["-d"]));
    until("the next count", || count(&bundle) > counted);
    assert!(count(&bundle) < counted + 1000, "it began anew");
    delete(&bundle, "counter");
}

fn a_paused_container_comes_back_running() {
    let bundle = stage(COUNTER, |_, _| ());
    let before = Snapshot::take();
    start(&bundle, "counter");
    until("a count", || count(&bundle) > 3);
    quiet(bundle.world.runtime().args(["pause", "counter"]));
    ok(&mut checkpoint(&bundle, "counter", "images", &[]));
    is_gone(&bundle, "counter");
    assert_none_since(&before);
    let counted = count(&bundle);
    quiet(&mut restore(&bundle, "counter", "images", &["-d"]));
    assert_eq!(state(&bundle, "counter")["status"], "running");
    until("the next count", || count(&bundle) > counted);
    delete(&bundle, "counter");
}

/// A container, or its restore, between two pipes.
fn between_pipes(command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    (child, output)
}

fn says(child: &mut Child, output: &mut BufReader<ChildStdout>, word: &str) {
    let input = child.stdin.as_mut().expect("a pipe");
    writeln!(input, "{word}").and_then(|()| input.flush()).expect("input");
    let mut line = String::new();
    output.read_line(&mut line).expect("output");
    assert_eq!(line.trim_end(), format!("got {word}"));
}

fn pipes_and_exit_code_are_those_of_the_restore() {
    let bundle = stage("while read x; do echo got $x; done; exit 7", |_, _| ());
    let before = Snapshot::take();
    let mut run = bundle.world.runtime();
    run.arg("run").arg("--bundle").arg(&bundle.dir).arg("piped");
    let (mut child, mut output) = between_pipes(&mut run);
    says(&mut child, &mut output, "one");
    ok(&mut checkpoint(&bundle, "piped", "images", &[]));
    assert_eq!(end_of(&mut child), 137);
    let descriptors = fs::read_to_string(place(&bundle, "images/descriptors.json")).expect("readable");
    let descriptors: Vec<String> = serde_json::from_str(&descriptors).expect("JSON");
    assert!(descriptors[..2].iter().all(|d| d.starts_with("pipe:[")), "{descriptors:?}");
    let (mut child, mut output) = between_pipes(&mut restore(&bundle, "piped", "images", &[]));
    says(&mut child, &mut output, "two");
    drop(child.stdin.take());
    assert_eq!(end_of(&mut child), 7);
    is_gone(&bundle, "piped");
    assert_none_since(&before);
}

/// Accepts a connection and the terminal that comes over it.
fn receive_terminal(listener: &UnixListener) -> File {
    let (connection, _) = listener.accept().expect("a connection");
    let (_, fd) = sys::message::receive(connection.as_fd(), &mut [0; 4096]).expect("a message");
    let fd: OwnedFd = fd.expect("a descriptor");
    fd.into()
}

fn a_terminal_goes_to_the_console_socket() {
    let bundle = stage("while read x; do echo got $x; done", |config, _| {
        config["process"]["terminal"] = json!(true);
    });
    let socket = place(&bundle, "console");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let console = ["--console-socket", socket.to_str().expect("UTF-8")];
    let before = Snapshot::take();
    let mut run = bundle.world.runtime();
    quiet(run.arg("run").arg("-d").args(console).arg("--bundle").arg(&bundle.dir).arg("tty"));
    let talk = |word: &str, master: &mut File| {
        writeln!(master, "{word}").expect("input");
        let mut seen = String::new();
        while !seen.contains(&format!("got {word}")) {
            let mut bytes = [0; 256];
            let length = master.read(&mut bytes).expect("output");
            seen += &String::from_utf8_lossy(&bytes[..length]);
        }
    };
    let mut master = receive_terminal(&listener);
    talk("one", &mut master);
    ok(&mut checkpoint(&bundle, "tty", "images", &[]));
    drop(master);
    fails(&mut restore(&bundle, "tty", "images", &["-d"]), 1, &["cannot allocate tty"]);
    let wrong = ["-d", "--console-socket", "/no/such/socket"];
    fails(&mut restore(&bundle, "tty", "images", &wrong), 1, &["console socket", "/no/such/socket"]);
    assert_none_since(&before);
    quiet(&mut restore(&bundle, "tty", "images", &["-d", console[0], console[1]]));
    let mut master = receive_terminal(&listener);
    talk("two", &mut master);
    assert!(exec(&bundle, "tty", "readlink /proc/1/fd/0").contains("/dev/pts/"));
    delete(&bundle, "tty");
    assert_none_since(&before);
}

fn bind_mounts_are_bound_again() {
    let bundle = stage("sleep 1000", |config, dir| {
        let host = dir.parent().expect("a world");
        for name in ["data", "inner"] {
            fs::create_dir(host.join(name)).expect("writable");
        }
        fs::write(host.join("data/file"), "of the host").expect("writable");
        fs::write(host.join("plain"), "plain").expect("writable");
        fs::create_dir_all(dir.join("rootfs/real")).expect("writable");
        symlink("/real", dir.join("rootfs/link")).expect("writable");
        let bind = |name: &str, destination: &str, option: &str| json!({ "destination": destination, "type": "bind", "source": host.join(name), "options": ["bind", option] });
        config["mounts"].as_array_mut().expect("mounts").extend([
            bind("data", "/link", "rw"),
            bind("inner", "/link/nested/deep", "ro"),
            bind("plain", "/plain", "rw"),
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }),
            json!({ "destination": "/tmp/bound", "type": "bind", "source": "../inner/.", "options": ["bind"] }),
            json!({ "destination": "/bundle", "type": "bind", "source": ".", "options": ["bind"] }),
        ]);
    });
    let before = Snapshot::take();
    start(&bundle, "bound");
    exec(&bundle, "bound", "echo kept > /tmp/kept");
    let mounts = |id: &str| {
        exec(&bundle, id, "cut -d' ' -f5- /proc/self/mountinfo | sed 's/ - / /' | cut -d' ' -f1 | sort")
    };
    let there = mounts("bound");
    ok(&mut checkpoint(&bundle, "bound", "images", &[]));
    // Mount points that creation made are made again.
    fs::remove_dir_all(place(&bundle, "data/nested")).expect("removable");
    fs::write(place(&bundle, "data/file"), "of the host, changed").expect("writable");
    quiet(&mut restore(&bundle, "bound", "images", &["-d"]));
    assert_eq!(mounts("bound"), there);
    assert_eq!(
        exec(&bundle, "bound", "cat /real/file /plain; echo; cat /tmp/kept"),
        "of the host, changedplain\nkept"
    );
    assert_eq!(
        exec(&bundle, "bound", "touch /real/nested/deep/x 2>&1 || echo read-only").lines().last(),
        Some("read-only")
    );
    exec(&bundle, "bound", "touch /tmp/bound/made");
    assert!(place(&bundle, "inner/made").exists());
    // What must be hidden still is.
    assert_eq!(exec(&bundle, "bound", "cat /proc/timer_list; ls /sys/firmware"), "");
    delete(&bundle, "bound");
    assert_none_since(&before);
}

fn limits_are_those_of_the_configuration() {
    // One that root can open, so that only the cgroup keeps it from doing so.
    let devices = ["/dev/vda", "/dev/sda", "/dev/fuse", "/dev/loop-control", "/dev/tty0"];
    let device = devices.into_iter().find(|path| File::open(path).is_ok()).expect("a device");
    let bundle = stage("sleep 1000", |config, _| {
        config["linux"]["resources"]["pids"] = json!({ "limit": 77 });
        let mount =
            json!({ "destination": "/device", "type": "bind", "source": device, "options": ["bind"] });
        config["mounts"].as_array_mut().expect("mounts").push(mount);
    });
    let before = Snapshot::take();
    start(&bundle, "limited");
    ok(&mut checkpoint(&bundle, "limited", "images", &["--manage-cgroups-mode", "ignore"]));
    assert_none_since(&before);
    let elsewhere = format!("/rcr-stage-{}-elsewhere", std::process::id());
    change(&bundle, |config| {
        config["linux"]["cgroupsPath"] = json!(elsewhere);
        config["linux"]["resources"]["pids"] = json!({ "limit": 66 });
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    });
    quiet(&mut restore(&bundle, "limited", "images", &["-d", "--manage-cgroups-mode", "ignore"]));
    let dir = unified().expect("cgroup v2").join(elsewhere.trim_start_matches('/'));
    let read = |file: &str| fs::read_to_string(dir.join(file)).expect("readable").trim().to_owned();
    assert_eq!((read("pids.max"), read("memory.max")), ("66".to_owned(), (64 << 20).to_string()));
    assert_eq!(read("cgroup.procs"), state(&bundle, "limited")["pid"].to_string());
    // Devices too: what the configuration does not allow cannot be opened.
    let said = exec(&bundle, "limited", "head -c1 /device 2>&1; echo x > /dev/null && echo ok");
    assert!(said.contains("Operation not permitted") && said.ends_with("ok"), "{device}: {said}");
    delete(&bundle, "limited");
    assert_none_since(&before);
}

fn hooks_run_and_see_the_new_process() {
    let bundle = stage("sleep 1000", |config, dir| {
        let log = dir.parent().expect("a world").join("log");
        let hook = |kind: &str| {
            let script = format!("echo $(echo {kind}; cat) >> {}", log.display());
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }])
        };
        let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        config["hooks"] = kinds.iter().map(|kind| ((*kind).to_owned(), hook(kind))).collect();
    });
    let log = place(&bundle, "log");
    let take = || -> Vec<(String, Value)> {
        let text = fs::read_to_string(&log).expect("readable");
        fs::remove_file(&log).expect("removable");
        text.lines()
            .map(|line| {
                let (kind, state) = line.split_once(' ').expect("a state");
                (kind.to_owned(), serde_json::from_str(state).expect("JSON"))
            })
            .collect()
    };
    let kinds =
        |log: &[(String, Value)]| -> Vec<String> { log.iter().map(|(kind, _)| kind.clone()).collect() };
    let before = Snapshot::take();
    start(&bundle, "hooked");
    take();
    ok(&mut checkpoint(&bundle, "hooked", "images", &[]));
    assert_eq!(kinds(&take()), ["poststop"]);
    quiet(&mut restore(&bundle, "hooked", "images", &["-d"]));
    let told = take();
    assert_eq!(kinds(&told), ["prestart", "createRuntime"]);
    for (kind, said) in told {
        assert_eq!(said["pid"], state(&bundle, "hooked")["pid"], "{kind}");
        assert_eq!(said["status"], "creating", "{kind}");
    }
    delete(&bundle, "hooked");
    take();
    // One that fails ends the restore.
    change(&bundle, |config| config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] }));
    fails(
        &mut restore(&bundle, "hooked", "images", &["-d"]),
        1,
        &["error running createRuntime hook #0", "/bin/false"],
    );
    is_gone(&bundle, "hooked");
    assert_none_since(&before);
}

/// An echo over TCP in the container, and a client of it whose streams are the container's.
const ECHO: &str = "nc -ll -p 7007 -e cat & until nc 127.0.0.1 7007 < /dev/null > /dev/null; do sleep 0.05; done; exec nc 127.0.0.1 7007";

fn connections_are_kept_in_the_own_network() {
    let bundle = stage(ECHO, |_, _| ());
    let before = Snapshot::take();
    let mut run = bundle.world.runtime();
    run.arg("run").arg("--bundle").arg(&bundle.dir).arg("tcp");
    let (mut child, mut output) = between_pipes(&mut run);
    let echoed = |child: &mut Child, output: &mut BufReader<ChildStdout>, word: &str| {
        writeln!(child.stdin.as_mut().expect("a pipe"), "{word}").expect("input");
        let mut line = String::new();
        output.read_line(&mut line).expect("output");
        assert_eq!(line.trim_end(), word);
    };
    echoed(&mut child, &mut output, "before");
    fails(&mut checkpoint(&bundle, "tcp", "images", &[]), 1, &["criu failed (dump)", "dump.log", "tcp"]);
    echoed(&mut child, &mut output, "still there");
    ok(&mut checkpoint(&bundle, "tcp", "images", &["--tcp-established", "--tcp-skip-in-flight"]));
    end_of(&mut child);
    let (mut child, mut output) =
        between_pipes(&mut restore(&bundle, "tcp", "images", &["--tcp-established"]));
    echoed(&mut child, &mut output, "after");
    delete(&bundle, "tcp");
    end_of(&mut child);
    assert_none_since(&before);
}

fn connections_are_kept_in_a_shared_network() {
    let name = format!("rcr-test-{}", std::process::id());
    let ip = |words: &str| ok(Command::new("ip").args(words.split(' ')));
    let network = Network(name.clone());
    ip(&format!("netns add {name}"));
    ip(&format!("-n {name} link set lo up"));
    ip(&format!("link add rcrt0 type veth peer name rcrt1 netns {name}"));
    ip("address add 10.77.0.1/24 dev rcrt0");
    ip("link set rcrt0 up");
    ip(&format!("-n {name} address add 10.77.0.2/24 dev rcrt1"));
    ip(&format!("-n {name} link set rcrt1 up"));
    let path = format!("/run/netns/{name}");
    let bundle = stage("exec nc -l -p 7008 -e cat", |config, _| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        let network = namespaces.iter_mut().find(|n| n["type"] == "network").expect("one");
        network["path"] = json!(path);
    });
    start(&bundle, "tcp");
    let mut client = None;
    until("the server", || {
        client = std::net::TcpStream::connect("10.77.0.2:7008").ok();
        client.is_some()
    });
    let mut client = client.expect("a connection");
    client.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a timeout");
    let mut talk = |word: &str| {
        client.write_all(word.as_bytes()).expect("sent");
        let mut bytes = vec![0; word.len()];
        client.read_exact(&mut bytes).expect("received");
        assert_eq!(bytes, word.as_bytes());
    };
    talk("before");
    ok(&mut checkpoint(&bundle, "tcp", "images", &["--tcp-established"]));
    quiet(&mut restore(&bundle, "tcp", "images", &["-d", "--tcp-established"]));
    talk("after");
    let inode = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).expect("a namespace").ino()
    };
    assert_eq!(inode(&format!("/proc/{}/ns/net", state(&bundle, "tcp")["pid"])), inode(&path));
    delete(&bundle, "tcp");
    drop(network);
    fails(&mut restore(&bundle, "tcp", "images", &["-d"]), 1, &["linux.namespaces", &path]);
}

/// A network namespace, gone when the test ends.
struct Network(String);

impl Drop for Network {
    fn drop(&mut self) {
        say(Command::new("ip").args(["link", "del", "rcrt0"]));
        say(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

fn the_configuration_of_criu_is_chosen_by_annotation() {
    let bundle = stage("sleep 1000", |config, dir| {
        let file = dir.join("criu.conf");
        fs::write(&file, "log-file=chosen.log\n").expect("writable");
        config["annotations"] = json!({ "org.criu.config": file });
    });
    start(&bundle, "configured");
    ok(&mut checkpoint(&bundle, "configured", "images", &[]));
    assert!(place(&bundle, "images/chosen.log").exists() && !place(&bundle, "images/dump.log").exists());
    fs::remove_file(place(&bundle, "images/chosen.log")).expect("removable");
    quiet(&mut restore(&bundle, "configured", "images", &["-d"]));
    assert!(place(&bundle, "images/chosen.log").exists() && !place(&bundle, "images/restore.log").exists());
    delete(&bundle, "configured");
}

fn memory_moves_when_it_is_needed() {
    if !say(Command::new("criu").args(["check", "--feature", "uffd-noncoop"])).err.contains("is supported")
        && say(Command::new("criu").args(["check", "--feature", "uffd-noncoop"])).code != 0
    {
        // The kernel has no userfaultfd for other processes: then the command says so.
        let bundle = stage(COUNTER, |_, _| ());
        start(&bundle, "lazy");
        fails(&mut checkpoint(&bundle, "lazy", "images", &["--lazy-pages"]), 1, &["lazy pages"]);
        return;
    }
    let bundle = stage(COUNTER, |_, _| ());
    let before = Snapshot::take();
    start(&bundle, "lazy");
    until("a count", || count(&bundle) > 3);
    // A shell hands the pipe on as descriptor 9.
    let script = "exec 9>&1 >/dev/null; exec \"$@\"";
    let dump = checkpoint(
        &bundle,
        "lazy",
        "images",
        &[
            "--lazy-pages",
            "--page-server",
            "127.0.0.1:27277",
            "--status-fd",
            "9",
            "--manage-cgroups-mode",
            "ignore",
        ],
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(dump.get_program()).args(dump.get_args());
    let mut source = shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut ready = Vec::new();
    source.stdout.take().expect("a pipe").read_to_end(&mut ready).expect("readable");
    assert_eq!(ready, [0], "the status descriptor");
    let mut pages = Command::new("criu");
    pages.args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "27277", "-D"]);
    pages.arg(place(&bundle, "images")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut pages = pages.spawn().expect("it starts");
    until("the socket for pages", || place(&bundle, "images/lazy-pages.socket").exists());
    let counted = count(&bundle);
    change(&bundle, |config| {
        config["linux"]["cgroupsPath"] = json!(format!("/rcr-stage-{}-lazy", std::process::id()))
    });
    quiet(&mut restore(
        &bundle,
        "lazier",
        "images",
        &["-d", "--lazy-pages", "--manage-cgroups-mode", "ignore"],
    ));
    until("the next count", || count(&bundle) > counted);
    assert_eq!(end_of(&mut source), 0);
    end_of(&mut pages);
    is_gone(&bundle, "lazy");
    assert_eq!(state(&bundle, "lazier")["status"], "running");
    delete(&bundle, "lazier");
    assert_none_since(&before);
}
