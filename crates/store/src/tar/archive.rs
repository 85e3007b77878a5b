//! Walks over the entries of an archive.

use std::io::BufRead;

use super::field::{self, Block};
use super::pax::{self, Extended};
use super::sparse::{self, Extent};
use crate::error::{Error, Result};

/// Longest extension header (PAX records, GNU long names), as in Go's archive/tar.
const MAX_EXTENSION: u64 = 1 << 20;
/// User and group IDs end here: (uid_t)-1 means "leave as it is" to chown(2).
const NO_ID: u64 = u32::MAX as u64;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, its extension headers applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As written: may be absolute, have `..`, and any byte but NUL.
    pub(crate) name: Vec<u8>,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Length of the file it makes.
    pub(crate) size: u64,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    /// In the archive's order.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes in a sparse file.
    pub(crate) extents: Option<Vec<Extent>>,
}

/// An archive in a stream.
pub(crate) struct Archive<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Bytes left of this entry's data, and of the padding behind it.
    data: u64,
    padding: u64,
}

/// Extension headers that wait for their entry.
#[derive(Default)]
struct Pending {
    extended: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, data: 0, padding: 0 }
    }

    /// The stream, to read what is behind the end of the archive.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// The next entry, `None` at the end of the archive. Skips what is left of the one before.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut pending = Pending::default();
        loop {
            self.skip()?;
            let Some(block) = self.header()? else {
                return match pending {
                    Pending { extended: None, long_name: None, long_link: None } => Ok(None),
                    _ => Err(self.bad("extension header without an entry")),
                };
            };
            match block[field::TYPE] {
                b'x' => {
                    let body = self.extension(&block)?;
                    let extended = pax::parse(&body).map_err(|reason| self.bad(reason))?;
                    self.once(&mut pending.extended, extended)?;
                }
                b'g' => {
                    let body = self.extension(&block)?;
                    self.global(&body)?;
                }
                b'L' => {
                    let name = field::text(&self.extension(&block)?).to_vec();
                    self.once(&mut pending.long_name, name)?;
                }
                b'K' => {
                    let link = field::text(&self.extension(&block)?).to_vec();
                    self.once(&mut pending.long_link, link)?;
                }
                _ => return self.entry(&block, pending).map(Some),
            }
        }
    }

    /// Some of this entry's data that is not consumed yet; empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let most = usize::try_from(self.data).unwrap_or(usize::MAX);
        // A second call, because the borrow checker ties an early return of the first to the whole function.
        if fill(&mut self.input, self.offset)?.is_empty() {
            return Err(self.bad("ends in the middle of a file"));
        }
        let chunk = fill(&mut self.input, self.offset)?;
        Ok(&chunk[..chunk.len().min(most)])
    }

    /// Takes `n` bytes that [`Self::data`] showed.
    pub(crate) fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.offset += n as u64;
        self.data -= n as u64;
    }

    fn skip(&mut self) -> Result<()> {
        self.data += std::mem::take(&mut self.padding);
        loop {
            match self.data()?.len() {
                0 => return Ok(()),
                n => self.consume(n),
            }
        }
    }

    /// Reads a block; `None` if the stream ends in front of it.
    fn block(&mut self) -> Result<Option<Block>> {
        let mut block: Block = [0; 512];
        let mut have = 0;
        while have < block.len() {
            let chunk = fill(&mut self.input, self.offset)?;
            if chunk.is_empty() {
                return if have == 0 { Ok(None) } else { Err(self.bad("ends in the middle of a block")) };
            }
            let n = chunk.len().min(block.len() - have);
            block[have..have + n].copy_from_slice(&chunk[..n]);
            self.input.consume(n);
            self.offset += n as u64;
            have += n;
        }
        Ok(Some(block))
    }

    /// Reads a header; `None` at the end, which is two blocks of zeros or just the end of the stream.
    fn header(&mut self) -> Result<Option<Block>> {
        let zeros = |block: &Block| block.iter().all(|b| *b == 0);
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if zeros(&block) {
            return match self.block()? {
                Some(second) if !zeros(&second) => Err(self.bad("a lone block of zeros")),
                _ => Ok(None),
            };
        }
        if !field::checksum_holds(&block) {
            return Err(self.bad("no tar header (checksum)"));
        }
        Ok(Some(block))
    }

    /// Reads the body of an extension header, whole.
    fn extension(&mut self, block: &Block) -> Result<Vec<u8>> {
        self.data = self.size_field(block)?;
        self.padding = padding(self.data);
        if self.data > MAX_EXTENSION {
            return Err(self.bad(format!("extension header of {} bytes", self.data)));
        }
        let mut body = Vec::new();
        loop {
            let chunk = self.data()?;
            let n = chunk.len();
            if n == 0 {
                return Ok(body);
            }
            body.extend_from_slice(chunk);
            self.consume(n);
        }
    }

    fn once<T>(&self, slot: &mut Option<T>, value: T) -> Result<()> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.bad("two extension headers of one kind for one entry")),
        }
    }

    /// Go's users skip global headers; those that would change which entries there are can't be skipped safely.
    fn global(&self, body: &[u8]) -> Result<()> {
        for (key, _) in pax::records(body).map_err(|reason| self.bad(reason))? {
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                let key = String::from_utf8_lossy(key);
                return Err(self.bad(format!("PAX record {key} for all entries")));
            }
        }
        Ok(())
    }

    fn entry(&mut self, block: &Block, pending: Pending) -> Result<Entry> {
        let extended = pending.extended.unwrap_or_default();
        if (extended.path.is_some() && pending.long_name.is_some())
            || (extended.link.is_some() && pending.long_link.is_some())
        {
            return Err(self.bad("both a GNU long name and a PAX path"));
        }
        let mut name = pending.long_name.or(extended.path).unwrap_or_else(|| name_fields(block));
        let link =
            pending.long_link.or(extended.link).unwrap_or_else(|| field::text(&block[field::LINK]).to_vec());
        let kind = match block[field::TYPE] {
            b'0' | b'7' | b'S' => Kind::File,
            // Before POSIX.1-1988 a directory was a file whose name ends with a slash.
            0 if name.ends_with(b"/") => Kind::Directory,
            0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(self.bad(format!("entry of unknown type {:?}", char::from(other)))),
        };
        // Only files have data: in other headers the size is what stat(2) said, or noise.
        let size = match kind {
            Kind::File => match extended.size {
                Some(size) => size,
                None => self.size_field(block)?,
            },
            _ => 0,
        };
        if size > i64::MAX.unsigned_abs() - 1023 {
            return Err(self.bad("file larger than a file can be"));
        }
        self.data = size;
        self.padding = padding(size);
        let sparse = if block[field::TYPE] == b'S' {
            Some(self.gnu_sparse(block)?)
        } else {
            self.pax_sparse(&extended.sparse, kind)?
        };
        let (size, extents) = match sparse {
            Some((size, extents)) => {
                sparse::check(&extents, size, self.data).map_err(|reason| self.bad(reason))?;
                (size, Some(extents))
            }
            None => (size, None),
        };
        if let Some(real) = extended.sparse.name {
            name = real;
        }
        if name.is_empty() {
            return Err(self.bad("entry without a name"));
        }
        if matches!(kind, Kind::HardLink | Kind::Symlink) && link.is_empty() {
            return Err(Error::entry(&name, "link without a target"));
        }
        let number = |what: &str, field: &[u8]| {
            field::number(field).ok_or_else(|| Error::entry(&name, format!("its {what} is not a number")))
        };
        let id = |what: &str, extended: Option<u64>, field: &[u8]| {
            let id = match extended {
                Some(id) => Some(id),
                None => u64::try_from(number(what, field)?).ok(),
            };
            id.filter(|id| *id < NO_ID)
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| Error::entry(&name, format!("its {what} is out of range")))
        };
        let uid = id("owner", extended.uid, &block[field::UID])?;
        let gid = id("group", extended.gid, &block[field::GID])?;
        let mode = u32::try_from(number("mode", &block[field::MODE])? & 0o7777)
            .expect("twelve bits are not negative");
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => (number("time", &block[field::MTIME])?, 0),
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                // What the kernel's dev_t holds: 12 and 20 bits.
                let part = |field, bits| {
                    let value = number("device number", field)?;
                    u32::try_from(value)
                        .ok()
                        .filter(|n| *n < 1u32 << bits)
                        .ok_or_else(|| Error::entry(&name, "its device number is out of range"))
                };
                (part(&block[field::MAJOR], 12)?, part(&block[field::MINOR], 20)?)
            }
            _ => (0, 0),
        };
        let xattrs = extended.xattrs;
        Ok(Entry { name, link, kind, mode, uid, gid, mtime, size, device, xattrs, extents })
    }

    fn gnu_sparse(&mut self, block: &Block) -> Result<(u64, Vec<Extent>)> {
        let (mut extents, mut more) = sparse::in_header(block).map_err(|reason| self.bad(reason))?;
        while more {
            let Some(extension) = self.block()? else {
                return Err(self.bad("ends in a sparse map"));
            };
            more = sparse::in_extension(&mut extents, &extension).map_err(|reason| self.bad(reason))?;
        }
        let size = field::number(&block[field::GNU_REAL_SIZE]).and_then(|n| u64::try_from(n).ok());
        Ok((size.ok_or_else(|| self.bad("bad size of a sparse file"))?, extents))
    }

    fn pax_sparse(&mut self, it: &pax::Sparse, kind: Kind) -> Result<Option<(u64, Vec<Extent>)>> {
        if *it == pax::Sparse::default() {
            return Ok(None);
        }
        let bad = "GNU.sparse records that make no sparse file";
        let (Kind::File, Some(size)) = (kind, it.size) else {
            return Err(self.bad(bad));
        };
        let extents = match (it.major, it.minor, &it.map) {
            (Some(1), Some(0), None) if it.listed.is_empty() => {
                let offset = self.offset;
                sparse::in_data(
                    || {
                        if self.data < 512 {
                            return Err(self.bad("ends in a sparse map"));
                        }
                        self.data -= 512;
                        self.block()?.ok_or_else(|| self.bad("ends in a sparse map"))
                    },
                    |reason| Error::Archive { offset, reason: reason.into() },
                )?
            }
            (None | Some(0), None | Some(0 | 1), Some(map)) if it.listed.is_empty() => map.clone(),
            (None | Some(0), None | Some(0 | 1), None) => it.listed.clone(),
            _ => return Err(self.bad(bad)),
        };
        match it.count {
            Some(count) if count != extents.len() as u64 => Err(self.bad(bad)),
            _ => Ok(Some((size, extents))),
        }
    }

    fn size_field(&self, block: &Block) -> Result<u64> {
        let size = field::number(&block[field::SIZE]).and_then(|n| u64::try_from(n).ok());
        size.ok_or_else(|| self.bad("bad size"))
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::Archive { offset: self.offset, reason: reason.into() }
    }
}

/// Bytes up to the next block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % 512
}

/// The name in the header: ustar puts the front of a long one into a field of its own.
fn name_fields(block: &Block) -> Vec<u8> {
    let name = field::text(&block[field::NAME]);
    let prefix = match &block[field::MAGIC] {
        b"ustar\0" if &block[field::STAR_TRAILER] == b"tar\0" => field::text(&block[field::STAR_PREFIX]),
        b"ustar\0" => field::text(&block[field::PREFIX]),
        // GNU has times there, but docker before Go 1.8 wrote prefixes into GNU headers (golang/go#12594).
        b"ustar " if &block[field::VERSION] == b" \0" => {
            let times = field::GNU_TIMES.iter().all(|at| field::number(&block[at.clone()]).is_some());
            let prefix = field::text(&block[field::PREFIX]);
            if times || !prefix.is_ascii() { b"" } else { prefix }
        }
        _ => b"",
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// The source's next bytes. Its errors are this crate's, wrapped, or else about what came.
fn fill<R: BufRead>(input: &mut R, offset: u64) -> Result<&[u8]> {
    input.fill_buf().map_err(|e| match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(other) => Error::Archive { offset, reason: other.to_string() },
    })
}
