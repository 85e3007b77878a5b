//! The flags of `run` and `create` about health checks.

use engine::Healthcheck;

use crate::error::Error;

/// All of them.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthFlags {
    /// Check its health with this line for its shell; exit code 0 is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between checks, for instance 1m30s [default: the image's, or 30s]
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    health_interval: Option<i64>,
    /// Time that a check may take [default: the image's, or 30s]
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    health_timeout: Option<i64>,
    /// Failures in a row that make it unhealthy [default: the image's, or 3]
    #[arg(long, value_name = "NUMBER", value_parser = count, allow_negative_numbers = true)]
    health_retries: Option<i64>,
    /// Time after the start in which failures do not count [default: the image's, or 0s]
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    health_start_period: Option<i64>,
    /// Time between checks in the start period [default: the image's, or 5s]
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    health_start_interval: Option<i64>,
    /// Do not check its health, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

/// 0, or at least a millisecond, as docker wants it.
fn time(text: &str) -> Result<i64, String> {
    let wants = "wants 0, or a time of at least 1ms such as 30s or 1m30s";
    engine::duration(text).filter(|nanos| *nanos == 0 || *nanos >= 1_000_000).ok_or_else(|| wants.to_owned())
}

fn count(text: &str) -> Result<i64, String> {
    let count = text.parse::<u32>().map_err(|_| "wants a number, 0 for the usual 3".to_owned());
    count.map(i64::from)
}

impl HealthFlags {
    /// `None`: as the image says.
    pub(crate) fn healthcheck(self) -> Result<Option<Healthcheck>, Error> {
        let times = [
            self.health_interval,
            self.health_timeout,
            self.health_retries,
            self.health_start_period,
            self.health_start_interval,
        ];
        let any = self.health_cmd.is_some() || times.iter().any(Option::is_some);
        if self.no_healthcheck {
            if any {
                let why = "conflicting options: --no-healthcheck and the other --health-… flags";
                return Err(Error::Usage(format!("{why}; leave out one; see 'rcr run --help'")));
            }
            return Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }));
        }
        let [interval, timeout, retries, start_period, start_interval] = times.map(Option::unwrap_or_default);
        let line = self.health_cmd.filter(|line| !line.is_empty());
        let test = line.map(|line| vec!["CMD-SHELL".to_owned(), line]).unwrap_or_default();
        let check = Healthcheck { test, interval, timeout, start_period, start_interval, retries };
        Ok(any.then_some(check))
    }
}
