//! Decompresses layers. The first bytes say how they are packed, because media types lie; the DiffID decides.

use std::io::{self, BufRead, Read};

use crate::error::{Error, Result};

/// Largest zstd window, as a power of two: 128 MiB, what zstd(1) takes without being asked.
const WINDOW_LOG: u32 = 27;

/// What the first bytes say.
enum Format {
    Plain,
    Gzip,
    Zstd,
    Other(&'static str),
}

fn sniff(head: &[u8]) -> Format {
    match head {
        [0x1f, 0x8b, 8, ..] => Format::Gzip,
        // A zstd frame, or a skippable frame as zstd:chunked puts in front (RFC 8878, 3.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Other("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::Other("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Format::Other("lz4"),
        _ => Format::Plain,
    }
}

/// Decompresses all of `input` and hands it on in pieces of up to `size` bytes.
pub(crate) fn inflate<R: BufRead>(
    input: &mut R,
    size: usize,
    mut emit: impl FnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    let head = input.fill_buf().map_err(failed("gzip"))?;
    match sniff(head) {
        Format::Plain => pieces(input, "none", size, &mut emit),
        Format::Gzip => gzip(input, size, &mut emit),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(failed("zstd"))?;
            decoder.window_log_max(WINDOW_LOG).map_err(failed("zstd"))?;
            pieces(&mut decoder, "zstd", size, &mut emit)
        }
        Format::Other(name) => Err(Error::Format(name)),
    }
}

/// All members of a gzip stream. Behind the last there may be zeros (tape padding); anything else there is an
/// error, as in Go's compress/gzip.
fn gzip<R: BufRead>(input: &mut R, size: usize, emit: &mut impl FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
    loop {
        let mut member = flate2::bufread::GzDecoder::new(&mut *input);
        pieces(&mut member, "gzip", size, emit)?;
        match input.fill_buf().map_err(failed("gzip"))?.first() {
            None => return Ok(()),
            Some(0x1f) => {}
            Some(_) => break,
        }
    }
    loop {
        let rest = input.fill_buf().map_err(failed("gzip"))?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|b| *b != 0) {
            return Err(failed("gzip")(io::Error::other("junk behind the end")));
        }
        let n = rest.len();
        input.consume(n);
    }
}

fn pieces(
    from: &mut impl Read,
    format: &'static str,
    size: usize,
    emit: &mut impl FnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    loop {
        let mut piece = vec![0; size];
        let mut have = 0;
        while have < size {
            match from.read(&mut piece[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(format)(e)),
            }
        }
        let ended = have < size;
        piece.truncate(have);
        if have > 0 {
            emit(piece)?;
        }
        if ended {
            return Ok(());
        }
    }
}

/// An error of this crate comes through a decoder as it was; others are the decoder's.
fn failed(format: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.downcast::<Error>() {
        Ok(ours) => ours,
        Err(source) => Error::Packed { format, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        // A small buffer, so that headers are cut in two.
        let mut input = io::BufReader::with_capacity(16, packed);
        inflate(&mut input, 7, |piece| {
            all.extend_from_slice(&piece);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn reads_all_members_and_frames() {
        let two = [gz(b"hello "), gz(b""), gz(b"world")].concat();
        assert_eq!(unpacked(&two).unwrap(), b"hello world");
        assert_eq!(unpacked(&[two.clone(), vec![0; 100]].concat()).unwrap(), b"hello world");
        let frame = |b: &[u8]| zstd::encode_all(b, 3).unwrap();
        let skippable = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let frames = [skippable.clone(), frame(b"hello "), skippable, frame(b"world")].concat();
        assert_eq!(unpacked(&frames).unwrap(), b"hello world");
        assert_eq!(unpacked(b"plain").unwrap(), b"plain");
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[test]
    fn refuses_damage() {
        let packed = gz(&[b'x'; 1000]);
        let mut wrong_crc = packed.clone();
        let at = wrong_crc.len() - 6;
        wrong_crc[at] ^= 1;
        let mut wrong_length = packed.clone();
        let at = wrong_length.len() - 1;
        wrong_length[at] ^= 1;
        let frame = zstd::encode_all(&[b'x'; 1000][..], 3).unwrap();
        for bad in [
            &packed[..packed.len() - 1],
            &packed[..10],
            &packed[..5],
            &wrong_crc,
            &wrong_length,
            &[packed.clone(), b"junk".to_vec()].concat(),
            &[packed.clone(), vec![0; 10], packed.clone()].concat(),
            &frame[..frame.len() - 1],
            &[frame.clone(), b"junk".to_vec()].concat(),
            &[0xfd, b'7', b'z', b'X', b'Z', 0, 0][..],
        ] {
            assert!(unpacked(bad).is_err(), "{bad:x?}");
        }
    }

    #[test]
    fn caps_the_zstd_window() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&[b'x'; 1000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(unpacked(&packed).unwrap_err().is_content());
    }
}
