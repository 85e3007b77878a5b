//! Health checks: what is checked, what the checks found, and what that makes of the container.
//!
//! A monitor of the container ([`crate::monitor`]) starts [`check`] at its times, one after the other.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Image;

use crate::record::{self, Record, read_started};
use crate::time::{self, Nanos};
use crate::{ContainerStatus, Error, place};

/// A health check as docker keeps it, in an image's config too. Times in nanoseconds; 0 is what is usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", WORD…]`, `["CMD-SHELL", LINE]`, `["NONE"]` for none; empty: the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// From the end of one check to the start of the next; 30 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long one may take; 30 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// For so long after the start a failure does not count; 0 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Instead of the interval in the start period; 5 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// After so many failures in a row it is unhealthy; 3.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(number: &i64) -> bool {
    *number == 0
}

const SECOND: i64 = 1_000_000_000;
/// How many results are kept, as by docker.
const KEPT: usize = 5;
/// Most bytes of a check's output that are kept.
pub(crate) const OUTPUT: usize = 4096;

impl Healthcheck {
    /// The image's, or none.
    pub(crate) fn of_image(image: &Image) -> Option<Self> {
        let config: Value = serde_json::from_slice(&image.raw_config).ok()?;
        // What is no health check is left out, as whatever else of a config rcr cannot use.
        serde_json::from_value(config.get("config")?.get("Healthcheck")?.clone()).ok()
    }

    /// The user's wishes, and the image's where they are silent.
    pub(crate) fn merge(user: Option<&Self>, image: &Image) -> Option<Self> {
        merge(user, Self::of_image(image))
    }

    /// The command, `shell` before a line for it; `None`: nothing is checked.
    pub(crate) fn command(&self, shell: &[String]) -> Option<Vec<String>> {
        let (kind, words) = self.test.split_first()?;
        match kind.as_str() {
            "CMD" if !words.is_empty() => Some(words.to_vec()),
            "CMD-SHELL" if !words.is_empty() && shell.is_empty() => {
                Some([&["/bin/sh".to_owned(), "-c".to_owned()], words].concat())
            }
            "CMD-SHELL" if !words.is_empty() => Some([shell, words].concat()),
            _ => None,
        }
    }

    pub(crate) fn interval(&self) -> i64 {
        or(self.interval, 30 * SECOND)
    }

    pub(crate) fn timeout(&self) -> i64 {
        or(self.timeout, 30 * SECOND)
    }

    pub(crate) fn start_interval(&self) -> i64 {
        or(self.start_interval, 5 * SECOND)
    }

    fn retries(&self) -> i64 {
        or(self.retries, 3)
    }
}

fn or(number: i64, usual: i64) -> i64 {
    if number > 0 { number } else { usual }
}

fn merge(user: Option<&Healthcheck>, image: Option<Healthcheck>) -> Option<Healthcheck> {
    let (Some(user), Some(image)) = (user, &image) else { return user.cloned().or(image) };
    let or = |own: i64, other: i64| if own == 0 { other } else { own };
    Some(Healthcheck {
        test: if user.test.is_empty() { image.test.clone() } else { user.test.clone() },
        interval: or(user.interval, image.interval),
        timeout: or(user.timeout, image.timeout),
        start_period: or(user.start_period, image.start_period),
        start_interval: or(user.start_interval, image.start_interval),
        retries: or(user.retries, image.retries),
    })
}

/// The shell that an image names for lines of its Dockerfile; usually none.
pub(crate) fn shell_of(image: &Image) -> Vec<String> {
    let shell = || {
        let config: Value = serde_json::from_slice(&image.raw_config).ok()?;
        serde_json::from_value(config.get("config")?.get("Shell")?.clone()).ok()
    };
    shell().unwrap_or_default()
}

/// What the checks have found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing yet.
    #[default]
    Starting,
    /// The last one that counts succeeded.
    Healthy,
    /// Too many in a row failed, or the container does not run.
    Unhealthy,
}

impl HealthStatus {
    /// docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// `health.json`: the state of a container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) status: HealthStatus,
    pub(crate) failing_streak: i64,
    pub(crate) log: Vec<Probe>,
}

/// One check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) start: Nanos,
    pub(crate) end: Nanos,
    /// -1: it took too long, or could not be started.
    pub(crate) code: i32,
    pub(crate) output: String,
}

const FILE: &str = "health.json";

impl Health {
    /// What is known of a container; `None`: nothing is checked, or it has never been started. One that does not run is
    /// not healthy, as docker has it.
    pub(crate) fn of(record: &Record, dir: &Path, status: ContainerStatus) -> Result<Option<Self>, Error> {
        let is_checked = record.health.as_ref().is_some_and(|check| check.command(&[]).is_some());
        if !is_checked || status == ContainerStatus::Created {
            return Ok(None);
        }
        let mut health = Self::read(dir)?;
        if !status.is_up() {
            health.status = HealthStatus::Unhealthy;
        }
        Ok(Some(health))
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        Ok(record::read(&dir.join(FILE))?.unwrap_or_default())
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        record::write(&dir.join(FILE), self)
    }

    /// The container starts anew.
    pub(crate) fn forget(dir: &Path) -> Result<(), Error> {
        place::remove_file(&dir.join(FILE))
    }

    /// Counts one more check of a container that was started then; docker's rules.
    pub(crate) fn count(&mut self, check: &Healthcheck, probe: Probe, started: Nanos) {
        if probe.code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else {
            let young = probe.start < started.saturating_add(check.start_period.max(0));
            if !(young && self.status == HealthStatus::Starting) {
                self.failing_streak += 1;
            }
            if self.failing_streak >= check.retries() {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(probe);
        let surplus = self.log.len().saturating_sub(KEPT);
        self.log.drain(..surplus);
    }

    /// Whether the next check comes after the start interval.
    pub(crate) fn is_early(&self, check: &Healthcheck, started: Nanos, now: Nanos) -> bool {
        self.status == HealthStatus::Starting && now < started.saturating_add(check.start_period.max(0))
    }
}

/// Milliseconds to the first check, and between checks: usually, and in the start period. `None`: nothing is checked.
pub(crate) fn times(record: &Record, dir: &Path) -> Result<Option<[i64; 3]>, Error> {
    let Some(check) = record.health.as_ref().filter(|check| check.command(&[]).is_some()) else {
        return Ok(None);
    };
    let milliseconds = |nanos: i64| (nanos / 1_000_000).max(1);
    let (every, early) = (milliseconds(check.interval()), milliseconds(check.start_interval()));
    let now = time::now();
    let is_early = Health::read(dir)?.is_early(check, read_started(dir).unwrap_or(now), now);
    Ok(Some([if is_early { early } else { every }, every, early]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Healthcheck {
        Healthcheck { test: test.iter().map(|word| (*word).to_owned()).collect(), ..Healthcheck::default() }
    }

    #[test]
    fn the_user_goes_before_the_image_field_by_field() {
        let image = Healthcheck { interval: 5, retries: 7, ..check(&["CMD", "true"]) };
        let user = Healthcheck { interval: 9, timeout: 2, ..check(&[]) };
        let merged = merge(Some(&user), Some(image.clone())).unwrap();
        assert_eq!(merged, Healthcheck { interval: 9, timeout: 2, ..image.clone() });
        let merged = merge(Some(&check(&["NONE"])), Some(image.clone())).unwrap();
        assert_eq!(merged.command(&[]), None);
        assert_eq!(merge(None, Some(image.clone())), Some(image));
        assert_eq!(merge(None, None), None);
    }

    #[test]
    fn the_command() {
        let words = |list: &[&str]| Some(list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(check(&["CMD", "a", "b c"]).command(&[]), words(&["a", "b c"]));
        assert_eq!(check(&["CMD-SHELL", "a || b"]).command(&[]), words(&["/bin/sh", "-c", "a || b"]));
        let shell = ["/bin/ash".to_owned(), "-ec".to_owned()];
        assert_eq!(check(&["CMD-SHELL", "a"]).command(&shell), words(&["/bin/ash", "-ec", "a"]));
        for none in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["SHELL", "x"]] {
            assert_eq!(check(none).command(&[]), None, "{none:?}");
        }
    }

    #[test]
    fn failures_count_in_a_row_and_after_the_start_period() {
        let check = Healthcheck { start_period: 100, retries: 2, ..check(&["CMD", "x"]) };
        let probe = |start, code| Probe { start, end: start + 1, code, output: String::new() };
        let mut health = Health::default();
        let step = |health: &mut Health, start, code| {
            health.count(&check, probe(start, code), 1000);
            (health.status, health.failing_streak)
        };
        use HealthStatus::{Healthy, Starting, Unhealthy};
        assert_eq!(step(&mut health, 1050, 1), (Starting, 0));
        assert!(health.is_early(&check, 1000, 1099) && !health.is_early(&check, 1000, 1100));
        assert_eq!(step(&mut health, 1099, -1), (Starting, 0));
        assert_eq!(step(&mut health, 1100, 1), (Starting, 1));
        assert_eq!(step(&mut health, 1101, 2), (Unhealthy, 2));
        assert_eq!(step(&mut health, 1102, 0), (Healthy, 0));
        assert_eq!(step(&mut health, 1103, 1), (Healthy, 1));
        assert_eq!(health.log.len(), 5);
        assert_eq!((health.log[0].start, health.log[4].start), (1099, 1103));
        // Once it was healthy a failure counts in the start period, too.
        let mut early = Health::default();
        assert_eq!(step(&mut early, 1001, 0), (Healthy, 0));
        assert_eq!(step(&mut early, 1002, 1), (Healthy, 1));
        assert!(!early.is_early(&check, 1000, 1003));
    }

    #[test]
    fn dockers_json() {
        let text = r#"{"Test":["CMD-SHELL","curl localhost"],"Interval":5000000000,"Retries":2}"#;
        let check: Healthcheck = serde_json::from_str(text).unwrap();
        assert_eq!((check.interval(), check.timeout(), check.retries()), (5 * SECOND, 30 * SECOND, 2));
        assert_eq!(serde_json::to_string(&check).unwrap(), text);
        let odd = Healthcheck { interval: -5, ..Healthcheck::default() };
        assert_eq!(odd.interval(), 30 * SECOND);
    }
}
