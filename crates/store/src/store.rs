//! The store's root directory: opening, files in it, leftovers.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci::Digest;

use crate::error::{Error, Result};
use crate::lock::{self, Staged};
use crate::record::{self, FORMAT, Meta};
use crate::tree;

/// An open store. Cheap to clone; safe to use from many threads and processes at once.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

const DIRECTORIES: [&str; 7] = ["blobs", "empty", "layers", "images", "names", "pins", "staging"];

impl Store {
    /// Opens the store at `root`, which is made (0700) if it is missing, and removes what killed processes left
    /// half-made. Fails on a store of a newer format.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(Error::os("resolve", root))?;
        let store = Self { root };
        let path = store.root.join("meta.json");
        let meta = match record::read::<Meta>(&path)? {
            Some(meta) => meta,
            None => store.init()?,
        };
        if meta.format > FORMAT {
            return Err(Error::NewerFormat { path: store.root, found: meta.format, known: FORMAT });
        }
        store.clean()?;
        Ok(store)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn init(&self) -> Result<Meta> {
        if let Some(parent) = self.root.parent() {
            std::fs::create_dir_all(parent).map_err(Error::os("mkdir", parent))?;
        }
        for path in std::iter::once(self.root.clone()).chain(DIRECTORIES.map(|name| self.root.join(name))) {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::os("mkdir", &path)(e));
                }
                _ => {}
            }
        }
        let empty = self.root.join("empty");
        std::fs::set_permissions(&empty, Permissions::from_mode(0o755))
            .map_err(Error::os("chmod", &empty))?;
        // Last, so that a store with it is whole. Two who do this at once write the same.
        let meta = Meta { format: FORMAT };
        self.publish(&record::text(&meta), &self.root.join("meta.json"))?;
        Ok(meta)
    }

    /// Removes what is in `staging` and has no owner any more.
    fn clean(&self) -> Result<()> {
        let staging = self.root.join("staging");
        for entry in std::fs::read_dir(&staging).map_err(Error::os("read directory", &staging))? {
            let path = entry.map_err(Error::os("read directory", &staging))?.path();
            let Some(_lock) = Staged::abandoned(&path)? else {
                continue;
            };
            tracing::debug!(path = %path.display(), "removing what a killed process left");
            discard(&path)?;
        }
        Ok(())
    }

    /// Writes a file so that it appears whole and stays.
    pub(crate) fn publish(&self, bytes: &[u8], path: &Path) -> Result<()> {
        let staged = Staged::new(&self.root, Some(bytes))?;
        let published = std::fs::rename(&staged.path, path).map_err(Error::os("publish", path));
        if published.is_err() {
            std::fs::remove_file(&staged.path).ok();
        }
        published?;
        sync_directory(path.parent().unwrap_or(&self.root))
    }

    /// For reading several files that belong together, and for adding some.
    pub(crate) fn shared(&self) -> Result<impl Sized + use<>> {
        lock::store(&self.root, false)
    }

    /// For removing.
    pub(crate) fn exclusive(&self) -> Result<impl Sized + use<>> {
        lock::store(&self.root, true)
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.by_digest("blobs", digest)
    }

    pub(crate) fn layer_dir(&self, chain: &Digest) -> PathBuf {
        self.by_digest("layers", chain)
    }

    fn by_digest(&self, kind: &str, digest: &Digest) -> PathBuf {
        self.root.join(kind).join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Makes the directory that holds all of one kind and algorithm; answers it.
    pub(crate) fn make_parent<'a>(&self, path: &'a Path) -> Result<&'a Path> {
        let parent = path.parent().expect("paths of digests have parents");
        match DirBuilder::new().mode(0o700).create(parent) {
            Ok(()) => sync_directory(parent.parent().expect("the root is above"))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::os("mkdir", parent)(e)),
        }
        Ok(parent)
    }

    /// All digests that have a file or directory in `blobs` or `layers`. Other names are left out.
    pub(crate) fn digests(&self, kind: &str) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        let top = self.root.join(kind);
        for algorithm in names(&top)? {
            for hex in names(&top.join(&algorithm))? {
                digests.extend(format!("{algorithm}:{hex}").parse::<Digest>());
            }
        }
        Ok(digests)
    }
}

/// Names in a directory that are UTF-8, as all of the store's are.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let fail = || Error::os("read directory", dir);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail())? {
        names.extend(entry.map_err(fail())?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Removes a file or a tree.
pub(crate) fn discard(path: &Path) -> Result<()> {
    let fail = || Error::os("remove", path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(fail()(io::ErrorKind::InvalidInput.into()));
    };
    let dir = File::open(parent).map_err(fail())?;
    tree::remove_tree(dir.as_fd(), name.as_bytes()).map_err(fail())
}

/// Makes renames in a directory last.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::os("sync", path))
}
