//! The wire format of protocol buffers, as much of it as criu's messages need (protobuf.dev, "Encoding").

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, a switch, or a value of an enum.
    Number(i64),
    /// A string, which in criu's messages is mostly a path and so may be no UTF-8.
    Text(OsString),
    /// A message: number, name and value of each field.
    Message(Vec<(u32, Value)>),
}

/// How a value is laid out: the low bits of a field's key.
mod kind {
    pub(super) const VARINT: u64 = 0;
    pub(super) const EIGHT_BYTES: u64 = 1;
    pub(super) const LENGTH: u64 = 2;
    pub(super) const FOUR_BYTES: u64 = 5;
}

/// The bytes of a message.
pub(super) fn encode(fields: &[(u32, Value)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, value) in fields {
        let key = u64::from(*number) << 3;
        match value {
            Value::Number(value) => {
                varint(&mut bytes, key | kind::VARINT);
                // Negative ones take all ten bytes.
                varint(&mut bytes, value.cast_unsigned());
            }
            Value::Text(text) => prefixed(&mut bytes, key, text.as_bytes()),
            Value::Message(fields) => prefixed(&mut bytes, key, &encode(fields)),
        }
    }
    bytes
}

fn prefixed(bytes: &mut Vec<u8>, key: u64, content: &[u8]) {
    varint(bytes, key | kind::LENGTH);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

/// One field of a message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(i64),
    /// A string or a message.
    Bytes(&'a [u8]),
    /// Of a kind that no field has that is asked for.
    Other,
}

/// The fields of a message by their numbers; `None` if it is none.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<(u32, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let number = u32::try_from(key >> 3).ok()?;
        let field = match key & 7 {
            kind::VARINT => Field::Number(take_varint(&mut bytes)?.cast_signed()),
            kind::LENGTH => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                Field::Bytes(take(&mut bytes, length)?)
            }
            kind::EIGHT_BYTES => take(&mut bytes, 8).map(|_| Field::Other)?,
            kind::FOUR_BYTES => take(&mut bytes, 4).map(|_| Field::Other)?,
            _ => return None,
        };
        fields.push((number, field));
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_format() {
        // The examples of its documentation.
        assert_eq!(encode(&[(1, Value::Number(150))]), [0x08, 0x96, 0x01]);
        assert_eq!(encode(&[(2, Value::Text("testing".into()))]), b"\x12\x07testing");
        assert_eq!(encode(&[(3, Value::Message(vec![(1, Value::Number(150))]))]), [0x1a, 3, 0x08, 0x96, 1]);
        // A field number above 15 makes the key two bytes.
        assert_eq!(encode(&[(16, Value::Number(1))]), [0x80, 0x01, 0x01]);
        let minus_one = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(encode(&[(1, Value::Number(-1))]), minus_one);
        assert_eq!(decode(&minus_one), Some(vec![(1, Field::Number(-1))]));
    }

    #[test]
    fn what_is_written_is_read() {
        let fields = [
            (1, Value::Number(0)),
            (68, Value::Number(i64::from(u32::MAX))),
            (2, Value::Text("/a".into())),
            (5, Value::Message(vec![(1, Value::Text(String::new().into()))])),
        ];
        let bytes = encode(&fields);
        let wanted = vec![
            (1, Field::Number(0)),
            (68, Field::Number(4_294_967_295)),
            (2, Field::Bytes(b"/a")),
            (5, Field::Bytes(b"\x0a\x00")),
        ];
        assert_eq!(decode(&bytes), Some(wanted));
        // Numbers of fixed size are passed over.
        assert_eq!(
            decode(&[0x0d, 1, 2, 3, 4, 0x10, 1]),
            Some(vec![(1, Field::Other), (2, Field::Number(1))])
        );
    }

    #[test]
    fn nonsense_is_no_message() {
        for bytes in [
            &b"\x08"[..],
            b"\x12\x05ab",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a",
            b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x0b",
            b"\x09\x01",
            b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
        ] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
        assert_eq!(decode(b""), Some(Vec::new()));
    }
}
