//! A value as D-Bus knows it, with its type (D-Bus specification, "Type System").

use std::fmt;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The signature of its elements, which an empty one has too.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    /// Key and value: an element of a dictionary, which is an array.
    Entry(Box<(Value, Value)>),
    Variant(Box<Value>),
}

impl Value {
    /// Its type in D-Bus's letters.
    pub(crate) fn signature(&self) -> String {
        let letter = match self {
            Value::Byte(_) => "y",
            Value::Bool(_) => "b",
            Value::Int16(_) => "n",
            Value::Uint16(_) => "q",
            Value::Int32(_) => "i",
            Value::Uint32(_) => "u",
            Value::Int64(_) => "x",
            Value::Uint64(_) => "t",
            Value::Double(_) => "d",
            Value::Text(_) => "s",
            Value::Path(_) => "o",
            Value::Signature(_) => "g",
            Value::Variant(_) => "v",
            Value::Array(element, _) => return format!("a{element}"),
            Value::Struct(fields) => {
                return format!("({})", fields.iter().map(Value::signature).collect::<String>());
            }
            Value::Entry(pair) => return format!("{{{}{}}}", pair.0.signature(), pair.1.signature()),
        };
        letter.to_owned()
    }

    /// The text of a string or object path.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Path(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn bytes(bytes: impl IntoIterator<Item = u8>) -> Value {
        Value::Array("y".to_owned(), bytes.into_iter().map(Value::Byte).collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Uint64(value)
    }
}

/// GVariant's text form, without types; for the log.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Value]| {
            for (i, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
            }
            Ok(())
        };
        match self {
            Value::Byte(n) => write!(f, "{n}"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int16(n) => write!(f, "{n}"),
            Value::Uint16(n) => write!(f, "{n}"),
            Value::Int32(n) => write!(f, "{n}"),
            Value::Uint32(n) => write!(f, "{n}"),
            Value::Int64(n) => write!(f, "{n}"),
            Value::Uint64(u64::MAX) => f.write_str("max"),
            Value::Uint64(n) => write!(f, "{n}"),
            Value::Double(n) => write!(f, "{n}"),
            Value::Text(text) | Value::Path(text) | Value::Signature(text) => write!(f, "{text:?}"),
            Value::Array(_, items) => {
                f.write_str("[")?;
                list(f, items)?;
                f.write_str("]")
            }
            Value::Struct(items) => {
                f.write_str("(")?;
                list(f, items)?;
                f.write_str(")")
            }
            Value::Entry(pair) => write!(f, "{}: {}", pair.0, pair.1),
            Value::Variant(inner) => write!(f, "<{inner}>"),
        }
    }
}

/// The length of the first complete type in `signature`; `None` if there is none.
pub(crate) fn first_type(signature: &str) -> Option<usize> {
    type_length(signature.as_bytes(), 0)
}

/// Deepest nesting that the specification allows, of arrays and structs together.
const DEEPEST: usize = 64;

fn type_length(letters: &[u8], depth: usize) -> Option<usize> {
    if depth > DEEPEST {
        return None;
    }
    match letters.first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' => Some(1),
        b'a' if letters.get(1) == Some(&b'{') => {
            let key = type_length(letters.get(2..)?, DEEPEST)?;
            let value = type_length(letters.get(2 + key..)?, depth + 1)?;
            (letters.get(2 + key + value) == Some(&b'}')).then_some(3 + key + value)
        }
        b'a' => Some(1 + type_length(&letters[1..], depth + 1)?),
        b'(' => {
            let mut at = 1;
            while letters.get(at)? != &b')' {
                at += type_length(&letters[at..], depth + 1)?;
            }
            (at > 1).then_some(at + 1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_end_where_they_end() {
        for (signature, length) in [
            ("s", 1),
            ("as", 2),
            ("a{sv}s", 5),
            ("a(sa(sv))u", 9),
            ("(yv)", 4),
            ("aaay", 4),
            ("a{sa{sv}}", 9),
        ] {
            assert_eq!(first_type(signature), Some(length), "{signature}");
        }
        for bad in ["", "a", "()", "(s", "{sv}", "a{s}", "a{vs", "a{asv}", "z", "a{(s)v}"] {
            assert_eq!(first_type(bad), None, "{bad}");
        }
        assert_eq!(first_type(&format!("{}y", "a".repeat(70))), None);
    }

    #[test]
    fn values_know_their_types() {
        let entry = Value::Entry(Box::new(("k".into(), Value::Variant(Box::new(true.into())))));
        assert_eq!(entry.signature(), "{sv}");
        assert_eq!(Value::Array("{sv}".to_owned(), vec![entry]).signature(), "a{sv}");
        assert_eq!(Value::Struct(vec![7.into(), Value::Byte(1)]).signature(), "(ty)");
        assert_eq!(Value::bytes([1, 2]).to_string(), "[1, 2]");
    }
}
