//! Flags of `run` and `create` that limit what a container may use.

use engine::Limits;

use crate::value::size;

/// All but `--memory`, `--cpus`, `--pids-limit` and `--ulimit`.
#[derive(Debug, clap::Args)]
pub(crate) struct LimitFlags {
    /// Weight of its processor time beside others; 1024 is usual
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Length of the time slice that --cpu-quota is a share of, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Most processor time in each --cpu-period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Processors it may run on, for instance 0-2,4
    #[arg(long, value_name = "LIST", value_parser = set)]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use, for instance 0,1
    #[arg(long, value_name = "LIST", value_parser = set)]
    cpuset_mems: Option<String>,
    /// Most memory and swap together; -1 for no limit
    #[arg(long, value_name = "BYTES", value_parser = swap, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// Memory that it is brought down to when the host is short of it
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    memory_reservation: Option<u64>,
    /// How readily its memory is swapped out, 0 to 100 (cgroup v1)
    #[arg(long, value_name = "NUMBER", value_parser = swappiness, allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    /// Let it wait instead of killing a process when its memory is used up (cgroup v1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily it is killed when the host's memory is used up, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// Weight of its block I/O beside others, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
}

/// A list of numbers and ranges, as cpuset(7) has it.
fn set(text: &str) -> Result<String, String> {
    let number = |n: &str| !n.is_empty() && n.len() < 6 && n.bytes().all(|b| b.is_ascii_digit());
    let fits = |part: &str| part.split_once('-').map_or(number(part), |(a, b)| number(a) && number(b));
    if text.split(',').all(fits) {
        Ok(text.to_owned())
    } else {
        Err("wants numbers and ranges, for instance 0-2,4".to_owned())
    }
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = size::parse(text)?;
    i64::try_from(bytes).map_err(|_| format!("is more than {} bytes", i64::MAX))
}

fn swappiness(text: &str) -> Result<i64, String> {
    let fits = text.parse().ok().filter(|n| (-1..=100).contains(n));
    fits.ok_or_else(|| "wants 0 to 100, or -1 to leave it as it is".to_owned())
}

impl From<LimitFlags> for Limits {
    fn from(flags: LimitFlags) -> Self {
        Self {
            cpu_shares: flags.cpu_shares,
            cpu_period: flags.cpu_period,
            cpu_quota: flags.cpu_quota,
            cpuset_cpus: flags.cpuset_cpus,
            cpuset_mems: flags.cpuset_mems,
            memory_swap: flags.memory_swap,
            memory_reservation: flags.memory_reservation,
            memory_swappiness: flags.memory_swappiness.and_then(|n| u64::try_from(n).ok()),
            oom_kill_disable: flags.oom_kill_disable,
            oom_score_adj: flags.oom_score_adj,
            blkio_weight: flags.blkio_weight,
        }
    }
}
