//! When a failed request is sent again: how often, after how long, and what the registry has asked for.

use std::time::{Duration, SystemTime};

use crate::error::one_line;
use crate::pull::Pull;
use crate::{Error, Event};

/// The tries of one piece of work.
pub(crate) struct Tries<'a> {
    pull: &'a Pull<'a>,
    what: String,
    used: u32,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(pull: &'a Pull<'a>, what: &str) -> Self {
        Self { pull, what: what.to_owned(), used: 0 }
    }

    /// Bytes came: a later failure has all its tries again.
    pub(crate) fn refill(&mut self) {
        self.used = 0;
    }

    /// Waits before another try, or fails with `error` where there is none left.
    pub(crate) async fn again(&mut self, error: Error, asked: Option<Duration>) -> Result<(), Error> {
        let limits = &self.pull.request.limits;
        self.used += 1;
        if self.used >= limits.tries {
            return Err(error);
        }
        let doubled = limits.backoff.saturating_mul(1 << (self.used - 1).min(16));
        // Give or take a fifth, so that many clients do not come back at the same moment.
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let jitter = 0.8 + 0.4 * f64::from(nanos % 1000) / 1000.0;
        let after = asked.unwrap_or_default().max(doubled.mul_f64(jitter)).min(limits.backoff_max);
        let error = one_line(&error.to_string(), 300);
        (self.pull.events)(Event::Retrying { what: self.what.clone(), after, error });
        tokio::time::sleep(after).await;
        Ok(())
    }
}

/// `Retry-After` in seconds or as a date.
pub(crate) fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text.trim()).ok()?.duration_since(SystemTime::now()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_retry_after_in_both_forms() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("1000000000"), Some(Duration::from_secs(1_000_000_000)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        assert!(retry_after(&date).is_some_and(|d| d > Duration::from_secs(20)));
        for bad in ["", "soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", "99999999999999999999"] {
            assert_eq!(retry_after(bad), None, "{bad}");
        }
    }
}
