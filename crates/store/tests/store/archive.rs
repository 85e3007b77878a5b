//! Writes tar archives, broken ones too.

/// One entry, as it goes into the header.
#[derive(Clone)]
pub(crate) struct E {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Size in the header, where it is not that of the data.
    pub(crate) size: Option<u64>,
    pub(crate) device: (u32, u32),
    pub(crate) pax: Vec<(String, Vec<u8>)>,
    pub(crate) magic: &'static [u8; 8],
}

pub(crate) const USTAR: &[u8; 8] = b"ustar\x0000";
pub(crate) const GNU: &[u8; 8] = b"ustar  \0";

pub(crate) fn entry(name: impl AsRef<[u8]>, kind: u8) -> E {
    E {
        name: name.as_ref().to_vec(),
        kind,
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_500_000_000,
        link: Vec::new(),
        data: Vec::new(),
        size: None,
        device: (0, 0),
        pax: Vec::new(),
        magic: USTAR,
    }
}

pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> E {
    E { data: data.as_ref().to_vec(), ..entry(name, b'0') }
}

pub(crate) fn dir(name: impl AsRef<[u8]>) -> E {
    entry(name, b'5')
}

pub(crate) fn symlink(name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> E {
    E { link: to.as_ref().to_vec(), mode: 0o777, ..entry(name, b'2') }
}

pub(crate) fn hardlink(name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> E {
    E { link: to.as_ref().to_vec(), ..entry(name, b'1') }
}

pub(crate) fn device(name: impl AsRef<[u8]>, major: u32, minor: u32) -> E {
    E { device: (major, minor), ..entry(name, b'3') }
}

impl E {
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub(crate) fn mtime(mut self, seconds: u64) -> Self {
        self.mtime = seconds;
        self
    }

    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Header, data, padding; in front a PAX header if there are records.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut it = self.clone();
        if it.name.len() > 100 {
            it.pax.push(("path".into(), it.name.clone()));
            it.name.truncate(100);
        }
        if it.link.len() > 100 {
            it.pax.push(("linkpath".into(), it.link.clone()));
            it.link.truncate(100);
        }
        if !it.pax.is_empty() {
            let body = it.pax.iter().flat_map(|(k, v)| record(k, v)).collect();
            out.extend(E { data: body, ..entry("PaxHeaders/x", b'x') }.bytes());
        }
        out.extend(it.header());
        out.extend(&it.data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, &octal(self.mode.into(), 8));
        put(108, &octal(self.uid, 8));
        put(116, &octal(self.gid, 8));
        put(124, &octal(self.size.unwrap_or(self.data.len() as u64), 12));
        put(136, &octal(self.mtime, 12));
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, self.magic);
        put(329, &octal(self.device.0.into(), 8));
        put(337, &octal(self.device.1.into(), 8));
        sign(&mut block);
        block
    }
}

/// Octal digits, or base-256 if they don't fit.
fn octal(value: u64, width: usize) -> Vec<u8> {
    let text = format!("{value:0width$o}\0", width = width - 1);
    if text.len() <= width {
        return text.into_bytes();
    }
    let mut field = vec![0; width];
    field[width - 8..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}

/// Puts the checksum in.
pub(crate) fn sign(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A PAX record.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|n| rest + n.to_string().len() == *n).expect("there is one");
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A whole archive.
pub(crate) fn tar(entries: &[E]) -> Vec<u8> {
    let mut out: Vec<u8> = entries.iter().flat_map(E::bytes).collect();
    out.resize(out.len() + 1024, 0);
    out
}
