//! Where log lines go: standard error, one line each.

use tracing::level_filters::LevelFilter;

/// Starts to print what is at least as important as `level`.
pub(crate) fn start(level: LevelFilter) {
    let format = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    // Times matter to whoever follows the steps, and are noise beside a single warning.
    if level >= LevelFilter::DEBUG {
        format.with_ansi(false).init();
    } else {
        format.with_ansi(false).without_time().with_target(false).init();
    }
}
