//! The log of a container in docker's json-file format: an object a line, parts of at most 16 KiB, files rotated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest part of a line in one object, as docker cuts it.
pub(crate) const PART: usize = 16 << 10;

/// The files.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    max_file: u32,
    /// Objects that are not yet written.
    pending: Vec<u8>,
}

impl Log {
    /// Appends to `path`, or makes it.
    pub(crate) fn open(path: PathBuf, max_size: u64, max_file: u32) -> io::Result<Self> {
        let file = append(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, max_size, max_file, pending: Vec::new() })
    }

    /// Adds one object for `text`, a line with its end or a part of one.
    pub(crate) fn add(&mut self, stream: &str, text: &[u8], at: i64) {
        self.pending.extend_from_slice(b"{\"log\":\"");
        escape(text, &mut self.pending);
        self.pending.extend_from_slice(b"\",\"stream\":\"");
        self.pending.extend_from_slice(stream.as_bytes());
        self.pending.extend_from_slice(b"\",\"time\":\"");
        timestamp(at, &mut self.pending);
        self.pending.extend_from_slice(b"\"}\n");
    }

    /// Writes what was added. A log that cannot be written (a full disk) loses lines; the container goes on.
    pub(crate) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let length = self.pending.len() as u64;
        if self.max_size > 0 && self.size > 0 && self.size + length > self.max_size {
            self.rotate();
        }
        match self.file.write_all(&self.pending) {
            Ok(()) => self.size += length,
            // No half of an object before the next one.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        self.pending.clear();
        self.pending.shrink_to(4 * PART);
    }

    /// LOG → LOG.1 → LOG.2 …; the oldest goes.
    fn rotate(&mut self) {
        let old = |number: u32| numbered(&self.path, number);
        if self.max_file <= 1 {
            let _ = fs::remove_file(&self.path);
        }
        for number in (1..self.max_file).rev() {
            // Those that are not there yet cannot be renamed.
            let _ = fs::rename(old(number - 1), old(number));
        }
        if let Ok(file) = append(&self.path) {
            self.size = file.metadata().map_or(0, |meta| meta.len());
            self.file = file;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The text as the inside of a JSON string, escaped as Go does; what is no UTF-8 becomes U+FFFD.
fn escape(text: &[u8], to: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => to.extend_from_slice(b"\\\""),
                '\\' => to.extend_from_slice(b"\\\\"),
                '\n' => to.extend_from_slice(b"\\n"),
                '\r' => to.extend_from_slice(b"\\r"),
                '\t' => to.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    to.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
                }
                c => to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with nanoseconds. The civil date of a day number, years counted from March: 400 years have 146 097
/// days.
fn timestamp(at: i64, to: &mut Vec<u8>) {
    let (seconds, nanos) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to memory cannot fail.
    let _ = write!(to, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_dockers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(path.clone(), 0, 1).unwrap();
        log.add("stdout", b"a \"b\" <c>\t\x01\xff\n", 1_600_000_000_123_456_789);
        log.add("stderr", "part ü".as_bytes(), 951_782_400_000_000_000);
        log.flush();
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            "{\"log\":\"a \\\"b\\\" \\u003cc\\u003e\\t\\u0001\u{fffd}\\n\",\"stream\":\"stdout\",\"time\":\"2020-09-13T12:26:40.123456789Z\"}\n\
             {\"log\":\"part ü\",\"stream\":\"stderr\",\"time\":\"2000-02-29T00:00:00.000000000Z\"}\n"
        );
    }

    #[test]
    fn the_oldest_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(path.clone(), 100, 3).unwrap();
        for n in 0..5 {
            log.add("stdout", format!("{n}\n").as_bytes(), 0);
            log.flush();
        }
        let line = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(
            line("log").contains("\"4\\n\"")
                && line("log.1").contains("\"3\\n\"")
                && line("log.2").contains("\"2\\n\"")
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let mut one = Log::open(path, 100, 1).unwrap();
        one.add("stdout", b"9\n", 0);
        one.flush();
        assert!(line("log").contains("\"9\\n\"") && !line("log").contains("\"4\\n\""));
    }
}
