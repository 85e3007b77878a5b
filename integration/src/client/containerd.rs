//! containerd, with `ctr` and with its CRI service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Cri, Daemon, Network, readme, remove_cgroups};
use crate::world::{World, ok, say};

/// What CRI runs as a pod's first process.
pub const PAUSE_IMAGE: &str = "example.test/pause:latest";

/// containerd, pods on a bridge in a network of its own.
pub struct Containerd {
    daemon: Option<Daemon>,
    /// What "the host" is for its pods.
    pub network: Network,
    socket: PathBuf,
    /// containerd's namespace of what `ctr` makes. It is the parent cgroup too.
    namespace: String,
}

impl Containerd {
    /// Starts it for `ctr` alone.
    pub fn start(world: &World) -> Self {
        Self::start_with(world, "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n", "version = 2\n")
    }

    /// Starts it with its CRI service and `runtime` as the handler `rcr` by README's config.toml.
    pub fn start_cri(world: &World, runtime: &Path) -> Self {
        let dir = world.path().join("cni");
        fs::create_dir_all(&dir).expect("writable");
        let network = serde_json::json!({
            "cniVersion": "0.4.0", "name": "pods",
            "plugins": [{
                "type": "bridge", "bridge": "pods0", "isGateway": true,
                "ipam": {
                    "type": "host-local", "dataDir": dir.join("addresses"),
                    "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        });
        fs::write(dir.join("pods.conflist"), network.to_string()).expect("writable");
        let own = format!(
            "\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {PAUSE_IMAGE:?}\nnetns_mounts_under_state_dir = true\n\
             restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = {dir:?}\n"
        );
        Self::start_with(world, "", &(readme("/etc/containerd/config.toml", runtime) + &own))
    }

    fn start_with(world: &World, head: &str, config: &str) -> Self {
        let dir = world.path().join("containerd");
        fs::create_dir_all(&dir).expect("writable");
        let name = world.path().file_name().expect("a directory").to_string_lossy().into_owned();
        let mut containerd = Self {
            daemon: None,
            network: Network::new(),
            socket: dir.join("sock"),
            namespace: format!("ctr-{name}"),
        };
        // Keys without a table come before the tables.
        let config = format!(
            "root = {:?}\nstate = {:?}\n{head}{config}\n[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            dir.join("root"),
            dir.join("state"),
            containerd.socket,
            dir.join("ttrpc"),
            dir.join("opt"),
        );
        fs::write(dir.join("config.toml"), config).expect("writable");
        let mut command = containerd.network.command("containerd");
        command.arg("--config").arg(dir.join("config.toml"));
        let daemon = Daemon::start(command, &dir, || {
            let mut command = containerd.command();
            command.arg("version");
            command
        });
        containerd.daemon = Some(daemon);
        containerd
    }

    /// `ctr`, talking to this daemon.
    pub fn command(&self) -> Command {
        self.in_namespace(&self.namespace)
    }

    fn in_namespace(&self, namespace: &str) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["--namespace", namespace]);
        command
    }

    /// Imports an image for `ctr` and for pods.
    pub fn import(&self, archive: &Path) {
        for namespace in [self.namespace.as_str(), "k8s.io"] {
            ok(self.in_namespace(namespace).args(["images", "import"]).arg(archive));
        }
    }

    /// A connection to its CRI service.
    pub fn cri(&self, world: &World) -> Cri {
        Cri::connect(world, &self.socket)
    }

    /// Where the pods of this daemon have their cgroups, as a pod's configuration names it.
    pub fn pod_cgroup(&self) -> String {
        format!("/{}", self.namespace)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // containerd's tasks outlive it.
        for namespace in [self.namespace.as_str(), "k8s.io"].iter().filter(|_| self.daemon.is_some()) {
            let tasks = say(self.in_namespace(namespace).args(["tasks", "ls", "--quiet"])).out;
            for task in tasks.split_whitespace() {
                say(self.in_namespace(namespace).args(["tasks", "rm", "--force", task]));
            }
        }
        self.daemon = None;
        remove_cgroups(&self.namespace);
        // The runtime's state directory of this namespace, which shims make and keep.
        let _ = fs::remove_dir(Path::new("/run/containerd/runc").join(&self.namespace));
    }
}
