//! Whether the kernel's OOM killer was at work in a cgroup.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// How many processes it has killed there; 0 when that cannot be told. memory.events (v2) and memory.oom_control (v1)
/// have a line `oom_kill N`.
pub(crate) fn kills(cgroup_paths: &BTreeMap<String, PathBuf>) -> u64 {
    let files = [("memory", "memory.oom_control"), ("", "memory.events")];
    files
        .iter()
        .filter_map(|(controller, file)| {
            std::fs::read_to_string(cgroup_paths.get(*controller)?.join(file)).ok()
        })
        .filter_map(|text| count(&text))
        .max()
        .unwrap_or(0)
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_interfaces_are_read() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(count("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count(""), None);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory.events"), "oom_kill 3\n").unwrap();
        assert_eq!(kills(&BTreeMap::from([(String::new(), dir.path().to_owned())])), 3);
        assert_eq!(kills(&BTreeMap::new()), 0);
    }
}
