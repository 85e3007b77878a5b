//! JSON without double meaning: an object with the same key twice is refused, because two readers of one
//! signed document must not see two different images (CVE-2021-41190 and its kin).

use std::fmt;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads one JSON object. The reason for a refusal names line and column or the offending key.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        Ok(_) => Err("it is not a JSON object".into()),
        Err(e) => Err(format!("it is not JSON: {e}")),
    }
}

/// Reads `T` out of a checked document; the reason names the path of the first misfit.
pub(crate) fn shape<T: DeserializeOwned>(map: &Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(map.clone()))
        .map_err(|e| format!("at {}: {}", e.path(), e.inner()))
}

/// A key that Go's case-blind JSON would take for one of `known`, though it is spelt otherwise.
pub(crate) fn misspelt<'a>(map: &'a Map<String, Value>, known: &[&str]) -> Option<&'a str> {
    map.keys()
        .find(|key| known.iter().any(|k| *k != key.as_str() && k.eq_ignore_ascii_case(key)))
        .map(String::as_str)
}

/// A [`Value`] whose objects have distinct keys. Depth is bounded by `serde_json` itself (128).
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = access.next_entry::<String, Strict>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("ambiguous: the key {key:?} is there twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for (text, why) in [
            ("", "not JSON"),
            ("null", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("\"x\"", "not a JSON object"),
            ("\u{feff}{}", "not JSON"),
            ("{} {}", "not JSON"),
            ("{\"a\":1,\"a\":1}", "twice"),
            ("{\"x\":[{\"a\":1,\"\\u0061\":2}]}", "twice"),
            ("{\"a\":1e999}", "not JSON"),
        ] {
            let reason = object(text.as_bytes()).unwrap_err();
            assert!(reason.contains(why), "{text}: {reason}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(deep.as_bytes()).is_err());
        assert_eq!(object(b"{\"a\":{\"b\":[1,-1,null,true,\"s\",0.5]}}").unwrap().len(), 1);
    }

    #[test]
    fn finds_keys_in_another_case() {
        let map = object(b"{\"Layers\":1,\"config\":2}").unwrap();
        assert_eq!(misspelt(&map, &["layers", "config"]), Some("Layers"));
        assert_eq!(misspelt(&map, &["config"]), None);
    }
}
