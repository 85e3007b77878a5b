//! What to type next, after an error that is likely a slip.

use engine::{Engine, NetworkError, Thing, names};

/// What is added to the text of an error: what was meant, or where it can be looked up. Empty where the text says it
/// itself.
pub(crate) fn next(engine: &Engine, error: &engine::Error) -> String {
    let (wanted, things, else_say) = match error {
        engine::Error::NoSuchContainer(wanted) => {
            (wanted, &[Thing::Container][..], "; list them (rcr ps -a)")
        }
        engine::Error::NoSuchImage(wanted) => {
            (wanted, &[Thing::Image][..], "; list those that are here (rcr images), or fetch it (rcr pull)")
        }
        engine::Error::NoSuchObject(wanted) => (
            wanted,
            &[Thing::Container, Thing::Image, Thing::Network, Thing::Volume][..],
            "; list containers (rcr ps -a), images (rcr images), networks (rcr network ls) and volumes (rcr volume ls)",
        ),
        engine::Error::NoSuchVolume(wanted) => (wanted, &[Thing::Volume][..], "; list them (rcr volume ls)"),
        engine::Error::Network(NetworkError::NotFound(wanted)) => (wanted, &[Thing::Network][..], ""),
        _ => return String::new(),
    };
    let all: Vec<String> = things.iter().flat_map(|thing| names(engine, *thing)).collect();
    match nearest(wanted, &all) {
        Some(near) => format!("; did you mean {near}?"),
        None => else_say.to_owned(),
    }
}

/// The name that is closest to `wanted`, if it is close enough to be meant: one slip in three characters. A tag may be
/// missing.
pub(crate) fn nearest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a String> {
    let most = (wanted.chars().count() / 3).clamp(1, 3);
    let distance = |name: &String| {
        let untagged = name.rsplit_once(':').map_or(name.as_str(), |(name, _)| name);
        slips(wanted, name).min(if wanted.contains(':') { usize::MAX } else { slips(wanted, untagged) })
    };
    names
        .iter()
        .map(|name| (distance(name), name))
        .filter(|(far, _)| *far <= most)
        .min()
        .map(|(_, name)| name)
}

/// How many characters were left out, added, exchanged or swapped with their neighbour (optimal string alignment).
fn slips(a: &str, b: &str) -> usize {
    // Names are short; what is not is no slip.
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(256).collect(), b.chars().take(256).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let other = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + other);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_meant() {
        let names = ["web", "database", "python:3.8.5-alpine", "alpine:latest"].map(str::to_owned);
        for (wanted, near) in [
            ("wbe", Some("web")),
            ("wev", Some("web")),
            ("x", None),
            ("databsae", Some("database")),
            ("datbse", Some("database")),
            ("pyhton", Some("python:3.8.5-alpine")),
            ("python:3.8.5-alpin", Some("python:3.8.5-alpine")),
            ("alpine:lastest", Some("alpine:latest")),
            ("nginx", None),
        ] {
            assert_eq!(nearest(wanted, &names).map(String::as_str), near, "{wanted}");
        }
        assert_eq!((slips("", ""), slips("abc", ""), slips("ab", "ba"), slips("abc", "axc")), (0, 3, 1, 1));
    }
}
