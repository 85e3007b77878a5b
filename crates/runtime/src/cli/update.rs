//! `update`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::flags::{Flag, Parsed};
use super::global::Global;
use super::{Command, id_of, invalid, number};
use crate::resctrl::Shares;
use crate::spec::MAX_CONFIG;
use crate::{Error, lifecycle, resources};

pub(crate) const COMMAND: Command = Command {
    name: "update",
    usage: "update container resource constraints",
    arguments: "<container-id>",
    description: "What is not given stays as it is. Sizes take the suffixes b, k, m, g, t and p. The file of --resources is\n\
        linux.resources of a config.json (device rules excepted), for instance\n\n\
        {\"memory\": {\"limit\": 67108864, \"checkBeforeUpdate\": true}, \"cpu\": {\"quota\": 50000, \"cpus\": \"0-1\"},\n \
        \"pids\": {\"limit\": 100}, \"blockIO\": {\"weight\": 500}, \"unified\": {\"memory.high\": \"33554432\"}}",
    flags: &[
        Flag::value(
            "resources",
            "path to the file containing the resources to update or '-' to read from the standard input; \
             the other options are ignored then",
        )
        .or("r"),
        Flag::value("blkio-weight", "Specifies per cgroup weight, range is from 10 to 1000"),
        Flag::value(
            "cpu-period",
            "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default",
        ),
        Flag::value("cpu-quota", "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period"),
        Flag::value(
            "cpu-burst",
            "CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given period",
        ),
        Flag::value("cpu-share", "CPU shares (relative weight vs. other containers)"),
        Flag::value(
            "cpu-rt-period",
            "CPU realtime period to be used for hardcapping (in usecs). 0 to use system default",
        ),
        Flag::value(
            "cpu-rt-runtime",
            "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period",
        ),
        Flag::value("cpuset-cpus", "CPU(s) to use"),
        Flag::value("cpuset-mems", "Memory node(s) to use"),
        Flag::value("kernel-memory", "(obsoleted; do not use)").hidden(),
        Flag::value("kernel-memory-tcp", "(obsoleted; do not use)").hidden(),
        Flag::value("memory", "Memory limit (in bytes)"),
        Flag::value("cpu-idle", "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
        Flag::value("memory-reservation", "Memory reservation or soft_limit (in bytes)"),
        Flag::value("memory-swap", "Total memory usage (memory + swap); set '-1' to enable unlimited swap"),
        Flag::value("pids-limit", "Maximum number of pids allowed in the container"),
        Flag::value("l3-cache-schema", "The string of Intel RDT/CAT L3 cache schema"),
        Flag::value("mem-bw-schema", "The string of Intel RDT/MBA memory bandwidth schema"),
    ],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let id = id_of(parsed)?;
    // An unknown container is the first thing to tell, as it is for runc.
    lifecycle::state(&global.root, &id)?;
    let resources = match parsed.nonempty("resources") {
        Some(file) => resources::parse(&read(Path::new(file))?)?,
        None => of_flags(parsed)?,
    };
    let shares = Shares {
        l3: parsed.text("l3-cache-schema").map_err(invalid)?,
        bandwidth: parsed.text("mem-bw-schema").map_err(invalid)?,
    };
    lifecycle::update(&global.root, &id, &resources, shares)?;
    Ok(0)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let fail = |e| Error::new(format!("read {path:?}")).because(e);
    let mut json = Vec::new();
    if path == Path::new("-") {
        io::stdin().take(MAX_CONFIG + 1).read_to_end(&mut json).map_err(fail)?;
    } else {
        let file = File::open(path).map_err(|e| Error::new(format!("open {path:?}")).because(e))?;
        file.take(MAX_CONFIG + 1).read_to_end(&mut json).map_err(fail)?;
    }
    if json.len() as u64 > MAX_CONFIG {
        return Err(invalid(format!("{path:?} is longer than {MAX_CONFIG} bytes")));
    }
    Ok(json)
}

/// The resources that flags ask for. An empty value is as good as no flag.
fn of_flags(parsed: &Parsed) -> Result<LinuxResources, Error> {
    let flags = Flags(parsed);
    let mut all = LinuxResources::default();

    let mut cpu = LinuxCpu::default();
    cpu.set_cpus(flags.text("cpuset-cpus")?.map(str::to_owned));
    cpu.set_mems(flags.text("cpuset-mems")?.map(str::to_owned));
    cpu.set_idle(flags.value("cpu-idle", number::signed)?);
    cpu.set_burst(flags.value("cpu-burst", number::unsigned)?);
    cpu.set_period(flags.value("cpu-period", number::unsigned)?);
    cpu.set_realtime_period(flags.value("cpu-rt-period", number::unsigned)?);
    cpu.set_shares(flags.value("cpu-share", number::unsigned)?);
    cpu.set_quota(flags.value("cpu-quota", number::signed)?);
    cpu.set_realtime_runtime(flags.value("cpu-rt-runtime", number::signed)?);
    if cpu != LinuxCpu::default() {
        all.set_cpu(Some(cpu));
    }

    let mut memory = LinuxMemory::default();
    memory.set_limit(flags.value("memory", size)?);
    memory.set_swap(flags.value("memory-swap", size)?);
    #[allow(deprecated)] // so that it can be warned of
    memory.set_kernel(flags.value("kernel-memory", size)?);
    memory.set_kernel_tcp(flags.value("kernel-memory-tcp", size)?);
    memory.set_reservation(flags.value("memory-reservation", size)?);
    if memory != LinuxMemory::default() {
        all.set_memory(Some(memory));
    }

    if let Some(weight) = flags.number("blkio-weight")? {
        let weight = u16::try_from(weight).map_err(|_| {
            invalid(format!("invalid value for blkio-weight: {weight} is out of range 10-1000"))
        })?;
        let mut io = LinuxBlockIo::default();
        io.set_weight(Some(weight));
        all.set_block_io(Some(io));
    }
    if let Some(limit) = flags.number("pids-limit")? {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        all.set_pids(Some(pids));
    }
    Ok(all)
}

struct Flags<'a>(&'a Parsed);

impl Flags<'_> {
    fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        self.0.text(name).map_err(invalid)
    }

    fn value<T>(&self, name: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, Error> {
        let value = self.text(name)?.map(read).transpose();
        value.map_err(|why| invalid(format!("invalid value for {name}: {why}")))
    }

    /// A flag that is a number for runc's command line already, and so can't be empty.
    fn number(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some(text) = self.0.value(name) else { return Ok(None) };
        let text = text.to_string_lossy();
        let value = number::signed(&text);
        value.map(Some).map_err(|why| invalid(format!("invalid value {text:?} for flag -{name}: {why}")))
    }
}

/// A size, or -1 for no limit.
fn size(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { number::size(text) }
}

#[cfg(test)]
mod tests {
    use super::super::flags;
    use super::*;
    use serde_json::{Value, json};

    fn flags(args: &[&str]) -> Result<Value, String> {
        let args = args.iter().map(Into::into).collect();
        let parsed = flags::parse(args, &[COMMAND.flags], COMMAND.stop_after).unwrap();
        let resources = of_flags(&parsed).map_err(|e| e.to_string())?;
        Ok(serde_json::to_value(resources).unwrap())
    }

    #[test]
    fn every_flag_has_its_field() {
        let all = flags(&[
            "--blkio-weight=500",
            "--cpu-period=100000",
            "--cpu-quota=-1",
            "--cpu-burst=0",
            "--cpu-share=200",
            "--cpu-rt-period=1000000",
            "--cpu-rt-runtime=950000",
            "--cpuset-cpus=0-1",
            "--cpuset-mems=0",
            "--cpu-idle=1",
            "--kernel-memory=1m",
            "--kernel-memory-tcp=-1",
            "--memory=50M",
            "--memory-reservation=32m",
            "--memory-swap=-1",
            "--pids-limit=0",
        ]);
        let want = json!({
            "blockIO": {"weight": 500},
            "cpu": {"period": 100_000, "quota": -1, "burst": 0, "shares": 200, "realtimePeriod": 1_000_000,
                    "realtimeRuntime": 950_000, "cpus": "0-1", "mems": "0", "idle": 1},
            "memory": {"limit": 52_428_800, "reservation": 33_554_432, "swap": -1, "kernel": 1_048_576, "kernelTCP": -1},
            "pids": {"limit": 0},
        });
        assert_eq!(all, Ok(want));
    }

    #[test]
    fn no_flag_asks_for_nothing() {
        for args in [&[][..], &["id"], &["--memory", "", "--cpu-quota=", "--cpuset-cpus", ""]] {
            assert_eq!(flags(args), Ok(json!({})));
        }
    }

    #[test]
    fn bad_values_are_refused_in_runcs_words() {
        for (arg, error) in [
            (
                "--cpu-period=x",
                r#"invalid value for cpu-period: strconv.ParseUint: parsing "x": invalid syntax"#,
            ),
            (
                "--cpu-period=-1",
                r#"invalid value for cpu-period: strconv.ParseUint: parsing "-1": invalid syntax"#,
            ),
            (
                "--cpu-quota=1k",
                r#"invalid value for cpu-quota: strconv.ParseInt: parsing "1k": invalid syntax"#,
            ),
            ("--cpu-idle=x", r#"invalid value for cpu-idle: strconv.ParseInt: parsing "x": invalid syntax"#),
            ("--memory=lots", "invalid value for memory: invalid size: 'lots'"),
            ("--memory-swap=-2", "invalid value for memory-swap: invalid size: '-2'"),
            (
                "--pids-limit=x",
                r#"invalid value "x" for flag -pids-limit: strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
            (
                "--pids-limit=",
                r#"invalid value "" for flag -pids-limit: strconv.ParseInt: parsing "": invalid syntax"#,
            ),
            ("--blkio-weight=70000", "invalid value for blkio-weight: 70000 is out of range 10-1000"),
        ] {
            assert_eq!(flags(&[arg]), Err(error.to_owned()), "{arg}");
        }
    }
}
