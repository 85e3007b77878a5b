//! Ranges of ids for user namespaces: what /etc/subuid and /etc/subgid give, which are free, what the kernel would take.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};
use sys::userns::{IdMap, Range};

use crate::Error;

/// Ids of the host that a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Users.
    pub uid: Vec<IdRange>,
    /// Groups.
    pub gid: Vec<IdRange>,
}

/// `size` ids from `inside` on in the container are those from `outside` on on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id in the container.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// Whose ranges of /etc/subuid and /etc/subgid `auto` takes from, as podman does.
const POOL_USER: &str = "containers";
/// The ids that `auto` takes from where that user has none: the half of all that no distribution gives to anybody, without
/// the last 65,536, which have a meaning.
const POOL: (u64, u64) = (1 << 31, (1 << 32) - 65_536);
/// Most ranges that the kernel takes in a map (user_namespaces(7)).
const MOST_RANGES: usize = 340;
/// Who has which users (subuid(5)).
pub(crate) const SUBUID: &str = "/etc/subuid";
/// Who has which groups (subgid(5)).
pub(crate) const SUBGID: &str = "/etc/subgid";

impl IdRange {
    fn end_inside(self) -> u64 {
        u64::from(self.inside) + u64::from(self.size)
    }

    pub(crate) fn end_outside(self) -> u64 {
        u64::from(self.outside) + u64::from(self.size)
    }
}

impl From<IdRange> for Range {
    fn from(range: IdRange) -> Range {
        Range { inside: range.inside, outside: range.outside, size: range.size }
    }
}

impl Ids {
    pub(crate) fn of(map: &IdMap) -> Ids {
        let range = |r: &Range| IdRange { inside: r.inside, outside: r.outside, size: r.size };
        Ids { uid: map.uid.iter().map(range).collect(), gid: map.gid.iter().map(range).collect() }
    }

    pub(crate) fn to_map(&self) -> IdMap {
        let ranges = |list: &[IdRange]| list.iter().map(|range| Range::from(*range)).collect();
        IdMap { uid: ranges(&self.uid), gid: ranges(&self.gid) }
    }
}

/// What the kernel would refuse without a reason, and what no container can do without.
pub(crate) fn sound(flag: &str, ranges: &[IdRange]) -> Result<(), String> {
    let shown = |r: &IdRange| format!("{}:{}:{}", r.inside, r.outside, r.size);
    for (number, range) in ranges.iter().enumerate() {
        let last = u64::from(u32::MAX);
        if range.size == 0 || range.end_inside() > last || range.end_outside() > last {
            return Err(format!(
                "{flag} {}: wants at least one id, and ids up to {}",
                shown(range),
                last - 1
            ));
        }
        for other in &ranges[..number] {
            let overlap =
                |a: u32, a_end: u64, b: u32, b_end: u64| u64::from(a) < b_end && u64::from(b) < a_end;
            let inside = overlap(range.inside, range.end_inside(), other.inside, other.end_inside());
            let on_host = overlap(range.outside, range.end_outside(), other.outside, other.end_outside());
            if inside || on_host {
                let where_ = if inside { "in the container" } else { "on the host" };
                return Err(format!(
                    "{flag} {} and {} overlap {where_}: an id can be mapped once only",
                    shown(range),
                    shown(other)
                ));
            }
        }
    }
    if ranges.len() > MOST_RANGES {
        return Err(format!("{flag}: {} ranges, and the kernel takes {MOST_RANGES}", ranges.len()));
    }
    if !ranges.iter().any(|range| range.inside == 0) {
        return Err(format!("{flag}: no id of the host for the container's root: add {flag} 0:HOST:N"));
    }
    Ok(())
}

/// A line of /etc/subuid (subuid(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubIds {
    name: String,
    start: u64,
    end: u64,
}

/// Lines that are none are left out, as by shadow's own programs.
pub(crate) fn subids(path: &str) -> Result<Vec<SubIds>, Error> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        read => read.map_err(Error::io(format!("read {path:?}")))?,
    };
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<SubIds> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?.to_owned();
        let (start, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let end = (u64::from(start) + u64::from(count)).min(u64::from(u32::MAX));
        Some(SubIds { name, start: start.into(), end }).filter(|ids| ids.start < ids.end)
    };
    text.lines().filter_map(line).collect()
}

/// All ranges of a name, one behind the other from the container's root on.
pub(crate) fn whole(path: &str, all: &[SubIds], name: &str) -> Result<Vec<IdRange>, String> {
    let mut inside = 0;
    let mut ranges = Vec::new();
    for ids in all.iter().filter(|ids| ids.name == name) {
        let size = small(ids.end - ids.start);
        ranges.push(IdRange { inside, outside: small(ids.start), size });
        inside = inside.saturating_add(size);
    }
    match ranges.is_empty() {
        true => Err(format!(
            "no ids of {name:?} in {path}: add a line such as {name}:100000:65536, or take --userns auto"
        )),
        false => Ok(ranges),
    }
}

fn small(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}

/// Where `auto` takes ids from.
#[derive(Debug)]
pub(crate) struct Pool {
    ranges: Vec<(u64, u64)>,
    /// What others have in it.
    foreign: Vec<(u64, u64)>,
    /// For messages.
    name: String,
}

impl Pool {
    pub(crate) fn read(path: &str) -> Result<Pool, Error> {
        Ok(Self::of(path, &subids(path)?))
    }

    fn of(path: &str, all: &[SubIds]) -> Pool {
        let of = |own: bool| {
            let ranges = all.iter().filter(move |ids| (ids.name == POOL_USER) == own);
            ranges.map(|ids| (ids.start, ids.end)).collect::<Vec<_>>()
        };
        let ranges = of(true);
        match ranges.is_empty() {
            true => {
                let (first, last) = (POOL.0, POOL.1 - 1);
                let name = format!("{first} to {last}, as {path} has none of {POOL_USER:?}");
                Pool { ranges: vec![POOL], foreign: of(false), name }
            }
            false => Pool { ranges, foreign: Vec::new(), name: format!("{POOL_USER:?} in {path}") },
        }
    }

    /// `size` ids from 0 on: the forced ones, and for the rest the first that are free, all in one piece.
    pub(crate) fn pick(
        &self,
        kind: &str,
        size: u32,
        forced: &[IdRange],
        mut taken: Vec<(u64, u64)>,
    ) -> Result<Vec<IdRange>, String> {
        let mut holes: Vec<(u64, u64)> = Vec::new();
        let mut next = 0;
        let mut by_inside = forced.to_vec();
        by_inside.sort_by_key(|range| range.inside);
        for range in &by_inside {
            let start = u64::from(range.inside).min(size.into());
            holes.extend(Some((next, start)).filter(|(from, to)| from < to));
            next = next.max(range.end_inside());
        }
        holes.extend(Some((next, u64::from(size))).filter(|(from, to)| from < to));
        let wanted: u64 = holes.iter().map(|(from, to)| to - from).sum();
        taken.extend(&self.foreign);
        taken.extend(forced.iter().map(|range| (u64::from(range.outside), range.end_outside())));
        taken.sort_unstable();
        let mut ranges = by_inside;
        if wanted > 0 {
            let first = self.ranges.iter().find_map(|range| gap(*range, &taken, wanted));
            let mut at = first.ok_or_else(|| {
                format!(
                    "--userns auto: no {wanted} {kind}s in one piece are free ({}); remove containers, or take fewer with \
                     --userns auto:size=N",
                    self.name
                )
            })?;
            for (from, to) in holes {
                ranges.push(IdRange { inside: small(from), outside: small(at), size: small(to - from) });
                at += to - from;
            }
        }
        ranges.sort_by_key(|range| range.inside);
        Ok(ranges)
    }
}

/// The first `wanted` ids of a range that are not taken; `taken` is sorted.
fn gap((start, end): (u64, u64), taken: &[(u64, u64)], wanted: u64) -> Option<u64> {
    let mut at = start;
    for (from, to) in taken {
        if *to <= at {
            continue;
        }
        if at + wanted <= *from {
            break;
        }
        at = *to;
    }
    (at + wanted <= end).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, size: u32) -> IdRange {
        IdRange { inside, outside, size }
    }

    #[test]
    fn blocks_are_the_first_that_are_free() {
        let pool = Pool::of(SUBUID, &parse("containers:1000:300\ncontainers:5000:100\nother:1100:5\n"));
        let pick =
            |size, forced: &[IdRange], taken: &[(u64, u64)]| pool.pick("uid", size, forced, taken.to_vec());
        assert_eq!(pick(100, &[], &[]), Ok(vec![range(0, 1000, 100)]));
        assert_eq!(pick(100, &[], &[(1050, 1060), (900, 1001)]), Ok(vec![range(0, 1060, 100)]));
        assert_eq!(pick(100, &[], &[(1000, 1150), (1160, 1290)]), Ok(vec![range(0, 5000, 100)]));
        let said = pick(100, &[], &[(1000, 1250), (5099, 5100)]).unwrap_err();
        assert!(
            said.contains("no 100 uids") && said.contains("containers") && said.contains("size=N"),
            "{said}"
        );
        assert_eq!(
            pick(100, &[range(10, 1005, 2)], &[]),
            Ok(vec![range(0, 1007, 10), range(10, 1005, 2), range(12, 1017, 88)]),
            "forced ids are not given twice"
        );
        assert_eq!(pick(5, &[range(0, 7, 5)], &[]), Ok(vec![range(0, 7, 5)]));
        assert_eq!(pick(2, &[range(9, 7, 1)], &[]), Ok(vec![range(0, 1000, 2), range(9, 7, 1)]));
    }

    #[test]
    fn without_ranges_of_its_own_auto_takes_the_upper_half() {
        let pool = Pool::of(SUBGID, &parse("# comment\nalice:2147483648:65536\nbroken:x:1\n:1:2\n"));
        let picked = pool.pick("gid", 65_536, &[], Vec::new()).unwrap();
        assert_eq!(picked, [range(0, (1 << 31) + 65_536, 65_536)], "what is alice's stays hers");
        assert!(pool.pick("gid", u32::MAX, &[], Vec::new()).is_err());
    }

    #[test]
    fn names_have_all_their_ranges() {
        let all = parse("bob:100000:10\nalice:5:1\nbob:300000:20\nbob:1:0\n");
        assert_eq!(whole(SUBUID, &all, "bob"), Ok(vec![range(0, 100_000, 10), range(10, 300_000, 20)]));
        let said = whole(SUBUID, &all, "carol").unwrap_err();
        assert!(said.contains("\"carol\"") && said.contains("/etc/subuid"), "{said}");
    }

    #[test]
    fn maps_that_the_kernel_would_refuse_are_refused_with_a_reason() {
        assert_eq!(sound("--uidmap", &[range(0, 100_000, 65_536), range(65_536, 1000, 1)]), Ok(()));
        for (ranges, word) in [
            (vec![range(0, 1, 0)], "at least one"),
            (vec![range(0, u32::MAX, 1)], "4294967294"),
            (vec![range(0, 1, u32::MAX)], "4294967294"),
            (vec![range(0, 1000, 10), range(9, 5000, 1)], "in the container"),
            (vec![range(0, 1000, 10), range(10, 1009, 1)], "on the host"),
            (vec![range(1, 1000, 10)], "the container's root"),
            (vec![], "the container's root"),
            ((0..341).map(|n| range(n, n, 1)).collect(), "340"),
        ] {
            let said = sound("--gidmap", &ranges).unwrap_err();
            assert!(said.contains(word) && said.contains("--gidmap"), "{said}");
        }
    }
}
