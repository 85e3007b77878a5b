//! Resources → properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).
//!
//! systemd writes the files of all that it has a property for, again after `systemctl daemon-reload` and whenever it
//! thinks that it should. So it has to know every value that would else be overwritten. The table starts from
//! [`crate::cgroup::settings`], which knows the files: specification and `unified` have one meaning.

use std::fmt::Display;

use oci::runtime::LinuxResources;

use super::value::Value;
use crate::cgroup::Setting;
use crate::{Error, ErrorKind};

/// A property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: Value,
}

impl Property {
    pub(super) fn new(name: impl Into<String>, value: impl Into<Value>) -> Property {
        Property { name: name.into(), value: value.into() }
    }

    /// As methods of systemd take it: `(sv)`.
    pub(super) fn argument(self) -> Value {
        Value::Struct(vec![Value::Text(self.name), Value::Variant(Box::new(self.value))])
    }
}

/// Files of cgroup v2, then of v1, that hold a number or `max`, and the property that is the same.
const NUMBERS: [(&str, &str); 11] = [
    ("memory.max", "MemoryMax"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("memory.zswap.max", "MemoryZSwapMax"),
    ("cpu.weight", "CPUWeight"),
    ("pids.max", "TasksMax"),
    ("memory.limit_in_bytes", "MemoryLimit"),
    ("cpu.shares", "CPUShares"),
    ("blkio.weight", "BlockIOWeight"),
];

/// First version of systemd for which a CPUWeight of 0 means `cpu.idle`.
const KNOWS_IDLE: u32 = 252;

/// First version of systemd with MemoryZSwapMax; with OOMPolicy for scopes.
const KNOWS_ZSWAP: u32 = 253;
const KNOWS_OOM_POLICY: u32 = 253;

/// The properties that are `settings`; of several for one, the last, as it is with files. `version` is that of
/// systemd, asked only where it matters.
///
/// # Errors
/// A value that the file would not take either.
pub(super) fn of(
    settings: &[Setting],
    version: &mut dyn FnMut() -> Result<u32, Error>,
) -> Result<Vec<Property>, Error> {
    let mut out: Vec<Property> = Vec::new();
    let mut put = |name: &str, value: Value| {
        out.retain(|p| p.name != name);
        out.push(Property::new(name, value));
    };
    let mut v1_quota = Quota { quota: None, period: None };
    let idle = settings.iter().rev().find(|s| s.file == "cpu.idle").is_some_and(|s| s.value.trim() == "1");
    let idle = idle && version()? >= KNOWS_IDLE;
    if idle {
        put("CPUWeight", 0.into());
    }
    for setting in settings {
        let (file, text) = (setting.file.as_str(), setting.value.trim());
        match file {
            // Said where the files are written.
            "cpu.weight" if idle => {}
            "memory.zswap.max" if version()? < KNOWS_ZSWAP => {}
            "cpu.max" => {
                let quota = Quota::parse(text).ok_or_else(|| invalid(file, text))?;
                quota.properties().into_iter().for_each(|(name, value)| put(name, value));
            }
            "cpu.cfs_quota_us" => v1_quota.quota = Some(text.parse().map_err(|_| invalid(file, text))?),
            "cpu.cfs_period_us" => v1_quota.period = Some(text.parse().map_err(|_| invalid(file, text))?),
            "cpuset.cpus" => put("AllowedCPUs", mask(text).map_err(|why| invalid(file, why))?),
            "cpuset.mems" => put("AllowedMemoryNodes", mask(text).map_err(|why| invalid(file, why))?),
            "io.weight" | "io.bfq.weight" => {
                if let Some(weight) = default_weight(file, text) {
                    put("IOWeight", weight.into());
                }
            }
            _ => {
                if let Some((_, name)) = NUMBERS.iter().find(|(known, _)| *known == file) {
                    let number = number(text).ok_or_else(|| invalid(file, text))?;
                    // No fork is allowed in either case, and systemd has no 0.
                    put(name, if *name == "TasksMax" { number.max(1) } else { number }.into());
                }
            }
        }
    }
    v1_quota.properties().into_iter().for_each(|(name, value)| put(name, value));
    Ok(out)
}

/// `memory.oom.group` as a property, which a unit can only be given at its start.
pub(super) fn oom_policy(
    settings: &[Setting],
    version: &mut dyn FnMut() -> Result<u32, Error>,
) -> Result<Option<Property>, Error> {
    let Some(setting) = settings.iter().rev().find(|s| s.file == "memory.oom.group") else { return Ok(None) };
    let policy = match setting.value.trim() {
        "0" => "continue",
        "1" => "kill",
        other => return Err(invalid("memory.oom.group", other)),
    };
    Ok((version()? >= KNOWS_OOM_POLICY).then(|| Property::new("OOMPolicy", policy)))
}

/// The same resources with a CPU quota as systemd can hold it: whole percents of a CPU, rounded up. Otherwise the file
/// would change with the first `daemon-reload`.
pub(crate) fn rounded(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(mut cpu) = resources.cpu().clone() {
        let period = cpu.period().filter(|n| *n != 0).unwrap_or(DEFAULT_PERIOD);
        if let Some(quota) = cpu.quota().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0) {
            let whole = u128::from(per_second(quota, period)) * u128::from(period) / 1_000_000;
            if let Ok(whole) = i64::try_from(whole) {
                cpu.set_quota(Some(whole));
                resources.set_cpu(Some(cpu));
            }
        }
    }
    resources
}

/// The kernel's, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Microseconds of CPU time in a second, in steps of a percent.
fn per_second(quota: u64, period: u64) -> u64 {
    const PERCENT: u128 = 10_000;
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    u64::try_from(exact.next_multiple_of(PERCENT)).unwrap_or(u64::MAX)
}

/// A limit of CPU time, in microseconds.
struct Quota {
    /// Not above 0: no limit.
    quota: Option<i64>,
    period: Option<u64>,
}

impl Quota {
    /// From `cpu.max`: `50000 100000`, `max`.
    fn parse(text: &str) -> Option<Quota> {
        let mut fields = text.split_whitespace();
        let quota = match fields.next()? {
            "max" => -1,
            number => number.parse().ok()?,
        };
        let period = fields.next().map_or(Some(DEFAULT_PERIOD), |number| number.parse().ok())?;
        fields.next().is_none().then_some(Quota { quota: Some(quota), period: Some(period) })
    }

    fn properties(&self) -> Vec<(&'static str, Value)> {
        let mut out = Vec::new();
        if let Some(period) = self.period {
            out.push(("CPUQuotaPeriodUSec", period.into()));
        }
        if self.quota.is_some() || self.period.is_some() {
            let quota = self.quota.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
            let limit = quota.map_or(u64::MAX, |n| per_second(n, self.period.unwrap_or(DEFAULT_PERIOD)));
            out.push(("CPUQuotaPerSecUSec", limit.into()));
        }
        out
    }
}

fn number(text: &str) -> Option<u64> {
    // v1 writes -1 for no limit.
    if matches!(text, "max" | "-1") { Some(u64::MAX) } else { text.parse().ok() }
}

/// The weight of all devices that have none of their own, in IOWeight's measure. systemd gives BFQ a part of it that is
/// the same up to 100 and a eleventh above; this is the way back.
fn default_weight(file: &str, text: &str) -> Option<u64> {
    let weight: u64 = text.strip_prefix("default").unwrap_or(text).trim().parse().ok()?;
    Some(match file {
        "io.bfq.weight" if weight > 100 => 100 + (weight - 100) * 11,
        _ => weight,
    })
}

/// A list of CPUs or memory nodes (`0-2,5`) as the bytes of a bit mask, the lowest first.
fn mask(list: &str) -> Result<Value, String> {
    /// More than any kernel's CONFIG_NR_CPUS.
    const MOST: usize = 1 << 16;
    let number = |text: &str| {
        let number: Option<usize> = text.trim().parse().ok().filter(|n| *n < MOST);
        number.ok_or_else(|| format!("{list:?} is no list of numbers"))
    };
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return Err(format!("invalid range: {range}"));
        }
        if bytes.len() <= last / 8 {
            bytes.resize(last / 8 + 1, 0);
        }
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    if bytes.is_empty() {
        return Err("empty value".to_owned());
    }
    Ok(Value::bytes(bytes))
}

fn invalid(file: &str, value: impl Display) -> Error {
    Error::new(format!("linux.resources: {file}: {value} can't be given to systemd")).kind(ErrorKind::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Version, settings};

    fn table(version: Version, systemd: u32, json: &str) -> Result<Vec<String>, String> {
        let resources = rounded(&serde_json::from_str(json).unwrap());
        let settings = settings(&resources, version).map_err(|e| e.to_string())?;
        let mut asked = || Ok(systemd);
        let mut list = of(&settings, &mut asked).map_err(|e| e.to_string())?;
        list.extend(oom_policy(&settings, &mut asked).map_err(|e| e.to_string())?);
        Ok(list.iter().map(|p| format!("{} {}={}", p.value.signature(), p.name, p.value)).collect())
    }

    fn v2(json: &str) -> Vec<String> {
        table(Version::V2, 252, json).unwrap()
    }

    const ALL: &str = r#"{
        "memory": {"limit": 536870912, "reservation": 268435456, "swap": 1073741824},
        "cpu": {"shares": 1024, "quota": 50500, "period": 100000, "cpus": "0-1,9", "mems": "0", "burst": 100},
        "pids": {"limit": 0},
        "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]
    }"#;

    #[test]
    fn resources_on_v2() {
        let want = [
            "t TasksMax=1",
            "t MemorySwapMax=536870912",
            "t MemoryMax=536870912",
            "t MemoryLow=268435456",
            "t IOWeight=4500",
            "t CPUWeight=100",
            "t CPUQuotaPeriodUSec=100000",
            "t CPUQuotaPerSecUSec=510000",
            "ay AllowedCPUs=[3, 2]",
            "ay AllowedMemoryNodes=[1]",
        ];
        assert_eq!(v2(ALL), want);
    }

    #[test]
    fn resources_on_v1() {
        let want = [
            "ay AllowedCPUs=[3, 2]",
            "ay AllowedMemoryNodes=[1]",
            "t MemoryLimit=536870912",
            "t CPUShares=1024",
            "t TasksMax=1",
            "t BlockIOWeight=500",
            "t CPUQuotaPeriodUSec=100000",
            "t CPUQuotaPerSecUSec=510000",
        ];
        assert_eq!(table(Version::V1, 252, ALL).unwrap(), want);
    }

    #[test]
    fn unified_files_are_the_same_properties_and_the_last_word() {
        let all = v2(r#"{"memory": {"limit": 4096}, "unified": {
            "memory.max": "8192", "memory.high": "max", "memory.min": "1", "memory.low": "2", "memory.swap.max": "0",
            "pids.max": "0", "cpu.max": "4000 10000", "cpu.weight": " 42 ", "cpuset.cpus": "1", "cpuset.mems": "0",
            "io.weight": "default 7", "io.max": "8:0 rbps=1", "hugetlb.2MB.max": "0", "memory.zswap.max": "5"}}"#);
        let want = [
            "ay AllowedCPUs=[2]",
            "ay AllowedMemoryNodes=[1]",
            "t CPUQuotaPerSecUSec=400000",
            "t CPUQuotaPeriodUSec=10000",
            "t CPUWeight=42",
            "t IOWeight=7",
            "t MemoryHigh=max",
            "t MemoryLow=2",
            "t MemoryMax=8192",
            "t MemoryMin=1",
            "t MemorySwapMax=0",
            "t TasksMax=1",
        ];
        let mut all = all;
        all.sort();
        assert_eq!(all, want);
    }

    #[test]
    fn no_limits_are_infinite() {
        let all = v2(r#"{"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}"#);
        let want = [
            "t TasksMax=max",
            "t MemorySwapMax=max",
            "t MemoryMax=max",
            "t CPUQuotaPeriodUSec=100000",
            "t CPUQuotaPerSecUSec=max",
        ];
        assert_eq!(all, want);
        let v1 = table(Version::V1, 252, r#"{"cpu": {"quota": -1}, "memory": {"limit": -1}}"#).unwrap();
        assert_eq!(v1, ["t MemoryLimit=max", "t CPUQuotaPerSecUSec=max"]);
        let period = table(Version::V1, 252, r#"{"cpu": {"period": 10000}}"#).unwrap();
        assert_eq!(period, ["t CPUQuotaPeriodUSec=10000", "t CPUQuotaPerSecUSec=max"]);
        assert_eq!(v2("{}"), [""; 0]);
    }

    #[test]
    fn what_only_newer_systemds_know() {
        let idle = r#"{"cpu": {"idle": 1, "shares": 1024}}"#;
        assert_eq!(table(Version::V2, 252, idle).unwrap(), ["t CPUWeight=0"]);
        assert_eq!(table(Version::V2, 251, idle).unwrap(), ["t CPUWeight=100"]);
        assert_eq!(v2(r#"{"cpu": {"idle": 0}}"#), [""; 0]);
        let newer = r#"{"unified": {"memory.oom.group": "1", "memory.zswap.max": "5"}}"#;
        let want = ["t MemoryZSwapMax=5", "s OOMPolicy=\"kill\""];
        assert_eq!(table(Version::V2, 253, newer).unwrap(), want);
        assert_eq!(v2(newer), [""; 0]);
    }

    #[test]
    fn the_version_is_asked_only_where_it_matters() {
        let settings = settings(&serde_json::from_str(ALL).unwrap(), Version::V2).unwrap();
        of(&settings, &mut || panic!("asked")).unwrap();
        assert_eq!(oom_policy(&settings, &mut || panic!("asked")).unwrap(), None);
    }

    #[test]
    fn bad_values_are_refused() {
        for (file, value) in [
            ("memory.max", "lots"),
            ("cpu.max", "1 2 3"),
            ("cpu.max", "x"),
            ("cpuset.cpus", "3-1"),
            ("cpuset.cpus", "0-x"),
            ("cpuset.cpus", "999999999"),
            ("memory.oom.group", "2"),
        ] {
            let json = format!(r#"{{"unified": {{"{file}": "{value}"}}}}"#);
            let error = table(Version::V2, 253, &json).unwrap_err();
            assert!(error.starts_with(&format!("linux.resources: {file}: ")), "{error}");
        }
    }

    #[test]
    fn quotas_are_whole_percents_in_both_places() {
        let quota = |quota: i64, period: u64| {
            let json = format!(r#"{{"cpu": {{"quota": {quota}, "period": {period}}}}}"#);
            rounded(&serde_json::from_str(&json).unwrap()).cpu().as_ref().unwrap().quota()
        };
        assert_eq!(
            [quota(500, 100_000), quota(4000, 10_000), quota(50_500, 0)],
            [Some(1000), Some(4000), Some(51_000)]
        );
        assert_eq!([quota(-1, 5), quota(0, 5)], [Some(-1), Some(0)]);
        assert_eq!(quota(i64::MAX, 1), Some(18_446_744_073_709));
    }
}
