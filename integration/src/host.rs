//! What this host has. A test names its needs; a lack is shown in the list of tests and counts as ignored.

use std::path::Path;
use std::process::Command;

/// Something that a test can't do without and a host may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Effective uid 0.
    Root,
    /// A program in `$PATH`, named.
    Program(&'static str),
    /// A file or directory, named.
    Path(&'static str),
    /// cgroup v2 as the only hierarchy, mounted on /sys/fs/cgroup.
    PureCgroup2,
    /// A file system type in /proc/filesystems, named.
    FileSystem(&'static str),
    /// A program that says on `--version` that it is of this release, or a later one.
    Version(&'static str, u32, u32),
}

/// The lack, in words; `None` if the host has it.
pub fn missing(need: Need) -> Option<String> {
    let (there, name) = match need {
        Need::Root => (nix::unistd::geteuid().is_root(), "root".to_owned()),
        Need::Program(name) => (program(name), name.to_owned()),
        Need::Path(path) => (Path::new(path).exists(), path.to_owned()),
        Need::PureCgroup2 => {
            (Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "pure cgroup v2".to_owned())
        }
        Need::FileSystem(name) => (file_system(name), name.to_owned()),
        Need::Version(name, major, minor) => {
            (release(name) >= Some((major, minor)), format!("{name} {major}.{minor}"))
        }
    };
    (!there).then_some(name)
}

fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn file_system(name: &str) -> bool {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// The first two numbers of what `name --version` says: "containerd github.com/containerd/containerd 1.6.20~ds1 ...".
fn release(name: &str) -> Option<(u32, u32)> {
    let said = Command::new(name).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.').map(|part| part.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    })
}
