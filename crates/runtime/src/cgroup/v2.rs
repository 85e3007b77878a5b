//! Resources → files of the unified hierarchy (kernel: admin-guide/cgroup-v2).
//!
//! The specification speaks v1; where v2 counts otherwise the value is converted as runc and crun do.

use super::setting::{Setting, device, invalid, page_size, pids, rdma, size, weight};
use crate::Error;
use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::collections::HashMap;

/// See [`super::settings`].
pub(super) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut out = Vec::new();
    if let Some(limit) = resources.pids() {
        out.push(pids(limit.limit()));
    }
    if let Some(limits) = resources.memory() {
        memory(limits, &mut out)?;
    }
    if let Some(limits) = resources.block_io() {
        io(limits, &mut out)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(limits, &mut out)?;
    }
    for (i, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let pages = page_size(i, limit)?;
        out.push(Setting::new(format!("hugetlb.{pages}.max"), limit.limit()));
        // The reservation limit is newer (Linux 5.7); without it pages are counted when they are touched.
        out.push(Setting::new(format!("hugetlb.{pages}.rsvd.max"), limit.limit()).optional());
    }
    if let Some(limits) = resources.rdma() {
        out.extend(rdma(limits)?);
    }
    if let Some(network) = resources.network() {
        if network.class_id().is_some_and(|n| n != 0) {
            return Err(invalid("network.classID", "cgroup v2 has no net_cls controller"));
        }
        if network.priorities().as_ref().is_some_and(|p| !p.is_empty()) {
            return Err(invalid("network.priorities", "cgroup v2 has no net_prio controller"));
        }
    }
    if let Some(files) = resources.unified() {
        unified(files, &mut out)?;
    }
    Ok(out)
}

fn max(n: i64) -> String {
    if n == -1 { "max".to_owned() } else { n.to_string() }
}

fn memory(memory: &LinuxMemory, out: &mut Vec<Setting>) -> Result<(), Error> {
    let limit = size("memory.limit", memory.limit())?;
    // In v1, and so in the specification, `swap` is memory and swap together; here swap is counted alone.
    let swap = match (limit, size("memory.swap", memory.swap())?) {
        (Some(-1), None) | (_, Some(-1)) => Some("max".to_owned()),
        (_, None) => None,
        (Some(-1), Some(swap)) => Some(swap.to_string()),
        (None, Some(_)) => {
            return Err(invalid("memory.swap", "unable to set swap limit without memory limit"));
        }
        (Some(limit), Some(swap)) if swap < limit => {
            return Err(invalid("memory.swap", "memory+swap limit should be >= memory limit"));
        }
        (Some(limit), Some(swap)) => Some((swap - limit).to_string()),
    };
    if let Some(swap) = swap {
        // A kernel without swap has no file, and keeps both of these.
        let harmless = swap == "max" || swap == "0";
        let setting = Setting::new("memory.swap.max", swap);
        out.push(if harmless { setting.optional() } else { setting });
    }
    if let Some(limit) = limit {
        out.push(Setting::new("memory.max", max(limit)));
    }
    if let Some(reservation) = size("memory.reservation", memory.reservation())? {
        out.push(Setting::new("memory.low", max(reservation)));
    }
    // Engines send them whatever the host has, and no limit is missed without them.
    let ignored = [
        ("swappiness", memory.swappiness().is_some_and(|n| n != u64::MAX)),
        ("disableOOMKiller", memory.disable_oom_killer() == Some(true)),
    ];
    for (name, _) in ignored.iter().filter(|(_, given)| *given) {
        tracing::warn!("linux.resources.memory.{name}: ignored: cgroup v2 has nothing like it");
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu, out: &mut Vec<Setting>) -> Result<(), Error> {
    if let Some(idle) = cpu.idle() {
        out.push(Setting::new("cpu.idle", idle));
    }
    if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
        out.push(Setting::new("cpu.weight", cpu_weight(shares)));
    }
    if let Some(burst) = cpu.burst() {
        out.push(Setting::new("cpu.max.burst", burst));
    }
    let quota = cpu.quota().filter(|n| *n != 0);
    let period = cpu.period().filter(|n| *n != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|n| *n > 0).map_or("max".to_owned(), |n| n.to_string());
        // 100000 µs is the kernel's default.
        out.push(Setting::new("cpu.max", format!("{quota} {}", period.unwrap_or(100_000))));
    }
    if cpu.realtime_period().is_some_and(|n| n != 0) || cpu.realtime_runtime().is_some_and(|n| n != 0) {
        return Err(invalid("cpu.realtimeRuntime", "cgroup v2 has no realtime limits"));
    }
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = value.as_ref().filter(|v| !v.is_empty()) {
            out.push(Setting::new(file, list));
        }
    }
    Ok(())
}

/// cpu.shares (2 – 262144, default 1024) as cpu.weight (1 – 10000, default 100).
///
/// The curve goes through the three pairs: a quadratic in log2 of the shares gives log10 of the weight. It is
/// runc's since 1.3.2 and crun's since 1.23; the linear map before it gave the default shares a weight of 39.
fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[allow(clippy::cast_precision_loss)] // below 2^18
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 and 10000
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

/// A blkio weight (10 – 1000) as io.weight (1 – 10000), linear.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

fn io(io: &LinuxBlockIo, out: &mut Vec<Setting>) -> Result<(), Error> {
    // BFQ's file has blkio's range; io.weight belongs to the cost model.
    if let Some(w) = weight("blockIO.weight", io.weight())? {
        out.push(Setting::new("io.bfq.weight", w).or("io.weight", io_weight(w)));
    }
    if weight("blockIO.leafWeight", io.leaf_weight())?.is_some() {
        return Err(invalid("blockIO.leafWeight", "cgroup v2 has no leaf weights"));
    }
    for (i, d) in io.weight_device().iter().flatten().enumerate() {
        let place = format!("blockIO.weightDevice[{i}]");
        let number = device(&place, d.major(), d.minor())?;
        if let Some(w) = weight(&place, d.weight())? {
            let setting = Setting::new("io.bfq.weight", format!("{number} {w}"));
            out.push(setting.or("io.weight", format!("{number} {}", io_weight(w))));
        }
        if weight(&place, d.leaf_weight())?.is_some() {
            return Err(invalid(&place, "cgroup v2 has no leaf weights"));
        }
    }
    let mut throttle = |name: &str, list: &Option<Vec<LinuxThrottleDevice>>, key: &str| {
        for (i, d) in list.iter().flatten().enumerate() {
            let number = device(&format!("blockIO.{name}[{i}]"), d.major(), d.minor())?;
            // v1 takes a rate of 0 for "no limit"; io.max refuses it.
            let rate = if d.rate() == 0 { "max".to_owned() } else { d.rate().to_string() };
            out.push(Setting::new("io.max", format!("{number} {key}={rate}")));
        }
        Ok(())
    };
    throttle("throttleReadBpsDevice", io.throttle_read_bps_device(), "rbps")?;
    throttle("throttleWriteBpsDevice", io.throttle_write_bps_device(), "wbps")?;
    throttle("throttleReadIOPSDevice", io.throttle_read_iops_device(), "riops")?;
    throttle("throttleWriteIOPSDevice", io.throttle_write_iops_device(), "wiops")
}

/// Files named by the configuration itself, in the order of their names. A value of several lines is several
/// writes, since the kernel takes one line at a time.
fn unified(files: &HashMap<String, String>, out: &mut Vec<Setting>) -> Result<(), Error> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort();
    for (name, value) in files {
        if name.contains('/') || name.contains('\0') {
            return Err(invalid(
                "unified",
                format!("unified resource {name:?} must be a file name (no slashes)"),
            ));
        }
        // Also keeps `.` and `..` out.
        if !name.split_once('.').is_some_and(|(c, p)| !c.is_empty() && !p.is_empty()) {
            let why = format!("unified resource {name:?} must be in the form CONTROLLER.PARAMETER");
            return Err(invalid("unified", why));
        }
        out.extend(value.lines().filter(|l| !l.is_empty()).map(|line| Setting::new(name.as_str(), line)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_weights_meet_the_three_fixed_points_and_rise() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000), (1, 1), (u64::MAX, 10_000)] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        for (shares, weight) in [(3, 2), (10, 4), (100, 17), (512, 59), (2048, 174), (4096, 303)] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert!((2..262_144).step_by(97).is_sorted_by_key(cpu_weight));
    }

    #[test]
    fn io_weights_are_linear() {
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }
}
