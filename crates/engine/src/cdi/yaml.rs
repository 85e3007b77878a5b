//! YAML 1.2 (yaml.org/spec/1.2.2, core schema) read into what JSON can say, within bounds: CDI files are generated, plain and
//! small.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

/// How deep lists and maps may lie in each other; CDI has six levels.
const DEPTH: usize = 32;
/// How many values there may be, those that aliases repeat included: an alias of aliases would fill the memory.
const VALUES: usize = 100_000;

/// A list or map that has begun, with its anchor (0: none).
enum Open {
    List(usize, Vec<Value>),
    Map(usize, Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    values: usize,
    done: Option<Value>,
}

/// The one document of a file; nothing at all is null.
///
/// # Errors
/// It is no YAML, or says what JSON cannot.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| e.to_string())?;
        let at = |why: String| format!("line {}: {why}", span.start.line());
        reader.take(event).map_err(at)?;
    }
    Ok(reader.done.unwrap_or_default())
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.done.is_some() => Err("wants one document".to_owned()),
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or("an alias of what is not there, or of what it is in")?;
                self.values += count(&value);
                self.put(value, 0, None)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())?;
                self.put(value, anchor, Some(text))
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Open::List(anchor, Vec::new()), tag.as_deref(), "seq")
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Open::Map(anchor, Map::new(), None), tag.as_deref(), "map")
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(anchor, list)) => self.put(Value::Array(list), anchor, None),
                Some(Open::Map(anchor, map, _)) => self.put(Value::Object(map), anchor, None),
                None => Err("an end without a beginning".to_owned()),
            },
        }
    }

    fn begin(&mut self, open: Open, tag: Option<&Tag>, kind: &str) -> Result<(), String> {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == kind)) {
            return Err(format!("the tag {tag} is not known"));
        }
        if self.open.len() == DEPTH {
            return Err(format!("more than {DEPTH} levels"));
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a value where it belongs. A key is what it is in the text.
    fn put(&mut self, value: Value, anchor: usize, text: Option<Cow<'_, str>>) -> Result<(), String> {
        self.values += 1;
        if self.values > VALUES {
            return Err(format!("more than {VALUES} values"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some(Open::List(_, list)) => list.push(value),
            Some(Open::Map(_, map, key)) => match (key.take(), text) {
                (Some(name), _) if map.contains_key(&name) => return Err(format!("{name:?} is there twice")),
                (Some(name), _) => drop(map.insert(name, value)),
                (None, Some(text)) => *key = Some(text.into_owned()),
                (None, None) => return Err("a key is no word".to_owned()),
            },
        }
        Ok(())
    }
}

/// How many values there are in one.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Fractions stay text: nothing in CDI is one.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => return Err(format!("the tag {tag} is not known")),
        Some(tag) if tag.suffix == "str" => return Ok(Value::from(text)),
        _ => {}
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::from(text));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => integer(text).map_or_else(|| Value::from(text), Value::from),
    })
}

/// Also `0666` as YAML 1.1 has it and the Go libraries that CDI files are written for read it.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let digits = digits.strip_prefix('+').filter(|_| sign == 1).unwrap_or(digits);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (radix, digits) = match (digits.get(..2), digits.strip_prefix('0')) {
        (Some("0x"), _) => (16, &digits[2..]),
        (Some("0o"), _) => (8, &digits[2..]),
        (_, Some(octal)) if !octal.is_empty() => (8, octal),
        _ => (10, digits),
    };
    // A second sign would be read by the library.
    let plain = digits.chars().all(|c| c.is_digit(radix));
    i64::from_str_radix(digits, radix).ok().filter(|_| plain).map(|number| sign * number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_what_json_would_be() {
        let text = "---\n# by nvidia-ctk\ncdiVersion: 0.5.0\nkind: \"nvidia.com/gpu\"\nlist:\n- a: 1\n  b: [x, 'y', \"z\\n\"]\n\
                    - !!str 5\nmode: 0666\nhex: 0x1b\noctal: 0o17\nnegative: -3\nnone: ~\nempty:\nyes: true\ndate: 2024-01-01\n\
                    half: 1.5\nblock: |\n  one\n  two\nfolded: >-\n  one\n  two\nanchor: &a {k: v}\nalias: *a\n0: zero\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "list": [{ "a": 1, "b": ["x", "y", "z\n"] }, "5"],
                "mode": 438, "hex": 27, "octal": 15, "negative": -3, "none": null, "empty": null, "yes": true,
                "date": "2024-01-01", "half": "1.5", "block": "one\ntwo\n", "folded": "one two",
                "anchor": { "k": "v" }, "alias": { "k": "v" }, "0": "zero",
            })
        );
        assert_eq!(parse("").unwrap(), Value::Null);
        assert_eq!(parse("[ '+-1', +-1, +5, 0x-1, 09 ]").unwrap(), json!(["+-1", "+-1", 5, "0x-1", "09"]));
    }

    #[test]
    fn what_goes_beyond_is_refused_with_its_line() {
        for (text, want) in [
            ("a: 1\na: 2\n", "line 2: \"a\" is there twice"),
            ("a: [1\n", "line"),
            ("a: !!binary aGk=\n? [b]\n: 1", "no word"),
            ("a: !own x", "tag"),
            ("a: *b", ""),
            ("a: &x [*x]", "alias"),
            ("a: 1\n---\nb: 2\n", "one document"),
            ("\"\\xzz\"", ""),
            ("a:\tb\n\tc: d", ""),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(want), "{text:?}: {said}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).is_err());
        // A billion laughs.
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            laughs += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
        }
        let said = parse(&laughs).unwrap_err();
        assert!(said.contains("values"), "{said}");
    }
}
