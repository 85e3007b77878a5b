//! A container of rcr that runs while a test looks at it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::image;
use crate::world::{World, ok, say};

/// A world with one running container, which is removed with it, also when a test panics.
pub struct Running {
    /// Where it is.
    pub world: World,
    /// The image it runs: busybox as an OCI layout.
    pub image: String,
    name: String,
    rcr: Child,
}

impl Running {
    /// Runs `command` in container `name`, without a network unless `flags` name one, and waits until it runs.
    pub fn new(name: &str, flags: &[&str], command: &[&str]) -> Self {
        let world = World::new();
        let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin", "COLOUR=green"] });
        let image = image::busybox_layout(&world.path().join("layout"), config);
        let mut run = world.rcr();
        run.args(["run", "--name", name]);
        if !flags.contains(&"--network") {
            run.args(["--network", "none"]);
        }
        run.args(flags).arg(&image).args(command);
        let rcr =
            run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("rcr starts");
        let running = Self { world, image, name: name.to_owned(), rcr };
        let deadline = Instant::now() + Duration::from_secs(10);
        while running.pid() == 0 || !running.inspect()["State"]["StartedAt"].as_str().is_some_and(started) {
            assert!(Instant::now() < deadline, "{name} does not run");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// What `rcr inspect` says of it; null if it is not there.
    pub fn inspect(&self) -> Value {
        let said = say(self.world.rcr().args(["inspect", &self.name]));
        let found: Value = serde_json::from_str(&said.out).unwrap_or_default();
        found[0].clone()
    }

    /// Process id of its first process; 0 if there is none.
    pub fn pid(&self) -> i64 {
        self.inspect()["State"]["Pid"].as_i64().unwrap_or(0)
    }

    /// Its ID.
    pub fn id(&self) -> String {
        self.inspect()["Id"].as_str().unwrap_or_default().to_owned()
    }

    /// `rcr exec WORDS`.
    pub fn exec(&self, words: &[&str]) -> Command {
        let mut command = self.world.rcr();
        command.arg("exec").args(words).stdin(Stdio::null());
        command
    }

    /// A command of rcr-runtime about it, as one who looks below rcr: `pause`, `resume`.
    pub fn runtime(&self, command: &str) {
        let mut runtime = Command::new(crate::world::binary("rcr-runtime"));
        runtime.arg("--root").arg(self.world.path().join("run/containers"));
        ok(runtime.arg(command).arg(self.id()));
    }

    /// Ends it.
    pub fn kill(&mut self) {
        ok(Command::new("kill").args(["-KILL", &self.pid().to_string()]));
        self.rcr.wait().expect("rcr ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        say(self.world.rcr().args(["rm", "-f", &self.name]));
        let _ = self.rcr.wait();
    }
}

fn started(at: &str) -> bool {
    !at.starts_with("0001")
}
