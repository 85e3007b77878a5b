//! One file to write in a cgroup directory, and what the two tables share.

use super::{Version, v1, v2};
use crate::{Error, ErrorKind};
use oci::runtime::{LinuxHugepageLimit, LinuxRdma, LinuxResources};
use std::collections::HashMap;
use std::fmt::{self, Display};

/// One value for one file of a cgroup directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller that owns the file (`memory`, `cpu`, `hugetlb`).
    pub controller: String,
    /// File name in the cgroup's directory.
    pub file: String,
    /// What is written, without a newline.
    pub value: String,
    /// What to do where the file does not exist.
    pub missing: Missing,
}

/// What a file's absence means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The limit can't be kept: an error.
    Fail,
    /// What the file would do is so anyway, or another setting does most of it.
    Ignore,
    /// Another file does the same.
    Write {
        /// Its name.
        file: String,
        /// What is written there.
        value: String,
    },
}

/// The files to write for `resources`, in order. Device rules are not here: [`crate::devices`].
///
/// # Errors
/// A value that can't be meant, named by its place in config.json.
pub fn settings(resources: &LinuxResources, version: Version) -> Result<Vec<Setting>, Error> {
    match version {
        Version::V1 => v1::settings(resources),
        Version::V2 => v2::settings(resources),
    }
}

/// `512 to pids.max`.
impl Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.value, self.file)?;
        match &self.missing {
            Missing::Fail => Ok(()),
            Missing::Ignore => f.write_str(", if it is there"),
            Missing::Write { file, value } => write!(f, ", or else {value} to {file}"),
        }
    }
}

impl Setting {
    /// `value` for `file`, which must exist. The controller is the file name up to its first dot.
    pub(super) fn new(file: impl Into<String>, value: impl Display) -> Setting {
        let file = file.into();
        let controller = file.split('.').next().unwrap_or_default().to_owned();
        Setting { controller, file, value: value.to_string(), missing: Missing::Fail }
    }

    /// The same, skipped where the file does not exist.
    pub(super) fn optional(self) -> Setting {
        Setting { missing: Missing::Ignore, ..self }
    }

    /// The same, or `value` to `file` where the first file does not exist.
    pub(super) fn or(self, file: &str, value: impl Display) -> Setting {
        Setting { missing: Missing::Write { file: file.to_owned(), value: value.to_string() }, ..self }
    }
}

/// An unacceptable value at `place` below `linux.resources`.
pub(super) fn invalid(place: &str, why: impl Display) -> Error {
    Error::new(format!("linux.resources.{place}: {why}")).kind(ErrorKind::Invalid)
}

/// A size in bytes: `None` and 0 mean "leave it", -1 means "no limit" and is kept.
pub(super) fn size(place: &str, value: Option<i64>) -> Result<Option<i64>, Error> {
    match value {
        None | Some(0) => Ok(None),
        Some(n) if n >= -1 => Ok(Some(n)),
        Some(n) => Err(invalid(place, format!("{n} is no size: bytes, or -1 for no limit"))),
    }
}

/// `pids.max`, the same in both versions. 0 becomes 1, as systemd's `TasksMax` has no 0 and the effect, no
/// fork, is equal.
pub(super) fn pids(limit: i64) -> Setting {
    match limit {
        ..0 => Setting::new("pids.max", "max"),
        0 => Setting::new("pids.max", 1),
        n => Setting::new("pids.max", n),
    }
}

/// The page size of one hugetlb limit, as the kernel spells it in file names: `64KB`, `2MB`, `1GB`.
pub(super) fn page_size(index: usize, limit: &LinuxHugepageLimit) -> Result<&str, Error> {
    let size = limit.page_size().as_str();
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    if !digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit())) {
        let place = format!("hugepageLimits[{index}].pageSize");
        return Err(invalid(&place, format!("{size:?} is no page size, for instance 2MB")));
    }
    if limit.limit() < 0 {
        return Err(invalid(&format!("hugepageLimits[{index}].limit"), format!("{} bytes", limit.limit())));
    }
    Ok(size)
}

/// `rdma.max`, the same in both versions, in the order of the device names.
pub(super) fn rdma(limits: &HashMap<String, LinuxRdma>) -> Result<Vec<Setting>, Error> {
    let mut devices: Vec<_> = limits.iter().collect();
    devices.sort_by_key(|(name, _)| *name);
    let mut out = Vec::new();
    for (name, limit) in devices {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(invalid("rdma", format!("{name:?} is no device name")));
        }
        let mut value = name.clone();
        if let Some(n) = limit.hca_handles() {
            value.push_str(&format!(" hca_handle={n}"));
        }
        if let Some(n) = limit.hca_objects() {
            value.push_str(&format!(" hca_object={n}"));
        }
        out.push(Setting::new("rdma.max", value));
    }
    Ok(out)
}

/// `MAJOR:MINOR` of a block device.
pub(super) fn device(place: &str, major: i64, minor: i64) -> Result<String, Error> {
    // dev_t has 12 bits for the major and 20 for the minor number.
    if !(0..1 << 12).contains(&major) || !(0..1 << 20).contains(&minor) {
        return Err(invalid(place, format!("there is no device {major}:{minor}")));
    }
    Ok(format!("{major}:{minor}"))
}

/// A blkio weight: `None` and 0 mean "leave it".
pub(super) fn weight(place: &str, weight: Option<u16>) -> Result<Option<u16>, Error> {
    match weight {
        None | Some(0) => Ok(None),
        Some(w @ 10..=1000) => Ok(Some(w)),
        Some(w) => Err(invalid(place, format!("{w} is out of range 10-1000"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as lines `file=value`, with `?` where a missing file is ignored and `|file=value` for the other.
    fn table(version: Version, json: &str) -> Result<Vec<String>, String> {
        let resources = serde_json::from_str(json).unwrap();
        let list = settings(&resources, version).map_err(|e| e.to_string())?;
        Ok(list
            .iter()
            .map(|s| {
                assert!(s.file.starts_with(&format!("{}.", s.controller)));
                let tail = match &s.missing {
                    Missing::Fail => String::new(),
                    Missing::Ignore => "?".to_owned(),
                    Missing::Write { file, value } => format!("|{file}={value}"),
                };
                format!("{}={}{tail}", s.file, s.value)
            })
            .collect())
    }

    fn v1(json: &str) -> Result<Vec<String>, String> {
        table(Version::V1, json)
    }

    fn v2(json: &str) -> Result<Vec<String>, String> {
        table(Version::V2, json)
    }

    const ALL: &str = r#"{
        "memory": {"limit": 536870912, "reservation": 268435456, "swap": 1073741824, "swappiness": 10,
                   "disableOOMKiller": true, "kernel": 1, "kernelTCP": 1},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "idle": 0, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 100},
        "blockIO": {"weight": 500,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 0}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
            "throttleWriteIOPSDevice": [{"major": 259, "minor": 1, "rate": 8}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}, {"pageSize": "1GB", "limit": 0}],
        "rdma": {"mlx5_1": {"hcaHandles": 3}, "mlx4_0": {"hcaHandles": 1, "hcaObjects": 2}}
    }"#;

    #[test]
    fn every_v1_limit_has_its_file() {
        let want = [
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "memory.limit_in_bytes=536870912",
            "memory.memsw.limit_in_bytes=1073741824",
            "memory.soft_limit_in_bytes=268435456",
            "memory.oom_control=1",
            "memory.swappiness=10",
            "cpu.shares=512",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_burst_us=1000?",
            "cpu.cfs_quota_us=50000",
            "cpu.idle=0",
            "pids.max=100",
            "blkio.weight=500|blkio.bfq.weight=500",
            "blkio.weight_device=8:0 10|blkio.bfq.weight_device=8:0 10",
            "blkio.throttle.read_bps_device=8:0 600",
            "blkio.throttle.write_bps_device=8:16 0",
            "blkio.throttle.read_iops_device=8:0 7",
            "blkio.throttle.write_iops_device=259:1 8",
            "hugetlb.2MB.limit_in_bytes=209715200",
            "hugetlb.2MB.rsvd.limit_in_bytes=209715200?",
            "hugetlb.1GB.limit_in_bytes=0",
            "hugetlb.1GB.rsvd.limit_in_bytes=0?",
            "rdma.max=mlx4_0 hca_handle=1 hca_object=2",
            "rdma.max=mlx5_1 hca_handle=3",
        ];
        assert_eq!(v1(ALL).unwrap(), want);
        let network = r#"{"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}}"#;
        assert_eq!(v1(network).unwrap(), ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"]);
        let realtime = r#"{"cpu": {"realtimePeriod": 1000000, "realtimeRuntime": 950000}}"#;
        assert_eq!(v1(realtime).unwrap(), ["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=950000"]);
    }

    #[test]
    fn every_v2_limit_has_its_file() {
        let want = [
            "pids.max=100",
            "memory.swap.max=536870912",
            "memory.max=536870912",
            "memory.low=268435456",
            "io.bfq.weight=500|io.weight=4950",
            "io.bfq.weight=8:0 10|io.weight=8:0 1",
            "io.max=8:0 rbps=600",
            "io.max=8:16 wbps=max",
            "io.max=8:0 riops=7",
            "io.max=259:1 wiops=8",
            "cpu.idle=0",
            "cpu.weight=59",
            "cpu.max.burst=1000",
            "cpu.max=50000 100000",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "hugetlb.2MB.max=209715200",
            "hugetlb.2MB.rsvd.max=209715200?",
            "hugetlb.1GB.max=0",
            "hugetlb.1GB.rsvd.max=0?",
            "rdma.max=mlx4_0 hca_handle=1 hca_object=2",
            "rdma.max=mlx5_1 hca_handle=3",
        ];
        assert_eq!(v2(ALL).unwrap(), want);
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        for json in [
            "{}",
            r#"{"memory": {}, "cpu": {}, "blockIO": {}, "network": {}, "hugepageLimits": [], "unified": {}}"#,
            r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""}}"#,
            r#"{"memory": {"disableOOMKiller": false}, "blockIO": {"weight": 0}, "network": {"classID": 0}}"#,
        ] {
            assert!(v1(json).unwrap().is_empty(), "{json}");
            assert!(v2(json).unwrap().is_empty(), "{json}");
        }
    }

    #[test]
    fn no_limit_is_written_as_such() {
        let json =
            r#"{"memory": {"limit": -1, "reservation": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}"#;
        assert_eq!(
            v1(json).unwrap(),
            [
                "memory.limit_in_bytes=-1",
                "memory.memsw.limit_in_bytes=-1?",
                "memory.soft_limit_in_bytes=-1",
                "cpu.cfs_quota_us=-1",
                "pids.max=max"
            ]
        );
        assert_eq!(
            v2(json).unwrap(),
            [
                "pids.max=max",
                "memory.swap.max=max?",
                "memory.max=max",
                "memory.low=max",
                "cpu.max=max 100000"
            ]
        );
        assert_eq!(v2(r#"{"pids": {"limit": 0}}"#).unwrap(), ["pids.max=1"]);
    }

    #[test]
    fn v2_counts_swap_without_memory() {
        let swap =
            |limit: i64, swap: i64| v2(&format!(r#"{{"memory": {{"limit": {limit}, "swap": {swap}}}}}"#));
        assert_eq!(swap(100, 300).unwrap(), ["memory.swap.max=200", "memory.max=100"]);
        assert_eq!(swap(100, 100).unwrap(), ["memory.swap.max=0?", "memory.max=100"]);
        assert_eq!(swap(100, -1).unwrap(), ["memory.swap.max=max?", "memory.max=100"]);
        assert_eq!(swap(-1, 300).unwrap(), ["memory.swap.max=300", "memory.max=max"]);
        assert_eq!(swap(100, 0).unwrap(), ["memory.max=100"]);
        assert!(swap(300, 100).unwrap_err().contains("memory+swap limit should be >= memory limit"));
        assert!(swap(0, 100).unwrap_err().contains("unable to set swap limit without memory limit"));
    }

    #[test]
    fn unified_names_files_of_this_cgroup_only() {
        let json = r#"{"unified": {"memory.high": "1000", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cgroup.max.depth": "3"}}"#;
        let want = ["cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=1000"];
        assert_eq!(v2(json).unwrap(), want);
        assert!(v1(json).unwrap_err().contains("cannot use unified on cgroup v1"));
        for bad in ["../memory.max", "a/b", "/", "..", ".", "", "memory", "memory.", ".max", "a.\\u0000"] {
            let error = v2(&format!(r#"{{"unified": {{"{bad}": "1"}}}}"#)).unwrap_err();
            assert!(error.starts_with("linux.resources.unified: unified resource"), "{error}");
        }
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused_with_their_place() {
        for (json, place) in [
            (r#"{"memory": {"limit": -2}}"#, "memory.limit"),
            (r#"{"memory": {"limit": 2, "swap": 1}}"#, "memory.swap"),
            (r#"{"blockIO": {"weight": 9}}"#, "blockIO.weight"),
            (r#"{"blockIO": {"weight": 1001}}"#, "blockIO.weight"),
            (
                r#"{"blockIO": {"weightDevice": [{"major": -1, "minor": 0, "weight": 10}]}}"#,
                "blockIO.weightDevice[0]",
            ),
            (
                r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1048576, "rate": 1}]}}"#,
                "blockIO.throttleReadBpsDevice[0]",
            ),
            (r#"{"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}"#, "hugepageLimits[0].pageSize"),
            (r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}"#, "hugepageLimits[0].pageSize"),
            (r#"{"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}"#, "hugepageLimits[0].pageSize"),
            (r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}"#, "hugepageLimits[0].limit"),
            (r#"{"rdma": {"a b": {}}}"#, "rdma"),
        ] {
            for error in [v1(json).unwrap_err(), v2(json).unwrap_err()] {
                assert!(error.starts_with(&format!("linux.resources.{place}: ")), "{json}: {error}");
            }
        }
        for (json, place) in [
            (r#"{"memory": {"swappiness": 101}}"#, "memory.swappiness"),
            (r#"{"cpu": {"shares": 1}}"#, "cpu.shares"),
            (r#"{"cpu": {"shares": 262145}}"#, "cpu.shares"),
            (
                r#"{"network": {"priorities": [{"name": "a b", "priority": 1}]}}"#,
                "network.priorities[0].name",
            ),
        ] {
            let error = v1(json).unwrap_err();
            assert!(error.starts_with(&format!("linux.resources.{place}: ")), "{json}: {error}");
        }
        for (json, place) in [
            (r#"{"cpu": {"realtimeRuntime": 1}}"#, "cpu.realtimeRuntime"),
            (r#"{"network": {"classID": 1}}"#, "network.classID"),
            (r#"{"blockIO": {"leafWeight": 10}}"#, "blockIO.leafWeight"),
        ] {
            let error = v2(json).unwrap_err();
            assert!(error.starts_with(&format!("linux.resources.{place}: ")), "{json}: {error}");
        }
    }
}
