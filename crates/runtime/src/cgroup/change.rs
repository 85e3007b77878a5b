//! Changing the limits of processes that run: all of a change, or nothing of it.

use super::dir::Dir;
use super::{Cgroup, Missing, Setting, Version};
use crate::{Error, ErrorKind};
use oci::runtime::LinuxResources;

impl Cgroup {
    /// Writes the limits of `resources`, as [`Cgroup::limit`]; when one of them is refused, what was written before it
    /// is put back.
    ///
    /// # Errors
    /// As [`Cgroup::limit`]; with `checkBeforeUpdate`, memory limits that are below what is in use (v2, whose kernel
    /// would kill).
    pub fn change(&self, resources: &LinuxResources) -> Result<(), Error> {
        let settings = self.settings(resources)?;
        self.check_memory(resources)?;
        let before: Vec<Setting> = settings.iter().rev().filter_map(|s| self.present(s)).collect();
        self.apply(&settings).inspect_err(|_| {
            if let Err(e) = self.apply(&before) {
                tracing::warn!("the old limits could not be put back: {e:#}");
            }
        })
    }

    /// With `checkBeforeUpdate`, refuses memory limits that are below what is in use.
    ///
    /// # Errors
    /// So it is.
    pub fn check_memory(&self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(memory) = resources.memory().filter(|m| m.check_before_update() == Some(true)) else {
            return Ok(());
        };
        let dir = if self.v1("memory").is_none() { self.unified() } else { None };
        // Without a file that says more, the check is not made.
        let usage = dir.and_then(|dir| dir.read("memory.current").ok()?.trim().parse::<i64>().ok());
        let Some(usage) = usage else { return Ok(()) };
        for (name, limit) in [("memory+swap", memory.swap()), ("memory", memory.limit())] {
            if let Some(limit @ 1..) = limit
                && limit <= usage
            {
                let message = format!("rejecting {name} limit {limit} <= usage {usage}");
                return Err(Error::new(message).kind(ErrorKind::Invalid));
            }
        }
        Ok(())
    }

    /// What to write to get back what `setting` is about to replace.
    fn present(&self, setting: &Setting) -> Option<Setting> {
        let dir = self.dir_of(setting)?;
        let (file, value) = match &setting.missing {
            Missing::Write { file, value } if dir.read(&setting.file).is_err() => (file, value),
            _ => (&setting.file, &setting.value),
        };
        let text = dir.read(file).ok()?;
        let value = old_value(dir, file, value, &text)?;
        Some(Setting {
            controller: setting.controller.clone(),
            file: file.clone(),
            value,
            missing: Missing::Ignore,
        })
    }
}

/// The part of a file's content that writing `value` replaces, in the form in which it can be written.
fn old_value(dir: &Dir, file: &str, value: &str, text: &str) -> Option<String> {
    if file == "memory.oom_control" {
        return text.lines().find_map(|line| line.strip_prefix("oom_kill_disable ")).map(str::to_owned);
    }
    if !has_keys(file) {
        // Nothing, as in an unset cpuset of v2, is a line of its own too.
        return Some(if text.trim().is_empty() { "\n".to_owned() } else { text.trim().to_owned() });
    }
    let (key, _) = value.split_once(' ').unwrap_or(("default", value));
    let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(k, _)| k == key));
    line.map(str::to_owned).or_else(|| match (file, dir.version) {
        ("io.max", _) => Some(format!("{key} rbps=max wbps=max riops=max wiops=max")),
        ("rdma.max", _) => Some(format!("{key} hca_handle=max hca_object=max")),
        ("net_prio.ifpriomap", _) => Some(format!("{key} 0")),
        (file, Version::V1) if file.starts_with("blkio.throttle.") => Some(format!("{key} 0")),
        // Until Linux 5.0 CFQ took 0 for it.
        ("blkio.weight_device" | "blkio.leaf_weight_device", _) => Some(format!("{key} 0")),
        ("blkio.bfq.weight_device" | "io.bfq.weight" | "io.weight", _) => Some(format!("{key} default")),
        _ => None,
    })
}

/// Files with a line for each device or interface, of which one write changes one.
fn has_keys(file: &str) -> bool {
    file.ends_with("_device")
        || matches!(
            file,
            "io.max"
                | "io.weight"
                | "io.bfq.weight"
                | "io.latency"
                | "rdma.max"
                | "misc.max"
                | "net_prio.ifpriomap"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cgroup(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let temporary = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(temporary.path().join(name), content).unwrap();
        }
        let controllers = match version {
            Version::V1 => vec!["memory".to_owned(), "cpu".to_owned(), "blkio".to_owned(), "pids".to_owned()],
            Version::V2 => Vec::new(),
        };
        let dir = Dir::open(version, controllers, temporary.path().to_owned()).unwrap();
        (temporary, Cgroup { dirs: vec![dir], tolerate: false })
    }

    fn resources(json: &Value) -> LinuxResources {
        serde_json::from_value(json.clone()).unwrap()
    }

    #[test]
    fn a_refused_change_leaves_what_was_there() {
        let files =
            [("memory.max", "300\n"), ("memory.low", "max\n"), ("cgroup.controllers", "memory pids\n")];
        let (directory, cgroup) = cgroup(Version::V2, &files);
        let read = |file: &str| std::fs::read_to_string(directory.path().join(file)).unwrap();
        // pids.max does not exist here.
        let wanted = json!({"memory": {"limit": 100, "reservation": 50}, "unified": {"pids.max": "1"}});
        assert!(cgroup.change(&resources(&wanted)).is_err());
        // Ordinary files keep the tail of what is longer.
        assert_eq!((read("memory.max").as_str(), read("memory.low").as_str()), ("300\n", "max\n"));
        let wanted = json!({"memory": {"limit": 100, "reservation": 500}});
        cgroup.change(&resources(&wanted)).unwrap();
        assert_eq!((read("memory.max").as_str(), read("memory.low").as_str()), ("100\n", "500\n"));
    }

    #[test]
    fn an_idle_cgroup_gets_no_weight() {
        let files = [("cpu.idle", "0\n"), ("cpu.weight", "100\n"), ("cgroup.controllers", "cpu\n")];
        let (directory, cgroup) = cgroup(Version::V2, &files);
        let read = |file: &str| std::fs::read_to_string(directory.path().join(file)).unwrap();
        for wanted in [
            json!({"cpu": {"shares": 200, "idle": 1}}),
            json!({"unified": {"cpu.idle": "1", "cpu.weight": "8"}}),
            json!({"cpu": {"shares": 200, "idle": 0}, "unified": {"cpu.idle": "1"}}),
        ] {
            cgroup.change(&resources(&wanted)).unwrap();
            assert_eq!(
                (read("cpu.idle").as_str(), read("cpu.weight").as_str()),
                ("1\n", "100\n"),
                "{wanted}"
            );
        }
        // Ordinary files keep the tail of what is longer.
        cgroup.change(&resources(&json!({"cpu": {"shares": 200, "idle": 0}}))).unwrap();
        assert_eq!((read("cpu.idle").trim(), read("cpu.weight").trim()), ("0", "290"));
    }

    #[test]
    fn what_is_put_back_can_be_written() {
        let (_directory, v1) = cgroup(Version::V1, &[]);
        let (_directory2, v2) = cgroup(Version::V2, &[]);
        for (cgroup, file, value, text, want) in [
            (&v1, "memory.limit_in_bytes", "5", "9223372036854771712\n", "9223372036854771712"),
            (&v1, "memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "0"),
            (&v1, "blkio.throttle.read_bps_device", "8:0 5", "8:1 7\n8:0 6\n", "8:0 6"),
            (&v1, "blkio.throttle.read_bps_device", "8:0 5", "8:1 7\n", "8:0 0"),
            (&v1, "blkio.bfq.weight_device", "8:0 5", "", "8:0 default"),
            (&v2, "cpuset.cpus", "1", "\n", "\n"),
            (&v2, "cpu.max", "5 10", "max 100000\n", "max 100000"),
            (
                &v2,
                "io.max",
                "8:0 rbps=5",
                "8:0 rbps=1 wbps=max riops=max wiops=max\n",
                "8:0 rbps=1 wbps=max riops=max wiops=max",
            ),
            (&v2, "io.max", "8:0 rbps=5", "8:16 rbps=1\n", "8:0 rbps=max wbps=max riops=max wiops=max"),
            (&v2, "io.weight", "5", "default 100\n8:0 50\n", "default 100"),
            (&v2, "io.weight", "8:0 5", "default 100\n", "8:0 default"),
            (
                &v2,
                "rdma.max",
                "mlx hca_handle=1",
                "mlx hca_handle=max hca_object=2\n",
                "mlx hca_handle=max hca_object=2",
            ),
        ] {
            assert_eq!(
                old_value(&cgroup.dirs[0], file, value, text).as_deref(),
                Some(want),
                "{file} {text:?}"
            );
        }
    }

    #[test]
    fn memory_in_use_is_not_taken_away_if_asked_to_check() {
        let (_directory, cgroup) =
            cgroup(Version::V2, &[("memory.current", "2000\n"), ("memory.max", "max\n")]);
        let change = |memory: Value| {
            cgroup.change(&resources(&json!({ "memory": memory }))).map_err(|e| e.to_string())
        };
        let error = change(json!({"limit": 1024, "checkBeforeUpdate": true})).unwrap_err();
        assert_eq!(error, "rejecting memory limit 1024 <= usage 2000");
        let error = change(json!({"limit": 1024, "swap": 2000, "checkBeforeUpdate": true})).unwrap_err();
        assert_eq!(error, "rejecting memory+swap limit 2000 <= usage 2000");
        change(json!({"limit": 2001, "checkBeforeUpdate": true})).unwrap();
        change(json!({"limit": -1, "checkBeforeUpdate": true})).unwrap();
        change(json!({"limit": 1024})).unwrap();
    }
}
