//! The oracle of every failure test: what the host has too much of afterwards.
//!
//! It compares the whole host (mounts, cgroups, network namespaces, links, processes, /tmp), so the tests
//! run one at a time.

use std::collections::BTreeSet;
use std::path::Path;

/// The host's tables at one moment, as sets of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeSet<String>,
}

impl Snapshot {
    /// Reads the tables.
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc/self/mountinfo");
        for line in mounts.lines() {
            // Without the IDs, which differ when somebody mounts the same thing again.
            let place = line.splitn(4, ' ').nth(3).unwrap_or(line);
            lines.insert(format!("mount {place}"));
        }
        directories(Path::new("/sys/fs/cgroup"), &mut lines, 0);
        let places = [("netns", "/run/netns"), ("link", "/sys/class/net"), ("in", "/tmp"), ("in", "/")];
        for (what, dir) in places {
            // The tests' own places come and go.
            for name in names(Path::new(dir)).filter(|n| !n.starts_with("rcr-test-")) {
                lines.insert(format!("{what} {dir}/{name}"));
            }
        }
        // Where runtimes keep the state of containers that podman, docker and containerd have made.
        for root in [Path::new("/run/runc"), Path::new("/run/containerd/s")] {
            lines.extend(names(root).map(|name| format!("state {}/{name}", root.display())));
        }
        let shims = Path::new("/run/containerd/runc");
        for namespace in names(shims) {
            lines.extend(names(&shims.join(&namespace)).map(|id| format!("state {namespace}/{id}")));
        }
        // rcr's processes name the test's directories; orphans that the host's init is slow to reap name nothing.
        let own = format!("rcr-test-{}-", std::process::id());
        for pid in names(Path::new("/proc")).filter(|n| n.bytes().all(|b| b.is_ascii_digit())) {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            if words.starts_with(|c: char| c == '/' || c.is_alphanumeric()) && words.contains(&own) {
                lines.insert(format!("process {pid} {words}"));
            }
        }
        Self { lines }
    }

    /// What `self` has that `before` had not. Empty: nothing was left behind.
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.lines.difference(&before.lines).cloned().collect()
    }
}

/// Panics with the list if anything is left since `before`. Processes that are just ending get two seconds.
pub fn assert_none_since(before: &Snapshot) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    loop {
        let left = Snapshot::take().since(before);
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "left behind:\n  {}", left.join("\n  "));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned())
}

fn directories(dir: &Path, lines: &mut BTreeSet<String>, depth: usize) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) && depth < 12 {
            lines.insert(format!("cgroup {}", entry.path().display()));
            directories(&entry.path(), lines, depth + 1);
        }
    }
}
