//! What a container has used, in the JSON that `events` prints: runc's field for field (its `types/events.go`).
//!
//! Values only; [`crate::cgroup::Cgroup::stats`] reads them. A field that runc leaves out when it is empty is left
//! out here too, since readers take what is missing for 0.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// One reading of a container's cgroup. Times are nanoseconds, sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// The v1 cpuset's files; all 0 on v2.
    pub cpuset: CpuSet,
    /// Memory and swap.
    pub memory: Memory,
    /// Number of tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// By page size: `2MB`.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Resource control groups of Intel's RDT.
    pub intel_rdt: IntelRdt,
    /// `null`: runc lists only interfaces that it made itself, which no config.json can ask for.
    pub network_interfaces: (),
}

/// `cpu`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    #[serde(skip_serializing_if = "is_empty")]
    pub usage: CpuUsage,
    /// Time denied.
    #[serde(skip_serializing_if = "is_empty")]
    pub throttling: Throttling,
    /// cpu.pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// `cpu.usage`. v2 does not count by processor.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// In both modes, on all processors.
    #[serde(skip_serializing_if = "is_empty")]
    pub total: u64,
    /// In both modes, by processor.
    #[serde(skip_serializing_if = "is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor.
    #[serde(skip_serializing_if = "is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user mode, by processor.
    #[serde(skip_serializing_if = "is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
}

/// `cpu.throttling`: what the quota did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Throttling {
    /// Periods with something to run.
    #[serde(skip_serializing_if = "is_empty")]
    pub periods: u64,
    /// Those in which the quota ran out.
    #[serde(rename = "throttledPeriods", skip_serializing_if = "is_empty")]
    pub throttled_periods: u64,
    /// How long the container stood still.
    #[serde(rename = "throttledTime", skip_serializing_if = "is_empty")]
    pub throttled_time: u64,
}

/// `cpuset`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // the names are those of the files, cpuset(7)
pub struct CpuSet {
    #[serde(skip_serializing_if = "is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// `memory`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "is_empty")]
    pub cache: u64,
    /// All that is charged.
    #[serde(skip_serializing_if = "is_empty")]
    pub usage: MemoryEntry,
    /// Memory and swap together, also on v2.
    #[serde(skip_serializing_if = "is_empty")]
    pub swap: MemoryEntry,
    /// The kernel's part; v1 only.
    #[serde(skip_serializing_if = "is_empty")]
    pub kernel: MemoryEntry,
    /// TCP buffers; v1 only.
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_empty")]
    pub kernel_tcp: MemoryEntry,
    /// memory.stat.
    #[serde(skip_serializing_if = "is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// memory.pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One kind of memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// Most it may be; `u64::MAX` (v2) or a little less than 2^63 (v1) is no limit.
    pub limit: u64,
    /// What it is.
    #[serde(skip_serializing_if = "is_empty")]
    pub usage: u64,
    /// Most it was.
    #[serde(skip_serializing_if = "is_empty")]
    pub max: u64,
    /// How often the limit was met; v1 only.
    pub failcnt: u64,
}

/// `pids`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pids {
    /// Processes and threads.
    #[serde(skip_serializing_if = "is_empty")]
    pub current: u64,
    /// Most there may be; 0 is no limit.
    #[serde(skip_serializing_if = "is_empty")]
    pub limit: u64,
}

/// `blkio`: lists under the names of v1's files, which other readers know.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Blkio {
    /// Bytes moved.
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "is_empty")]
    pub service_bytes: Vec<BlkioEntry>,
    /// Requests.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "is_empty")]
    pub serviced: Vec<BlkioEntry>,
    /// Requests that wait.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "is_empty")]
    pub queued: Vec<BlkioEntry>,
    /// Time from dispatch to completion.
    #[serde(rename = "ioServiceTimeRecursive", skip_serializing_if = "is_empty")]
    pub service_time: Vec<BlkioEntry>,
    /// Time in queues.
    #[serde(rename = "ioWaitTimeRecursive", skip_serializing_if = "is_empty")]
    pub wait_time: Vec<BlkioEntry>,
    /// Requests merged into others.
    #[serde(rename = "ioMergedRecursive", skip_serializing_if = "is_empty")]
    pub merged: Vec<BlkioEntry>,
    /// Time the device was held.
    #[serde(rename = "ioTimeRecursive", skip_serializing_if = "is_empty")]
    pub time: Vec<BlkioEntry>,
    /// Sectors moved.
    #[serde(rename = "sectorsRecursive", skip_serializing_if = "is_empty")]
    pub sectors: Vec<BlkioEntry>,
    /// io.pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One number of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// Device number.
    #[serde(skip_serializing_if = "is_empty")]
    pub major: u64,
    /// Device number.
    #[serde(skip_serializing_if = "is_empty")]
    pub minor: u64,
    /// `Read`, `Write`, `Total` and the like; empty where the file does not tell them apart.
    #[serde(skip_serializing_if = "is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_empty")]
    pub value: u64,
}

/// One size of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Hugetlb {
    /// Bytes reserved, or in use on kernels that do not count reservations.
    #[serde(skip_serializing_if = "is_empty")]
    pub usage: u64,
    /// Most it was; v1 only.
    #[serde(skip_serializing_if = "is_empty")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// `intel_rdt`: empty for a container without a resource control group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IntelRdt {
    /// What the processor's level 3 cache can be told.
    #[serde(skip_serializing_if = "is_empty")]
    pub l3_cache_info: Option<L3CacheInfo>,
    /// The default group's share of it, a line of `schemata`.
    #[serde(skip_serializing_if = "is_empty")]
    pub l3_cache_schema_root: String,
    /// The container's group's share of it.
    #[serde(skip_serializing_if = "is_empty")]
    pub l3_cache_schema: String,
    /// What its memory bandwidth can be told.
    #[serde(skip_serializing_if = "is_empty")]
    pub mem_bw_info: Option<MemBwInfo>,
    /// The default group's share of it.
    #[serde(skip_serializing_if = "is_empty")]
    pub mem_bw_schema_root: String,
    /// The container's group's share of it.
    #[serde(skip_serializing_if = "is_empty")]
    pub mem_bw_schema: String,
    /// All shares of the container's group.
    #[serde(skip_serializing_if = "is_empty")]
    pub schemata: Vec<String>,
    /// Memory traffic, cache by cache.
    #[serde(skip_serializing_if = "is_empty")]
    pub mbm_stats: Vec<MemBwUse>,
    /// Use of the caches, cache by cache.
    #[serde(skip_serializing_if = "is_empty")]
    pub cmt_stats: Vec<CacheUse>,
}

/// Files of resctrl's `info/L3`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct L3CacheInfo {
    /// A mask of all that can be given, hexadecimal.
    pub cbm_mask: String,
    /// Fewest bits of a share.
    pub min_cbm_bits: u64,
    /// Number of groups.
    pub num_closids: u64,
}

/// Files of resctrl's `info/MB`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemBwInfo {
    /// Steps of a share, in percent.
    pub bandwidth_gran: u64,
    /// Delays are linear in the share.
    pub delay_linear: u64,
    /// Least share, in percent.
    pub min_bandwidth: u64,
    /// Number of groups.
    pub num_closids: u64,
}

/// Memory traffic through one cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemBwUse {
    /// Bytes, from all memory.
    pub mbm_total_bytes: u64,
    /// Bytes, from memory of the cache's own node.
    pub mbm_local_bytes: u64,
}

/// Use of one cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CacheUse {
    /// Bytes.
    pub llc_occupancy: u64,
}

/// Time lost to waiting (kernel: accounting/psi).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Psi {
    /// At least one task waited.
    #[serde(skip_serializing_if = "is_empty")]
    pub some: PsiLine,
    /// All of them did.
    #[serde(skip_serializing_if = "is_empty")]
    pub full: PsiLine,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PsiLine {
    /// Percent of the last 10 seconds.
    #[serde(serialize_with = "short")]
    pub avg10: f64,
    /// Percent of the last minute.
    #[serde(serialize_with = "short")]
    pub avg60: f64,
    /// Percent of the last five minutes.
    #[serde(serialize_with = "short")]
    pub avg300: f64,
    /// Microseconds since the cgroup was made.
    pub total: u64,
}

fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A whole number without `.0`, as Go writes it.
fn short<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
    // Percentages: from 0 to 100.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    match value.fract() == 0.0 {
        true => out.serialize_u64(*value as u64),
        false => out.serialize_f64(*value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_used_is_what_runc_prints_for_it() {
        let want = r#"{"cpu":{},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{},"pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#;
        assert_eq!(serde_json::to_string(&Stats::default()).unwrap(), want);
    }

    #[test]
    fn entries_keep_the_fields_that_runc_always_prints() {
        let entry = MemoryEntry { usage: 5, ..MemoryEntry::default() };
        assert_eq!(json(&entry), r#"{"limit":0,"usage":5,"failcnt":0}"#);
        assert_eq!(json(&Hugetlb::default()), r#"{"failcnt":0}"#);
        let usage = CpuUsage { total: 7, percpu: vec![7, 0], ..CpuUsage::default() };
        assert_eq!(json(&usage), r#"{"total":7,"percpu":[7,0],"kernel":0,"user":0}"#);
        let entry = BlkioEntry { major: 0, minor: 3, op: "Read".into(), value: 0 };
        assert_eq!(json(&entry), r#"{"minor":3,"op":"Read"}"#);
        let some = PsiLine { avg10: 1.5, avg60: 100.0, avg300: 0.0, total: 9 };
        let psi = Psi { some, full: PsiLine::default() };
        assert_eq!(json(&psi), r#"{"some":{"avg10":1.5,"avg60":100,"avg300":0,"total":9}}"#);
    }

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }
}
