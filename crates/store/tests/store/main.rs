//! Tests of the store on a real kernel: they make devices, set owners and mount, so they need root. Without that
//! they count as ignored, by name.

mod archive;
mod image;
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
}

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

fn main() -> std::process::ExitCode {
    let root = nix::unistd::geteuid().is_root();
    let tests = [semantics::TESTS].concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
            .with_ignored_flag(!root)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
