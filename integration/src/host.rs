//! What this host has. A test names its needs; a lack is shown in the list of tests and counts as ignored.

use std::path::Path;

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
}

/// The lack, in words; `None` if the host has it.
pub fn missing(need: Need) -> Option<&'static str> {
    let (there, name) = match need {
        Need::Root => (nix::unistd::geteuid().is_root(), "root"),
        Need::Program(name) => (program(name), name),
        Need::Path(path) => (Path::new(path).exists(), path),
        Need::PureCgroup2 => (Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "pure cgroup v2"),
        Need::FileSystem(name) => (file_system(name), name),
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
