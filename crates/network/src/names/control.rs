//! How a server of names is found: a socket of the file system, in a directory of all networks' servers. Its name is the
//! network's ID.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::Error;

/// How long a server may take to say that it lives.
const PATIENCE: Duration = Duration::from_secs(5);
/// Held by whoever makes a socket or removes one of a server that is dead.
const LOCK: &str = "lock";

/// Where the server of one network is to be found.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
    network: String,
}

impl Place {
    /// That of the network with this ID, below the directory of all; nothing is touched.
    pub fn new(dir: &Path, network: &str) -> Place {
        Place { dir: dir.to_owned(), network: network.to_owned() }
    }

    /// All that are there.
    pub fn all(dir: &Path) -> Vec<Place> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name != LOCK).map(|name| Place::new(dir, &name)).collect()
    }

    /// The network's ID.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Whether a server is there and serves: it says so itself.
    pub fn answers(&self) -> bool {
        let mut said = [0];
        self.connect().is_some_and(|mut server| {
            server.set_read_timeout(Some(PATIENCE)).is_ok() && server.read_exact(&mut said).is_ok()
        })
    }

    /// Whether its process is there, which is quicker to find out.
    pub fn is_there(&self) -> bool {
        self.connect().is_some()
    }

    fn connect(&self) -> Option<UnixStream> {
        let dir = File::open(&self.dir).ok()?;
        UnixStream::connect(short(&dir, &self.network)).ok()
    }

    /// Listens there. Only for who has the network's port: what is there is of a dead server then.
    pub(super) fn listen(&self) -> Result<UnixListener, Error> {
        let what = || Error::io(format!("listen on {:?}", self.dir.join(&self.network)));
        fs::create_dir_all(&self.dir).map_err(what())?;
        let _lock = self.lock()?;
        self.remove();
        let dir = File::open(&self.dir).map_err(what())?;
        let listener = UnixListener::bind(short(&dir, &self.network)).map_err(what())?;
        listener.set_nonblocking(true).map_err(what())?;
        Ok(listener)
    }

    /// Removes the socket of a dead server.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub fn clear(&self) -> Result<(), Error> {
        let _lock = self.lock()?;
        if !self.is_there() {
            self.remove();
        }
        Ok(())
    }

    pub(super) fn remove(&self) {
        // Gone is what it shall be.
        let _ = fs::remove_file(self.dir.join(&self.network));
    }

    fn lock(&self) -> Result<Flock<File>, Error> {
        let path = self.dir.join(LOCK);
        let file = File::create(&path).map_err(Error::io(format!("open {path:?}")))?;
        loop {
            let file = file.try_clone().map_err(Error::io(format!("open {path:?}")))?;
            match Flock::lock(file, FlockArg::LockExclusive) {
                Err((_, nix::errno::Errno::EINTR)) => {}
                other => return other.map_err(|(_, e)| Error::io(format!("lock {path:?}"))(e.into())),
            }
        }
    }
}

/// A path that is never too long for a socket's (108 bytes), wherever the directory is.
fn short(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found_and_who_is_dead_is_cleared() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("x".repeat(120));
        let place = Place::new(&dir, &"ab".repeat(32));
        assert!(!place.is_there() && Place::all(&dir).is_empty());
        let listener = place.listen().unwrap();
        assert!(place.is_there());
        place.clear().unwrap();
        assert!(place.is_there(), "it lives");
        assert_eq!(Place::all(&dir).len(), 1);
        drop(listener);
        assert!(!place.answers());
        place.clear().unwrap();
        assert!(Place::all(&dir).is_empty());
    }

    #[test]
    fn a_missing_directory_is_no_server() {
        let place = Place::new(Path::new("/nonexistent"), "ab");
        assert!(!place.answers());
        assert!(place.clear().is_err());
    }
}
