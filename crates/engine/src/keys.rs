//! The detach keys, looked for in what is typed.

/// Looks for the detach keys in what is typed. Their beginning is held back until it is clear whether the rest follows.
#[derive(Debug)]
pub(crate) struct Keys {
    wanted: Vec<u8>,
    seen: usize,
}

impl Keys {
    /// None at all are never found.
    pub(crate) fn new(wanted: Vec<u8>) -> Self {
        Self { wanted, seen: 0 }
    }

    /// What is to be passed on; `None`: all keys were typed.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.wanted.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.wanted.len() {
                    return None;
                }
                continue;
            }
            passed.extend_from_slice(&self.wanted[..self.seen]);
            self.seen = usize::from(self.wanted.first() == Some(byte));
            if self.seen == 0 {
                passed.push(*byte);
            }
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn the_keys_are_found_and_their_beginning_is_not_lost() {
        let mut keys = Keys::new(vec![16, 17]);
        assert_eq!(keys.pass(b"ab\x10").unwrap(), b"ab");
        assert_eq!(keys.pass(b"c").unwrap(), b"\x10c");
        assert_eq!(keys.pass(b"\x10\x10").unwrap(), b"\x10");
        assert_eq!(keys.pass(b"\x11"), None);
        let mut none = Keys::new(Vec::new());
        assert_eq!(none.pass(b"\x10\x11").unwrap(), b"\x10\x11");
        assert_eq!(Keys::new(vec![b'a']).pass(b"xa"), None);
    }
}
