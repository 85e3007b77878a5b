//! dockerd and its client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Daemon, Network, readme, remove_cgroups};
use crate::world::{World, say};

/// Debian's client. A host may have a newer one of another origin before it in `$PATH`.
const CLIENT: &str = "/usr/bin/docker";

/// dockerd with its bridge and firewall rules in a network of its own.
pub struct Docker {
    // Ended first: it works in the directories and the network below.
    daemon: Option<Daemon>,
    /// What "the host" is for its published ports.
    pub network: Network,
    socket: String,
    cgroup: String,
    dir: PathBuf,
}

impl Docker {
    /// Starts it; with `runtime`, that program in runc's place by README's daemon.json.
    pub fn start(world: &World, runtime: Option<&Path>) -> Self {
        let config = runtime.map_or_else(|| "{}".to_owned(), |path| readme("/etc/docker/daemon.json", path));
        let config: Value = serde_json::from_str(&config).expect("JSON");
        Self::start_with(world, config)
    }

    /// Starts it with a daemon.json.
    pub fn start_with(world: &World, config: Value) -> Self {
        let dir = world.path().join("docker");
        fs::create_dir_all(&dir).expect("writable");
        fs::write(dir.join("daemon.json"), config.to_string()).expect("writable");
        let name = world.path().file_name().expect("a directory").to_string_lossy().into_owned();
        let mut docker = Self {
            daemon: None,
            network: Network::new(),
            socket: format!("unix://{}/sock", dir.display()),
            cgroup: format!("docker-{name}"),
            dir,
        };
        let dir = &docker.dir;
        let mut command = docker.network.command("dockerd");
        command.arg("--config-file").arg(dir.join("daemon.json")).args(["--host", &docker.socket]);
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .arg("--cgroup-parent")
            .arg(format!("/{}", docker.cgroup));
        let daemon = Daemon::start(command, dir, || {
            let mut command = docker.command();
            command.arg("version");
            command
        });
        docker.daemon = Some(daemon);
        docker
    }

    /// The client, talking to this daemon.
    pub fn command(&self) -> Command {
        let mut command = Command::new(CLIENT);
        command.args(["--host", &self.socket]).env("DOCKER_CONFIG", self.dir.join("config"));
        command
    }

    /// Fields of a container.
    pub fn inspect(&self, name: &str) -> Value {
        let said = say(self.command().args(["inspect", "--format", "{{json .}}", name]));
        serde_json::from_str(&said.out).unwrap_or_else(|_| json!({ "error": said.err }))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            let all = say(self.command().args(["ps", "--all", "--quiet"])).out;
            // dockerd would give each ten seconds to end by itself.
            say(self.command().args(["rm", "--force"]).args(all.split_whitespace()));
        }
        self.daemon = None;
        remove_cgroups(&self.cgroup);
    }
}
