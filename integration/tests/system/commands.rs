//! exec, list, ps, the log: what the flags of rcr-runtime change and its output says.

use std::fs::{self};
use std::path::Path;
use std::process::{Command, Stdio};

use harness::host::Need::{Path as FileNeed, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{Stage, create, delete, is_alive, quiet, state, until};
use harness::world::{binary, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("commands":
    exec_changes_what_its_flags_say [Root, BUSYBOX],
    exec_takes_a_process_file [Root, BUSYBOX],
    exec_fails_with_255 [Root, BUSYBOX],
    exec_in_a_sub_cgroup [Root, BUSYBOX, FileNeed("/sys/fs/cgroup/pids")],
    errors_go_to_the_log_in_its_format [Root, BUSYBOX],
    warnings_are_logged_without_being_asked_for [Root, BUSYBOX],
    a_program_that_cannot_be_executed_says_so_itself [Root, BUSYBOX],
    list_and_ps_know_the_containers [Root, BUSYBOX],
    what_is_wrong_is_said [Root, BUSYBOX],
);

fn exec_changes_what_its_flags_say() {
    let bundle = Stage::running("box", |config, _| {
        config["root"]["readonly"] = json!(false);
        config["process"]["env"] = json!(["PATH=/bin", "BASE=config"]);
        config["process"]["noNewPrivileges"] = json!(false);
    });
    let exec = |flags: &[&str], command: &[&str]| {
        let mut all = bundle.world.runtime();
        all.arg("exec").args(flags).arg("box").args(command).stdin(Stdio::null());
        ok(&mut all)
    };
    assert_eq!(exec(&["--cwd", "/tmp"], &["pwd"]), "/tmp");
    assert_eq!(exec(&["-e", "A=1", "--env", "BASE=2"], &["sh", "-c", "echo $A $BASE"]), "1 2");
    assert_eq!(exec(&["-u", "1000:100"], &["sh", "-c", "id -u; id -g; echo $HOME"]), "1000\n100\n/");
    assert_eq!(exec(&["-u", "1000:1000", "-g", "100", "-g", "65534"], &["id", "-G"]), "1000 100 65534");
    assert_eq!(exec(&["--no-new-privs"], &["grep", "NoNewPrivs", "/proc/self/status"]), "NoNewPrivs:\t1");
    assert_eq!(exec(&[], &["grep", "NoNewPrivs", "/proc/self/status"]), "NoNewPrivs:\t0");
    let bounding = |flags: &[&str]| {
        let line = exec(flags, &["grep", "CapBnd", "/proc/self/status"]);
        u64::from_str_radix(line.rsplit('\t').next().expect("a set"), 16).expect("hexadecimal")
    };
    assert_eq!(
        bounding(&["--cap", "CAP_SYS_CHROOT", "-c", "CAP_NET_RAW"]),
        bounding(&[]) | 1 << 18 | 1 << 13
    );
    // Flags behind the id are the command's.
    assert_eq!(exec(&[], &["echo", "-d", "--cwd"]), "-d --cwd");
    let pid_file = bundle.world.path().join("exec.pid");
    let mut detached = bundle.world.runtime();
    detached.args(["exec", "--detach", "--pid-file"]).arg(&pid_file).args(["box", "sleep", "1000"]);
    quiet(&mut detached);
    let pid: i32 = fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a pid");
    assert!(is_alive(pid));
    assert_eq!(exec(&[], &["sh", "-c", "ps -o comm | grep -c sleep"]), "2");
    let mut failing = bundle.world.runtime();
    assert_eq!(say(failing.args(["exec", "box", "sh", "-c", "exit 42"]).stdin(Stdio::null())).code, 42);
    let mut killed = bundle.world.runtime();
    assert_eq!(say(killed.args(["exec", "box", "sh", "-c", "kill -9 $$"]).stdin(Stdio::null())).code, 137);
    delete(&bundle, "box");
    assert!(!is_alive(pid), "the container's other process is left");
}

fn exec_takes_a_process_file() {
    let bundle = Stage::running("box", |_, _| ());
    let file = bundle.world.path().join("process.json");
    let process = json!({
        "args": ["sh", "-c", "id -u; pwd; echo $A; grep CapEff /proc/self/status"],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "A=b"],
        "user": { "uid": 7, "gid": 7 },
    });
    fs::write(&file, process.to_string()).expect("writable");
    let mut exec = bundle.world.runtime();
    exec.arg("exec").arg("--process").arg(&file).arg("box").stdin(Stdio::null());
    assert_eq!(ok(&mut exec), "7\n/tmp\nb\nCapEff:\t0000000000000000");
    for (bad, words) in [
        ("{", &["process.json"][..]),
        (r#"{"args": ["sh"], "cwd": 7}"#, &["cwd"]),
        (r#"{"args": ["sh"], "cwd": "relative"}"#, &["absolute"]),
        (r#"{"args": [], "cwd": "/"}"#, &["args"]),
    ] {
        fs::write(&file, bad).expect("writable");
        fails(bundle.world.runtime().arg("exec").arg("--process").arg(&file).arg("box"), 255, words);
    }
    delete(&bundle, "box");
}

fn exec_fails_with_255() {
    let bundle = Stage::running("box", |_, _| ());
    let before = Snapshot::take();
    for (args, words) in [
        (&["no-such-container", "true"][..], &["does not exist"][..]),
        (&["box", "no-such-command"], &["no-such-command", "executable file not found in $PATH"]),
        (&["box", "/etc"], &["/etc"]),
        (&["--pid-file", "/no/such/dir/pid", "box", "true"], &["/no/such/dir/pid"]),
        (&["--user", "1abc", "box", "true"], &["bad uid"]),
        (&["--cap", "CAP_NOPE", "box", "true"], &["CAP_NOPE"]),
        (&["box"], &["exec args cannot be empty"]),
    ] {
        let mut exec = bundle.world.runtime();
        fails(exec.arg("exec").args(args).stdin(Stdio::null()), 255, words);
        assert_none_since(&before);
    }
    delete(&bundle, "box");
}

fn exec_in_a_sub_cgroup() {
    let bundle =
        Stage::running("box", |config, _| config["linux"]["cgroupsPath"] = json!("/rcr-sub-cgroups"));
    let sub = Path::new("/sys/fs/cgroup/pids/rcr-sub-cgroups/below");
    fs::create_dir(sub).expect("a cgroup");
    let exec = |cgroup: &str| {
        let mut exec = bundle.world.runtime();
        exec.args(["exec", "--cgroup", cgroup, "box", "cat", "/proc/self/cgroup"]).stdin(Stdio::null());
        say(&mut exec)
    };
    let said = exec("pids:below");
    assert!(
        said.out.lines().any(|l| l.contains(":pids:") && l.ends_with("/below")),
        "{}{}",
        said.out,
        said.err
    );
    for (bad, word) in [
        ("..", "bad sub cgroup path"),
        ("pids:../x", "bad sub cgroup path"),
        ("pids:missing", "no such file or directory"),
        ("nope:/", "unknown controller"),
    ] {
        let said = exec(bad);
        assert_eq!(said.code, 255, "{bad}");
        assert!(said.err.contains(word), "{bad}: {}", said.err);
    }
    delete(&bundle, "box");
    assert!(!sub.exists());
}

fn errors_go_to_the_log_in_its_format() {
    let bundle = Stage::new("exit 0", |config, _| {
        config["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .push(json!({ "type": "network", "path": "/no/such" }));
    });
    let log = bundle.world.path().join("log.json");
    let mut run = bundle.world.runtime();
    run.arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "create", "--bundle"])
        .arg(&bundle.dir)
        .arg("logged");
    let said = say(&mut run);
    assert_eq!(said.code, 1);
    let text = fs::read_to_string(&log).expect("a log");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "error");
    assert!(last["time"].as_str().expect("a time").ends_with('Z'));
    // Once on standard error too, without decoration.
    assert_eq!(said.err.trim_end(), last["msg"].as_str().expect("a message"));
    let said = bundle.run("logged");
    assert!(said.err.starts_with("time=\"") && said.err.contains("level=error msg=\""), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    // A plan is in the debug log.
    let bundle = Stage::new("exit 0", |_, _| ());
    let mut run = bundle.world.runtime();
    run.args(["--debug", "--log"]).arg(&log).arg("run").arg("--bundle").arg(&bundle.dir).arg("debugged");
    assert_eq!(say(run.stdin(Stdio::null())).code, 0);
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.contains("level=debug msg=") && text.contains("pivot"), "{text}");
}

fn warnings_are_logged_without_being_asked_for() {
    let bundle = Stage::new("grep CapAmb /proc/self/status", |config, _| {
        config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
        config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL", "CAP_CHOWN"]);
    });
    let said = bundle.run("warned");
    assert_eq!((said.code, said.out.as_str()), (0, "CapAmb:\t0000000000000020\n"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(
        said.err.contains("level=warning msg=\"can't raise ambient capability CAP_CHOWN: "),
        "{}",
        said.err
    );
}

fn a_program_that_cannot_be_executed_says_so_itself() {
    let bundle = Stage::new("", |config, _| config["process"]["args"] = json!(["/tmp/script"]));
    let script = bundle.rootfs().join("tmp/script");
    fs::write(&script, "#!/no/such/interpreter\n").expect("writable");
    ok(Command::new("chmod").arg("755").arg(&script));
    // The container was set up, so it ran and ended as runc's does.
    let wanted = "exec /tmp/script: no such file or directory\n";
    let before = Snapshot::take();
    let said = bundle.run("unexecuted");
    assert_eq!((said.code, said.err.as_str()), (255, wanted));
    assert_none_since(&before);
    // Started later, it is the process that says it, to whoever reads its output.
    let log = bundle.world.path().join("stderr");
    let mut create = bundle.world.runtime();
    create.arg("create").arg("--bundle").arg(&bundle.dir).arg("unexecuted");
    create.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).expect("writable"));
    assert!(create.status().expect("it runs").success());
    quiet(bundle.world.runtime().args(["start", "unexecuted"]));
    until("its end", || state(&bundle, "unexecuted")["status"] == "stopped");
    assert_eq!(fs::read_to_string(&log).expect("readable"), wanted);
    delete(&bundle, "unexecuted");
    assert_none_since(&before);
}

fn list_and_ps_know_the_containers() {
    // Two containers can't share a cgroup: each is in that of its id, which nobody else has.
    let [one, two] = ["one", "two"].map(|name| format!("{name}-{}", std::process::id()));
    let (one, two) = (one.as_str(), two.as_str());
    let bundle = Stage::running(one, |config, _| {
        config["annotations"] = json!({ "k": "v" });
        config["linux"]["cgroupsPath"] = json!("");
    });
    create(&bundle, two);
    let runtime = |args: &[&str]| ok(bundle.world.runtime().args(args));
    assert_eq!(runtime(&["list", "-q"]), format!("{one}\n{two}"));
    let table = runtime(&["list"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((lines[1][0], lines[1][2], lines[1][5]), (one, "running", "root"));
    assert_eq!((lines[2][0], lines[2][2]), (two, "created"));
    let json: Value = serde_json::from_str(&runtime(&["list", "--format", "json"])).expect("JSON");
    assert_eq!(json[0]["annotations"], json!({ "k": "v" }));
    assert_eq!(json[1]["owner"], "root");
    assert_eq!(json[0]["pid"], state(&bundle, one)["pid"]);
    let processes: Vec<i32> = serde_json::from_str(&runtime(&["ps", "--format", "json", one])).expect("JSON");
    assert!(processes.iter().any(|pid| json!(pid) == json[0]["pid"]), "{processes:?}");
    let table = runtime(&["ps", one]);
    assert!(
        table.lines().next().expect("a title").contains("PID") && table.contains("sleep 1000"),
        "{table}"
    );
    assert!(runtime(&["ps", one, "-o", "pid,comm"]).lines().count() >= 2);
    delete(&bundle, one);
    delete(&bundle, two);
    assert_eq!(runtime(&["list", "-f", "json"]), "null");
    fails(
        Command::new(binary("rcr-runtime")).args(["--root", "/no/such/root", "list"]),
        1,
        &["/no/such/root"],
    );
}

fn what_is_wrong_is_said() {
    let bundle = Stage::new("exit 0", |_, _| ());
    let before = Snapshot::take();
    fails(bundle.world.runtime().args(["frobnicate", "x"]), 3, &["No help topic for 'frobnicate'"]);
    fails(
        bundle.world.runtime().args(["create", "--frob", "x"]),
        1,
        &["flag provided but not defined: -frob"],
    );
    fails(bundle.world.runtime().args(["state"]), 1, &["requires exactly 1 argument(s)"]);
    fails(bundle.world.runtime().args(["kill", "x", "NOPE"]), 1, &["unknown signal", "NOPE"]);
    fails(bundle.world.runtime().args(["delete", "nobody"]), 1, &["does not exist"]);
    quiet(bundle.world.runtime().args(["delete", "--force", "nobody"]));
    fails(Command::new(binary("rcr-runtime")).args(["--root", "/", "list"]), 1, &["--root"]);
    assert_none_since(&before);
}
