//! The functions of a template, and how values are printed, compared and taken for true.

use std::cmp::Ordering;

use serde_json::Value;

/// Every function there is.
pub(super) const NAMES: [&str; 24] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "println",
    "printf", "json", "join", "split", "lower", "upper", "title", "pad", "truncate", "html",
];

pub(super) fn call(name: &str, values: &[Value]) -> Result<Value, String> {
    let wants = |what: &str| Err(format!("{name} wants {what}"));
    match (name, values) {
        ("and", [.., last]) => Ok(values.iter().find(|v| !truth(v)).unwrap_or(last).clone()),
        ("or", [.., last]) => Ok(values.iter().find(|v| truth(v)).unwrap_or(last).clone()),
        ("not", [value]) => Ok((!truth(value)).into()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            Ok(rest.iter().any(|other| compare(first, other) == Some(Ordering::Equal)).into())
        }
        ("ne", [a, b]) => Ok((compare(a, b) != Some(Ordering::Equal)).into()),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let Some(order) = compare(a, b).filter(|_| !matches!(a, Value::Bool(_))) else {
                return wants("two numbers or two strings");
            };
            Ok(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
            .into())
        }
        ("len", [Value::String(s)]) => Ok(s.len().into()),
        ("len", [Value::Array(a)]) => Ok(a.len().into()),
        ("len", [Value::Object(o)]) => Ok(o.len().into()),
        ("len", [Value::Null]) => Ok(0.into()),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("Label", [Value::Object(labels), Value::String(key)]) => {
            Ok(labels.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        ("slice", [Value::String(s), bounds @ ..]) => slice(s, bounds),
        ("print", _) => Ok(values.iter().map(text).collect::<String>().into()),
        ("println", _) => Ok((values.iter().map(text).collect::<Vec<_>>().join(" ") + "\n").into()),
        ("printf", [Value::String(format), rest @ ..]) => printf(format, rest).map(Value::String),
        ("json", [value]) => Ok(value.to_string().into()),
        ("join", [Value::Array(list), Value::String(between)]) => {
            Ok(list.iter().map(text).collect::<Vec<_>>().join(between).into())
        }
        ("join", [Value::Null, Value::String(_)]) => Ok("".into()),
        ("split", [Value::String(s), Value::String(at)]) if !at.is_empty() => {
            Ok(s.split(at.as_str()).collect::<Vec<_>>().into())
        }
        ("lower", [Value::String(s)]) => Ok(s.to_lowercase().into()),
        ("upper", [Value::String(s)]) => Ok(s.to_uppercase().into()),
        ("title", [Value::String(s)]) => Ok(title(s).into()),
        ("pad", [Value::String(s), before, after]) => match (count(before), count(after)) {
            (Some(before), Some(after)) => Ok(format!("{:before$}{s}{:after$}", "", "").into()),
            _ => wants("a string and two numbers up to 1000"),
        },
        ("truncate", [Value::String(s), most]) => match count(most) {
            Some(most) => Ok(s.chars().take(most).collect::<String>().into()),
            None => wants("a string and a number up to 1000"),
        },
        ("html", [Value::String(s)]) => {
            Ok(s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").into())
        }
        _ => wants(match name {
            "len" => "a string, a list or a map",
            "join" => "a list and a string",
            "split" => "two strings, the second not empty",
            "not" | "json" => "one value",
            "eq" | "ne" | "lt" | "le" | "gt" | "ge" => "two values",
            "and" | "or" | "index" => "a value at least",
            "pad" => "a string and two numbers",
            "truncate" => "a string and a number",
            "slice" => "a string and where to cut it",
            _ => "a string",
        }),
    }
}

/// How Go prints a value.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", text(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's idea of true: anything but false, nil, zero and what is empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// What a value is, in a word.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// `None` for values of two kinds, and for lists and maps that differ.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        _ => (a == b).then_some(Ordering::Equal),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(value) => value,
                // The zero value of Go's map[string]string.
                None => return Ok("".into()),
            },
            (Value::Null, Value::String(_)) => return Ok("".into()),
            (Value::Array(list), key) => {
                let at = key.as_u64().and_then(|n| usize::try_from(n).ok());
                let at = at.ok_or_else(|| format!("index: {key} is not an index of a list"))?;
                list.get(at)
                    .ok_or_else(|| format!("index: {at} is past the end of a list of {}", list.len()))?
            }
            (other, key) => return Err(format!("index: {key} is not an index of a {}", kind(other))),
        };
    }
    Ok(value.clone())
}

fn slice(text: &str, bounds: &[Value]) -> Result<Value, String> {
    let bound = |at: usize, default: usize| match bounds.get(at) {
        Some(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()),
        None => Some(default),
    };
    let cut = match (bound(0, 0), bound(1, text.len())) {
        (Some(from), Some(to)) if bounds.len() <= 2 => text.get(from..to),
        _ => None,
    };
    cut.map(Value::from).ok_or_else(|| format!("slice: the string has {} bytes", text.len()))
}

/// A width or length; beyond a thousand it would only fill the memory.
fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= 1000)
}

fn title(text: &str) -> String {
    let mut start = true;
    let raise = |c: char| {
        let first = std::mem::replace(&mut start, !c.is_alphanumeric());
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(raise).collect()
}

/// Go's Printf with `%s %v %d %q %t %f` and `%%`, each with a width and `-`.
fn printf(format: &str, values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let end =
            after.find(|c: char| !c.is_ascii_digit() && c != '-').ok_or("printf: a % stands at the end")?;
        let flags = &after[..end];
        let verb = after[end..].chars().next().unwrap_or('%');
        rest = &after[end + verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        if !matches!(verb, 's' | 'v' | 'd' | 'q' | 't' | 'f') {
            return Err(format!("printf does not know %{verb}; it knows %s %v %d %q %t %f"));
        }
        let value = values.next().ok_or_else(|| format!("printf has no value for %{verb}"))?;
        let shown = match verb {
            'q' => format!("{:?}", text(value)),
            'f' => format!("{:.6}", value.as_f64().ok_or("printf: %f wants a number")?),
            'd' if !value.is_number() => return Err("printf: %d wants a number".to_owned()),
            _ => text(value),
        };
        let (left, width) = (flags.starts_with('-'), flags.trim_start_matches('-'));
        let width: usize = if width.is_empty() { 0 } else { width.parse().unwrap_or(usize::MAX) };
        if width > 1000 {
            return Err("printf: a width is more than 1000".to_owned());
        }
        out.push_str(&if left { format!("{shown:<width$}") } else { format!("{shown:>width$}") });
    }
    if values.next().is_some() {
        return Err("printf has more values than its format".to_owned());
    }
    out.push_str(rest);
    Ok(out)
}
