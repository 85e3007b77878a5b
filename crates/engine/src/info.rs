//! `version` and `info`: what rcr is and what it runs on.

use std::fs;
use std::path::Path;

use store::Store;

use crate::leftover::enter;
use crate::{ContainerStatus, Engine, Error, Info, Platform, Version, host, list, name};

/// Versions of rcr and of what it implements.
pub fn version() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION"),
        runtime_spec: "1.2.0",
        platform: Platform::host(),
        kernel: host::kernel(),
    }
}

/// What rcr knows about the host and its own store.
///
/// # Errors
/// The store or the records cannot be read.
pub fn info(engine: &Engine) -> Result<Info, Error> {
    enter(engine)?;
    let lives = name::records(engine)?.into_iter().map(|record| list::life(engine, &record.id));
    let statuses = lives.map(|life| Ok(life?.status)).collect::<Result<Vec<_>, Error>>()?;
    let count = |wanted: ContainerStatus| statuses.iter().filter(|status| **status == wanted).count();
    let (running, paused) = (count(ContainerStatus::Running), count(ContainerStatus::Paused));
    Ok(Info {
        root: engine.root.clone(),
        runroot: engine.runroot.clone(),
        images: Store::open(&engine.root)?.images()?.len(),
        running,
        paused,
        stopped: statuses.len() - running - paused,
        file_system: file_system(&engine.root),
        cgroups: cgroups(),
        kernel: host::kernel(),
        operating_system: os_release(&host::etc("os-release")).unwrap_or_else(|| "Linux".to_owned()),
        name: host::nodename(),
        platform: Platform::host(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory: host_memory(),
        rootless: !nix::unistd::geteuid().is_root(),
    })
}

/// Type of the file system that `path` is on: of the longest mount point in mountinfo that it is below.
fn file_system(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        // Blanks and the like are octal in a mount point; such a one just does not match.
        Some((left.split(' ').nth(4)?, right.split(' ').next()?))
    });
    // Of two on one place the later one is on top.
    let over = mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.len());
    over.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn cgroups() -> String {
    use runtime::cgroup::{Hierarchies, Mode};
    match Hierarchies::detect().map(|hierarchies| hierarchies.mode()) {
        Ok(Mode::V1) => "v1",
        Ok(Mode::Hybrid) => "hybrid",
        Ok(Mode::V2) => "v2",
        Err(_) => "none",
    }
    .to_owned()
}

/// PRETTY_NAME of os-release(5).
fn os_release(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Memory of the host, in bytes.
pub(crate) fn host_memory() -> u64 {
    memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// MemTotal of proc_meminfo(5), in bytes.
fn memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_hosts_files() {
        assert_eq!(
            os_release("A=1\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n").as_deref(),
            Some("Debian GNU/Linux 12")
        );
        assert_eq!(memory("MemTotal:       24689772 kB\nMemFree: 1 kB\n"), 24_689_772 << 10);
        assert_eq!(file_system(Path::new("/proc/self")), "proc");
    }
}
