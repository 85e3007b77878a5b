//! Which container has which address: a link in a directory a network, from the address to the container's ID.
//!
//! Making a link fails when it is there, so that two containers that start at once never get the same address, and no lock
//! is held. A link whose container is gone is stale and may be replaced.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::network::{Network, Subnet};

/// The leases of one network.
#[derive(Debug, Clone)]
pub struct Leases {
    dir: PathBuf,
    network: String,
}

impl Leases {
    /// Those of `network`, below the directory of all; nothing is touched.
    pub fn new(all: &Path, network: &Network) -> Leases {
        Leases { dir: all.join(&network.id), network: network.name.clone() }
    }

    /// Those of the network with this ID, to look at.
    pub(crate) fn of(all: &Path, network: &str) -> Leases {
        Leases { dir: all.join(network), network: network.to_owned() }
    }

    /// Who has an address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<String> {
        Some(fs::read_link(self.path(address)).ok()?.to_string_lossy().into_owned())
    }

    /// Takes a free address of `subnet` for `owner`, or the one that is asked for. `lives` says whether a container that
    /// holds one still does.
    ///
    /// # Errors
    /// [`Error::AddressInUse`], [`Error::Exhausted`], [`Error::Invalid`] for an address outside of the subnet.
    pub fn take(
        &self,
        subnet: &Subnet,
        wanted: Option<IpAddr>,
        owner: &str,
        lives: &dyn Fn(&str) -> bool,
    ) -> Result<IpAddr, Error> {
        if let Some(address) = wanted {
            let end = address == subnet.subnet.network()
                || address.is_ipv4() && address == subnet.subnet.broadcast();
            if !subnet.subnet.contains(&address) || end || Some(address) == subnet.gateway {
                let why = format!("address {address} cannot be a container's in subnet {}", subnet.subnet);
                return Err(Error::Invalid(why));
            }
            return match self.claim(address, owner, lives)? {
                None => Ok(address),
                Some(by) => Err(Error::AddressInUse { address, network: self.network.clone(), by }),
            };
        }
        // One look at the directory, so that the search does not try each address of a busy network. Those of the dead come
        // last, because it takes a look at each owner to find them.
        let taken = self.taken()?;
        let is_taken = |address: &IpAddr| taken.contains(address);
        let free = subnet.addresses().filter(|address| !is_taken(address));
        for address in free.chain(subnet.addresses().filter(is_taken)) {
            if self.claim(address, owner, lives)?.is_none() {
                return Ok(address);
            }
        }
        Err(Error::Exhausted { network: self.network.clone(), subnet: subnet.subnet })
    }

    fn taken(&self) -> Result<HashSet<IpAddr>, Error> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(HashSet::new()),
            other => other.map_err(Error::io(format!("list {:?}", self.dir)))?,
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Gives an address back, if it is `owner`'s.
    ///
    /// # Errors
    /// The directory cannot be changed.
    pub fn give_back(&self, address: IpAddr, owner: &str) -> Result<(), Error> {
        let path = self.path(address);
        match fs::read_link(&path) {
            Ok(by) if by.as_os_str() == owner => remove(&path),
            _ => Ok(()),
        }
    }

    /// Gives back all that `owner` has.
    ///
    /// # Errors
    /// The directory cannot be read or changed.
    pub fn give_back_all(&self, owner: &str) -> Result<(), Error> {
        for (address, by) in self.list()? {
            if by == owner {
                self.give_back(address, owner)?;
            }
        }
        Ok(())
    }

    /// All addresses and who has them.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<(IpAddr, String)>, Error> {
        let fail = || Error::io(format!("list {:?}", self.dir));
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(fail())?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fail())?;
            // Gone meanwhile is as good as never there.
            if let (Some(address), Ok(by)) =
                (entry.file_name().to_str().and_then(|name| name.parse().ok()), fs::read_link(entry.path()))
            {
                found.push((address, by.to_string_lossy().into_owned()));
            }
        }
        Ok(found)
    }

    /// Removes the directory, when the network goes.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_all(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io(format!("remove {:?}", self.dir))),
        }
    }

    /// Whoever has the address, if it is another one.
    fn claim(
        &self,
        address: IpAddr,
        owner: &str,
        lives: &dyn Fn(&str) -> bool,
    ) -> Result<Option<String>, Error> {
        let path = self.path(address);
        loop {
            match symlink(owner, &path) {
                Ok(()) => return Ok(None),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    fs::create_dir_all(&self.dir).map_err(Error::io(format!("make {:?}", self.dir)))?;
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    let Ok(by) = fs::read_link(&path) else { continue };
                    let by = by.to_string_lossy().into_owned();
                    if by == owner {
                        return Ok(None);
                    }
                    if lives(&by) {
                        return Ok(Some(by));
                    }
                    self.replace_stale(&path, &by)?;
                }
                Err(e) => return Err(Error::io(format!("make {path:?}"))(e)),
            }
        }
    }

    /// Takes a stale link away, but not one that somebody put in its place meanwhile: it is moved aside, looked at, and
    /// put back if it was the wrong one.
    fn replace_stale(&self, path: &Path, stale: &str) -> Result<(), Error> {
        let aside = self.dir.join(format!(".{}", std::process::id()));
        match fs::rename(path, &aside) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(Error::io(format!("rename {path:?}")))?,
        }
        let moved = fs::read_link(&aside).map_err(Error::io(format!("read {aside:?}")))?;
        if moved.as_os_str() != stale {
            // A hard link never replaces what is there by now.
            let _ = fs::hard_link(&aside, path);
        }
        remove(&aside)
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io(format!("remove {path:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(dir: &Path) -> Leases {
        Leases { dir: dir.join("net"), network: "net".to_owned() }
    }

    #[test]
    fn addresses_are_given_once_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let subnet = Subnet::new("10.0.0.0/29".parse().unwrap(), None, None).unwrap();
        let take = |owner: &str| leases.take(&subnet, None, owner, &|_| true).map(|ip| ip.to_string());
        for (owner, ip) in [("a", "10.0.0.2"), ("b", "10.0.0.3"), ("c", "10.0.0.4"), ("d", "10.0.0.5")] {
            assert_eq!(take(owner).unwrap(), ip);
        }
        leases.give_back("10.0.0.3".parse().unwrap(), "a").unwrap();
        assert_eq!(take("e").unwrap(), "10.0.0.6");
        assert!(matches!(take("f"), Err(Error::Exhausted { .. })));
        leases.give_back("10.0.0.3".parse().unwrap(), "b").unwrap();
        assert_eq!(take("f").unwrap(), "10.0.0.3");
        // The dead make room, whoever they were.
        let lives = |owner: &str| owner != "c";
        assert_eq!(leases.take(&subnet, None, "g", &lives).unwrap().to_string(), "10.0.0.4");
        assert_eq!(leases.list().unwrap().len(), 5);
    }

    #[test]
    fn an_address_can_be_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let subnet = Subnet::new("10.0.0.0/29".parse().unwrap(), None, None).unwrap();
        let ask = |ip: &str, owner: &str| leases.take(&subnet, ip.parse().ok(), owner, &|_| true);
        assert!(ask("10.0.0.4", "a").is_ok() && ask("10.0.0.4", "a").is_ok());
        let taken = ask("10.0.0.4", "b").unwrap_err().to_string();
        assert!(taken.contains("10.0.0.4") && taken.contains("container a"), "{taken}");
        for outside in ["10.0.0.0", "10.0.0.1", "10.0.0.7", "10.0.1.2", "fd00::2"] {
            assert!(matches!(ask(outside, "b"), Err(Error::Invalid(_))), "{outside}");
        }
    }

    #[test]
    fn many_at_once_get_different_ones() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let subnet = Subnet::new("10.0.0.0/24".parse().unwrap(), None, None).unwrap();
        let mut all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let (leases, subnet) = (&leases, &subnet);
                    scope.spawn(move || {
                        let take =
                            |n| leases.take(subnet, None, &format!("{thread}-{n}"), &|_| true).unwrap();
                        (0..20).map(take).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 160);
    }
}
