//! The two fields of /proc/PID/stat that tell whether a process is still the one that was meant.

use crate::Error;

/// State and start time of a process. proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcStat {
    state: u8,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
}

impl ProcStat {
    /// Reads it; `None` when there is no such process.
    pub(crate) fn read(pid: i32) -> Result<Option<ProcStat>, Error> {
        let path = format!("/proc/{pid}/stat");
        match std::fs::read(&path) {
            Ok(line) => ProcStat::parse(&line).map(Some).ok_or_else(|| Error::new(format!("parse {path:?}"))),
            // ESRCH: it went away between open and read.
            Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::new(format!("read {path:?}")).because(e)),
        }
    }

    /// Field 2 is the program's name in parentheses and may hold anything, so fields are counted from the last `)`.
    fn parse(line: &[u8]) -> Option<ProcStat> {
        let after_name = line.iter().rposition(|b| *b == b')')? + 1;
        let fields = std::str::from_utf8(&line[after_name..]).ok()?;
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // `state` is field 3, `starttime` field 22.
        let start_time = fields.nth(22 - 4)?.parse().ok()?;
        Some(ProcStat { state, start_time })
    }

    /// It has ended, though its parent may not have noticed yet.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_the_fields_after_it() {
        let line = b"7 (x) Z 1 (y) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 67 8\n";
        assert_eq!(ProcStat::parse(line), Some(ProcStat { state: b'S', start_time: 12345 }));
        for cut in [&b""[..], b"7 (x", b"7 (x)", b"7 (x) S 1 2"] {
            assert_eq!(ProcStat::parse(cut), None);
        }
    }

    #[test]
    #[allow(clippy::cast_possible_wrap)]
    fn the_own_process_lives_and_an_impossible_one_does_not() {
        let own = ProcStat::read(std::process::id() as i32).unwrap().unwrap();
        assert!(!own.is_dead() && own.start_time > 0);
        assert_eq!(ProcStat::read(i32::MAX).unwrap(), None);
    }
}
