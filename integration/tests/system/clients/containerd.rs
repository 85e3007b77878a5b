//! containerd by `ctr`.

use std::process::{Command, Stdio};

use harness::client::Containerd;
use harness::host::Need::{self, Path as File, Program, Root};
use harness::world::{World, binary, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

use super::{RESIZED, SIZED, archive, cgroup_value, many, on_terminal, until};

const BUSYBOX: Need = File("/bin/busybox");
const CONTAINERD: Need = Program("containerd");
const CTR: Need = Program("ctr");
const SKOPEO: Need = Program("skopeo");
const IMAGE: &str = "example.test/box:latest";

pub(crate) const CASES: &[Case] = cases!("clients::containerd":
    runs_containers [Root, BUSYBOX, CONTAINERD, CTR, SKOPEO, Program("python3")],
    pauses_measures_and_kills [Root, BUSYBOX, CONTAINERD, CTR, SKOPEO],
    many_containers [Root, BUSYBOX, CONTAINERD, CTR, SKOPEO],
);

/// containerd with the image [`IMAGE`].
struct Stage {
    containerd: Containerd,
    world: World,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let containerd = Containerd::start(&world);
        containerd.import(&archive(&world, "oci-archive", IMAGE, &["sh"]));
        Self { containerd, world }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.containerd.command();
        command.args(words).stdin(Stdio::null());
        command
    }

    /// `ctr run FLAGS IMAGE ID COMMAND` on rcr-runtime.
    fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Command {
        let mut all = self.command(&["run", "--runc-binary"]);
        all.arg(binary("rcr-runtime")).args(flags).args([IMAGE, id]).args(command);
        all
    }

    /// A task's status as `tasks ls` shows it.
    fn status(&self, id: &str) -> String {
        let list = ok(&mut self.command(&["tasks", "ls"]));
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("none").to_owned()
    }

    fn pid(&self, id: &str) -> Value {
        let list = ok(&mut self.command(&["tasks", "ls"]));
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id)).expect("a task");
        json!(line.split_whitespace().nth(1).and_then(|pid| pid.parse::<i32>().ok()).expect("a pid"))
    }
}

fn runs_containers() {
    let stage = Stage::new();
    assert_eq!(ok(&mut stage.run(&["--rm"], "one", &["echo", "hello"])), "hello");
    assert_eq!(say(&mut stage.run(&["--rm"], "two", &["sh", "-c", "exit 7"])).code, 7);
    for (command, words) in [
        ("no-such-command", "executable file not found in $PATH"),
        ("/no/such/command", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ] {
        let said = say(&mut stage.run(&["--rm"], "none", &[command]));
        // The last line of the runtime's log, found by the shim.
        assert!(said.err.contains("OCI runtime create failed: "), "{}", said.err);
        assert!(said.err.contains(words), "{}", said.err);
        assert_eq!(said.code, 1);
        say(&mut stage.command(&["containers", "rm", "none"]));
    }
    ok(&mut stage.run(&["-d", "--memory-limit", "67108864"], "stays", &["sleep", "1000"]));
    let exec = |number: u32, command: &[&str]| {
        let id = format!("exec{number}");
        stage.command(&[&["tasks", "exec", "--exec-id", &id, "stays"], command].concat())
    };
    assert!(ok(&mut exec(1, &["ps", "-o", "pid,comm"])).contains("1 sleep"));
    assert_eq!(say(&mut exec(2, &["sh", "-c", "exit 9"])).code, 9);
    let said = say(&mut exec(3, &["no-such-command"]));
    assert!(said.err.contains("OCI runtime exec failed: "), "{}", said.err);
    assert!(said.err.contains("executable file not found in $PATH"), "{}", said.err);
    let exec = stage.command(&["tasks", "exec", "-t", "--exec-id", "exec4", "stays", "sh", "-c"]);
    let mut exec = exec;
    exec.arg(SIZED);
    let said = on_terminal(&stage.world, RESIZED, &exec);
    assert_eq!(said.code, 4, "{}{}", said.out, said.err);
    // Of its processes, by the runtime's `ps`.
    assert!(ok(&mut stage.command(&["tasks", "ps", "stays"])).contains(&stage.pid("stays").to_string()));
    ok(&mut stage.command(&["tasks", "rm", "-f", "stays"]));
    ok(&mut stage.command(&["containers", "rm", "stays"]));
}

fn pauses_measures_and_kills() {
    let stage = Stage::new();
    ok(&mut stage.run(&["-d", "--memory-limit", "67108864"], "stays", &["sleep", "1000"]));
    let pid = stage.pid("stays");
    let limit = cgroup_value(&pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit, "67108864");
    let metrics = ok(&mut stage.command(&["tasks", "metrics", "--format", "json", "stays"]));
    let metrics: Value = serde_json::from_str(&metrics).expect("JSON");
    let (pids, limit) = (&metrics["pids"]["current"], &metrics["memory"]["usage"]["limit"]);
    let limit_v2 = &metrics["memory"]["usage_limit"];
    assert_eq!(pids.as_u64(), Some(1), "{metrics}");
    assert_eq!(limit.as_u64().or(limit_v2.as_u64()), Some(67_108_864), "{metrics}");
    ok(&mut stage.command(&["tasks", "pause", "stays"]));
    assert_eq!(stage.status("stays"), "PAUSED");
    ok(&mut stage.command(&["tasks", "resume", "stays"]));
    assert_eq!(stage.status("stays"), "RUNNING");
    ok(&mut stage.command(&["tasks", "kill", "-s", "SIGKILL", "stays"]));
    until("its end", || stage.status("stays") == "STOPPED");
    let said = say(&mut stage.command(&["tasks", "rm", "stays"]));
    assert!(said.code == 0 && said.err.contains("exit code 137"), "{}{}", said.out, said.err);
    ok(&mut stage.command(&["containers", "rm", "stays"]));
}

fn many_containers() {
    let stage = Stage::new();
    many("ctr", |number| {
        // ctr opens its end of the output in the background: what a container wrote that has ended before is lost.
        let script = format!("echo {number}; sleep 0.1");
        let mut run = stage.run(&["--rm"], &format!("box{number}"), &["sh", "-c", &script]);
        assert_eq!(ok(&mut run), number.to_string());
    });
    assert_eq!(ok(&mut stage.command(&["containers", "ls", "-q"])), "");
}
