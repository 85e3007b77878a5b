//! Reads tar archives as a stream: ustar, GNU and PAX, sparse files included.
//!
//! Own reader, not the `tar` crate's: that one splits PAX records at newlines, which breaks binary xattrs such as
//! file capabilities, reads extension headers of any length into memory, knows no PAX sparse files, and lets
//! malformed PAX records pass. Where archivers disagree about an archive (RUSTSEC-2026-0068, CVE-2025-62518),
//! this one reads what Go's archive/tar reads, as every other image tool does, or refuses.
//!
//! Owns the format only: names are bytes as they stand there, nothing is checked against a file system.

mod archive;
mod field;
mod pax;
mod sparse;

pub(crate) use archive::{Archive, Entry, Kind};
