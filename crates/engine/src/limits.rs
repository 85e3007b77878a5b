//! What a container may use beside `--memory`, `--cpus` and `--pids-limit`: the user's wishes and the spec's resources.

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use serde::{Deserialize, Serialize};

/// Limits with docker's names and meaning. `None` leaves it to the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `--cpu-shares`: weight beside others, 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period` in µs.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota` in µs of each period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// `--cpuset-cpus`: `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`: `0,1`.
    pub cpuset_mems: Option<String>,
    /// `--memory-swap`: memory and swap together in bytes; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation` in bytes: what the kernel tries to come down to when memory is short.
    pub memory_reservation: Option<u64>,
    /// `--memory-swappiness`: 0 to 100; cgroup v2 has none.
    pub memory_swappiness: Option<u64>,
    /// `--oom-kill-disable`; cgroup v2 has none.
    pub oom_kill_disable: bool,
    /// `--oom-score-adj`: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// `--blkio-weight`: 10 to 1000.
    pub blkio_weight: Option<u16>,
}

impl Limits {
    /// Adds them to the resources, which have `--memory` and `--cpus` already.
    ///
    /// # Errors
    /// Limits that do not fit together; docker's rules.
    pub(crate) fn apply(&self, memory: Option<u64>, resources: &mut LinuxResources) -> Result<(), String> {
        self.memory(memory.filter(|bytes| *bytes > 0), resources)?;
        self.cpu(resources)?;
        if let Some(weight) = self.blkio_weight.filter(|weight| *weight > 0) {
            if !(10..=1000).contains(&weight) {
                return Err(format!("blkio weight {weight} is out of range: wants 10 to 1000"));
            }
            let mut block = LinuxBlockIo::default();
            block.set_weight(Some(weight));
            resources.set_block_io(Some(block));
        }
        match self.oom_score_adj {
            Some(adj) if !(-1000..=1000).contains(&adj) => {
                Err(format!("oom score adjustment {adj} is out of range: wants -1000 to 1000"))
            }
            _ => Ok(()),
        }
    }

    fn memory(&self, limit: Option<u64>, resources: &mut LinuxResources) -> Result<(), String> {
        let mut memory: LinuxMemory = resources.memory().unwrap_or_default();
        let before = memory;
        if let Some(swap) = self.memory_swap.filter(|swap| *swap != 0) {
            let Some(limit) = limit else {
                return Err("--memory-swap counts memory too: give --memory with it".to_owned());
            };
            if swap > 0 && swap.unsigned_abs() < limit {
                return Err(format!("--memory-swap {swap} is less than --memory {limit}: it counts both"));
            }
            memory.set_swap(Some(swap.max(-1)));
        }
        if let Some(soft) = self.memory_reservation.filter(|soft| *soft > 0) {
            if limit.is_some_and(|limit| limit < soft) {
                return Err(format!("--memory-reservation {soft} is more than --memory"));
            }
            let soft =
                i64::try_from(soft).map_err(|_| format!("--memory-reservation {soft} is too large"))?;
            memory.set_reservation(Some(soft));
        }
        if let Some(swappiness) = self.memory_swappiness {
            if swappiness > 100 {
                return Err(format!("memory swappiness {swappiness} is out of range: wants 0 to 100"));
            }
            memory.set_swappiness(Some(swappiness));
        }
        if self.oom_kill_disable {
            memory.set_disable_oom_killer(Some(true));
        }
        if memory != before {
            resources.set_memory(Some(memory));
        }
        Ok(())
    }

    fn cpu(&self, resources: &mut LinuxResources) -> Result<(), String> {
        let mut cpu: LinuxCpu = resources.cpu().clone().unwrap_or_default();
        let before = cpu.clone();
        if cpu.quota().is_some() && (self.cpu_period.is_some() || self.cpu_quota.is_some()) {
            return Err("--cpus is a period and a quota: give it, or --cpu-period and --cpu-quota".to_owned());
        }
        if let Some(period) = self.cpu_period.filter(|period| *period > 0) {
            if !(1000..=1_000_000).contains(&period) {
                return Err(format!("cpu period {period} is out of range: wants 1000 to 1000000 µs"));
            }
            cpu.set_period(Some(period));
        }
        if let Some(quota) = self.cpu_quota.filter(|quota| *quota != 0) {
            if quota > 0 && quota < 1000 {
                return Err(format!("cpu quota {quota} is too small: wants 1000 µs or more"));
            }
            cpu.set_quota(Some(quota));
        }
        cpu.set_shares(self.cpu_shares.filter(|shares| *shares > 0));
        cpu.set_cpus(self.cpuset_cpus.clone()).set_mems(self.cpuset_mems.clone());
        if cpu != before {
            resources.set_cpu(Some(cpu));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(limits: &Limits, memory: Option<u64>) -> String {
        let mut resources = LinuxResources::default();
        match limits.apply(memory, &mut resources) {
            Ok(()) => serde_json::to_string(&resources).unwrap(),
            Err(why) => why,
        }
    }

    #[test]
    fn limits_that_do_not_fit_together_are_refused() {
        let none = Limits::default();
        for (limits, memory, want) in [
            (Limits { memory_swap: Some(1 << 30), ..none.clone() }, None, "give --memory"),
            (Limits { memory_swap: Some(1), ..none.clone() }, Some(9 << 20), "less than --memory"),
            (
                Limits { memory_reservation: Some(10 << 20), ..none.clone() },
                Some(9 << 20),
                "more than --memory",
            ),
            (Limits { memory_swappiness: Some(101), ..none.clone() }, None, "0 to 100"),
            (Limits { blkio_weight: Some(9), ..none.clone() }, None, "10 to 1000"),
            (Limits { oom_score_adj: Some(1001), ..none.clone() }, None, "-1000 to 1000"),
            (Limits { cpu_period: Some(1), ..none.clone() }, None, "1000 to 1000000"),
            (Limits { cpu_quota: Some(1), ..none.clone() }, None, "1000 µs"),
            (Limits { memory_swap: Some(-1), ..none.clone() }, Some(9 << 20), "\"swap\":-1"),
            (
                Limits { cpu_shares: Some(2), cpuset_cpus: Some("0".into()), ..none.clone() },
                None,
                "\"shares\":2",
            ),
        ] {
            let text = said(&limits, memory);
            assert!(text.contains(want), "{limits:?}: {text}");
        }
        assert!(!said(&none, None).contains("memory"));
    }
}
