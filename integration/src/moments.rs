//! Killing a command at moments spread over its life.

use std::process::{Command, Stdio};
use std::time::Duration;

/// Fractions of one, evenly mixed (the golden ratio's multiples), so that moments differ and runs repeat: `usual` many, or
/// 100 if `$RCR_STRESS` is `full`.
pub fn moments(usual: u32) -> impl Iterator<Item = f64> {
    let full = std::env::var("RCR_STRESS").is_ok_and(|value| value == "full");
    let count = if full { usual.max(100) } else { usual };
    (1..=count).map(|n| (f64::from(n) * 0.618_033_988_749_895).fract())
}

/// Starts the command, kills it after `after` with what `also` kills, and waits for it.
pub fn kill_after(command: &mut Command, after: Duration, also: impl FnOnce()) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    std::thread::sleep(after);
    also();
    let _ = child.kill();
    child.wait().expect("it ends");
}
