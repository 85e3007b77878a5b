//! The keys that take a caller away from a terminal while what runs there goes on (`--detach-keys`).

use std::str::FromStr;

/// A sequence of keys as the terminal sends them. The default is docker's: ctrl-p, ctrl-q.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = String;

    /// Reads `ctrl-p,ctrl-q`: keys with commas between them, each a character or `ctrl-` and one of `a`-`z @ [ \ ] ^ _`.
    /// Nothing at all: no keys detach.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let key = |word: &str| match (word.strip_prefix("ctrl-").map(str::as_bytes), word.as_bytes()) {
            (Some([letter @ b'a'..=b'z']), _) => Some(letter - b'a' + 1),
            (Some([sign @ (b'@' | b'['..=b'_')]), _) => Some(sign - b'@'),
            (None, [byte]) if byte.is_ascii() => Some(*byte),
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(Self).ok_or_else(|| {
            "wants keys with commas between them, each a character or ctrl- and one of a-z @ [ \\ ] ^ _, \
             for instance ctrl-p,ctrl-q"
                .to_owned()
        })
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: DetachKeys,
    /// How many of them have been typed just now; they are held back until it is clear what they are.
    matched: usize,
}

impl Watch {
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, matched: 0 }
    }

    /// Takes what was typed; what is to be passed on comes into `out`. `true`: all keys were typed.
    pub(crate) fn take(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        let keys = &self.keys.0;
        for byte in typed {
            if keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == keys.len() {
                    self.matched = 0;
                    return true;
                }
                continue;
            }
            out.extend(&keys[..self.matched]);
            self.matched = usize::from(keys.first() == Some(byte) && keys.len() > 1);
            if self.matched == 0 {
                out.push(*byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0);
        assert_eq!(keys("ctrl-p,ctrl-q").unwrap(), DetachKeys::default().0);
        assert_eq!(keys("a,ctrl-@,ctrl-[,ctrl-_,ctrl-z").unwrap(), [b'a', 0, 27, 31, 26]);
        assert!(keys("").unwrap().is_empty());
        for bad in ["ctrl-", "ctrl-A", "ctrl-aa", "ab", "a,,b", "ctrl-p,", "é"] {
            assert!(keys(bad).unwrap_err().contains("ctrl-p,ctrl-q"), "{bad}");
        }
    }

    #[test]
    fn what_is_not_the_sequence_is_passed_on() {
        let typed = |keys: &str, parts: &[&str]| {
            let mut watch = Watch::new(keys.parse().unwrap());
            let mut out = Vec::new();
            let detached = parts.iter().any(|part| watch.take(part.as_bytes(), &mut out));
            (String::from_utf8(out).unwrap(), detached)
        };
        assert_eq!(typed("a,b", &["xa", "by"]), ("x".to_owned(), true));
        assert_eq!(typed("a,b", &["xa", "xb"]), ("xaxb".to_owned(), false));
        assert_eq!(typed("a,b", &["aa", "b"]), ("a".to_owned(), true));
        assert_eq!(typed("a", &["xa"]), ("x".to_owned(), true));
        assert_eq!(typed("", &["ab"]), ("ab".to_owned(), false));
    }
}
