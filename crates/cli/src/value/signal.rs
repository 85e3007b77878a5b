//! Signals by name or number.

/// The number: `9`, `KILL`, `sigkill`, `RTMIN+3`.
pub(crate) fn parse(text: &str) -> Result<i32, String> {
    let number = engine::signal_number(text).filter(|number| (1..=64).contains(number));
    number.ok_or_else(|| "wants a signal, for instance TERM, SIGHUP or 9".to_owned())
}

/// The same, kept as it was typed.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    parse(text).map(|_| text.to_owned())
}
