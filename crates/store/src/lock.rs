//! Locks between processes. The kernel drops all of them when their owner dies.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg};
use oci::Digest;

use crate::error::{Error, Result};

/// Takes a lock on `ROOT/lock`; waits for it. Nobody holds it for long: not while fetching, unpacking or removing.
pub(crate) fn store(root: &Path, exclusive: bool) -> Result<Flock<File>> {
    let path = root.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::os("open", &path))?;
    loop {
        match Flock::lock(file, if exclusive { FlockArg::LockExclusive } else { FlockArg::LockShared }) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EINTR)) => file = back,
            Err((_, e)) => return Err(Error::os("lock", &path)(e.into())),
        }
    }
}

/// The right to fetch the layer of one chain ID.
#[derive(Debug)]
pub(crate) struct Fetch {
    _file: File,
}

impl Fetch {
    /// `None` if another process, or another pull of this one, has it.
    pub(crate) fn take(root: &Path, chain: &Digest) -> Result<Option<Self>> {
        let path = root.join("fetching");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::os("open", &path))?;
        // One byte of one file per chain ID, so that no lock files pile up. An "open file description" lock, because
        // a plain fcntl(2) lock would not keep two threads apart. Two chain IDs on one byte would only wait for
        // each other.
        let at = i64::from_str_radix(&chain.hex()[..15], 16).expect("digests are hex digits");
        let range = libc::flock {
            l_type: libc::F_WRLCK.try_into().expect("lock types are small"),
            l_whence: libc::SEEK_SET.try_into().expect("whences are small"),
            l_start: at,
            l_len: 1,
            l_pid: 0,
        };
        match nix::fcntl::fcntl(&file, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => Ok(Some(Self { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(e) => Err(Error::os("lock", &path)(e.into())),
        }
    }
}

/// Something in `staging` that is being worked on: its owner holds a flock on it.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
}

impl Staged {
    /// Makes a directory, or a file with these bytes in it.
    pub(crate) fn new(root: &Path, content: Option<&[u8]>) -> Result<Self> {
        let staging = root.join("staging");
        for nth in 0u64.. {
            let path = staging.join(format!("{}-{}", std::process::id(), unique(nth)));
            let made = match content {
                None => std::fs::create_dir(&path).and_then(|()| File::open(&path)),
                Some(_) => File::options().write(true).create_new(true).open(&path),
            };
            let file = match made {
                Ok(file) => file,
                // Taken, or removed by someone who cleans up and came before the lock.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
                        && staging.is_dir() =>
                {
                    continue;
                }
                Err(e) => return Err(Error::os("make", &path)(e)),
            };
            let Some(mut lock) = try_lock(file, &path)? else {
                continue;
            };
            if let Some(content) = content {
                let written = io::Write::write_all(&mut *lock, content).and_then(|()| lock.sync_all());
                if let Err(e) = written {
                    std::fs::remove_file(&path).ok();
                    return Err(Error::os("write", &path)(e));
                }
            }
            return Ok(Self { path, _lock: lock });
        }
        unreachable!("numbers do not run out")
    }

    /// Is this being worked on? If not, the lock on it, to remove it.
    pub(crate) fn abandoned(path: &Path) -> Result<Option<Flock<File>>> {
        match File::open(path) {
            Ok(file) => try_lock(file, path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::os("open", path)(e)),
        }
    }
}

/// `None` if another has the lock or the file has lost its name.
fn try_lock(file: File, path: &Path) -> Result<Option<Flock<File>>> {
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, e)) => return Err(Error::os("lock", path)(e.into())),
    };
    let stat = nix::sys::stat::fstat(&*lock).map_err(|e| Error::os("stat", path)(e.into()))?;
    Ok((stat.st_nlink > 0).then_some(lock))
}

/// Names differ within a process by a counter, between boots and namespaces (where IDs repeat) by the time.
fn unique(nth: u64) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{count}-{nth}", now.as_nanos())
}
