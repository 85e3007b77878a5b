//! What this host has. A test names its needs; a lack is shown in the list of tests and counts as ignored.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Something that a test can't do without and a host may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Effective uid 0.
    Root,
    /// A program in `$PATH`, named.
    Program(&'static str),
    /// A file or directory, named.
    Path(&'static str),
    /// cgroup v2, alone on /sys/fs/cgroup or beside v1 hierarchies.
    Cgroup2,
    /// cgroup v2 as the only hierarchy, mounted on /sys/fs/cgroup.
    PureCgroup2,
    /// systemd as process 1.
    Systemd,
    /// A criu that finds nothing missing on this kernel (`criu check`, asked once).
    Criu,
    /// A file system type in /proc/filesystems, named.
    FileSystem(&'static str),
    /// A program that says on `--version` that it is of this release, or a later one.
    Version(&'static str, u32, u32),
    /// Linux of this version, or a later one.
    Kernel(u32, u32),
}

/// The lack, in words; `None` if the host has it.
pub fn missing(need: Need) -> Option<String> {
    let (there, name) = match need {
        Need::Root => (nix::unistd::geteuid().is_root(), "root".to_owned()),
        Need::Program(name) => (program(name), name.to_owned()),
        Need::Path(path) => (Path::new(path).exists(), path.to_owned()),
        Need::Cgroup2 => (unified().is_some(), "cgroup v2".to_owned()),
        Need::PureCgroup2 => (unified() == Some(Path::new("/sys/fs/cgroup")), "pure cgroup v2".to_owned()),
        // sd_booted(3).
        Need::Systemd => (Path::new("/run/systemd/system").exists(), "systemd".to_owned()),
        Need::Criu => (*CRIU, "a criu that works on this kernel".to_owned()),
        Need::FileSystem(name) => (file_system(name), name.to_owned()),
        Need::Version(name, major, minor) => {
            (release(name) >= Some((major, minor)), format!("{name} {major}.{minor}"))
        }
        Need::Kernel(major, minor) => (kernel() >= (major, minor), format!("Linux {major}.{minor}")),
    };
    (!there).then_some(name)
}

static CRIU: LazyLock<bool> = LazyLock::new(|| {
    let check = Command::new("criu").arg("check").stdin(Stdio::null()).output();
    check.is_ok_and(|output| output.status.success())
});

/// Where cgroup v2 is mounted.
pub fn unified() -> Option<&'static Path> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    places.into_iter().find(|place| place.join("cgroup.controllers").exists())
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
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
