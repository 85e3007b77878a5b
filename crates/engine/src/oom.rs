//! Did the kernel kill a process of a container for want of memory?

use std::fs;

use crate::leftover::cgroups;
use crate::record::Record;

/// Asks the container's memory cgroup, which must still be there. `false` if that cannot be told.
pub(crate) fn happened(record: &Record) -> bool {
    let Ok(cgroups) = cgroups(record) else { return false };
    let file = match (cgroups.get("memory"), cgroups.get("")) {
        (Some(v1), _) => v1.join("memory.oom_control"),
        (None, Some(v2)) => v2.join("memory.events"),
        (None, None) => return false,
    };
    fs::read_to_string(file).is_ok_and(|text| counted(&text))
}

/// Both files have a line `oom_kill N`.
fn counted(text: &str) -> bool {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|n| n.trim().parse::<u64>().is_ok_and(|n| n > 0))
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn reads_both_kernel_interfaces() {
        assert!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"));
        assert!(!counted("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"));
        assert!(counted("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n"));
        assert!(!counted("oom_kill_disable 1\n"));
    }
}
