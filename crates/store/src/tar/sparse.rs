//! Maps of sparse files: GNU's old format in header blocks, and 1.0 in front of the data.

use super::field::{Block, GNU_EXTENDED, GNU_SPARSE, number};
use super::pax::decimal;

/// More extents than any file has; the map of one entry stays below 16 MiB.
pub(super) const MAX_EXTENTS: usize = 1 << 20;

/// A stretch of a sparse file that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u64,
}

/// Extents of a GNU header of type `S`, and whether an extension block follows.
pub(super) fn in_header(block: &Block) -> Result<(Vec<Extent>, bool), String> {
    let mut extents = Vec::new();
    add(&mut extents, &block[GNU_SPARSE])?;
    Ok((extents, block[GNU_EXTENDED] != 0))
}

/// Adds the extents of an extension block; answers whether another one follows.
pub(super) fn in_extension(extents: &mut Vec<Extent>, block: &Block) -> Result<bool, String> {
    add(extents, &block[..504])?;
    Ok(block[504] != 0)
}

fn add(extents: &mut Vec<Extent>, fields: &[u8]) -> Result<(), String> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        let read = |field| number(field).and_then(|n| u64::try_from(n).ok()).ok_or("bad sparse map");
        extents.push(Extent { offset: read(&pair[..12])?, length: read(&pair[12..])? });
    }
    if extents.len() > MAX_EXTENTS {
        return Err("sparse map of too many extents".into());
    }
    Ok(())
}

/// Reads a 1.0 map, decimal numbers on a line each: how many extents, then offset and length of each. It takes
/// whole blocks in front of the data; `next_block` yields them.
pub(super) fn in_data<E>(
    mut next_block: impl FnMut() -> Result<Block, E>,
    bad: impl Fn(&str) -> E,
) -> Result<Vec<Extent>, E> {
    let mut line: Vec<u8> = Vec::new();
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted = None;
    while wanted.is_none_or(|n| numbers.len() < n) {
        for byte in next_block()? {
            if wanted.is_some_and(|n| numbers.len() == n) {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let value = decimal(&line).ok_or_else(|| bad("bad sparse map"))?;
            line.clear();
            if wanted.is_some() {
                numbers.push(value);
                continue;
            }
            let count = usize::try_from(value).ok().filter(|n| *n <= MAX_EXTENTS);
            wanted = Some(2 * count.ok_or_else(|| bad("sparse map of too many extents"))?);
        }
        if line.len() > 20 {
            return Err(bad("bad sparse map"));
        }
    }
    let (pairs, _) = numbers.as_chunks::<2>();
    Ok(pairs.iter().map(|[offset, length]| Extent { offset: *offset, length: *length }).collect())
}

/// The extents must ascend, end within the file, and hold exactly the data that the archive has.
pub(super) fn check(extents: &[Extent], file_size: u64, data: u64) -> Result<(), String> {
    let mut end: u64 = 0;
    let mut sum: u64 = 0;
    for extent in extents {
        if extent.offset < end {
            return Err("extents of a sparse file overlap".into());
        }
        end = extent.offset.checked_add(extent.length).ok_or("bad sparse map")?;
        sum += extent.length;
    }
    if end > file_size || sum != data {
        return Err("sparse map and file size disagree".into());
    }
    Ok(())
}
