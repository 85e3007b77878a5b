//! Messages (D-Bus specification, "Message Format").

use super::marshal::{Reader, Writer};
use super::value::Value;

/// Bytes before the header fields' array.
pub(super) const FIXED: usize = 16;

/// Longest message that is taken, in bytes. systemd's answers and signals are a few kilobytes.
pub(super) const LONGEST: usize = 1 << 22;

/// Kinds of messages.
pub(super) mod kind {
    pub(crate) const CALL: u8 = 1;
    pub(crate) const RETURN: u8 = 2;
    pub(crate) const ERROR: u8 = 3;
    pub(crate) const SIGNAL: u8 = 4;
}

/// Header fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SENDER: u8 = 7;
    pub(super) const SIGNATURE: u8 = 8;
}

/// Whose method is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) reply_serial: u32,
    /// Of a signal, or the name of an error.
    pub(super) name: String,
    pub(super) sender: String,
    pub(super) body: Vec<Value>,
}

/// The bytes of a method call.
pub(super) fn call(serial: u32, target: Target<'_>, member: &str, body: &[Value]) -> Vec<u8> {
    let text = |code, text: &str| (code, Value::from(text));
    let mut fields = vec![
        (field::PATH, Value::Path(target.path.to_owned())),
        text(field::INTERFACE, target.interface),
        text(field::MEMBER, member),
    ];
    if !target.destination.is_empty() {
        fields.push(text(field::DESTINATION, target.destination));
    }
    message(kind::CALL, serial, fields, body)
}

fn message(kind: u8, serial: u32, mut fields: Vec<(u8, Value)>, body: &[Value]) -> Vec<u8> {
    let mut content = Writer::default();
    body.iter().for_each(|value| content.value(value));
    if !body.is_empty() {
        fields.push((field::SIGNATURE, Value::Signature(body.iter().map(Value::signature).collect())));
    }
    let field = |(code, value)| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
    let mut out = Writer { bytes: vec![b'l', kind, 0, 1] };
    out.length(content.bytes.len());
    out.value(&Value::Uint32(serial));
    out.value(&Value::Array("(yv)".to_owned(), fields.into_iter().map(field).collect()));
    out.pad(8);
    out.bytes.extend(content.bytes);
    out.bytes
}

/// The bytes of an answer or a signal, as only the other side writes them.
#[cfg(test)]
pub(super) fn answer(sender: &str, kind: u8, reply_serial: u32, name: &str, body: &[Value]) -> Vec<u8> {
    let name_field = if kind == kind::ERROR { field::ERROR_NAME } else { field::MEMBER };
    let mut fields = vec![(field::REPLY_SERIAL, Value::Uint32(reply_serial)), (field::SENDER, sender.into())];
    if !name.is_empty() {
        fields.push((name_field, name.into()));
    }
    message(kind, 1, fields, body)
}

/// How long the message is that begins with these [`FIXED`] bytes; `None` if they can't be a message's.
pub(super) fn length(start: &[u8; FIXED]) -> Option<usize> {
    let number = |at: usize| {
        let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
        let number = if start[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(number).ok()
    };
    if !matches!(start[0], b'l' | b'B') || start[3] != 1 {
        return None;
    }
    let (body, fields) = (number(4)?, number(12)?);
    let length = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (length <= LONGEST).then_some(length)
}

/// A message from all of its bytes; `None` if they make no sense.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let big = bytes.first()? == &b'B';
    let body_length = Reader::new(bytes, 4, big).length()?;
    let mut reader = Reader::new(bytes, 12, big);
    let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
    let mut signature = String::new();
    let Value::Array(_, fields) = reader.value("a(yv)")? else { return None };
    for field in fields {
        let Value::Struct(pair) = field else { return None };
        let [Value::Byte(code), Value::Variant(value)] = &pair[..] else { return None };
        match (*code, value.as_ref()) {
            (field::MEMBER | field::ERROR_NAME, Value::Text(name)) => message.name.clone_from(name),
            (field::SENDER, Value::Text(name)) => message.sender.clone_from(name),
            (field::REPLY_SERIAL, Value::Uint32(serial)) => message.reply_serial = *serial,
            (field::SIGNATURE, Value::Signature(types)) => signature.clone_from(types),
            _ => {}
        }
    }
    let body = reader.rest(8)?;
    if body.len() != body_length {
        return None;
    }
    message.body = Reader::new(body, 0, big).sequence(&signature)?;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANAGER: Target<'static> = Target {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "a.B",
    };

    fn every_type() -> Vec<Value> {
        let entry = Value::Entry(Box::new((Value::Byte(1), Value::Variant(Box::new("x".into())))));
        vec![
            Value::Byte(7),
            Value::Double(-0.5),
            Value::Bool(true),
            Value::Int16(-2),
            Value::Int64(i64::MIN),
            Value::Uint16(65535),
            Value::Int32(-1),
            Value::Uint32(u32::MAX),
            Value::Uint64(u64::MAX),
            "grün".into(),
            Value::Path("/a".to_owned()),
            Value::Signature("a{yv}".to_owned()),
            Value::Array("t".to_owned(), vec![]),
            Value::Array("(ss)".to_owned(), vec![Value::Struct(vec!["a".into(), "b".into()])]),
            Value::Array("{yv}".to_owned(), vec![entry]),
            Value::bytes([3, 0]),
        ]
    }

    fn signal(body: &[Value]) -> Vec<u8> {
        answer(":1.2", kind::SIGNAL, 9, "Done", body)
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let target = Target { destination: "d.e", path: "/p", interface: "i.f" };
        let bytes = call(1, target, "M", &[Value::Uint32(5)]);
        let mut want = b"l\x01\0\x01\x04\0\0\0\x01\0\0\0\x47\0\0\0".to_vec();
        want.extend(b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0");
        want.extend(b"\x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0");
        want.extend(b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
        want.extend(b"\x06\x01s\0\x03\0\0\0d.e\0\0\0\0\0");
        want.extend(b"\x08\x01g\0\x01u\0");
        want.resize(want.len().next_multiple_of(8), 0);
        want.extend(b"\x05\0\0\0");
        assert_eq!(bytes, want);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let body = every_type();
        let bytes = signal(&body);
        assert_eq!(length(bytes[..FIXED].try_into().unwrap()), Some(bytes.len()));
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_serial, message.name.as_str()), (kind::SIGNAL, 9, "Done"));
        assert_eq!((message.sender.as_str(), message.body), (":1.2", body));
        let empty = call(2, MANAGER, "Hello", &[]);
        assert_eq!(parse(&empty).unwrap().body, []);
    }

    #[test]
    fn the_other_byte_order_is_read_too() {
        let mut bytes = b"B\x02\0\x01\0\0\0\x08\0\0\0\x05\0\0\0\x10".to_vec();
        bytes.extend(b"\x05\x01u\0\0\0\0\x07\x08\x01g\0\x02ub\0\0\0\0\x09\0\0\0\x01");
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_serial), (kind::RETURN, 7));
        assert_eq!(message.body, [Value::Uint32(9), Value::Bool(true)]);
        assert_eq!(length(bytes[..FIXED].try_into().unwrap()), Some(bytes.len()));
    }

    #[test]
    fn nothing_that_is_cut_or_changed_breaks_the_reader() {
        let bytes = signal(&every_type());
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), None, "{end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // Whatever it says, it says without a panic and without taking more than the message.
                let _ = parse(&changed);
                let _ = length(changed[..FIXED].try_into().unwrap());
            }
        }
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        let deep = (0..200).fold(Value::Byte(1), |inner, _| Value::Variant(Box::new(inner)));
        assert_eq!(parse(&signal(&[deep])), None);
        let mut start = [0; FIXED];
        start[..4].copy_from_slice(b"l\x02\0\x01");
        assert_eq!(length(&start), Some(FIXED));
        start[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(length(&start), None);
        start[0] = b'x';
        assert_eq!(length(&start), None);
    }
}
