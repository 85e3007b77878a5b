//! Values as bytes (D-Bus specification, "Marshaling (Wire Format)").
//!
//! Written is always little endian; read is what the other side writes. Nothing that is read is trusted: every length is
//! checked against what is there.

use super::value::{Value, first_type};

/// To how many bytes values of a type are aligned.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Values one after the other, little endian.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// Zeros up to a multiple.
    pub(super) fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.pad(N);
        self.bytes.extend(bytes);
    }

    /// A length, in four bytes.
    pub(super) fn length(&mut self, length: usize) {
        // A configuration is not longer than a few megabytes.
        self.number(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    /// A value, aligned as its type wants.
    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(n) => self.bytes.push(*n),
            Value::Bool(b) => self.number(u32::from(*b).to_le_bytes()),
            Value::Int16(n) => self.number(n.to_le_bytes()),
            Value::Uint16(n) => self.number(n.to_le_bytes()),
            Value::Int32(n) => self.number(n.to_le_bytes()),
            Value::Uint32(n) => self.number(n.to_le_bytes()),
            Value::Int64(n) => self.number(n.to_le_bytes()),
            Value::Uint64(n) => self.number(n.to_le_bytes()),
            Value::Double(n) => self.number(n.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => {
                self.length(text.len());
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
            Value::Signature(text) => {
                self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
            Value::Array(element, items) => {
                self.length(0);
                let length_at = self.bytes.len() - 4;
                // The padding before the first element does not count.
                self.pad(alignment(element));
                let start = self.bytes.len();
                items.iter().for_each(|item| self.value(item));
                let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
                self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Value::Struct(fields) => {
                self.pad(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::Entry(pair) => {
                self.pad(8);
                self.value(&pair.0);
                self.value(&pair.1);
            }
            Value::Variant(inner) => {
                self.value(&Value::Signature(inner.signature()));
                self.value(inner);
            }
        }
    }
}

/// Deepest nesting that the specification allows, variants included.
const DEEPEST: usize = 64;

/// Values of a byte order, from a place in some bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, big: bool) -> Reader<'a> {
        Reader { bytes, at, big, depth: 0 }
    }

    fn skip_to(&mut self, multiple: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(multiple)?;
        Some(())
    }

    /// What follows the next multiple.
    pub(super) fn rest(mut self, multiple: usize) -> Option<&'a [u8]> {
        self.skip_to(multiple)?;
        self.bytes.get(self.at..)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.skip_to(N)?;
        let mut bytes: [u8; N] = self.take(N)?.try_into().ok()?;
        if self.big {
            bytes.reverse();
        }
        Some(bytes)
    }

    /// A length, in four bytes.
    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.number()?)).ok()
    }

    fn string(&mut self, length: usize) -> Option<String> {
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        (self.take(1)? == [0]).then_some(text)
    }

    /// A value of the one complete type `signature`.
    pub(super) fn value(&mut self, signature: &str) -> Option<Value> {
        // Variants in variants could go as deep as the message is long.
        self.depth += 1;
        let value = if self.depth > DEEPEST { None } else { self.plain(signature) };
        self.depth -= 1;
        value
    }

    fn plain(&mut self, signature: &str) -> Option<Value> {
        Some(match signature.as_bytes().first()? {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => Value::Bool(u32::from_le_bytes(self.number()?) != 0),
            b'n' => Value::Int16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::Uint16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::Int32(i32::from_le_bytes(self.number()?)),
            // A descriptor is sent as its index in those that come along; none are asked for.
            b'u' | b'h' => Value::Uint32(u32::from_le_bytes(self.number()?)),
            b'x' => Value::Int64(i64::from_le_bytes(self.number()?)),
            b't' => Value::Uint64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.number()?)),
            b's' => {
                let length = self.length()?;
                Value::Text(self.string(length)?)
            }
            b'o' => {
                let length = self.length()?;
                Value::Path(self.string(length)?)
            }
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let inner = self.signature()?;
                (first_type(&inner)? == inner.len()).then_some(())?;
                Value::Variant(Box::new(self.value(&inner)?))
            }
            b'a' => self.array(&signature[1..])?,
            b'(' => {
                self.skip_to(8)?;
                Value::Struct(self.sequence(&signature[1..signature.len() - 1])?)
            }
            b'{' => {
                self.skip_to(8)?;
                let mut pair = self.sequence(&signature[1..signature.len() - 1])?;
                let (value, key) = (pair.pop()?, pair.pop()?);
                Value::Entry(Box::new((key, value)))
            }
            _ => return None,
        })
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.take(1)?[0]);
        self.string(length)
    }

    fn array(&mut self, element: &str) -> Option<Value> {
        let length = self.length()?;
        self.skip_to(alignment(element))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.value(element)?);
        }
        (self.at == end).then(|| Value::Array(element.to_owned(), items))
    }

    /// Values of all the types that `signature` lists.
    pub(super) fn sequence(&mut self, mut signature: &str) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        while !signature.is_empty() {
            let (first, rest) = signature.split_at(first_type(signature)?);
            items.push(self.value(first)?);
            signature = rest;
        }
        Some(items)
    }
}
