//! Other people's engines with directories and sockets of their own: dockerd and containerd, ended with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::world::World;

/// A daemon below a test's directory.
pub struct Daemon {
    child: Child,
    dir: PathBuf,
}

impl Daemon {
    /// Starts `command`, its output in `DIR/log`, and waits until `answers` succeeds.
    fn start(mut command: Command, dir: PathBuf, answers: impl Fn() -> Command) -> Self {
        let log = fs::File::create(dir.join("log")).expect("writable");
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
        let daemon = Self { child, dir };
        let deadline = Instant::now() + Duration::from_secs(30);
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
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        unmount_below(&self.dir);
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

/// dockerd without bridge and firewall rules.
pub struct Docker {
    _daemon: Daemon,
    socket: String,
    dir: PathBuf,
}

impl Docker {
    /// Starts it; with `runtime`, that program in runc's place.
    pub fn start(world: &World, runtime: Option<&Path>) -> Self {
        let dir = world.path().join("docker");
        fs::create_dir_all(&dir).expect("writable");
        let socket = format!("unix://{}/sock", dir.display());
        let mut command = Command::new("dockerd");
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--host", &socket]);
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("pid")).arg("--config-file").arg(dir.join("daemon.json"));
        let config = runtime.map_or_else(
            || serde_json::json!({}),
            |path| serde_json::json!({ "default-runtime": "rcr", "runtimes": { "rcr": { "path": path } } }),
        );
        fs::write(dir.join("daemon.json"), config.to_string()).expect("writable");
        let client = |socket: &str, dir: &Path| {
            let mut command = Command::new("docker");
            command.args(["--host", socket]).env("DOCKER_CONFIG", dir.join("config"));
            command
        };
        let daemon = Daemon::start(command, dir.clone(), || {
            let mut command = client(&socket, &dir);
            command.arg("version");
            command
        });
        Self { _daemon: daemon, socket, dir }
    }

    /// The client, talking to this daemon.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]).env("DOCKER_CONFIG", self.dir.join("config"));
        command
    }
}

/// containerd with `ctr`.
pub struct Containerd {
    _daemon: Daemon,
    socket: PathBuf,
}

impl Containerd {
    /// Starts it.
    pub fn start(world: &World) -> Self {
        let dir = world.path().join("containerd");
        fs::create_dir_all(&dir).expect("writable");
        let socket = dir.join("sock");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n[ttrpc]\naddress = {:?}\n",
            dir.join("root"),
            dir.join("state"),
            dir.join("ttrpc"),
        );
        fs::write(dir.join("config.toml"), config).expect("writable");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(dir.join("config.toml"));
        let daemon = Daemon::start(command, dir, || {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(&socket).arg("version");
            command
        });
        Self { _daemon: daemon, socket }
    }

    /// `ctr`, talking to this daemon.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket);
        command
    }
}

/// podman with a store of its own; what it mounted ends with the value.
pub struct Podman {
    root: PathBuf,
}

impl Podman {
    /// Below the test's directory.
    pub fn new(world: &World) -> Self {
        let root = world.path().join("podman");
        fs::create_dir_all(&root).expect("writable");
        // Where raising a limit is not allowed podman's own defaults fail with every runtime.
        let conf = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\nevents_logger = \"file\"\n";
        fs::write(root.join("containers.conf"), conf).expect("writable");
        Self { root }
    }

    /// podman with these directories.
    pub fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.root.join("root")).arg("--runroot").arg(self.root.join("run"));
        command.arg("--tmpdir").arg(self.root.join("tmp"));
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]);
        command.env("CONTAINERS_CONF", self.root.join("containers.conf"));
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "--all", "--force", "--time", "0"]).output();
        let _ = self.command().args(["image", "unmount", "--all", "--force"]).output();
        unmount_below(&self.root);
    }
}
