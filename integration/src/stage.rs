//! Containers of rcr-runtime for one test, driven by its commands.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::world::{ok, say};

/// A bundle with a cgroup of its own, whatever else runs on this machine, and whose containers end with it, also
/// when a test panics.
pub struct Stage(Bundle);

impl Stage {
    /// A bundle that runs `script`.
    pub fn new(script: &str, adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!("/rcr-stage-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Stage(Bundle::new(script, |config, dir| {
            config["linux"]["cgroupsPath"] = json!(cgroup);
            adjust(config, dir);
        }))
    }

    /// With a container that sleeps, created and started.
    pub fn running(id: &str, adjust: impl FnOnce(&mut Value, &Path)) -> Stage {
        let stage = Stage::new("sleep 1000", adjust);
        create(&stage, id);
        quiet(stage.world.runtime().args(["start", id]));
        stage
    }
}

impl Deref for Stage {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for id in say(self.world.runtime().args(["list", "-q"])).out.lines() {
            say(self.world.runtime().args(["delete", "--force", id]));
        }
    }
}

/// Runs a command that must succeed, with its streams closed: a container may keep them.
pub fn quiet(command: &mut Command) {
    ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
}

/// `create` of the bundle.
pub fn create(bundle: &Bundle, id: &str) {
    quiet(bundle.world.runtime().arg("create").arg("--bundle").arg(&bundle.dir).arg(id));
}

/// What `state` prints.
pub fn state(bundle: &Bundle, id: &str) -> Value {
    serde_json::from_str(&ok(bundle.world.runtime().args(["state", id]))).expect("JSON")
}

/// `delete --force`.
pub fn delete(bundle: &Bundle, id: &str) {
    quiet(bundle.world.runtime().args(["delete", "--force", id]));
}

/// Waits until something holds, ten seconds at most.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a child, at most ten seconds.
pub fn end_of(child: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait().expect("waitable") {
            return status.code().or(status.signal().map(|n| 128 + n)).expect("a code or a signal");
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process lives; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
