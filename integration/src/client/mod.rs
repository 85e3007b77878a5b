//! Other people's engines with directories, sockets and a network of their own. What they made ends with the value,
//! also when a test panics.

mod containerd;
mod cri;
mod docker;
mod network;
mod podman;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use containerd::{Containerd, PAUSE_IMAGE};
pub use cri::Cri;
pub use docker::Docker;
pub use network::Network;
pub use podman::Podman;

/// How long a daemon may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon below a test's directory.
struct Daemon {
    child: Child,
    dir: PathBuf,
}

impl Daemon {
    /// Starts `command`, its output in `DIR/log`, and waits until `answers` succeeds.
    fn start(mut command: Command, dir: &Path, answers: impl Fn() -> Command) -> Self {
        let log = File::create(dir.join("log")).expect("writable");
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
        let daemon = Self { child, dir: dir.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if answers().output().is_ok_and(|o| o.status.success()) {
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no answer: {}", fs::read_to_string(daemon.dir.join("log")).unwrap_or_default());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_shims(&self.dir);
        unmount_below(&self.dir);
    }
}

/// Kills the shims of a daemon that left them behind: they name its socket. Their containers go with them.
fn end_shims(dir: &Path) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let mut words = words.split('\0');
        let is_shim = words.next().is_some_and(|program| program.contains("containerd-shim"));
        let pid = entry.file_name().to_string_lossy().parse().map(Pid::from_raw);
        if let (true, true, Ok(pid)) = (is_shim, words.any(|w| Path::new(w).starts_with(dir)), pid) {
            let children = format!("/proc/{pid}/task/{pid}/children");
            for child in fs::read_to_string(children).unwrap_or_default().split_whitespace() {
                let _ = child.parse().map(|child| kill(Pid::from_raw(child), Signal::SIGKILL));
            }
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Waits until no process names `dir` any more.
fn await_end_of_processes(dir: &Path) {
    let dir = dir.to_string_lossy();
    let named = || {
        fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&*dir)
        })
    };
    let deadline = Instant::now() + PATIENCE;
    while named() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Unmounts all that is mounted below `dir`, deepest first.
pub fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places: Vec<&str> = mounts.lines().filter_map(|l| l.split(' ').nth(4)).collect();
    for place in places.iter().rev().filter(|p| Path::new(p).starts_with(dir)) {
        let _ = Command::new("umount").args(["-l", place]).output();
    }
}

/// Removes the empty cgroup `name` of every hierarchy and what is below it: engines leave the parents of their
/// containers' cgroups.
fn remove_cgroups(name: &str) {
    fn remove(dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            } else {
                // Only where no cgroups are mounted.
                let _ = fs::remove_file(entry.path());
            }
        }
        // One that is in use stays.
        let _ = fs::remove_dir(dir);
    }
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
    for dir in
        hierarchies.map(|hierarchy| hierarchy.join(name)).chain([Path::new("/sys/fs/cgroup").join(name)])
    {
        if dir.is_dir() {
            remove(&dir);
        }
    }
}

/// A configuration file as README shows it, with `runtime` for the place where it is installed: the fenced block that
/// follows the line which names `file`.
///
/// # Panics
/// If README shows no such file, or it does not name the runtime.
pub fn readme(file: &str, runtime: &Path) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("README.md");
    let text = fs::read_to_string(readme).expect("README.md");
    let (_, after) =
        text.split_once(&format!("`{file}`")).unwrap_or_else(|| panic!("README shows no {file}"));
    let block = after.split("\n```").nth(1).expect("a fenced block");
    let (_, body) = block.split_once('\n').expect("a language, then lines");
    body.replace("/usr/local/bin/rcr-runtime", &runtime.to_string_lossy()) + "\n"
}
