//! `rcr top` and `rcr stats`: what the host sees of a running container.

use std::time::{Duration, Instant};

use harness::host::Need::{Path, Program, Root};
use harness::running::Running;
use harness::world::{World, fails, ok, say};
use harness::{Case, cases};
use serde_json::Value;

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("watch":
    top_shows_the_containers_processes_only [Root, BUSYBOX, Program("ps")],
    stats_are_the_kernels_counters [Root, BUSYBOX],
    stats_of_what_does_not_run [Root, BUSYBOX],
);

fn top_shows_the_containers_processes_only() {
    let mut up = Running::new("web", &[], &["sh", "-c", "sleep 111 & sleep 222 & wait"]);
    let deadline = Instant::now() + Duration::from_secs(5);
    let listed = loop {
        let listed = ok(up.world.rcr().args(["top", "web"]));
        if listed.lines().count() == 4 {
            break listed;
        }
        assert!(Instant::now() < deadline, "{listed}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let titles: Vec<&str> = listed.lines().next().expect("a heading").split_whitespace().collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(listed.contains(&up.pid().to_string()) && listed.contains("sleep 111"), "{listed}");
    let columns = ok(up.world.rcr().args(["top", "web", "-o", "pid,args"]));
    let lines: Vec<&str> = columns.lines().collect();
    assert_eq!(lines.len(), 4, "{columns}");
    assert_eq!(lines[0], "PID                 COMMAND");
    assert!(lines.iter().any(|line| line.ends_with("sleep 222")), "{columns}");
    fails(up.world.rcr().args(["top", "web", "-o", "args"]), 1, &["PID", "add pid"]);
    fails(up.world.rcr().args(["top", "web", "--no-such-option"]), 1, &["ps --no-such-option"]);
    fails(up.world.rcr().args(["top", "nobody"]), 1, &["no such container: nobody"]);
    up.kill();
    fails(up.world.rcr().args(["top", "web"]), 1, &["web is not running"]);
}

fn stats_of(world: &World, args: &[&str]) -> Value {
    let mut command = world.rcr();
    let out = ok(command.args(["stats", "--no-stream", "--format", "json"]).args(args));
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn stats_are_the_kernels_counters() {
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; sleep 300 & while :; do :; done";
    let up = Running::new("web", &["-m", "64m", "--network", "bridge"], &["sh", "-c", script]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while say(&mut up.exec(&["web", "pidof", "sleep"])).code != 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Another machine's answer would be lost; that the bytes have left is counted.
    say(&mut up.exec(&["web", "sh", "-c", "echo hello | nc -u -w 1 192.0.2.1 9"]));
    let row = stats_of(&up.world, &["web"]);
    let number = |field: &str| -> f64 {
        let text = row[field].as_str().expect("a text");
        let digits: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        digits.parse().unwrap_or_else(|e| panic!("{field} {text}: {e}"))
    };
    assert_eq!((&row["Name"], &row["ID"]), (&"web".into(), &up.id()[..12].into()));
    // It spins on one processor, which it has to share.
    assert!((5.0..=110.0).contains(&number("CPUPerc")), "{row}");
    assert!(row["MemUsage"].as_str().is_some_and(|text| text.ends_with("MiB / 64MiB")), "{row}");
    assert!((20.0..64.0).contains(&number("MemUsage")), "{row}");
    assert!((31.0..100.0).contains(&number("MemPerc")), "{row}");
    assert_eq!(row["PIDs"], "2");
    assert!(!row["NetIO"].as_str().expect("a text").ends_with("/ 0B"), "{row}");
    let template = ok(up.world.rcr().args(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]));
    assert_eq!(template, "web 2");
    let table = ok(up.world.rcr().args(["stats", "--no-stream"]));
    assert!(table.starts_with("CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT"), "{table}");
}

fn stats_of_what_does_not_run() {
    let mut up = Running::new("web", &[], &["sleep", "1000"]);
    up.runtime("pause");
    assert_eq!(stats_of(&up.world, &["web"])["PIDs"], "1");
    up.runtime("resume");
    up.kill();
    let row = stats_of(&up.world, &["web"]);
    assert_eq!((&row["PIDs"], &row["MemUsage"]), (&"0".into(), &"0B / 0B".into()));
    assert_eq!(stats_of(&up.world, &["-a", "--no-trunc"])["ID"], up.id());
    assert_eq!(ok(up.world.rcr().args(["stats", "--no-stream", "--format", "{{.Name}}"])), "");
    // Without --no-stream it ends when there is nothing more to come.
    assert!(ok(up.world.rcr().args(["stats", "web"])).contains("web"));
    fails(up.world.rcr().args(["stats", "--no-stream", "nobody"]), 1, &["no such container: nobody"]);
}
