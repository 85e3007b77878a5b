//! The files of the v1 controllers (kernel: admin-guide/cgroup-v1) → [`Stats`].

use super::super::Cgroup;
use super::super::dir::Dir;
use super::read::list;
use crate::Error;
use crate::stats::{Blkio, BlkioEntry, Cpu, CpuSet, Hugetlb, Memory, MemoryEntry, Pids, Stats};
use std::collections::BTreeMap;

/// Fills in what the controllers of v1 hierarchies count.
pub(super) fn read(cgroup: &Cgroup, page_sizes: &[String], stats: &mut Stats) -> Result<(), Error> {
    if let Some(dir) = cgroup.v1("cpuset") {
        stats.cpuset = cpuset(dir)?;
    }
    if let Some(dir) = cgroup.v1("memory") {
        stats.memory = memory(dir)?;
    }
    if let Some(dir) = cgroup.v1("cpu") {
        throttling(dir, &mut stats.cpu)?;
    }
    if let Some(dir) = cgroup.v1("cpuacct") {
        usage(dir, &mut stats.cpu)?;
    }
    if let Some(dir) = cgroup.v1("pids") {
        stats.pids = pids(dir)?;
    }
    if let Some(dir) = cgroup.v1("blkio") {
        stats.blkio = blkio(dir)?;
    }
    if let Some(dir) = cgroup.v1("hugetlb") {
        stats.hugetlb = hugetlb(dir, page_sizes)?;
    }
    Ok(())
}

fn cpuset(dir: &Dir) -> Result<CpuSet, Error> {
    let numbers = |file: &str| match dir.text(file)? {
        None => Ok(Vec::new()),
        Some(text) => list(&text).ok_or_else(|| dir.malformed(file, text.trim())),
    };
    let flag = |name: &str| Ok::<u64, Error>(dir.number(&format!("cpuset.{name}"))?.unwrap_or(0));
    // The only one that can be negative: -1 is the system's default.
    let file = "cpuset.sched_relax_domain_level";
    let level = dir.text(file)?.unwrap_or_else(|| "0".to_owned());
    Ok(CpuSet {
        cpus: numbers("cpuset.cpus")?,
        cpu_exclusive: flag("cpu_exclusive")?,
        mems: numbers("cpuset.mems")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: level.trim().parse().map_err(|_| dir.malformed(file, level.trim()))?,
    })
}

fn memory(dir: &Dir) -> Result<Memory, Error> {
    let raw: BTreeMap<String, u64> = dir.pairs("memory.stat")?.unwrap_or_default().into_iter().collect();
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: memory_entry(dir, "memory")?,
        swap: memory_entry(dir, "memory.memsw")?,
        kernel: memory_entry(dir, "memory.kmem")?,
        kernel_tcp: memory_entry(dir, "memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

fn memory_entry(dir: &Dir, prefix: &str) -> Result<MemoryEntry, Error> {
    let read = |file: &str| Ok::<u64, Error>(dir.number(&format!("{prefix}.{file}"))?.unwrap_or(0));
    Ok(MemoryEntry {
        limit: read("limit_in_bytes")?,
        usage: read("usage_in_bytes")?,
        max: read("max_usage_in_bytes")?,
        failcnt: read("failcnt")?,
    })
}

fn throttling(dir: &Dir, cpu: &mut Cpu) -> Result<(), Error> {
    for (key, value) in dir.pairs("cpu.stat")?.unwrap_or_default() {
        match key.as_str() {
            "nr_periods" => cpu.throttling.periods = value,
            "nr_throttled" => cpu.throttling.throttled_periods = value,
            "throttled_time" => cpu.throttling.throttled_time = value,
            _ => {}
        }
    }
    Ok(())
}

fn usage(dir: &Dir, cpu: &mut Cpu) -> Result<(), Error> {
    // USER_HZ, which the kernel's interface has fixed at 100.
    const TICK: u64 = 10_000_000;
    for (key, value) in dir.pairs("cpuacct.stat")?.unwrap_or_default() {
        match key.as_str() {
            "user" => cpu.usage.user = value.saturating_mul(TICK),
            "system" => cpu.usage.kernel = value.saturating_mul(TICK),
            _ => {}
        }
    }
    cpu.usage.total = dir.number("cpuacct.usage")?.unwrap_or(0);
    let file = "cpuacct.usage_percpu";
    let text = dir.text(file)?.unwrap_or_default();
    let numbers = text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>();
    cpu.usage.percpu = numbers.map_err(|e| dir.malformed(file, e))?;
    // `cpu user system` and a line for each processor.
    let file = "cpuacct.usage_all";
    for line in dir.text(file)?.unwrap_or_default().lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1).map(str::parse);
        let (Some(Ok(user)), Some(Ok(kernel))) = (fields.next(), fields.next()) else {
            return Err(dir.malformed(file, line));
        };
        cpu.usage.percpu_user.push(user);
        cpu.usage.percpu_kernel.push(kernel);
    }
    Ok(())
}

/// The same in both versions.
pub(super) fn pids(dir: &Dir) -> Result<Pids, Error> {
    let limit = dir.number("pids.max")?.filter(|n| *n != u64::MAX);
    Ok(Pids { current: dir.number("pids.current")?.unwrap_or(0), limit: limit.unwrap_or(0) })
}

fn blkio(dir: &Dir) -> Result<Blkio, Error> {
    let mut blkio = Blkio::default();
    // The scheduler's own counters where the kernel has them: BFQ's, CFQ's until Linux 5.0. Some exist only with
    // CONFIG_BFQ_CGROUP_DEBUG.
    for prefix in ["blkio.bfq.", "blkio."] {
        let read = |name: &str| blkio_file(dir, &format!("{prefix}{name}"));
        let (Some(bytes), Some(serviced)) =
            (read("io_service_bytes_recursive")?, read("io_serviced_recursive")?)
        else {
            continue;
        };
        blkio.service_bytes = bytes;
        blkio.serviced = serviced;
        blkio.queued = read("io_queued_recursive")?.unwrap_or_default();
        blkio.service_time = read("io_service_time_recursive")?.unwrap_or_default();
        blkio.wait_time = read("io_wait_time_recursive")?.unwrap_or_default();
        blkio.merged = read("io_merged_recursive")?.unwrap_or_default();
        blkio.time = read("time_recursive")?.unwrap_or_default();
        blkio.sectors = read("sectors_recursive")?.unwrap_or_default();
        // A scheduler counts only the devices that it serves.
        if !blkio.service_bytes.is_empty() {
            return Ok(blkio);
        }
    }
    for suffix in ["_recursive", ""] {
        let read = |name: &str| blkio_file(dir, &format!("blkio.throttle.{name}{suffix}"));
        if let (Some(bytes), Some(serviced)) = (read("io_service_bytes")?, read("io_serviced")?) {
            return Ok(Blkio { service_bytes: bytes, serviced, ..blkio });
        }
    }
    Ok(blkio)
}

/// Lines `8:0 Read 4096` or `8:0 4096`, and totals without a device, which readers make themselves.
fn blkio_file(dir: &Dir, file: &str) -> Result<Option<Vec<BlkioEntry>>, Error> {
    let Some(text) = dir.text(file)? else { return Ok(None) };
    let entry = |line: &str| {
        let mut fields = line.split([' ', ':']).filter(|field| !field.is_empty());
        let (major, minor) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (op, value) = match (fields.next()?, fields.next()) {
            (op, Some(value)) => (op.to_owned(), value),
            (value, None) => (String::new(), value),
        };
        Some(BlkioEntry { major, minor, op, value: value.parse().ok()? })
    };
    let lines = text.lines().filter(|line| !line.starts_with("Total"));
    lines.map(|line| entry(line).ok_or_else(|| dir.malformed(file, line))).collect::<Result<_, _>>().map(Some)
}

fn hugetlb(dir: &Dir, page_sizes: &[String]) -> Result<BTreeMap<String, Hugetlb>, Error> {
    let mut all = BTreeMap::new();
    for size in page_sizes {
        // Reservations are counted since Linux 5.7.
        for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
            let Some(usage) = dir.number(&format!("{prefix}.usage_in_bytes"))? else { continue };
            let max = dir.number(&format!("{prefix}.max_usage_in_bytes"))?.unwrap_or(0);
            let failcnt = dir.number(&format!("{prefix}.failcnt"))?.unwrap_or(0);
            all.insert(size.clone(), Hugetlb { usage, max, failcnt });
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::super::Version;
    use super::*;
    use crate::stats::{CpuUsage, Throttling};

    /// A cgroup of which all v1 controllers are in one directory with these files.
    fn stats(files: &[(&str, &str)]) -> Result<Stats, Error> {
        let temporary = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(temporary.path().join(name), content).unwrap();
        }
        let controllers =
            ["cpuset", "memory", "cpu", "cpuacct", "pids", "blkio", "hugetlb"].map(str::to_owned);
        let dir = Dir::open(Version::V1, controllers.to_vec(), temporary.path().to_owned()).unwrap();
        let mut stats = Stats::default();
        let cgroup = Cgroup { dirs: vec![dir], tolerate: false };
        read(&cgroup, &["2MB".to_owned()], &mut stats).map(|()| stats)
    }

    #[test]
    fn every_file_has_its_field() {
        let read = stats(&[
            ("cpuset.cpus", "0-1\n"),
            ("cpuset.mems", "0\n"),
            ("cpuset.sched_load_balance", "1\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
            ("memory.stat", "cache 4096\nrss 8192\nswap -1\n"),
            ("memory.usage_in_bytes", "12288\n"),
            ("memory.max_usage_in_bytes", "16384\n"),
            ("memory.failcnt", "3\n"),
            ("memory.limit_in_bytes", "20480\n"),
            ("memory.memsw.usage_in_bytes", "12289\n"),
            ("memory.kmem.usage_in_bytes", "1\n"),
            ("memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n"),
            ("cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 700\nnr_bursts 0\nburst_time 0\n"),
            ("cpuacct.stat", "user 12\nsystem 3\n"),
            ("cpuacct.usage", "150000000\n"),
            ("cpuacct.usage_percpu", "100000000 50000000 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 90000000 10000000\n1 30000000 20000000\n"),
            ("pids.current", "4\n"),
            ("pids.max", "20\n"),
            ("hugetlb.2MB.rsvd.usage_in_bytes", "2097152\n"),
            ("hugetlb.2MB.rsvd.max_usage_in_bytes", "4194304\n"),
            ("hugetlb.2MB.rsvd.failcnt", "1\n"),
            ("hugetlb.2MB.usage_in_bytes", "0\n"),
        ])
        .unwrap();
        assert_eq!((read.cpuset.cpus, read.cpuset.mems), (vec![0, 1], vec![0]));
        assert_eq!((read.cpuset.sched_load_balance, read.cpuset.sched_relax_domain_level), (1, -1));
        let memory = read.memory;
        assert_eq!((memory.cache, memory.raw["rss"], memory.raw["swap"]), (4096, 8192, 0));
        assert_eq!(memory.usage, MemoryEntry { limit: 20480, usage: 12288, max: 16384, failcnt: 3 });
        assert_eq!((memory.swap.usage, memory.kernel.usage), (12289, 1));
        assert_eq!(memory.kernel_tcp.limit, 9_223_372_036_854_771_712);
        assert_eq!(read.cpu.throttling, Throttling { periods: 5, throttled_periods: 2, throttled_time: 700 });
        let usage = CpuUsage {
            total: 150_000_000,
            percpu: vec![100_000_000, 50_000_000],
            percpu_kernel: vec![10_000_000, 20_000_000],
            percpu_user: vec![90_000_000, 30_000_000],
            kernel: 30_000_000,
            user: 120_000_000,
        };
        assert_eq!(read.cpu.usage, usage);
        assert_eq!(read.pids, Pids { current: 4, limit: 20 });
        assert_eq!(read.hugetlb["2MB"], Hugetlb { usage: 2_097_152, max: 4_194_304, failcnt: 1 });
    }

    #[test]
    fn no_limit_of_tasks_is_0_and_old_hugetlb_files_do() {
        let read = stats(&[("pids.max", "max\n"), ("hugetlb.2MB.usage_in_bytes", "5\n")]).unwrap();
        assert_eq!(read.pids.limit, 0);
        assert_eq!(read.hugetlb["2MB"].usage, 5);
    }

    #[test]
    fn the_scheduler_counts_what_it_serves_and_throttling_the_rest() {
        let bfq = ("blkio.bfq.io_service_bytes_recursive", "8:0 Read 1\n8:0 Total 1\nTotal 1\n");
        let served = ("blkio.bfq.io_serviced_recursive", "8:0 Read 2\nTotal 2\n");
        let sectors = ("blkio.bfq.sectors_recursive", "8:0 6792\n");
        let throttle = [
            ("blkio.throttle.io_service_bytes_recursive", "7:0 Write 4096\nTotal 4096\n"),
            ("blkio.throttle.io_serviced_recursive", "7:0 Write 1\nTotal 1\n"),
        ];
        let entry = |major, op: &str, value| BlkioEntry { major, minor: 0, op: op.to_owned(), value };
        let read = stats(&[bfq, served, sectors, throttle[0], throttle[1]]).unwrap().blkio;
        assert_eq!(read.service_bytes, [entry(8, "Read", 1), entry(8, "Total", 1)]);
        assert_eq!(read.serviced, [entry(8, "Read", 2)]);
        assert_eq!(read.sectors, [entry(8, "", 6792)]);
        let idle = [(bfq.0, "Total 0\n"), (served.0, "Total 0\n")];
        for files in [&[idle[0], idle[1], throttle[0], throttle[1]][..], &throttle] {
            let read = stats(files).unwrap().blkio;
            assert_eq!(read.service_bytes, [entry(7, "Write", 4096)]);
            assert_eq!(read.serviced, [entry(7, "Write", 1)]);
        }
    }

    #[test]
    fn what_is_missing_is_0_and_what_cannot_be_read_is_named() {
        assert_eq!(stats(&[]).unwrap(), Stats::default());
        for (file, content) in [
            ("memory.stat", "cache\n"),
            ("memory.failcnt", "many\n"),
            ("cpuset.cpus", "x\n"),
            ("cpuacct.usage_percpu", "1 x\n"),
            ("cpuacct.usage_all", "cpu user system\n0 1\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0\n"),
        ] {
            let files = [("blkio.throttle.io_service_bytes_recursive", ""), (file, content)];
            let error = stats(&files).unwrap_err().to_string();
            assert!(error.starts_with("unable to parse") && error.contains(file), "{error}");
        }
    }
}
