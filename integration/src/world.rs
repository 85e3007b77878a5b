//! A place of its own for each test: store, run directory and configuration below one temporary directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Directories of one test and the commands that use them. Dropped, all of it is removed.
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// Makes an empty one. Its path is lower case, because podman takes a layout's path for part of an image's name.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rcr-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir =
            tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().expect("a temporary directory");
        // A file that the environment names must be there.
        std::fs::write(dir.path().join("registries.conf"), "").expect("writable");
        Self { dir }
    }

    /// Where everything of this test is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `rcr --root … --runroot …` with a clean environment for configuration.
    pub fn rcr(&self) -> Command {
        let mut command = Command::new(binary("rcr"));
        command.arg("--root").arg(self.path().join("store")).arg("--runroot").arg(self.path().join("run"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.path().join("registries.conf"));
        command.env("REGISTRY_AUTH_FILE", self.path().join("auth.json"));
        command.env_remove("NO_COLOR").env("HOME", self.path());
        command
    }

    /// Pulls an image, the only one there, and answers its ID.
    pub fn pulled(&self, source: &str) -> String {
        ok(self.rcr().args(["pull", "-q", source]));
        ok(self.rcr().args(["images", "-q"]))
    }

    /// `rcr-runtime --root …`.
    pub fn runtime(&self) -> Command {
        let mut command = Command::new(binary("rcr-runtime"));
        command.arg("--root").arg(self.path().join("state"));
        command
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// `--network=none`, unless the arguments of `run` choose a network: the default one would make a bridge on the machine
/// that the tests run on. Tests of networks make a host for themselves.
pub fn no_network(args: &[&str]) -> Option<&'static str> {
    let chosen = args.iter().any(|arg| ["--network", "--net"].iter().any(|flag| arg.starts_with(flag)));
    (!chosen).then_some("--network=none")
}

/// `rcr run ARGS`, without standard input, and without a network unless the arguments choose one.
pub fn run(world: &World, args: &[&str]) -> Command {
    let mut command = world.rcr();
    command.arg("run").args(no_network(args)).args(args).stdin(Stdio::null());
    command
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("integration/ is in the workspace");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

/// The release build of one of rcr's programs, or what `$RCR_BIN_DIR` holds.
pub fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("RCR_BIN_DIR").map_or_else(|| target().join("release"), PathBuf::from);
    let path = dir.join(name);
    assert!(path.exists(), "{} is not built; run integration/build", path.display());
    path
}

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    /// Exit status as a shell would give it: 128+N for signal N.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a command to its end and reads what it said.
pub fn say(command: &mut Command) -> Said {
    use std::os::unix::process::ExitStatusExt;
    let shown = show(command);
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("{shown}: {e}"));
    Said {
        code: status.code().or(status.signal().map(|n| 128 + n)).expect("an exit code or a signal"),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs a command that must succeed and gives its standard output without the last newline.
pub fn ok(command: &mut Command) -> String {
    let shown = show(command);
    let said = say(command);
    assert_eq!(said.code, 0, "{shown}\nstdout: {}\nstderr: {}", said.out, said.err);
    said.out.trim_end_matches('\n').to_owned()
}

/// Runs a command that must fail with `code`, in one line of error that contains each of `words`.
pub fn fails(command: &mut Command, code: i32, words: &[&str]) {
    let shown = show(command);
    let said = say(command);
    assert_eq!(said.code, code, "{shown}\nstdout: {}\nstderr: {}", said.out, said.err);
    for word in words {
        assert!(said.err.contains(word), "{shown}: {word:?} is not in: {}", said.err);
    }
    assert!(!said.err.contains("panicked"), "{shown}: {}", said.err);
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
