//! `--mac-address 02:00:00:00:00:01`.

/// An address on the wire, not that of a group.
pub(crate) fn parse(text: &str) -> Result<[u8; 6], &'static str> {
    engine::parse_mac(text).ok_or("wants six bytes such as 02:00:00:00:00:01")
}
