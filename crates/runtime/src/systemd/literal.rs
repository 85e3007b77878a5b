//! A literal of GVariant's text form, and the type that it has or takes.

use super::value::{Value, first_type};

/// What was read, before its type is settled.
#[derive(Debug)]
pub(super) enum Node {
    Bool(bool),
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Node>),
    Dictionary(Vec<(Node, Node)>),
    Variant(Box<Node>),
    /// The type was given.
    Typed(String, Box<Node>),
}

impl Node {
    /// The type: the given one, or the usual one of such a literal.
    pub(super) fn infer(&self) -> Option<String> {
        let basic = match self {
            Node::Bool(_) => "b",
            Node::Number(text) if is_fraction(text) => "d",
            Node::Number(_) => "i",
            Node::Text(_) => "s",
            Node::Bytes(_) => "ay",
            Node::Variant(_) => "v",
            Node::Typed(signature, _) => signature,
            Node::Array(items) => return Some(format!("a{}", common(items.iter())?)),
            Node::Dictionary(pairs) => {
                let keys = common(pairs.iter().map(|(key, _)| key))?;
                return Some(format!("a{{{keys}{}}}", common(pairs.iter().map(|(_, value)| value))?));
            }
        };
        Some(basic.to_owned())
    }

    /// Whether the type was given, here or below.
    fn is_typed(&self) -> bool {
        match self {
            Node::Typed(..) => true,
            Node::Array(items) => items.iter().any(Node::is_typed),
            Node::Dictionary(pairs) => pairs.iter().any(|(key, value)| key.is_typed() || value.is_typed()),
            _ => false,
        }
    }

    /// The value of type `signature`.
    ///
    /// # Errors
    /// It is none of that type.
    pub(super) fn typed(&self, signature: &str) -> Result<Value, String> {
        let wrong = |shown: &dyn std::fmt::Debug| Err(format!("can't parse {shown:?} as type {signature:?}"));
        match self {
            Node::Typed(own, _) if own != signature => wrong(own),
            Node::Typed(_, inner) => inner.typed(signature),
            Node::Bool(value) if signature == "b" => Ok(Value::Bool(*value)),
            Node::Bool(value) => wrong(value),
            Node::Number(text) => number(text, signature),
            Node::Text(text) => match signature {
                "s" => Ok(Value::Text(text.clone())),
                "o" if is_path(text) => Ok(Value::Path(text.clone())),
                "g" if is_signature(text) => Ok(Value::Signature(text.clone())),
                _ => wrong(text),
            },
            Node::Bytes(bytes) if signature == "ay" => Ok(Value::bytes(bytes.iter().copied())),
            Node::Bytes(bytes) => wrong(bytes),
            Node::Variant(inner) if signature == "v" => {
                let own = inner.infer().ok_or("the type of an empty array is not clear")?;
                Ok(Value::Variant(Box::new(inner.typed(&own)?)))
            }
            Node::Variant(_) => wrong(&"<…>"),
            Node::Array(items) => {
                match signature.strip_prefix('a').filter(|element| !element.starts_with('{')) {
                    None => wrong(&"[…]"),
                    Some(element) => {
                        let items = items.iter().map(|item| item.typed(element)).collect::<Result<_, _>>()?;
                        Ok(Value::Array(element.to_owned(), items))
                    }
                }
            }
            Node::Dictionary(pairs) => {
                let Some(types) = signature.strip_prefix("a{").and_then(|s| s.strip_suffix('}')) else {
                    return wrong(&"{…}");
                };
                let (key_type, value_type) = types.split_at(1);
                let entry = |(key, value): &(Node, Node)| {
                    Ok(Value::Entry(Box::new((key.typed(key_type)?, value.typed(value_type)?))))
                };
                let entries = pairs.iter().map(entry).collect::<Result<_, String>>()?;
                Ok(Value::Array(format!("{{{types}}}"), entries))
            }
        }
    }
}

/// The type of all of several: one that was given settles it, and one with a fraction settles numbers.
fn common<'a>(nodes: impl Iterator<Item = &'a Node>) -> Option<String> {
    let mut found: Option<String> = None;
    for node in nodes {
        let Some(own) = node.infer() else { continue };
        if node.is_typed() {
            return Some(own);
        }
        if found.is_none() || own == "d" {
            found = Some(own);
        }
    }
    found
}

fn is_fraction(text: &str) -> bool {
    !text.contains('x') && text.contains(['.', 'e', 'E'])
}

fn is_signature(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let Some(length) = first_type(rest) else { return false };
        rest = &rest[length..];
    }
    text.len() < 256
}

/// D-Bus specification, "Valid Object Paths".
fn is_path(text: &str) -> bool {
    let name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text == "/" || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(name))
}

fn number(text: &str, signature: &str) -> Result<Value, String> {
    let wrong = || format!("can't parse {text:?} as type {signature:?}");
    if signature == "d" {
        return text.parse().map(Value::Double).map_err(|_| wrong());
    }
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.strip_prefix("0x") {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return Err(wrong());
    }
    let size = i128::from_str_radix(digits, radix).map_err(|_| wrong())?;
    let value = if negative { -size } else { size };
    let fitting = match signature {
        "y" => value.try_into().map(Value::Byte),
        "n" => value.try_into().map(Value::Int16),
        "q" => value.try_into().map(Value::Uint16),
        "i" => value.try_into().map(Value::Int32),
        "u" => value.try_into().map(Value::Uint32),
        "x" => value.try_into().map(Value::Int64),
        "t" => value.try_into().map(Value::Uint64),
        _ => return Err(wrong()),
    };
    fitting.map_err(|_| wrong())
}
