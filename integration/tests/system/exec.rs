//! `rcr exec`: what the process gets of the container, what its caller sees, and what is left of it.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::host::Need::{Path, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::running::Running;
use harness::world::{fails, ok, say};
use harness::{Case, cases};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("exec":
    the_process_is_one_of_the_containers [Root, BUSYBOX],
    flags_change_what_it_gets [Root, BUSYBOX],
    exit_codes_are_the_commands_or_tell_why_there_was_none [Root, BUSYBOX],
    standard_input_arrives_with_i_only [Root, BUSYBOX],
    a_terminal_resizes_and_can_be_left [Root, BUSYBOX, Program("python3")],
    a_terminal_that_is_closed_hangs_up [Root, BUSYBOX, Program("python3")],
    detached_it_stays_and_ends_with_the_container [Root, BUSYBOX],
    signals_leave_the_process_alone [Root, BUSYBOX],
    hostile_files_of_the_container_reach_nothing [Root, BUSYBOX],
);

const SLEEP: &[&str] = &["sleep", "1000"];

fn the_process_is_one_of_the_containers() {
    let before = Snapshot::take();
    let up = Running::new("web", &["-e", "A=run", "-w", "/srv", "--hostname", "h1", "-m", "64m"], SLEEP);
    let said = say(&mut up.exec(&["web", "sh", "-c", "echo out; echo err >&2; exit 7"]));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    let env = "pwd; id -u; echo $A $COLOUR $HOME $HOSTNAME TERM=$TERM; hostname; cat /proc/1/cmdline | tr '\\0' ' '";
    assert_eq!(
        ok(&mut up.exec(&["web", "sh", "-c", env])),
        "/srv\n0\nrun green /root h1 TERM=\nh1\nsleep 1000 "
    );
    // Capabilities, seccomp, namespaces and cgroups are those of its first process.
    for (file, lines) in [("status", "^(Cap|Seccomp|NoNewPrivs)"), ("cgroup", "."), ("mountinfo", ".")] {
        let show =
            |process: &str| format!("grep -E '{lines}' /proc/{process}/{file} | grep -v Seccomp_filters");
        let of = |process| ok(&mut up.exec(&["web", "sh", "-c", &show(process)]));
        assert_eq!(of("self"), of("1"), "{file}");
    }
    let namespaces = |process: &str| {
        let script =
            format!("for n in mnt pid net ipc uts user cgroup; do readlink /proc/{process}/ns/$n; done");
        ok(&mut up.exec(&["web", "sh", "-c", &script]))
    };
    assert_eq!(namespaces("self"), namespaces("1"));
    // By the beginning of the ID, too.
    assert_eq!(ok(&mut up.exec(&[&up.id()[..8], "echo", "found"])), "found");
    drop(up);
    assert_none_since(&before);
}

fn flags_change_what_it_gets() {
    let up = Running::new("web", &["-e", "A=run", "-u", "alice"], SLEEP);
    let show = "pwd; id -u; id -g; id -G; echo $A $B $C $HOME";
    let file = up.world.path().join("env");
    std::fs::write(&file, "B=file\nC=file\n").expect("writable");
    let file = file.to_string_lossy().into_owned();
    let plain = ok(&mut up.exec(&["web", "sh", "-c", show]));
    assert_eq!(plain, "/\n1000\n1000\n1000 10\nrun /home/alice");
    let flags = ["-w", "/tmp", "-u", "root:wheel", "-e", "A=exec", "--env-file", &file, "-e", "C=flag"];
    let changed = ok(&mut up.exec(&[&flags[..], &["web", "sh", "-c", show]].concat()));
    assert_eq!(changed, "/tmp\n0\n10\n10\nexec file flag /root");
    assert_eq!(ok(&mut up.exec(&["-u", "77:88", "web", "sh", "-c", show])), "/\n77\n88\n88\nrun /");
    let capabilities = |flags: &[&str]| {
        let script = ["web", "grep", "-E", "^Cap(Eff|Bnd)", "/proc/self/status"];
        ok(&mut up.exec(&[flags, &script].concat())).replace(['\t', '\n'], " ")
    };
    let bounding = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let all = bounding.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).expect("a mask").to_owned();
    assert_eq!(capabilities(&["-u", "root"]), "CapEff: 00000000a80425fb CapBnd: 00000000a80425fb");
    assert_eq!(capabilities(&["--privileged", "-u", "0"]), format!("CapEff: {all} CapBnd: {all}"));
    fails(&mut up.exec(&["-u", "nobody-here", "web", "true"]), 1, &["no user \"nobody-here\""]);
    fails(&mut up.exec(&["-w", "relative", "web", "true"]), 125, &["relative", "absolute"]);
    fails(&mut up.exec(&["-w", "/no/such", "web", "true"]), 126, &["/no/such"]);
}

fn exit_codes_are_the_commands_or_tell_why_there_was_none() {
    let mut up = Running::new("web", &[], SLEEP);
    fails(&mut up.exec(&["web", "no-such-command"]), 127, &["no-such-command", "not found"]);
    fails(&mut up.exec(&["web", "/etc/passwd"]), 126, &["/etc/passwd", "cannot be executed"]);
    assert_eq!(say(&mut up.exec(&["web", "sh", "-c", "kill -KILL $$"])).code, 137);
    fails(&mut up.exec(&["nobody", "true"]), 1, &["no such container: nobody"]);
    fails(&mut up.exec(&["web"]), 1, &["rcr exec --help"]);
    fails(&mut up.exec(&["-it", "web", "sh"]), 1, &["terminal"]);
    up.runtime("pause");
    fails(&mut up.exec(&["web", "true"]), 1, &["web is paused", "rcr unpause web"]);
    up.runtime("resume");
    up.kill();
    fails(&mut up.exec(&["web", "true"]), 1, &["web is not running", "rcr start web"]);
}

fn standard_input_arrives_with_i_only() {
    let up = Running::new("web", &[], SLEEP);
    for (flag, expected) in [(&["-i"][..], "typed"), (&[], "")] {
        let mut command = up.exec(&[flag, &["web", "cat"]].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("rcr starts");
        // Without -i nobody reads it.
        let _ = child.stdin.take().expect("a pipe").write_all(b"typed");
        let output = child.wait_with_output().expect("rcr ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert!(output.status.success());
    }
}

/// `rcr exec WORDS` on a terminal that takes these steps.
fn on_terminal(up: &Running, words: &[&str], steps: &str) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/terminal.py");
    let rcr = up.exec(words);
    let mut command = Command::new("python3");
    command.arg(script).arg(rcr.get_program()).args(rcr.get_args());
    command.envs(rcr.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
    child.stdin.take().expect("a pipe").write_all(steps.as_bytes()).expect("writable");
    child.wait_with_output().expect("python3 ends")
}

/// Waits until a process of the container has `name`, or none has.
fn wait_for(up: &Running, name: &str, there: bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while (say(&mut up.exec(&["web", "pidof", name])).code == 0) != there {
        assert!(Instant::now() < deadline, "{name}: {}", ok(&mut up.exec(&["web", "ps"])));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many processes of the container are `sleep SECONDS`.
fn sleeping(up: &Running, seconds: u32) -> usize {
    let listed = ok(&mut up.exec(&["web", "ps", "-o", "args"]));
    listed.lines().filter(|line| line.trim() == format!("sleep {seconds}")).count()
}

/// Waits until so many are.
fn expect_sleeping(up: &Running, seconds: u32, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while sleeping(up, seconds) != count {
        assert!(Instant::now() < deadline, "{}", ok(&mut up.exec(&["web", "ps"])));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn end_sleeping(up: &Running, seconds: u32) {
    let script = format!("kill $(ps -o pid,args | sed -n 's/^ *\\([0-9]*\\) sleep {seconds}$/\\1/p')");
    ok(&mut up.exec(&["web", "sh", "-c", &script]));
    expect_sleeping(up, seconds, 0);
}

fn a_terminal_resizes_and_can_be_left() {
    let up = Running::new("web", &[], SLEEP);
    let steps = "expect #\nsend stty size\nexpect 24 80\nresize 33 111\nsend sleep 0.3; stty size\nexpect 33 111\n\
                 send sleep 50\nkey 03\nexpect #\nsend echo $TERM\nexpect xterm\nsend exit 5\n";
    let output = on_terminal(&up, &["-it", "web", "sh"], steps);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stdout));
    // Left by the detach keys it goes on, and its terminal takes what it writes.
    let script = "while :; do echo tick; [ -e /tmp/done ] && exec sleep 777; usleep 20000; done";
    for (keys, steps) in
        [(None, "expect tick\nkey 10\nkey 11\n"), (Some("ctrl-x,q"), "expect tick\nkey 1871\n")]
    {
        ok(&mut up.exec(&["web", "rm", "-f", "/tmp/done"]));
        let flags = keys.map_or(vec!["-it"], |keys| vec!["-it", "--detach-keys", keys]);
        let output = on_terminal(&up, &[&flags[..], &["web", "sh", "-c", script]].concat(), steps);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        ok(&mut up.exec(&["web", "touch", "/tmp/done"]));
        expect_sleeping(&up, 777, 1);
        end_sleeping(&up, 777);
    }
}

fn a_terminal_that_is_closed_hangs_up() {
    let up = Running::new("web", &[], SLEEP);
    let output = on_terminal(&up, &["-it", "web", "cat"], "key 61\nexpect a\nhangup\n");
    assert_eq!(output.status.code(), Some(129 & 127), "SIGHUP");
    wait_for(&up, "cat", false);
}

fn detached_it_stays_and_ends_with_the_container() {
    let before = Snapshot::take();
    let mut up = Running::new("web", &[], SLEEP);
    for (number, flags) in [&["-d"][..], &["-dt"], &["-dit"]].into_iter().enumerate() {
        let start = Instant::now();
        let script = format!("test -t 1; echo $? >/tmp/{number}; exec sleep 500");
        assert_eq!(ok(&mut up.exec(&[flags, &["web", "sh", "-c", &script]].concat())), "");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    expect_sleeping(&up, 500, 3);
    assert_eq!(ok(&mut up.exec(&["web", "cat", "/tmp/0", "/tmp/1", "/tmp/2"])), "1\n0\n0");
    fails(&mut up.exec(&["-d", "web", "no-such-command"]), 127, &["no-such-command"]);
    up.kill();
    drop(up);
    assert_none_since(&before);
}

fn signals_leave_the_process_alone() {
    let up = Running::new("web", &[], SLEEP);
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut child = up.exec(&["web", "sleep", "600"]).spawn().expect("rcr starts");
        expect_sleeping(&up, 600, 1);
        ok(Command::new("kill").args([signal, &child.id().to_string()]));
        assert_eq!(child.wait().expect("rcr ends").code(), Some(code));
        assert_eq!(sleeping(&up, 600), 1);
        end_sleeping(&up, 600);
    }
}

/// What the container's root can put in the place of the files that `-u` is looked up in.
fn hostile_files_of_the_container_reach_nothing() {
    let up = Running::new("web", &[], SLEEP);
    let secret = up.world.path().join("secret");
    std::fs::write(&secret, "intruder:x:4242:4242::/:/bin/sh\n").expect("writable");
    let asked = |why: &str| {
        let start = Instant::now();
        fails(&mut up.exec(&["-u", "intruder", "web", "id"]), 1, &[why]);
        assert!(start.elapsed() < Duration::from_secs(2));
    };
    let become_ =
        |script: &str| ok(&mut up.exec(&["web", "sh", "-c", &format!("cd /etc; rm -rf passwd; {script}")]));
    become_("mkfifo passwd");
    asked("not a regular file");
    become_("mkdir passwd");
    asked("not a regular file");
    become_(&format!("ln -s ../../../../../..{} passwd", secret.display()));
    asked("no user \"intruder\"");
    become_("ln -s /proc/1/root/etc/group passwd");
    asked("open /etc/passwd");
    become_("dd if=/dev/zero of=passwd bs=1 count=0 seek=20000000 2>/dev/null");
    asked("longer than");
    // A number needs no file.
    become_("true");
    assert_eq!(ok(&mut up.exec(&["-u", "4242", "web", "id", "-u"])), "4242");
}
