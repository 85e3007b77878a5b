//! Restart policies.

use engine::RestartPolicy;

/// `no`, `on-failure[:N]`, `always` or `unless-stopped`.
pub(crate) fn parse(text: &str) -> Result<RestartPolicy, String> {
    match text.split_once(':') {
        None => match text {
            "" | "no" => return Ok(RestartPolicy::No),
            "on-failure" => return Ok(RestartPolicy::OnFailure(0)),
            "always" => return Ok(RestartPolicy::Always),
            "unless-stopped" => return Ok(RestartPolicy::UnlessStopped),
            _ => {}
        },
        Some(("on-failure", most)) => {
            if let Ok(most) = most.parse() {
                return Ok(RestartPolicy::OnFailure(most));
            }
        }
        Some(_) => {}
    }
    Err("wants no, on-failure, on-failure:N (at most N times), always or unless-stopped".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        assert_eq!(parse("on-failure:3"), Ok(RestartPolicy::OnFailure(3)));
        assert_eq!(parse("unless-stopped"), Ok(RestartPolicy::UnlessStopped));
        for bad in ["always:3", "on-failure:x", "on-failure:-1", "sometimes"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
