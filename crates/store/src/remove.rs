//! Removal of images, with docker's rules.

use oci::{Digest, Reference};

use crate::error::{Error, Result};
use crate::gc::Reclaimed;
use crate::store::{Store, sync_directory};

/// What a removal did, in the order in which it did it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away.
    pub untagged: Vec<Reference>,
    /// The image, if it went too.
    pub deleted: Option<Digest>,
    /// What that gave back.
    pub reclaimed: Reclaimed,
}

impl Store {
    /// What `rmi` does. A name is taken away, and with the last one the image goes. By ID the image goes, unless
    /// it has several names (`force` takes them all). A pinned image is refused; with `force` only its names go.
    pub fn remove(&self, wanted: &str, force: bool) -> Result<Removed> {
        let mut removed = Removed::default();
        {
            let _lock = self.exclusive()?;
            let id = self.find(wanted)?;
            let names: Vec<Reference> = self
                .all_names()?
                .into_iter()
                .filter(|(_, image)| *image == id)
                .map(|(name, _)| name)
                .collect();
            let named = match wanted.parse::<Reference>() {
                Ok(name) if self.name_record(&name)?.as_ref() == Some(&id) => Some(name),
                _ => None,
            };
            let going = match named {
                Some(name) => names_going(&name, &names),
                None if force || names.iter().filter(|name| name.digest().is_none()).count() <= 1 => {
                    names.clone()
                }
                None => {
                    let names = names.iter().map(Reference::familiar).collect();
                    return Err(Error::SeveralNames { image: id, names });
                }
            };
            let last = going.len() == names.len();
            let pins = self.pins()?.into_iter().filter(|pin| pin.image == id);
            let holders: Vec<String> = pins.map(|pin| pin.holder).collect();
            if last && !force && !holders.is_empty() {
                return Err(Error::InUse { image: id, holders });
            }
            for name in going {
                self.drop_name(&name)?;
                removed.untagged.push(name);
            }
            if last && holders.is_empty() {
                let path = self.image_path(&id);
                std::fs::remove_file(&path).map_err(Error::os("remove", &path))?;
                sync_directory(&self.root().join("images"))?;
                removed.deleted = Some(id);
            }
        }
        if removed.deleted.is_some() {
            removed.reclaimed = self.gc()?;
        }
        Ok(removed)
    }
}

/// Names that go when `name` goes: with the last tag of a repository its digests go too, as those were not asked
/// for when it was pulled.
fn names_going(name: &Reference, all: &[Reference]) -> Vec<Reference> {
    let is_it = |other: &&Reference| {
        other.name() == name.name() && other.digest() == name.digest() && {
            name.digest().is_some() || other.tag() == name.tag()
        }
    };
    let mut going: Vec<Reference> = all.iter().filter(is_it).cloned().collect();
    let rest: Vec<&Reference> = all.iter().filter(|other| !going.contains(other)).collect();
    if rest.iter().all(|other| other.name() == name.name() && other.digest().is_some()) {
        going.extend(rest.into_iter().cloned());
    }
    going
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_go_with_the_last_tag() {
        let d = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let names = |list: &[&str]| -> Vec<Reference> { list.iter().map(|n| n.parse().unwrap()).collect() };
        let pinned = format!("a@{d}");
        let going = |name: &str, all: &[&str]| names_going(&name.parse().unwrap(), &names(all));
        assert_eq!(going("a:1", &["a:1", "a:2"]), names(&["a:1"]));
        assert_eq!(going("a:1", &["a:1", &pinned]), names(&["a:1", &pinned]));
        assert_eq!(going("a:1", &["a:1", &pinned, "b:1"]), names(&["a:1"]));
        assert_eq!(going(&pinned, &["a:1", &pinned]), names(&[&pinned]));
    }
}
