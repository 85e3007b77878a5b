//! What running containers use: processor, memory, network, block devices.

use std::fs;
use std::time::Instant;

use network::Mode;
use runtime::lifecycle;
use runtime::stats::{BlkioEntry, Stats};

use crate::info::host_memory;
use crate::leftover::enter;
use crate::list::life;
use crate::record::Record;
use crate::{Engine, Error, name};

/// A container, and what it uses.
#[derive(Debug, Clone)]
pub struct Usage {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `None`: it does not run.
    pub reading: Option<Reading>,
}

/// One look at the counters of a container. All but `at` and `processor` are bytes or numbers as they are.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// Time on all processors since the container's start, in nanoseconds.
    pub processor: u64,
    /// Memory in use, without the page cache that could be dropped at once.
    pub memory: u64,
    /// Most it may be: the container's limit, or all that the host has.
    pub memory_limit: u64,
    /// Bytes from its networks.
    pub received: u64,
    /// Bytes to its networks.
    pub sent: u64,
    /// Bytes from block devices.
    pub read: u64,
    /// Bytes to block devices.
    pub written: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// What a container uses, by its name, its ID or the beginning of it.
///
/// # Errors
/// [`Error::NoSuchContainer`]; the counters cannot be read.
pub fn usage(engine: &Engine, container: &str) -> Result<Usage, Error> {
    enter(engine)?;
    let id = name::resolve(engine, container)?;
    let record =
        Record::read(&engine.container(&id))?.ok_or_else(|| Error::NoSuchContainer(container.to_owned()))?;
    let life = life(engine, &id)?;
    let Some(pid) = life.pid.filter(|_| life.status.is_up()) else {
        return Ok(Usage { id, name: record.name, reading: None });
    };
    // docker counts the networks that a container has of its own.
    let own_network = record.options.network.is_own() && record.options.network != Mode::None;
    let links = own_network.then(|| fs::read_to_string(format!("/proc/{pid}/net/dev"))).and_then(Result::ok);
    let reading = match lifecycle::stats(&engine.states(), &id) {
        Ok(stats) => Some(reading(&stats, links.as_deref().unwrap_or_default(), host_memory())),
        // It has ended meanwhile.
        Err(e) if matches!(e.what(), runtime::ErrorKind::State | runtime::ErrorKind::NotFound) => None,
        Err(source) => {
            return Err(Error::Runtime { what: format!("read what {} uses", record.name), source });
        }
    };
    Ok(Usage { id, name: record.name, reading })
}

fn reading(stats: &Stats, links: &str, host_memory: u64) -> Reading {
    // Of the whole tree on v1; v2 has only that.
    let inactive = ["total_inactive_file", "inactive_file"].iter().find_map(|key| stats.memory.raw.get(*key));
    let memory = &stats.memory.usage;
    let sum = |op: &str| {
        let of_op = |entry: &&BlkioEntry| entry.op.eq_ignore_ascii_case(op);
        stats.blkio.service_bytes.iter().filter(of_op).map(|entry| entry.value).sum()
    };
    let (received, sent) = traffic(links);
    Reading {
        at: Instant::now(),
        processor: stats.cpu.usage.total,
        memory: memory.usage.saturating_sub(inactive.copied().unwrap_or(0)),
        memory_limit: if memory.limit == 0 { host_memory } else { memory.limit.min(host_memory) },
        received,
        sent,
        read: sum("read"),
        written: sum("write"),
        processes: stats.pids.current,
    }
}

/// Bytes received and sent by all links but loopback, from the text of /proc/PID/net/dev: `eth0: BYTES … (8 columns)
/// BYTES …`.
fn traffic(links: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in links.lines() {
        let Some((_, counters)) = line.split_once(':').filter(|(link, _)| link.trim() != "lo") else {
            continue;
        };
        let mut counters = counters.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0u64));
        sum.0 += counters.next().unwrap_or(0);
        sum.1 += counters.nth(7).unwrap_or(0);
    }
    sum
}

#[cfg(test)]
mod tests {
    use runtime::stats::MemoryEntry;

    use super::*;

    #[test]
    fn counters_of_links_are_summed_but_for_loopback() {
        let text = "Inter-|   Receive                            |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n\
            \u{20}   lo:   10       1    0    0    0     0          0         0       10       1    0    0    0     0       0          0\n\
            \u{20} eth0:  100       1    0    0    0     0          0         0       20       1    0    0    0     0       0          0\n\
            \u{20} eth1:    1       1    0    0    0     0          0         0        2       1    0    0    0     0       0          0\n";
        assert_eq!(traffic(text), (101, 22));
        assert_eq!(traffic(""), (0, 0));
    }

    #[test]
    fn memory_is_dockers() {
        let mut stats = Stats::default();
        stats.memory.usage = MemoryEntry { usage: 100, limit: u64::MAX, ..MemoryEntry::default() };
        stats.memory.raw.insert("inactive_file".to_owned(), 30);
        let entry = |op: &str, value| BlkioEntry { op: op.to_owned(), value, ..BlkioEntry::default() };
        stats.blkio.service_bytes =
            vec![entry("Read", 1), entry("Write", 2), entry("Total", 3), entry("read", 4)];
        let reading = reading(&stats, "", 1000);
        assert_eq!((reading.memory, reading.memory_limit), (70, 1000));
        assert_eq!((reading.read, reading.written), (5, 2));
    }
}
