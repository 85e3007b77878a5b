//! What the tests in `tests/system/` share: which programs the host has, a place of its own for each test, and
//! the check that nothing was left behind.

pub mod bundle;
pub mod canary;
pub mod cgroup;
pub mod client;
pub mod disk;
pub mod host;
pub mod image;
pub mod leaks;
pub mod moments;
pub mod registry;
pub mod running;
pub mod stage;
pub mod tree;
pub mod world;

use libtest_mimic::{Arguments, Failed, Trial};

use host::Need;

/// One test: it returns an error text or panics when it fails.
pub struct Case {
    /// Name, `module::what_holds`.
    pub name: &'static str,
    /// What the host must have; without it the test counts as ignored, with the lack in its name.
    pub needs: &'static [Need],
    /// The test.
    pub run: fn() -> Result<(), Failed>,
}

/// Lists cases with the name of the function as the test's name:
/// `cases!("run": prints_42 [Need::Root], exits_7 [Need::Root])`.
#[macro_export]
macro_rules! cases {
    ($module:literal: $($name:ident [$($need:expr),* $(,)?]),+ $(,)?) => {
        &[$($crate::Case {
            name: concat!($module, "::", stringify!($name)),
            needs: &[$($need),*],
            run: || { $name(); Ok(()) },
        }),+]
    };
}

/// Runs the cases as `cargo test` expects and ends the process. `finish` runs after the last test.
pub fn main(cases: impl IntoIterator<Item = &'static Case>, finish: fn()) -> ! {
    let mut arguments = Arguments::from_args();
    // The tests share the kernel's tables (mounts, cgroups) that they compare; two at a time also measure noise.
    arguments.test_threads.get_or_insert(1);
    let trials = cases.into_iter().map(|case| {
        let missing: Vec<String> = case.needs.iter().filter_map(|n| host::missing(*n)).collect();
        if missing.is_empty() {
            return Trial::test(case.name, case.run);
        }
        let name = format!("{} (skipped: the host lacks {})", case.name, missing.join(", "));
        Trial::test(name, case.run).with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    finish();
    conclusion.exit()
}
