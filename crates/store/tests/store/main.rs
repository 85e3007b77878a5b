//! Tests of the store on a real kernel: they make devices, set owners and mount, so they need root. Without that
//! they count as ignored, by name.

#![allow(clippy::unwrap_used)] // a test that unwraps what is not there fails, as it should

mod archive;
mod crash;
mod formats;
mod hostile;
mod image;
mod lifecycle;
mod mounts;
mod semantics;
mod tree;

use libtest_mimic::{Arguments, Trial};

/// A store in a temporary directory.
pub(crate) struct Place {
    _dir: tempfile::TempDir,
    pub(crate) path: std::path::PathBuf,
    pub(crate) store: store::Store,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = store::Store::open(&path).unwrap();
        Self { _dir: dir, path, store }
    }

    /// What is in `staging`.
    pub(crate) fn staged(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path.join("staging")).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

fn has(tool: &str) -> bool {
    std::process::Command::new(tool).arg("--version").output().is_ok_and(|out| out.status.success())
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A file system in memory, of this process alone, under the temporary directory: syncing a disk that others
/// write to takes seconds each time. `STORE_TEST_DIR` names a directory to use instead, on a disk.
fn work_in_memory() -> nix::Result<()> {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("rcr"), &std::env::temp_dir(), Some("tmpfs"), MsFlags::empty(), Some("size=4g"))
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match &args[1..] {
        [mode, path] if mode == "--child-pull" => crash::child_pull(path.as_ref()),
        [mode, path] if mode == "--child-memory" => {
            crash::child_memory(path.as_ref());
            return std::process::ExitCode::SUCCESS;
        }
        _ => {}
    }
    let root = nix::unistd::geteuid().is_root();
    if let Some(dir) = std::env::var_os("STORE_TEST_DIR") {
        tempfile::env::override_temp_dir(std::path::Path::new(&dir)).unwrap();
    } else if root {
        work_in_memory().unwrap();
    }
    let groups = [
        (semantics::TESTS, true),
        (hostile::TESTS, true),
        (lifecycle::TESTS, true),
        (mounts::TESTS, true),
        // Since then a tmpfs can be id-mapped, which is what the tests are on.
        (mounts::MAPPED_TESTS, kernel() >= (6, 3)),
        (crash::TESTS, true),
        (formats::TESTS, has("setfattr")),
        (semantics::UMOCI_TESTS, has("umoci")),
    ];
    let mut trials = Vec::new();
    for (tests, able) in groups {
        trials.extend(tests.iter().map(|(name, test)| {
            let run = move || {
                test();
                Ok(())
            };
            Trial::test(*name, run).with_ignored_flag(!root || !able)
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
