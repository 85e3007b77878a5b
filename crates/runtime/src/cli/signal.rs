//! Signals by name.

use nix::libc::{SIGRTMAX, SIGRTMIN};
use nix::sys::signal::Signal;

/// The number for a signal given as number or name, in any case, with or without `SIG`; `RTMIN`, `RTMIN+3`,
/// `RTMAX-1` too.
pub fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |offset: &str, base: i32| match offset {
        "" => Some(base),
        // `+3` and `-1` are numbers as they stand.
        _ => offset.starts_with(['+', '-']).then(|| offset.parse::<i32>().ok()).flatten().map(|n| base + n),
    };
    let number = if let Some(offset) = short.strip_prefix("RTMIN") {
        realtime(offset, SIGRTMIN())?
    } else if let Some(offset) = short.strip_prefix("RTMAX") {
        realtime(offset, SIGRTMAX())?
    } else {
        let name = match short {
            "CLD" => "CHLD",
            "POLL" => "IO",
            "IOT" => "ABRT",
            "UNUSED" => "SYS",
            name => name,
        };
        format!("SIG{name}").parse::<Signal>().ok()? as i32
    };
    (1..=SIGRTMAX()).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, expected) in [
            ("9", 9),
            ("0", 0),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("Poll", 29),
            ("RTMIN+3", SIGRTMIN() + 3),
            ("SIGRTMAX-1", SIGRTMAX() - 1),
        ] {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        for name in ["", "SIG", "NOPE", "RTMIN3", "RTMIN+99", "RTMAX+1"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
