//! OCI bundles with a busybox root, made for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::{Said, World, ok, say};

/// A bundle below a world's directory; the world is where runtimes keep their state.
pub struct Bundle {
    /// Where everything of this test is.
    pub world: World,
    /// The bundle's directory.
    pub dir: PathBuf,
}

impl Bundle {
    /// A bundle whose config is `rcr-runtime spec`'s with `script` run by sh, after `adjust`.
    pub fn new(script: &str, adjust: impl FnOnce(&mut Value, &Path)) -> Self {
        let world = World::new();
        let dir = world.path().join("bundle");
        let root = dir.join("rootfs");
        for sub in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(root.join(sub)).expect("writable");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("a copy");
        for applet in ok(Command::new("/bin/busybox").arg("--list")).lines().filter(|a| *a != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        ok(world.runtime().arg("spec").arg("--bundle").arg(&dir));
        let mut bundle = Self { world, dir };
        bundle.adjust(|config, dir| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["/bin/sh", "-c", script]);
            // The host's hard limit can't be raised without CAP_SYS_RESOURCE.
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": 1000, "soft": 500 }]);
            adjust(config, dir);
        });
        bundle
    }

    /// The container's root.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Changes config.json.
    pub fn adjust(&mut self, change: impl FnOnce(&mut Value, &Path)) {
        let file = self.dir.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
        change(&mut config, &self.dir);
        fs::write(&file, config.to_string()).expect("writable");
    }

    /// Runs it under rcr-runtime to its end.
    pub fn run(&self, id: &str) -> Said {
        self.run_under(self.world.runtime(), id)
    }

    /// Runs it under any runtime with runc's command line to its end.
    pub fn run_under(&self, mut runtime: Command, id: &str) -> Said {
        say(runtime.args(["run", "--bundle"]).arg(&self.dir).arg(id).stdin(Stdio::null()))
    }
}

/// Shows the host's /usr in a bundle at `dir`: for programs that busybox lacks.
pub fn add_usr(config: &mut Value, dir: &Path) {
    for (link, to) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::os::unix::fs::symlink(to, dir.join("rootfs").join(link)).expect("a link");
    }
    fs::create_dir(dir.join("rootfs/usr")).expect("a directory");
    let usr = json!({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]});
    config["mounts"].as_array_mut().expect("mounts").push(usr);
}
