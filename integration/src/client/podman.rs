//! podman.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Network, await_end_of_processes, readme, remove_cgroups, unmount_below};
use crate::world::{World, ok, say};

/// podman with a store and a network of its own; what it mounted ends with the value.
pub struct Podman {
    root: PathBuf,
    /// Where cgroup hierarchies are mounted.
    hierarchies: BTreeSet<PathBuf>,
    /// What "the host" is for its bridges and published ports.
    pub network: Network,
}

impl Podman {
    /// Below the test's directory; with `runtime`, that program in runc's place by README's containers.conf.
    pub fn new(world: &World, runtime: Option<&Path>) -> Self {
        let root = world.path().join("podman");
        fs::create_dir_all(root.join("networks")).expect("writable");
        Self::configure(&root, runtime);
        Self { root, hierarchies: hierarchies(), network: Network::new() }
    }

    /// Writes `DIR/containers.conf`.
    pub fn configure(dir: &Path, runtime: Option<&Path>) {
        let conf = runtime
            .map_or_else(|| "[engine]\n".to_owned(), |path| readme("/etc/containers/containers.conf", path));
        // Where raising a limit is not allowed podman's own defaults fail with every runtime.
        let own = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = {:?}\n",
            dir.join("networks")
        );
        let engine = "[engine]\nevents_logger = \"file\"\ninfra_image = \"localhost/pause\"\n\
                      cgroup_manager = \"cgroupfs\"\n";
        let conf = conf.replacen("[engine]\n", engine, 1);
        fs::write(dir.join("containers.conf"), conf + &own).expect("writable");
    }

    /// podman with these directories.
    pub fn command(&self) -> Command {
        let mut command = self.network.command("podman");
        command.arg("--root").arg(self.root.join("root")).arg("--runroot").arg(self.root.join("run"));
        command.arg("--tmpdir").arg(self.root.join("tmp"));
        command.args(["--storage-driver", "overlay"]);
        command.env("CONTAINERS_CONF", self.root.join("containers.conf"));
        // There may be no systemd to run health checks; the tests run them by hand.
        command.env("DISABLE_HC_SYSTEMD", "true");
        command
    }

    /// Removes a container that runs. podman 4.3 stumbles over its own `container cleanup`, which conmon starts when the
    /// container ends and which unmounts the same directory: then once more.
    pub fn remove(&self, name: &str) {
        let remove = || say(self.command().args(["rm", "-f", "-t", "0", name]).stdin(Stdio::null()));
        let mut said = remove();
        if said.code != 0 && said.err.contains("userdata/shm: device or resource busy") {
            said = remove();
        }
        assert_eq!(said.code, 0, "podman rm {name}: {}", said.err);
    }

    /// Fields of a container.
    pub fn inspect(&self, name: &str) -> Value {
        let text = ok(self.command().args(["container", "inspect", name]));
        serde_json::from_str::<Value>(&text).expect("JSON")[0].take()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        say(self.command().args(["pod", "rm", "--all", "--force", "--time", "0"]));
        say(self.command().args(["rm", "--all", "--force", "--time", "0"]));
        say(self.command().args(["image", "unmount", "--all", "--force"]));
        // conmon's clean-up goes on for a moment, and mounts the store again for it.
        await_end_of_processes(&self.root);
        unmount_below(&self.root);
        remove_cgroups("libpod_parent");
        // podman 4.3 takes hierarchies for mounted that are not, and makes plain directories of their names.
        for dir in hierarchies().difference(&self.hierarchies) {
            let _ = fs::remove_dir(dir);
        }
    }
}

fn hierarchies() -> BTreeSet<PathBuf> {
    fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
