//! Resources → files of the v1 controllers (kernel: admin-guide/cgroup-v1).

use super::setting::{Setting, device, invalid, page_size, pids, rdma, size, weight};
use crate::Error;
use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice};

/// See [`super::settings`].
pub(super) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(invalid("unified", "invalid configuration: cannot use unified on cgroup v1"));
    }
    let mut out = Vec::new();
    if let Some(cpu) = resources.cpu() {
        cpuset(cpu, &mut out);
    }
    if let Some(limits) = resources.memory() {
        memory(limits, &mut out)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(limits, &mut out)?;
    }
    if let Some(limit) = resources.pids() {
        out.push(pids(limit.limit()));
    }
    if let Some(limits) = resources.block_io() {
        blkio(limits, &mut out)?;
    }
    for (i, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let pages = page_size(i, limit)?;
        out.push(Setting::new(format!("hugetlb.{pages}.limit_in_bytes"), limit.limit()));
        // The reservation limit is newer (Linux 5.7); without it pages are counted when they are touched.
        out.push(Setting::new(format!("hugetlb.{pages}.rsvd.limit_in_bytes"), limit.limit()).optional());
    }
    if let Some(limits) = resources.network() {
        network(limits, &mut out)?;
    }
    if let Some(limits) = resources.rdma() {
        out.extend(rdma(limits)?);
    }
    Ok(out)
}

fn cpuset(cpu: &LinuxCpu, out: &mut Vec<Setting>) {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = value.as_ref().filter(|v| !v.is_empty()) {
            out.push(Setting::new(file, list));
        }
    }
}

fn memory(memory: &LinuxMemory, out: &mut Vec<Setting>) -> Result<(), Error> {
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = size("memory.limit", memory.limit())?;
    // `swap` is memory and swap together, as the file is.
    let swap = size("memory.swap", memory.swap())?;
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (limit, swap)
        && swap < limit
    {
        return Err(invalid("memory.swap", "memory+swap limit should be >= memory limit"));
    }
    if let Some(limit) = limit {
        out.push(Setting::new("memory.limit_in_bytes", limit));
    }
    match (limit, swap) {
        (_, Some(swap)) => out.push(Setting::new(SWAP, swap)),
        // No limit for memory alone would fail below a limit for both. The file exists only where the kernel
        // counts swap.
        (Some(-1), None) => out.push(Setting::new(SWAP, -1).optional()),
        _ => {}
    }
    if let Some(reservation) = size("memory.reservation", memory.reservation())? {
        out.push(Setting::new("memory.soft_limit_in_bytes", reservation));
    }
    if memory.disable_oom_killer() == Some(true) {
        out.push(Setting::new("memory.oom_control", 1));
    }
    match memory.swappiness() {
        // -1 read as unsigned means "leave it", as older engines wrote it.
        None | Some(u64::MAX) => {}
        Some(n @ 0..=100) => out.push(Setting::new("memory.swappiness", n)),
        Some(n) => return Err(invalid("memory.swappiness", format!("{n} is out of range 0-100"))),
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu, out: &mut Vec<Setting>) -> Result<(), Error> {
    match cpu.shares() {
        None | Some(0) => {}
        // The kernel would clamp it in silence.
        Some(n @ ..2) => {
            return Err(invalid("cpu.shares", format!("{n}: the minimum allowed cpu-shares is 2")));
        }
        Some(n @ 262_145..) => {
            return Err(invalid("cpu.shares", format!("{n}: the maximum allowed cpu-shares is 262144")));
        }
        Some(n) => out.push(Setting::new("cpu.shares", n)),
    }
    if let Some(period) = cpu.period().filter(|n| *n != 0) {
        out.push(Setting::new("cpu.cfs_period_us", period));
    }
    if let Some(burst) = cpu.burst() {
        // Linux 5.14 has it in v2 only.
        out.push(Setting::new("cpu.cfs_burst_us", burst).optional());
    }
    if let Some(quota) = cpu.quota().filter(|n| *n != 0) {
        out.push(Setting::new("cpu.cfs_quota_us", quota));
    }
    if let Some(idle) = cpu.idle() {
        out.push(Setting::new("cpu.idle", idle));
    }
    if let Some(period) = cpu.realtime_period().filter(|n| *n != 0) {
        out.push(Setting::new("cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|n| *n != 0) {
        out.push(Setting::new("cpu.rt_runtime_us", runtime));
    }
    Ok(())
}

fn blkio(io: &LinuxBlockIo, out: &mut Vec<Setting>) -> Result<(), Error> {
    // CFQ had `blkio.weight` until Linux 5.0; BFQ has the same under its own name.
    if let Some(w) = weight("blockIO.weight", io.weight())? {
        out.push(Setting::new("blkio.weight", w).or("blkio.bfq.weight", w));
    }
    if let Some(w) = weight("blockIO.leafWeight", io.leaf_weight())? {
        out.push(Setting::new("blkio.leaf_weight", w));
    }
    for (i, d) in io.weight_device().iter().flatten().enumerate() {
        let place = format!("blockIO.weightDevice[{i}]");
        let number = device(&place, d.major(), d.minor())?;
        if let Some(w) = weight(&place, d.weight())? {
            let line = format!("{number} {w}");
            out.push(Setting::new("blkio.weight_device", &line).or("blkio.bfq.weight_device", &line));
        }
        if let Some(w) = weight(&place, d.leaf_weight())? {
            out.push(Setting::new("blkio.leaf_weight_device", format!("{number} {w}")));
        }
    }
    let mut throttle = |name: &str, list: &Option<Vec<LinuxThrottleDevice>>, file: &str| {
        for (i, d) in list.iter().flatten().enumerate() {
            let number = device(&format!("blockIO.{name}[{i}]"), d.major(), d.minor())?;
            out.push(Setting::new(file, format!("{number} {}", d.rate())));
        }
        Ok(())
    };
    throttle("throttleReadBpsDevice", io.throttle_read_bps_device(), "blkio.throttle.read_bps_device")?;
    throttle("throttleWriteBpsDevice", io.throttle_write_bps_device(), "blkio.throttle.write_bps_device")?;
    throttle("throttleReadIOPSDevice", io.throttle_read_iops_device(), "blkio.throttle.read_iops_device")?;
    throttle("throttleWriteIOPSDevice", io.throttle_write_iops_device(), "blkio.throttle.write_iops_device")
}

fn network(network: &LinuxNetwork, out: &mut Vec<Setting>) -> Result<(), Error> {
    if let Some(class) = network.class_id().filter(|n| *n != 0) {
        out.push(Setting::new("net_cls.classid", class));
    }
    for (i, p) in network.priorities().iter().flatten().enumerate() {
        if p.name().is_empty() || p.name().contains(char::is_whitespace) {
            return Err(invalid(
                &format!("network.priorities[{i}].name"),
                format!("{:?} is no interface", p.name()),
            ));
        }
        out.push(Setting::new("net_prio.ifpriomap", format!("{} {}", p.name(), p.priority())));
    }
    Ok(())
}
