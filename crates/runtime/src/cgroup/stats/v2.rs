//! The files of the unified hierarchy (kernel: admin-guide/cgroup-v2) → [`Stats`], which are shaped by v1.

use super::super::dir::Dir;
use super::v1::pids;
use crate::Error;
use crate::stats::{Blkio, BlkioEntry, Cpu, Hugetlb, Memory, MemoryEntry, Pids, Psi, PsiLine, Stats};
use std::collections::BTreeMap;

/// Fills in what the unified hierarchy counts, but for the controllers that are `elsewhere`.
pub(super) fn read(
    dir: &Dir,
    elsewhere: &dyn Fn(&str) -> bool,
    page_sizes: &[String],
    stats: &mut Stats,
) -> Result<(), Error> {
    if !elsewhere("pids") {
        stats.pids = if dir.lacks("pids") { processes(dir)? } else { pids(dir)? };
    }
    if !elsewhere("memory") {
        stats.memory = memory(dir)?;
    }
    if !elsewhere("blkio") {
        stats.blkio = io(dir)?;
    }
    // cpu.stat is there also without the controller.
    if !elsewhere("cpuacct") {
        cpu(dir, &mut stats.cpu)?;
    }
    if !elsewhere("hugetlb") {
        stats.hugetlb = hugetlb(dir, page_sizes)?;
    }
    stats.memory.psi = pressure(dir, "memory.pressure")?;
    stats.blkio.psi = pressure(dir, "io.pressure")?;
    stats.cpu.psi = pressure(dir, "cpu.pressure")?;
    Ok(())
}

/// Without the controller the tasks can be counted all the same.
fn processes(dir: &Dir) -> Result<Pids, Error> {
    // A threaded cgroup refuses to name processes.
    let text = match dir.text("cgroup.procs")? {
        Some(text) => Some(text),
        None => dir.text("cgroup.threads")?,
    };
    Ok(Pids { current: text.map_or(0, |text| text.lines().count() as u64), limit: 0 })
}

fn memory(dir: &Dir) -> Result<Memory, Error> {
    let raw: BTreeMap<String, u64> = dir.pairs("memory.stat")?.unwrap_or_default().into_iter().collect();
    let usage = memory_entry(dir, "memory")?;
    let mut swap = memory_entry(dir, "memory.swap")?;
    // Swap alone here, memory and swap together in v1 and so for readers. The peaks of the two need not have been
    // at the same time.
    swap.usage = swap.usage.saturating_add(usage.usage);
    swap.limit = swap.limit.saturating_add(usage.limit);
    swap.max = 0;
    Ok(Memory { cache: raw.get("file").copied().unwrap_or(0), usage, swap, raw, ..Memory::default() })
}

fn memory_entry(dir: &Dir, prefix: &str) -> Result<MemoryEntry, Error> {
    let read = |file: &str| Ok::<u64, Error>(dir.number(&format!("{prefix}.{file}"))?.unwrap_or(0));
    // The peaks are there since Linux 5.19 (memory) and 6.5 (swap).
    Ok(MemoryEntry { limit: read("max")?, usage: read("current")?, max: read("peak")?, failcnt: 0 })
}

fn cpu(dir: &Dir, cpu: &mut Cpu) -> Result<(), Error> {
    for (key, value) in dir.pairs("cpu.stat")?.unwrap_or_default() {
        let nanoseconds = value.saturating_mul(1000);
        match key.as_str() {
            "usage_usec" => cpu.usage.total = nanoseconds,
            "user_usec" => cpu.usage.user = nanoseconds,
            "system_usec" => cpu.usage.kernel = nanoseconds,
            "nr_periods" => cpu.throttling.periods = value,
            "nr_throttled" => cpu.throttling.throttled_periods = value,
            "throttled_usec" => cpu.throttling.throttled_time = nanoseconds,
            _ => {}
        }
    }
    Ok(())
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io(dir: &Dir) -> Result<Blkio, Error> {
    let mut blkio = Blkio::default();
    let file = "io.stat";
    for line in dir.text(file)?.unwrap_or_default().lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else { continue };
        let malformed = |e| dir.malformed(file, format_args!("{line:?}: {e}"));
        let (major, minor) = (major.parse().map_err(malformed)?, minor.parse().map_err(malformed)?);
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.service_bytes, "Read"),
                "wbytes" => (&mut blkio.service_bytes, "Write"),
                "rios" => (&mut blkio.serviced, "Read"),
                "wios" => (&mut blkio.serviced, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value: value.parse().map_err(malformed)?,
            });
        }
    }
    Ok(blkio)
}

fn hugetlb(dir: &Dir, page_sizes: &[String]) -> Result<BTreeMap<String, Hugetlb>, Error> {
    let mut all = BTreeMap::new();
    for size in page_sizes {
        let prefix = format!("hugetlb.{size}");
        // Reservations are counted since Linux 5.7.
        let usage = match dir.number(&format!("{prefix}.rsvd.current"))? {
            Some(usage) => Some(usage),
            None => dir.number(&format!("{prefix}.current"))?,
        };
        let Some(usage) = usage else { continue };
        let failcnt = dir.by_key(&format!("{prefix}.events"), "max")?.unwrap_or(0);
        all.insert(size.clone(), Hugetlb { usage, max: 0, failcnt });
    }
    Ok(all)
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. `None`: nothing is accounted (CONFIG_PSI, `psi=0`,
/// `cgroup.pressure`).
fn pressure(dir: &Dir, file: &str) -> Result<Option<Psi>, Error> {
    let Some(text) = dir.text(file)? else { return Ok(None) };
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let target = match fields.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        *target = psi_line(fields).ok_or_else(|| dir.malformed(file, line))?;
    }
    Ok(Some(psi))
}

fn psi_line<'a>(fields: impl Iterator<Item = &'a str>) -> Option<PsiLine> {
    let mut line = PsiLine::default();
    for (key, value) in fields.map(|field| field.split_once('=')).collect::<Option<Vec<_>>>()? {
        match key {
            "avg10" => line.avg10 = value.parse().ok()?,
            "avg60" => line.avg60 = value.parse().ok()?,
            "avg300" => line.avg300 = value.parse().ok()?,
            "total" => line.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::super::super::Version;
    use super::*;
    use crate::stats::{CpuUsage, Throttling};

    fn stats(files: &[(&str, &str)], elsewhere: &[&str]) -> Result<Stats, Error> {
        let temporary = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(temporary.path().join(name), content).unwrap();
        }
        let dir = Dir::open(Version::V2, Vec::new(), temporary.path().to_owned()).unwrap();
        let mut stats = Stats::default();
        read(&dir, &|c| elsewhere.contains(&c), &["2MB".to_owned()], &mut stats).map(|()| stats)
    }

    const FILES: &[(&str, &str)] = &[
        ("cgroup.controllers", "cpu io memory hugetlb pids\n"),
        ("memory.stat", "anon 8192\nfile 4096\n"),
        ("memory.current", "12288\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "16384\n"),
        ("memory.swap.current", "100\n"),
        ("memory.swap.max", "5000\n"),
        ("memory.swap.peak", "200\n"),
        (
            "cpu.stat",
            "usage_usec 150\nuser_usec 100\nsystem_usec 50\nnice_usec 0\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
        ),
        (
            "cpu.pressure",
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        ),
        ("io.stat", "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n254:1 \n"),
        ("pids.current", "4\n"),
        ("pids.max", "max\n"),
        ("cgroup.procs", "1\n2\n3\n"),
        ("hugetlb.2MB.current", "0\n"),
        ("hugetlb.2MB.rsvd.current", "2097152\n"),
        ("hugetlb.2MB.events", "max 3\n"),
    ];

    #[test]
    fn every_file_has_its_field_in_the_units_of_v1() {
        let read = stats(FILES, &[]).unwrap();
        let memory = read.memory;
        assert_eq!((memory.cache, memory.raw["anon"]), (4096, 8192));
        assert_eq!(memory.usage, MemoryEntry { limit: u64::MAX, usage: 12288, max: 16384, failcnt: 0 });
        // Memory without a limit: with swap it has none either.
        assert_eq!(memory.swap, MemoryEntry { limit: u64::MAX, usage: 12388, max: 0, failcnt: 0 });
        assert_eq!(memory.psi, None);
        let usage = CpuUsage { total: 150_000, kernel: 50_000, user: 100_000, ..CpuUsage::default() };
        assert_eq!(read.cpu.usage, usage);
        assert_eq!(
            read.cpu.throttling,
            Throttling { periods: 5, throttled_periods: 2, throttled_time: 7000 }
        );
        let some = PsiLine { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 1234 };
        assert_eq!(read.cpu.psi, Some(Psi { some, full: PsiLine::default() }));
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 0, op: op.to_owned(), value };
        assert_eq!(read.blkio.service_bytes, [entry("Read", 4096), entry("Write", 0)]);
        assert_eq!(read.blkio.serviced, [entry("Read", 1), entry("Write", 0)]);
        assert_eq!(read.pids, Pids { current: 4, limit: 0 });
        assert_eq!(read.hugetlb["2MB"], Hugetlb { usage: 2_097_152, max: 0, failcnt: 3 });
    }

    #[test]
    fn on_a_hybrid_host_each_controller_counts_once() {
        let read = stats(FILES, &["memory", "pids", "blkio", "cpuacct"]).unwrap();
        assert_eq!((read.memory, read.pids, read.cpu.usage), Default::default());
        assert_eq!(read.blkio, Blkio::default());
        assert!(read.cpu.psi.is_some() && read.hugetlb.contains_key("2MB"));
    }

    #[test]
    fn tasks_are_counted_without_the_controller() {
        let files = [("cgroup.controllers", "cpu\n"), ("cgroup.procs", "1\n2\n3\n")];
        assert_eq!(stats(&files, &[]).unwrap().pids, Pids { current: 3, limit: 0 });
        assert_eq!(stats(&[], &[]).unwrap(), Stats::default());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (file, content) in [
            ("io.stat", "8:0 rbytes=x\n"),
            ("io.stat", "8:x rbytes=1\n"),
            ("cpu.pressure", "some avg10\n"),
            ("cpu.pressure", "some avg10=x\n"),
            ("cpu.stat", "usage_usec\n"),
            ("memory.current", "\n"),
        ] {
            let error = stats(&[(file, content)], &[]).unwrap_err().to_string();
            assert!(error.starts_with("unable to parse") && error.contains(file), "{error}");
        }
    }
}
