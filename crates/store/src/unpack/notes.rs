//! What unpacking a layer leaves to do until its lower layers are known.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Notes are the only thing that grows with a layer; hostile ones stop here. Real layers stay below 2 MiB.
const MAX_BYTES: usize = 32 << 20;
/// What a note costs besides its path.
const OVERHEAD: usize = 64;

/// What there is to do about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    /// A directory that no entry named: it takes owner, mode and so on from the lower layers, or turns out to be
    /// a link there.
    Implicit,
    /// One that the lower layers don't have either.
    Fresh,
    /// A directory and its modification time, for the end: making an entry in it changes that.
    Directory((i64, u32)),
    /// A whiteout node, which is kept only if it hides something.
    Whiteout,
    /// A hardlink whose target is not in this layer; in the archive's order.
    Link { order: usize, target: Vec<u8> },
}

/// Notes by path. Paths are real ones below the diff directory: no component is a link.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    notes: BTreeMap<Vec<u8>, Note>,
    bytes: usize,
    links: usize,
    /// The root has an opaque marker; overlay knows no opaque roots.
    pub(super) opaque_root: bool,
    /// The root has an entry of its own.
    pub(super) explicit_root: bool,
}

impl Notes {
    pub(super) fn set(&mut self, path: &[u8], note: Note) -> Result<()> {
        self.bytes += OVERHEAD + path.len();
        if let Note::Link { target, .. } = &note {
            self.bytes += target.len();
        }
        if self.bytes > MAX_BYTES {
            return Err(Error::entry(path, "the layer has too many directories, whiteouts and links"));
        }
        self.notes.insert(path.to_vec(), note);
        Ok(())
    }

    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.links += 1;
        self.set(path, Note::Link { order: self.links, target: target.to_vec() })
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&Note> {
        self.notes.get(path)
    }

    /// Is there nothing for which the lower layers would have to be looked at?
    pub(super) fn is_self_contained(&self) -> bool {
        !self.opaque_root && self.notes.values().all(|note| matches!(note, Note::Directory(_)))
    }

    /// Paths with a note that `wanted` picks, parents before children.
    pub(super) fn paths(&self, wanted: impl Fn(&Note) -> bool) -> Vec<Vec<u8>> {
        self.notes.iter().filter(|(_, note)| wanted(note)).map(|(path, _)| path.clone()).collect()
    }

    /// All notes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Note)> {
        self.notes.iter().map(|(path, note)| (path.as_slice(), note))
    }

    /// Forgets the note on `path` alone.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.notes.remove(path);
    }

    /// Forgets everything about `path` and what is below it.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.notes.remove(path);
        self.take_below(path);
    }

    /// Moves the notes from below `from` to the same places below `to`; the one on `from` itself is forgotten.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) {
        self.notes.remove(from);
        for (rest, note) in self.take_below(from) {
            self.notes.insert(super::name::join(to, &rest), note);
        }
    }

    fn take_below(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Note)> {
        let first = [path, b"/"].concat();
        let behind = [path, b"0"].concat(); // the character after '/'
        let below: Vec<_> = self.notes.range(first.clone()..behind).map(|(path, _)| path.clone()).collect();
        below
            .into_iter()
            .filter_map(|path| Some((path[first.len()..].to_vec(), self.notes.remove(&path)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_and_forgets_below_only() {
        let mut notes = Notes::default();
        for path in [&b"lib"[..], b"lib-x", b"lib/a", b"lib/a/b", b"lib0", b"library"] {
            notes.set(path, Note::Implicit).unwrap();
        }
        notes.link(b"lib/x", b"t").unwrap();
        notes.rename(b"lib", b"usr/lib");
        let all = |notes: &Notes| -> Vec<String> {
            notes.iter().map(|(p, _)| String::from_utf8_lossy(p).into_owned()).collect()
        };
        assert_eq!(all(&notes), ["lib-x", "lib0", "library", "usr/lib/a", "usr/lib/a/b", "usr/lib/x"]);
        notes.forget(b"usr/lib/a");
        assert_eq!(all(&notes), ["lib-x", "lib0", "library", "usr/lib/x"]);
        notes.rename(b"usr/lib", b"");
        assert_eq!(all(&notes), ["lib-x", "lib0", "library", "x"]);
    }

    #[test]
    fn has_a_cap() {
        let mut notes = Notes::default();
        let path = vec![b'a'; 4000];
        assert!((0..10_000).any(|_| notes.set(&path, Note::Whiteout).is_err()));
    }
}
