//! A tar file with random access: where each member lies. Nothing is unpacked.
//!
//! A compressed archive, or one that is a pipe, is first written to an unnamed temporary file, which the kernel
//! removes with its last descriptor.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::EntryType;

use crate::Error;
use crate::error::one_line;
use crate::piece::Piece;
use crate::pull::Pull;

/// Most members of an archive.
const MEMBERS_MAX: usize = 100_000;
/// Longest chain of links from a name to its content.
const LINKS_MAX: usize = 8;
/// Most bytes that a compressed archive may unpack to.
const SPOOL_MAX: u64 = 64 << 30;

/// An indexed tar file.
pub(crate) struct Tarball {
    path: PathBuf,
    file: Arc<File>,
    members: HashMap<String, Member>,
}

enum Member {
    Content {
        start: u64,
        size: u64,
    },
    /// Name of the member it stands for; `docker save` linked equal layers so.
    Link(String),
}

impl Tarball {
    pub(crate) fn open(pull: &Pull<'_>, path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::Archive { path: path.to_owned(), reason };
        let io = |e: std::io::Error| fail(e.to_string());
        let mut file = File::open(path).map_err(io)?;
        let regular = file.metadata().map_err(io)?.is_file();
        let mut head = [0; 6];
        let n = fill(&mut file, &mut head).map_err(io)?;
        let packed = Packing::of(&head[..n]).map_err(|what| {
            fail(format!("it is compressed with {what}, which rcr does not read; unpack it first"))
        })?;
        if !regular || packed != Packing::Plain {
            file = spool(pull, packed, head[..n].chain(file)).map_err(|e| match pull.check() {
                Err(stopped) => stopped,
                Ok(()) => fail(one_line(&e.to_string(), 200)),
            })?;
        }
        let size = file.metadata().map_err(io)?.len();
        let members = index(pull, &mut file, size).map_err(|reason| match pull.check() {
            Err(stopped) => stopped,
            Ok(()) => fail(one_line(&reason, 200)),
        })?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), members })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a member, links followed; `None` if there is no such member.
    pub(crate) fn member(&self, name: &str) -> Result<Option<Piece>, Error> {
        let Some(mut key) = clean(name) else { return Ok(None) };
        for _ in 0..=LINKS_MAX {
            match self.members.get(&key) {
                None => return Ok(None),
                Some(Member::Link(target)) => key.clone_from(target),
                Some(Member::Content { start, size }) => {
                    let (file, path) = (self.file.clone(), self.path.clone());
                    return Ok(Some(Piece { file, path, start: *start, size: *size }));
                }
            }
        }
        Err(self.fail(&format!("member {:?} is a link in a circle", one_line(name, 100))))
    }

    pub(crate) fn fail(&self, reason: &str) -> Error {
        Error::Archive { path: self.path.clone(), reason: reason.to_owned() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(head: &[u8]) -> Result<Self, &'static str> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', ..] => Err("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Err("xz"),
            _ => Ok(Self::Plain),
        }
    }
}

/// Unpacks a stream into an unnamed file, in `$TMPDIR` or else /var/tmp, which is a disk where /tmp may be memory.
fn spool(pull: &Pull<'_>, packing: Packing, stream: impl Read) -> std::io::Result<File> {
    let dir = std::env::var_os("TMPDIR").filter(|d| !d.is_empty()).map_or("/var/tmp".into(), PathBuf::from);
    let mut file = tempfile::tempfile_in(&dir).map_err(|e| {
        std::io::Error::new(e.kind(), format!("make a temporary file in {}: {e}", dir.display()))
    })?;
    let mut stream: Box<dyn Read> = match packing {
        Packing::Plain => Box::new(stream),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(stream))),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(stream)?),
    };
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        if pull.stopped() {
            return Err(std::io::Error::other("interrupted"));
        }
        let n = match stream.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        total += n as u64;
        if total > SPOOL_MAX {
            return Err(std::io::Error::other(format!("it unpacks to more than {SPOOL_MAX} bytes")));
        }
        if n == 0 {
            return Ok(file);
        }
        file.write_all(&buffer[..n])?;
    }
}

/// Notes where every member lies. Of two with one name the last counts, as when unpacking.
fn index(pull: &Pull<'_>, file: &mut File, file_size: u64) -> Result<HashMap<String, Member>, String> {
    file.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(BufReader::with_capacity(64 << 10, &*file));
    for (count, entry) in archive.entries_with_seek().map_err(|e| e.to_string())?.enumerate() {
        if count >= MEMBERS_MAX || pull.stopped() {
            return Err(format!("it has more than {MEMBERS_MAX} members"));
        }
        let entry = entry.map_err(|e| format!("it is no tar archive, or a damaged one: {e}"))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(key) = clean(&name) else { continue };
        let target =
            || entry.link_name_bytes().map(|t| String::from_utf8_lossy(&t).into_owned()).unwrap_or_default();
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (start, size) = (entry.raw_file_position(), entry.size());
                if start.checked_add(size).is_none_or(|end| end > file_size) {
                    return Err(format!("it ends in the middle of member {name:?}; the file is truncated"));
                }
                Member::Content { start, size }
            }
            EntryType::Link => match clean(&target()) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            EntryType::Symlink => {
                let parent = key.rsplit_once('/').map_or("", |(parent, _)| parent);
                match clean(&format!("{parent}/{}", target())) {
                    Some(inside) if !target().starts_with('/') => Member::Link(inside),
                    _ => continue,
                }
            }
            EntryType::GNUSparse => {
                return Err(format!("member {name:?} is sparse, which no image archive is"));
            }
            _ => continue,
        };
        members.insert(key, member);
    }
    Ok(members)
}

/// A member's name without `.` and `..`; `None` if it leads out of the archive.
fn clean(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/")).filter(|key| !key.is_empty())
}

fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read(&mut buffer[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(clean("./a//b/../c").as_deref(), Some("a/c"));
        assert_eq!(clean("/etc/passwd").as_deref(), Some("etc/passwd"));
        for out in ["../a", "a/../../b", "", ".", "/"] {
            assert_eq!(clean(out), None, "{out}");
        }
    }
}
