//! "Did you mean": the tags nearest to one that does not exist.

/// At most five of `tags`, nearest first. Tags with nothing in common with `wanted` are left out, unless there are
/// few altogether.
pub(crate) fn nearest(wanted: &str, tags: &[String]) -> Vec<String> {
    let sound =
        |t: &&String| t.len() <= 128 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let mut ranked: Vec<(usize, &String)> =
        tags.iter().filter(sound).take(2000).map(|t| (distance(wanted, t), t)).collect();
    let all = ranked.len();
    ranked.sort();
    let near = wanted.len() / 2 + 1;
    ranked.into_iter().filter(|(d, _)| all <= 5 || *d <= near).take(5).map(|(_, t)| t.clone()).collect()
}

/// Levenshtein distance, by bytes.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_tags_first() {
        assert_eq!(distance("kitten", "sitting"), 3);
        let tags: Vec<String> =
            ["3.8", "3.9-alpine", "3.8.5-alpine", "latest", "edge", "slim", "3.8.5-alpin\x1b"]
                .map(String::from)
                .into();
        assert_eq!(nearest("3.8.5-alpin", &tags)[0], "3.8.5-alpine");
        assert!(!nearest("3.8.5-alpin", &tags).contains(&"edge".to_owned()));
        assert_eq!(nearest("zzz", &tags[..2]), ["3.8", "3.9-alpine"]);
        assert!(nearest("x", &[]).is_empty());
    }
}
