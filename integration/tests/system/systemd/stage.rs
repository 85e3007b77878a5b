//! Containers of one test in units of systemd, and what systemd says of those.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use harness::bundle::Bundle;
use harness::world::{Said, ok, say};
use serde_json::{Value, json};

/// A bundle with a unit of its own, whose containers end with it.
pub(super) struct Stage {
    pub(super) bundle: Bundle,
    pub(super) unit: String,
    /// Who runs the runtime.
    pub(super) uid: u32,
}

impl Stage {
    pub(super) fn new(script: &str, adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bundle = Bundle::new(script, |config, dir| {
            config["linux"]["cgroupsPath"] = json!(format!("system.slice:rcrtest:{name}"));
            adjust(config, dir);
        });
        Stage { bundle, unit: format!("rcrtest-{name}.scope"), uid: 0 }
    }

    /// With a container that sleeps.
    pub(super) fn running(adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
        let stage = Stage::new("sleep 1000", adjust);
        quiet(&mut stage.start("box"));
        stage
    }

    pub(super) fn runtime(&self) -> Command {
        let runtime = self.bundle.world.runtime();
        let mut command = Command::new(runtime.get_program());
        command.arg("--systemd-cgroup").args(runtime.get_args()).stdin(Stdio::null());
        if self.uid != 0 {
            let dir = format!("/run/user/{}", self.uid);
            command.uid(self.uid).gid(self.uid).env_clear();
            command.env("XDG_RUNTIME_DIR", dir).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        }
        command
    }

    pub(super) fn start(&self, id: &str) -> Command {
        let mut command = self.runtime();
        command.args(["run", "--detach", "--bundle"]).arg(&self.bundle.dir).arg(id);
        command
    }

    pub(super) fn exec(&self, script: &str) -> Said {
        say(self.runtime().args(["exec", "box", "sh", "-c", script]))
    }

    pub(super) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&ok(self.runtime().args(["state", id]))).expect("JSON")
    }

    pub(super) fn pid(&self, id: &str) -> i64 {
        self.state(id)["pid"].as_i64().expect("a number")
    }

    /// The unit's directory in cgroup v2, or in systemd's own v1 hierarchy.
    pub(super) fn directory(&self) -> PathBuf {
        let v2 = Path::new("/sys/fs/cgroup/cgroup.procs").exists();
        let top = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/systemd" };
        PathBuf::from(format!("{top}{}", show(&self.unit, "ControlGroup")))
    }

    pub(super) fn file(&self, name: &str) -> String {
        let path = self.directory().join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }

    pub(super) fn delete(&self, id: &str) {
        quiet(self.runtime().args(["delete", "--force", id]));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for id in say(self.runtime().args(["list", "-q"])).out.lines() {
            say(self.runtime().args(["delete", "--force", id]));
        }
    }
}

/// Children of the runtime outlive it: they must not hold a pipe that somebody reads to its end.
pub(super) fn quiet(command: &mut Command) {
    let log = tempfile::tempfile().expect("a file");
    let streams = || Stdio::from(log.try_clone().expect("a descriptor"));
    let status =
        command.stdin(Stdio::null()).stdout(streams()).stderr(streams()).status().expect("it starts");
    let mut text = String::new();
    let mut reader = &log;
    std::io::Seek::rewind(&mut reader).expect("a file");
    std::io::Read::read_to_string(&mut reader, &mut text).expect("text");
    assert!(status.success(), "{command:?}: {status}: {text}");
}

pub(super) fn show(unit: &str, property: &str) -> String {
    ok(Command::new("systemctl").args(["show", "--value", "--property", property, unit]))
}

pub(super) fn properties<'a>(unit: &str, names: &[&'a str]) -> BTreeMap<&'a str, String> {
    names.iter().map(|name| (*name, show(unit, name))).collect()
}

/// systemd knows nothing of it; it forgets a unit a moment after its end. A slice is never unknown, only inactive.
pub(super) fn is_forgotten(unit: &str) -> bool {
    let code = say(Command::new("systemctl").args(["status", unit])).code;
    code == 4 || code == 3 && unit.ends_with(".slice")
}
