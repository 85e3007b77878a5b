//! checkpoint and restore with --ext-unix-sk, --shell-job, --file-locks and --link-remap: what criu refuses without them, and what it keeps with
//! them. The tests want a kernel on which criu works.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::bundle::{Bundle, add_usr};
use harness::host::Need;
use harness::host::Need::{Criu, Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{delete, quiet, state, until};
use harness::world::{fails, ok};
use harness::{Case, cases};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::checkpoint::{checkpoint, is_gone, place, restore, stage, start};

const BUSYBOX: Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("checkpoint_kept":
    a_socket_is_connected_to_its_peer_outside_again [Root, BUSYBOX, Criu],
    a_shell_job_is_restored_when_asked_to [Root, BUSYBOX, Criu, Program("setsid")],
    a_lock_of_a_file_is_held_again [Root, BUSYBOX, Criu, Program("flock")],
    a_file_whose_name_is_gone_is_open_again [Root, BUSYBOX, Criu],
);

/// criu refuses without `flag`, and the container goes on.
fn refused_without(flag: &str, bundle: &Bundle, id: &str) {
    fails(&mut checkpoint(bundle, id, "refused", &[]), 1, &["criu failed (dump)", flag, "dump.log"]);
    assert_eq!(state(bundle, id)["status"], "running");
}

/// A logger outside, with a socket like /dev/log.
fn a_socket_is_connected_to_its_peer_outside_again() {
    let bundle = stage("while :; do echo tick; sleep 0.05; done", |config, dir| {
        // At the same place inside: criu connects to the name of the peer as the container sees it.
        let outside = dir.parent().expect("a world").join("outside");
        fs::create_dir(&outside).expect("writable");
        let bind =
            json!({ "destination": outside, "type": "bind", "source": outside, "options": ["rbind", "rw"] });
        config["mounts"].as_array_mut().expect("mounts").push(bind);
        // A socket belongs to the network namespace in which it was made, and criu looks in the container's.
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "network");
    });
    let before = Snapshot::take();
    let path = place(&bundle, "outside/log");
    let logger = UnixDatagram::bind(&path).expect("a socket");
    logger.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let hears = || {
        let mut bytes = [0; 64];
        let length = logger.recv(&mut bytes).expect("a message");
        assert_eq!(&bytes[..length], b"tick\n");
    };
    let forget = || {
        logger.set_nonblocking(true).expect("a socket");
        while logger.recv(&mut [0; 64]).is_ok() {}
        logger.set_nonblocking(false).expect("a socket");
    };
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.connect(&path).expect("connected");
    let mut run = bundle.world.runtime();
    run.args(["run", "-d", "--bundle"]).arg(&bundle.dir).arg("logging");
    run.stdin(Stdio::null()).stdout(OwnedFd::from(sender)).stderr(Stdio::null());
    assert!(run.status().expect("it starts").success());
    // The command keeps its streams as long as it lives.
    drop(run);
    hears();
    refused_without("ext-unix-sk", &bundle, "logging");
    forget();
    hears();
    ok(&mut checkpoint(&bundle, "logging", "images", &["--ext-unix-sk"]));
    is_gone(&bundle, "logging");
    forget();
    quiet(&mut restore(&bundle, "logging", "images", &["-d", "--ext-unix-sk"]));
    hears();
    delete(&bundle, "logging");
    assert_none_since(&before);
}

/// A terminal of the host's with a session of its own, as a user's shell has.
struct Terminal {
    master: File,
    peer: OwnedFd,
    leader: Child,
}

impl Terminal {
    fn new() -> Terminal {
        let master = File::options().read(true).write(true).open("/dev/ptmx").expect("a terminal");
        let peer = sys::pty::peer(master.as_fd()).expect("its other end");
        let stream = peer.try_clone().expect("a descriptor");
        let mut command = Command::new("setsid");
        let leader = command.args(["-c", "sleep", "1000"]).stdin(stream).spawn().expect("it starts");
        until("the session", || {
            fs::read_to_string(format!("/proc/{}/comm", leader.id())).is_ok_and(|name| name == "sleep\n")
        });
        Terminal { master, peer, leader }
    }

    fn number(&self) -> String {
        let name = fs::read_link(format!("/proc/self/fd/{}", self.peer.as_raw_fd())).expect("a name");
        name.file_name().expect("a number").to_string_lossy().into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

/// The container sees the host's terminals. criu takes such a job for restored when the terminal is open again; it does not join
/// it to the new one, so what is typed there does not reach it.
fn a_shell_job_is_restored_when_asked_to() {
    let mut terminal = Terminal::new();
    let number = terminal.number();
    let script = format!(
        "exec < /outside/{number} > /outside/{number} 2>&1; while read x; do echo got $x; done; exec sleep 1000"
    );
    let bundle = stage(&script, |config, _| {
        let bind = json!({ "destination": "/outside", "type": "bind", "source": "/dev/pts", "options": ["bind", "rw"] });
        config["mounts"].as_array_mut().expect("mounts").push(bind);
    });
    let before = Snapshot::take();
    start(&bundle, "job");
    writeln!(terminal.master, "one").expect("input");
    let mut seen = String::new();
    while !seen.contains("got one") {
        let mut bytes = [0; 256];
        let length = terminal.master.read(&mut bytes).expect("output");
        seen += &String::from_utf8_lossy(&bytes[..length]);
    }
    ok(&mut checkpoint(&bundle, "job", "images", &["--shell-job"]));
    is_gone(&bundle, "job");
    // criu opens a terminal of the old number.
    let next = Terminal::new();
    drop(terminal);
    let refused = &["criu failed (restore)", "No task found with sid"];
    fails(restore(&bundle, "job", "images", &["-d"]).stdin(Stdio::null()), 1, refused);
    is_gone(&bundle, "job");
    let stream = || Stdio::from(next.peer.try_clone().expect("a descriptor"));
    let mut command = restore(&bundle, "job", "images", &["-d", "--shell-job"]);
    command.stdin(stream()).stdout(stream()).stderr(stream());
    assert!(command.status().expect("it starts").success());
    drop(command);
    assert_eq!(state(&bundle, "job")["status"], "running");
    delete(&bundle, "job");
    drop(next);
    assert_none_since(&before);
}

fn a_lock_of_a_file_is_held_again() {
    let bundle = stage("exec 9> /lock; flock 9; exec sleep 1000", add_usr);
    let before = Snapshot::take();
    let lock = bundle.rootfs().join("lock");
    let is_held = || {
        let Ok(file) = File::open(&lock) else { return false };
        matches!(Flock::lock(file, FlockArg::LockExclusiveNonblock), Err((_, Errno::EWOULDBLOCK)))
    };
    start(&bundle, "locking");
    until("the lock", is_held);
    refused_without("file-locks", &bundle, "locking");
    assert!(is_held());
    ok(&mut checkpoint(&bundle, "locking", "images", &["--file-locks"]));
    is_gone(&bundle, "locking");
    assert!(!is_held(), "by a process that is gone");
    quiet(&mut restore(&bundle, "locking", "images", &["-d", "--file-locks"]));
    assert!(is_held());
    delete(&bundle, "locking");
    assert!(!is_held());
    assert_none_since(&before);
}

/// The file has another name still, or criu would keep its contents without being asked.
fn a_file_whose_name_is_gone_is_open_again() {
    let bundle = stage("echo kept > /a; ln /a /b; exec 9</a; rm /a; exec sleep 1000", |_, _| ());
    let before = Snapshot::take();
    let other = bundle.rootfs().join("b");
    let is_open = || {
        let pid = state(&bundle, "open")["pid"].clone();
        let opened = fs::metadata(format!("/proc/{pid}/fd/9"));
        opened.is_ok_and(|file| fs::metadata(&other).is_ok_and(|there| file.ino() == there.ino()))
    };
    start(&bundle, "open");
    until("the file", || is_open() && !bundle.rootfs().join("a").exists());
    refused_without("link-remap", &bundle, "open");
    ok(&mut checkpoint(&bundle, "open", "images", &["--link-remap"]));
    is_gone(&bundle, "open");
    quiet(&mut restore(&bundle, "open", "images", &["-d"]));
    assert!(is_open());
    delete(&bundle, "open");
    assert_none_since(&before);
}
