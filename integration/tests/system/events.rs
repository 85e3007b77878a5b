//! `events`: each number by its effect, on cgroup v1 and v2, and the moments at which lines come.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use harness::cgroup::Cgroup;
use harness::disk::LoopDevice;
use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, create, delete, end_of, quiet, state, until};
use harness::world::{Said, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("events":
    processor_time_is_counted [Root, BUSYBOX],
    memory_is_counted [Root, BUSYBOX],
    tasks_are_counted [Root, BUSYBOX],
    block_devices_are_counted [Root, BUSYBOX, Program("losetup")],
    huge_pages_are_listed [Root, BUSYBOX, FileNeed("/sys/kernel/mm/hugepages")],
    pressure_is_told_where_the_kernel_measures_it [Root, BUSYBOX, FileNeed("/proc/pressure/cpu")],
    the_shape_is_runcs [Root, BUSYBOX, Program("runc")],
    lines_come_at_intervals_until_the_container_ends [Root, BUSYBOX],
    each_oom_is_a_line [Root, BUSYBOX],
    an_oom_of_the_first_process_is_told_before_the_end [Root, BUSYBOX],
    paused_and_created_containers_have_stats [Root, BUSYBOX],
    what_has_no_events_is_refused [Root, BUSYBOX],
);

fn exec(stage: &Stage, script: &str) -> Said {
    say(stage.world.runtime().args(["exec", "box", "sh", "-c", script]).stdin(Stdio::null()))
}

/// What one reading says.
fn stats(stage: &Stage) -> Value {
    let line = ok(stage.world.runtime().args(["events", "--stats", "box"]));
    let event: Value = serde_json::from_str(&line).expect("one line of JSON");
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("box")));
    event["data"].clone()
}

fn number(value: &Value) -> u64 {
    // What is 0 may be left out.
    if value.is_null() { 0 } else { value.as_u64().expect("a number") }
}

fn processor_time_is_counted() {
    let stage = Stage::running("box", |config, _| {
        config["linux"]["resources"]["cpu"] = json!({"quota": 20_000, "period": 100_000});
    });
    let before = stats(&stage)["cpu"].clone();
    let said =
        exec(&stage, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; cat /proc/self/stat /proc/$$/stat");
    let mine: u64 =
        said.out.lines().nth(1).and_then(|l| l.split(' ').nth(13)).expect("utime").parse().expect("ticks");
    assert!(mine >= 10, "the loop took {mine} ticks");
    let after = stats(&stage)["cpu"].clone();
    let grown = |field: &str| number(&after["usage"][field]) - number(&before["usage"][field]);
    let used = mine * 10_000_000;
    for field in ["total", "user"] {
        let (low, high) = (used * 8 / 10, used * 3 + 1_000_000_000);
        assert!((low..high).contains(&grown(field)), "{field}: {} for {used}", grown(field));
    }
    assert!(number(&after["usage"]["kernel"]) < number(&after["usage"]["total"]), "{after}");
    let throttled = &after["throttling"];
    assert!(number(&throttled["throttledPeriods"]) >= 2, "{throttled}");
    assert!(number(&throttled["periods"]) >= number(&throttled["throttledPeriods"]), "{throttled}");
    assert!(number(&throttled["throttledTime"]) > 50_000_000, "{throttled}");
    // v1 counts by processor too.
    if !Cgroup::of(&stage).read("cpuacct.usage").is_empty() {
        let each: Vec<u64> =
            after["usage"]["percpu"].as_array().expect("a list").iter().map(number).collect();
        assert_eq!(each.iter().sum::<u64>(), number(&after["usage"]["total"]));
        assert_eq!(after["usage"]["percpu_user"].as_array().expect("a list").len(), each.len());
        assert_eq!(after["usage"]["percpu_kernel"].as_array().expect("a list").len(), each.len());
        let cpus = &stats(&stage)["cpuset"]["cpus"];
        assert!(!cpus.as_array().expect("a list").is_empty(), "{cpus}");
    }
}

fn memory_is_counted() {
    let stage = Stage::running("box", |config, _| {
        config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "swap": 33_554_432});
    });
    let v2 = Cgroup::of(&stage).is_v2("memory");
    let before = stats(&stage)["memory"].clone();
    assert_eq!(before["usage"]["limit"], 33_554_432);
    assert_eq!(before["swap"]["limit"], 33_554_432, "memory and swap together");
    // A tmpfs is memory, and page cache to those who count it.
    assert_eq!(exec(&stage, "dd if=/dev/zero of=/dev/shm/x bs=1M count=16").code, 0);
    let full = stats(&stage)["memory"].clone();
    let grown = |value: fn(&Value) -> &Value| number(value(&full)).saturating_sub(number(value(&before)));
    let expected = 15 << 20..20 << 20;
    assert!(expected.contains(&grown(|m| &m["usage"]["usage"])), "{full}");
    assert!(expected.contains(&grown(|m| &m["cache"])), "{full}");
    assert!(expected.contains(&grown(|m| &m["raw"]["shmem"])), "{full}");
    assert!(number(&full["swap"]["usage"]) >= number(&full["usage"]["usage"]), "{full}");
    assert_eq!(exec(&stage, "rm /dev/shm/x").code, 0);
    let empty = stats(&stage)["memory"].clone();
    assert!(number(&empty["usage"]["usage"]) < number(&full["usage"]["usage"]) - (14 << 20), "{empty}");
    if !v2 || !Cgroup::of(&stage).read("memory.peak").is_empty() {
        assert!(number(&empty["usage"]["max"]) >= number(&full["usage"]["usage"]), "{empty}");
    }
    if !v2 {
        assert!(number(&full["kernel"]["usage"]) > 0, "{full}");
        // Whether the kernel still counts this (Linux 6.18 does not) is its own affair.
        let counted = Cgroup::of(&stage).read("memory.failcnt").parse().ok();
        assert_eq!(full["usage"]["failcnt"].as_u64(), counted);
    }
}

fn tasks_are_counted() {
    let stage =
        Stage::running("box", |config, _| config["linux"]["resources"]["pids"] = json!({"limit": 50}));
    assert_eq!(stats(&stage)["pids"], json!({"current": 1, "limit": 50}));
    for _ in 0..3 {
        quiet(stage.world.runtime().args(["exec", "-d", "box", "sleep", "1000"]));
    }
    assert_eq!(stats(&stage)["pids"], json!({"current": 4, "limit": 50}));
    quiet(stage.world.runtime().args(["update", "--pids-limit=-1", "box"]));
    assert_eq!(stats(&stage)["pids"], json!({"current": 4}), "no limit is left out");
}

fn block_devices_are_counted() {
    let stage = Stage::new("sleep 1000", |_, _| ());
    let disk = LoopDevice::new(stage.world.path(), 4 << 20);
    let (major, minor) = disk.number();
    let config = stage.dir.join("config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&config).expect("readable")).expect("JSON");
    value["linux"]["devices"] = json!([{"path": "/dev/disk", "type": "b", "major": major, "minor": minor}]);
    value["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": major, "minor": minor, "access": "rw"}]);
    fs::write(&config, value.to_string()).expect("writable");
    create(&stage, "box");
    quiet(stage.world.runtime().args(["start", "box"]));
    // On v2 the controller is on where the host has it; on v1 it is mounted or not.
    let cgroup = Cgroup::of(&stage);
    if !cgroup.is_v2("io") && cgroup.find("blkio.throttle.io_service_bytes_recursive").is_none() {
        return;
    }
    let said = exec(&stage, "dd if=/dev/disk of=/dev/null bs=64k");
    assert_eq!(said.code, 0, "{}", said.err);
    let blkio = stats(&stage)["blkio"].clone();
    let entry = |list: &str, op: &str| {
        let list = blkio[list].as_array().unwrap_or_else(|| panic!("{list}: {blkio}"));
        let it = list.iter().find(|e| {
            number(&e["major"]) == u64::from(major)
                && number(&e["minor"]) == u64::from(minor)
                && e["op"] == op
        });
        number(&it.unwrap_or_else(|| panic!("{op} of {major}:{minor}: {blkio}"))["value"])
    };
    assert_eq!(entry("ioServiceBytesRecursive", "Read"), 4 << 20);
    assert_eq!(entry("ioServiceBytesRecursive", "Write"), 0);
    assert!((1..=1024).contains(&entry("ioServicedRecursive", "Read")), "{blkio}");
}

fn huge_pages_are_listed() {
    let stage = Stage::running("box", |_, _| ());
    let stats = stats(&stage);
    let listed = stats["hugetlb"].as_object().expect("an object");
    let cgroup = Cgroup::of(&stage);
    let counted =
        ["hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.current"].iter().any(|f| cgroup.find(f).is_some());
    assert_eq!(listed.contains_key("2MB"), counted, "{stats}");
    assert_eq!(stats["network_interfaces"], Value::Null);
    assert_eq!(stats["intel_rdt"], json!({}));
}

fn pressure_is_told_where_the_kernel_measures_it() {
    let stage = Stage::running("box", |config, _| {
        config["linux"]["resources"]["cpu"] = json!({"quota": 2_000, "period": 100_000});
    });
    if Cgroup::of(&stage).read("cpu.pressure").is_empty() {
        return;
    }
    exec(&stage, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    let stats = stats(&stage);
    assert!(number(&stats["cpu"]["psi"]["some"]["total"]) > 100_000, "{}", stats["cpu"]);
    assert!(stats["cpu"]["psi"]["some"]["avg10"].is_number(), "{}", stats["cpu"]);
    assert!(stats["memory"]["psi"].is_object() && stats["blkio"]["psi"].is_object(), "{stats}");
}

/// The names of all fields, but for those of lists and of what depends on what has just happened.
fn fields(value: &Value, place: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| fields(value, &format!("{place}.{name}"), out))
        }
        _ => out.push(place.to_owned()),
    }
}

fn the_shape_is_runcs() {
    let stage = Stage::new("sleep 1000", |config, _| {
        config["linux"]["resources"]["pids"] = json!({"limit": 20});
    });
    create(&stage, "box");
    let ours = stats(&stage);
    delete(&stage, "box");
    let runc = |args: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(stage.world.path().join("runc")).args(args);
        command
    };
    quiet(runc(&["create", "--bundle"]).arg(&stage.dir).arg("box"));
    let theirs = say(&mut runc(&["events", "--stats", "box"]));
    quiet(&mut runc(&["delete", "--force", "box"]));
    let theirs: Value = serde_json::from_str(&theirs.out).expect("JSON");
    let names = |value: &Value| {
        let mut out = Vec::new();
        fields(value, "", &mut out);
        // Caches are charged to who comes first. Debian's runc, 1.1, has no psi and no memory.peak, and keeps what is empty.
        out.retain(|n| {
            !["cache", "psi", "throttling", "blkio", "hugetlb", "memory.kernel", "usage.max"]
                .iter()
                .any(|part| n.contains(part))
        });
        out
    };
    assert_eq!(names(&ours), names(&theirs["data"]));
}

/// A running `events`, read line by line.
struct Watcher {
    child: Child,
    lines: Receiver<String>,
}

impl Watcher {
    fn start(stage: &Stage, interval: &str) -> Self {
        let mut command = stage.world.runtime();
        command.args(["events", "--interval", interval, "box"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    /// The next line; `None` if none comes in time.
    fn next(&self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("it ended"),
        }
    }

    /// Waits for its end and gives the lines that were left.
    fn end(mut self) -> Vec<String> {
        assert_eq!(end_of(&mut self.child), 0);
        self.lines.iter().collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LONG: Duration = Duration::from_secs(10);

fn lines_come_at_intervals_until_the_container_ends() {
    let before = Snapshot::take();
    {
        let stage = Stage::running("box", |_, _| ());
        for interval in ["100ms", "0.2s", "0m0.15s"] {
            let watcher = Watcher::start(&stage, interval);
            let start = Instant::now();
            for _ in 0..4 {
                let line = watcher.next(LONG).expect("a line");
                assert!(line.starts_with(r#"{"type":"stats","id":"box","data":{"cpu":{"#), "{line}");
                serde_json::from_str::<Value>(&line).expect("JSON");
            }
            assert!(start.elapsed() >= Duration::from_millis(300), "{interval}: {:?}", start.elapsed());
        }
        // Five seconds by default: the first one does not come at once.
        let slow = {
            let mut command = stage.world.runtime();
            command
                .args(["events", "box"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("it starts")
        };
        let watchers = [Watcher::start(&stage, "1h"), Watcher::start(&stage, "20ms")];
        assert!(watchers[0].next(Duration::from_millis(300)).is_none());
        delete(&stage, "box");
        let start = Instant::now();
        for watcher in watchers {
            // No reading of a cgroup that is gone, no OOM that was none.
            for line in watcher.end() {
                let event: Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(event["type"], "stats");
                assert!(number(&event["data"]["pids"]["current"]) > 0, "{line}");
            }
        }
        assert_eq!(end_of(&mut { slow }), 0);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
    assert_none_since(&before);
}

/// Takes more memory than there is, in a process that is not the container's first.
const HOG: &str = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo ${#x}";

fn small(script: &str) -> Stage {
    let stage = Stage::new(script, |config, _| {
        config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "swap": 33_554_432});
    });
    create(&stage, "box");
    stage
}

/// How often the kernel says that it has killed for memory in the container's cgroup.
fn oom_kills(stage: &Stage) -> usize {
    let text = Cgroup::of(stage).either(["memory.oom_control", "memory.events"]);
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).expect("a count");
    count.parse().expect("a number")
}

fn each_oom_is_a_line() {
    let stage = small("sleep 1000");
    quiet(stage.world.runtime().args(["start", "box"]));
    assert_ne!(exec(&stage, HOG).code, 0, "killed, before anybody watches");
    let watcher = Watcher::start(&stage, "1h");
    // It has to be at its post; nothing tells when it is.
    assert!(watcher.next(Duration::from_millis(500)).is_none(), "what was before is not told");
    for _ in 0..3 {
        let before = oom_kills(&stage);
        assert_ne!(exec(&stage, HOG).code, 0);
        let mut lines = 0;
        let mut line = watcher.next(LONG);
        while let Some(text) = line {
            assert_eq!(text, r#"{"type":"oom","id":"box"}"#);
            lines += 1;
            line = watcher.next(Duration::from_millis(300));
        }
        // Of the hog's processes the kernel may take more than one.
        assert_eq!(lines, oom_kills(&stage) - before, "a line for each kill");
        assert!(lines > 0);
    }
    assert_eq!(state(&stage, "box")["status"], "running");
    delete(&stage, "box");
    assert_eq!(watcher.end(), Vec::<String>::new());
}

fn an_oom_of_the_first_process_is_told_before_the_end() {
    let stage = small(&format!("while [ ! -e /dev/shm/go ]; do sleep 0.05; done; {HOG}"));
    quiet(stage.world.runtime().args(["start", "box"]));
    let watcher = Watcher::start(&stage, "1h");
    assert!(watcher.next(Duration::from_millis(500)).is_none());
    assert_eq!(exec(&stage, "touch /dev/shm/go").code, 0);
    let line = watcher.next(Duration::from_secs(30)).expect("a line");
    assert_eq!(line, r#"{"type":"oom","id":"box"}"#);
    until("its end", || state(&stage, "box")["status"] == "stopped");
    let lines = watcher.end();
    assert!(lines.iter().all(|line| line == r#"{"type":"oom","id":"box"}"#), "{lines:?}");
}

fn paused_and_created_containers_have_stats() {
    let stage = Stage::new("sleep 1000", |_, _| ());
    create(&stage, "box");
    assert_eq!(stats(&stage)["pids"]["current"], 1);
    quiet(stage.world.runtime().args(["start", "box"]));
    quiet(stage.world.runtime().args(["pause", "box"]));
    assert_eq!(stats(&stage)["pids"]["current"], 1);
    let watcher = Watcher::start(&stage, "50ms");
    assert!(watcher.next(LONG).is_some());
    assert_eq!(state(&stage, "box")["status"], "paused");
    delete(&stage, "box");
    watcher.end();
}

fn what_has_no_events_is_refused() {
    let stage = Stage::running("box", |_, _| ());
    let events = |args: &[&str]| {
        let mut command = stage.world.runtime();
        command.arg("events").args(args);
        command
    };
    for (args, words) in [
        (&["--interval", "0", "box"][..], "duration interval must be greater than 0"),
        (&["--interval", "-1s", "--stats", "box"], "duration interval must be greater than 0"),
        (&["--interval", "5", "box"], "time: missing unit in duration"),
        (&["--interval", "soon", "box"], "time: invalid duration"),
        (&["--interval=1fortnight", "box"], "time: unknown unit"),
        (&["--stats", "nobody"], "container does not exist"),
        (&["--stats"], "requires exactly 1 argument"),
    ] {
        fails(&mut events(args), 1, &[words]);
    }
    quiet(stage.world.runtime().args(["kill", "box", "KILL"]));
    until("its end", || state(&stage, "box")["status"] == "stopped");
    for args in [&["box"][..], &["--stats", "box"]] {
        fails(&mut events(args), 1, &["container with id box is not running"]);
    }
}
