//! Fields of a tar header block.

use std::ops::Range;

/// Where the fields are, tar(5).
pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..263;
pub(super) const VERSION: Range<usize> = 263..265;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
/// Schilling's star has a shorter prefix and signs the end of the block.
pub(super) const STAR_PREFIX: Range<usize> = 345..476;
pub(super) const STAR_TRAILER: Range<usize> = 508..512;
/// Access and change time, which GNU keeps where ustar has the prefix.
pub(super) const GNU_TIMES: [Range<usize>; 2] = [345..357, 357..369];
/// Four extents of a GNU sparse file, the flag that more follow, and the file's length.
pub(super) const GNU_SPARSE: Range<usize> = 386..482;
pub(super) const GNU_EXTENDED: usize = 482;
pub(super) const GNU_REAL_SIZE: Range<usize> = 483..495;

/// One block of an archive.
pub(super) type Block = [u8; 512];

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A number: octal digits between spaces and NULs, or GNU's base-256 (two's complement behind a set high bit).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        let head = if negative { first | 0x80 } else { first & 0x7f };
        for byte in std::iter::once(&head).chain(rest) {
            if value != (value << 8) >> 8 {
                return None;
            }
            value = (value << 8) | i64::from(*byte);
        }
        return Some(value);
    }
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !padding(b)).unwrap_or(field.len());
    let end = field.iter().rposition(|b| !padding(b)).map_or(start, |i| i + 1);
    let mut value: i64 = 0;
    for digit in &field[start..end] {
        if !matches!(digit, b'0'..=b'7') {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Does the header's checksum hold? Old archivers summed signed bytes.
pub(super) fn checksum_holds(block: &Block) -> bool {
    let Some(want) = number(&block[CHECKSUM]) else {
        return false;
    };
    let mut blank = *block;
    blank[CHECKSUM].fill(b' ');
    let unsigned: i64 = blank.iter().map(|b| i64::from(*b)).sum();
    let signed: i64 = blank.iter().map(|b| i64::from(b.cast_signed())).sum();
    want == unsigned || want == signed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let table: [(&[u8], Option<i64>); 13] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777 ", Some(0o77_777_777_777)),
            (b"0000 644", None),
            (b"00008440", None),
            (b"-0000644", None),
            (&[0x80, 0, 0, 0, 0, 0, 1, 0], Some(256)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], Some(-2)),
            (&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(i64::MAX)),
            (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ];
        for (field, want) in table {
            assert_eq!(number(field), want, "{field:x?}");
        }
    }
}
