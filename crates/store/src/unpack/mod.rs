//! Unpacks layers as overlay lower directories.
//!
//! A layer is unpacked alone, while its lower layers may not be there yet: [`Extractor`] writes what the archive
//! says into the diff directory and notes what depends on lower layers; [`settle`] does that once they are there.
//! Between the two the directory is private to one thread, so what was found at a path stays there; still, every
//! path of the archive is resolved below the directory by descriptors (CVE-2018-20990, CVE-2025-59825, …).
//!
//! Semantics are those of image-spec layer.md; where it is silent, those of containerd, podman and umoci.

mod entry;
mod name;
mod notes;
mod place;
mod settle;

pub(crate) use entry::Extractor;
pub(crate) use notes::Notes;
pub(crate) use settle::settle;

/// Beginning of a name that stands for a removal, image-spec layer.md "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
/// Hides all that lower layers have in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// AUFS's own files; they were never part of an image's content.
const AUFS: &[u8] = b".wh..wh.";
