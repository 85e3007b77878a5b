//! `--filter KEY=VALUE` of the listings. What is given twice under one key is either of the two, but for labels,
//! which must all be there; different keys must all hold: docker's rules.

use crate::commands::now;
use crate::value::moment;

/// One filter as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Reads `KEY=VALUE`; `allowed` are the keys that this listing knows.
///
/// # Errors
/// What is wanted, when it is something else.
pub(crate) fn parse(text: &str, allowed: &[&str]) -> Result<Filter, String> {
    let wanted = || format!("wants KEY=VALUE with one of the keys {}", allowed.join(" "));
    let (key, value) = text.split_once('=').ok_or_else(wanted)?;
    let key = key.trim().to_lowercase();
    if !allowed.contains(&key.as_str()) {
        return Err(format!("{key:?} is not a filter here; {}", wanted()));
    }
    Ok(Filter { key, value: value.trim().to_owned() })
}

/// A filter of the commands that prune. The time of `until=` is kept as seconds since 1970.
///
/// # Errors
/// What is wanted, when it is something else.
pub(crate) fn parse_prune(text: &str) -> Result<Filter, String> {
    let mut filter = parse(text, &["until", "label", "label!"])?;
    if filter.key == "until" {
        let nanos = moment::parse(&filter.value, now().saturating_mul(1_000_000_000));
        let nanos = nanos.map_err(|why| format!("until {why}"))?;
        filter.value = nanos.div_euclid(1_000_000_000).to_string();
    }
    Ok(filter)
}

/// Whether something that was made then, in seconds since 1970, and has these labels passes all of them.
pub(crate) fn prunable(filters: &[Filter], created: Option<i64>, labels: &[(String, String)]) -> bool {
    filters.iter().all(|filter| match filter.key.as_str() {
        "until" => filter.value.parse().is_ok_and(|until: i64| created.unwrap_or(0) <= until),
        "label" => has_label(labels, &filter.value),
        "label!" => !has_label(labels, &filter.value),
        _ => true,
    })
}

/// Whether something passes all filters; `holds` says whether it has the value that a key asks for.
pub(crate) fn pass(filters: &[Filter], holds: impl Fn(&str, &str) -> bool) -> bool {
    filters.iter().all(|filter| match filter.key.as_str() {
        "label" => holds("label", &filter.value),
        key => filters.iter().filter(|f| f.key == key).any(|f| holds(key, &f.value)),
    })
}

/// `label=KEY` and `label=KEY=VALUE`.
pub(crate) fn has_label(labels: &[(String, String)], wanted: &str) -> bool {
    let (key, value) = match wanted.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (wanted, None),
    };
    labels.iter().any(|(k, v)| k == key && value.is_none_or(|value| v == value))
}

/// `name=WEB` is a part of the name, `name=^web$` all of it; docker's leading slash is allowed after the `^`.
pub(crate) fn has_name(name: &str, wanted: &str) -> bool {
    let (from_start, wanted) = match wanted.strip_prefix('^') {
        Some(rest) => (true, rest.strip_prefix('/').unwrap_or(rest)),
        None => (false, wanted),
    };
    match (from_start, wanted.strip_suffix('$')) {
        (true, Some(wanted)) => name == wanted,
        (true, None) => name.starts_with(wanted),
        (false, Some(wanted)) => name.ends_with(wanted),
        (false, None) => name.contains(wanted),
    }
}

/// A shell pattern over a name: `*` and `?` stand for anything but `/`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = pattern_chars.as_str();
            let reach = name.find('/').unwrap_or(name.len());
            name.char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .take_while(|&at| at <= reach)
                .any(|at| matches(rest, &name[at..]))
        }
        Some(wanted) => {
            let mut name_chars = name.chars();
            name_chars.next().is_some_and(|c| c == wanted || (wanted == '?' && c != '/'))
                && matches(pattern_chars.as_str(), name_chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_known_keys_only() {
        let filter = parse("Label = a=b ", &["label"]).unwrap();
        assert_eq!((filter.key.as_str(), filter.value.as_str()), ("label", "a=b"));
        for text in ["", "label", "status=running", "=x"] {
            assert!(parse(text, &["label", "name"]).unwrap_err().contains("label name"), "{text}");
        }
    }

    #[test]
    fn one_key_is_either_and_labels_are_all() {
        let filter = |key: &str, value: &str| Filter { key: key.into(), value: value.into() };
        let holds =
            |key: &str, value: &str| [("name", "a"), ("label", "x"), ("label", "y")].contains(&(key, value));
        assert!(pass(&[], holds));
        assert!(pass(&[filter("name", "b"), filter("name", "a"), filter("label", "x")], holds));
        assert!(!pass(&[filter("name", "b"), filter("label", "x")], holds));
        assert!(pass(&[filter("label", "y"), filter("label", "x")], holds));
        assert!(!pass(&[filter("label", "x"), filter("label", "z")], holds));
    }

    #[test]
    fn what_may_be_pruned() {
        let labels = [("a".to_owned(), "1".to_owned())];
        let passes = |filters: &[&str], created| {
            let filters: Vec<Filter> = filters.iter().map(|text| parse_prune(text).unwrap()).collect();
            prunable(&filters, created, &labels)
        };
        assert!(passes(&[], None) && passes(&["label=a", "label!=b", "label!=a=2"], Some(5)));
        assert!(!passes(&["label=a", "label=b"], None) && !passes(&["label!=a"], None));
        assert!(passes(&["until=1000"], Some(1000)) && !passes(&["until=1000"], Some(1001)));
        assert!(passes(&["until=10m"], Some(now() - 601)) && !passes(&["until=10m"], Some(now() - 599)));
        assert!(passes(&["until=2020-08-14"], None), "what has no age is old");
        for bad in ["until=soon", "until", "dangling=true", "label"] {
            assert!(parse_prune(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_names_and_patterns() {
        let labels = [("a".to_owned(), "1".to_owned())];
        assert!(has_label(&labels, "a") && has_label(&labels, "a=1"));
        assert!(!has_label(&labels, "b") && !has_label(&labels, "a=") && !has_label(&labels, "a=2"));
        for (wanted, name, is) in [
            ("eb", "web-1", true),
            ("^web", "web-1", true),
            ("^/web-1$", "web-1", true),
            ("^web$", "web-1", false),
            ("-1$", "web-1", true),
            ("^eb", "web-1", false),
        ] {
            assert_eq!(has_name(name, wanted), is, "{wanted}");
        }
        for (pattern, name, is) in [
            ("py*", "python", true),
            ("py*:3*", "python:3.8", true),
            ("p?thon", "python", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("py", "python", false),
            ("", "", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
