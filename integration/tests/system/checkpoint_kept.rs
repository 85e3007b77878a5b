//! checkpoint and restore with --ext-unix-sk, --shell-job and --file-locks: what criu refuses without them, and that it is kept with
//! them. The tests want a kernel on which criu works.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::bundle::{Bundle, add_usr};
use harness::host::Need;
use harness::host::Need::{Criu, Path as FileNeed, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::{delete, quiet, state, until};
use harness::world::{fails, ok};
use harness::{Case, cases};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use serde_json::json;

use crate::checkpoint::{checkpoint, is_gone, place, restore, stage, start};

const BUSYBOX: Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("checkpoint_kept":
    a_socket_is_connected_to_its_peer_outside_again [Root, BUSYBOX, Criu],
    a_shell_job_goes_on_in_the_terminal_of_the_restore [Root, BUSYBOX, Criu],
    a_lock_of_a_file_is_held_again [Root, BUSYBOX, Criu, Program("flock")],
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

/// The two ends of a terminal that does not repeat what is typed.
fn terminal() -> (File, OwnedFd) {
    let master = File::options().read(true).write(true).open("/dev/ptmx").expect("a terminal");
    let peer = sys::pty::peer(master.as_fd()).expect("its other end");
    let mut modes = tcgetattr(&peer).expect("its modes");
    modes.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&peer, SetArg::TCSANOW, &modes).expect("a terminal");
    (master, peer)
}

/// Runs a command whose streams are the terminal; it ends, what it started keeps them.
fn on_terminal(command: &mut Command, peer: OwnedFd) {
    let stream = || Stdio::from(peer.try_clone().expect("a descriptor"));
    assert!(command.stdin(stream()).stdout(stream()).stderr(stream()).status().expect("it starts").success());
}

/// The terminal is one of the host's, which the container sees in a devpts of the host's.
fn a_shell_job_goes_on_in_the_terminal_of_the_restore() {
    let (mut master, peer) = terminal();
    let name = fs::read_link(format!("/proc/self/fd/{}", peer.as_raw_fd())).expect("a name");
    let number = name.file_name().expect("a number").to_string_lossy().into_owned();
    let script = format!(
        "exec < /outside/{number} > /outside/{number} 2>&1; n=0; while read x; do n=$((n+1)); echo $n $x; done"
    );
    let bundle = stage(&script, |config, _| {
        let bind = json!({ "destination": "/outside", "type": "bind", "source": "/dev/pts", "options": ["bind", "rw"] });
        config["mounts"].as_array_mut().expect("mounts").push(bind);
    });
    let before = Snapshot::take();
    let says = |master: &mut File, word: &str, answer: &str| {
        writeln!(master, "{word}").expect("input");
        let mut seen = String::new();
        while !seen.ends_with('\n') {
            let mut bytes = [0; 256];
            let length = master.read(&mut bytes).expect("output");
            seen += &String::from_utf8_lossy(&bytes[..length]);
        }
        assert_eq!(seen.trim_end(), answer);
    };
    start(&bundle, "job");
    says(&mut master, "one", "1 one");
    ok(&mut checkpoint(&bundle, "job", "images", &["--shell-job"]));
    is_gone(&bundle, "job");
    drop((master, peer));
    // Without the flag criu looks for the other end of the terminal.
    let refused = &["criu failed (restore)", "restore.log"];
    fails(restore(&bundle, "job", "images", &["-d"]).stdin(Stdio::null()), 1, refused);
    is_gone(&bundle, "job");
    assert_none_since(&before);
    let (mut master, peer) = terminal();
    on_terminal(&mut restore(&bundle, "job", "images", &["-d", "--shell-job"]), peer);
    says(&mut master, "two", "2 two");
    delete(&bundle, "job");
    assert_none_since(&before);
}

fn a_lock_of_a_file_is_held_again() {
    let bundle = stage("exec 9> /lock; flock 9; exec sleep 1000", add_usr);
    let before = Snapshot::take();
    let lock = bundle.rootfs().join("lock");
    let is_held = || {
        let Ok(file) = File::open(&lock) else { return false };
        matches!(file.try_lock(), Err(TryLockError::WouldBlock))
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
