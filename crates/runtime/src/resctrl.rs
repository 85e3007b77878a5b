//! Groups of the resctrl file system: shares of caches and memory bandwidth (`linux.intelRdt`).
//!
//! Owns the files of one container's group. Which group that is, and what it shall have, is decided by
//! [`crate::plan`]. See the kernel's Documentation/filesystems/resctrl.rst.

mod stats;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

/// Where it is mounted, unless somebody wanted it elsewhere.
const USUAL: &str = "/sys/fs/resctrl";

/// `RDTGROUP_SUPER_MAGIC` of linux/magic.h.
const MAGIC: i64 = 0x0765_5821;

/// The mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resctrl {
    /// Its mount point, which is the default group too.
    pub root: PathBuf,
    /// Shares of the level 3 cache can be given.
    pub l3: bool,
    /// Shares of memory bandwidth can be given.
    pub bandwidth: bool,
}

impl Resctrl {
    /// Looks for it. `None`: hardware or kernel lack it, or nobody has mounted it.
    ///
    /// # Errors
    /// /proc/self/mountinfo cannot be read.
    pub fn detect() -> Result<Option<Resctrl>, Error> {
        let usual = Path::new(USUAL);
        let Ok(stat) = nix::sys::statfs::statfs(usual) else { return Ok(None) };
        if stat.filesystem_type().0 == MAGIC {
            return Ok(Some(Resctrl::at(usual)));
        }
        let path = "/proc/self/mountinfo";
        let text = fs::read_to_string(path).map_err(|e| Error::new(format!("read {path:?}")).because(e))?;
        Ok(mount_point(&text).map(|root| Resctrl::at(&root)))
    }

    /// The one mounted at `root`.
    fn at(root: &Path) -> Resctrl {
        let has = |resource: &str| root.join("info").join(resource).exists();
        Resctrl { l3: has("L3"), bandwidth: has("MB"), root: root.to_owned() }
    }
}

/// Other shares for a group that exists: `update`'s flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shares<'a> {
    /// Of the level 3 cache: a line `L3:…`.
    pub l3: Option<&'a str>,
    /// Of memory bandwidth: a line `MB:…`.
    pub bandwidth: Option<&'a str>,
}

impl Shares<'_> {
    /// Refuses what this host can't give.
    pub(crate) fn check(&self, resctrl: Option<&Resctrl>) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::new(why).kind(ErrorKind::Invalid));
        if self.l3.is_some() && !resctrl.is_some_and(|r| r.l3) {
            return refuse("Intel RDT/CAT: l3 cache schema is not enabled");
        }
        if self.bandwidth.is_some() && !resctrl.is_some_and(|r| r.bandwidth) {
            return refuse("Intel RDT/MBA: memory bandwidth schema is not enabled");
        }
        match self.l3.into_iter().chain(self.bandwidth).find(|line| line.contains(['\n', '\0'])) {
            Some(line) => refuse(&format!("schema {line:?} is more than a line")),
            None => Ok(()),
        }
    }
}

/// The first mount point of a resctrl file system in the text of mountinfo.
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        if !fs.starts_with("resctrl ") {
            return None;
        }
        mount.split(' ').nth(4).map(PathBuf::from)
    })
}

/// The group that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its directory.
    pub dir: PathBuf,
    /// The monitoring group of the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<PathBuf>,
    /// The group is the container's own: made with it, and removed with it.
    pub own: bool,
}

/// How a group is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The group.
    pub group: Group,
    /// The mount point.
    pub root: PathBuf,
    /// Lines for its `schemata`.
    pub schemata: Vec<String>,
    /// Somebody else has made it.
    pub must_exist: bool,
}

impl Entry {
    /// What exists already is not the container's own, and will not be removed with it.
    pub(crate) fn claim(&self) -> Group {
        Group { own: self.group.own && !self.group.dir.exists(), ..self.group.clone() }
    }

    /// Makes the group, if it is to be made, gives it its shares and puts process `pid` into it. `own` is what
    /// [`Entry::claim`] found.
    ///
    /// # Errors
    /// A group that is not there or has other shares than it should; what the kernel refuses, in its own words
    /// (info/last_cmd_status).
    pub(crate) fn enter(&self, own: bool, pid: i32) -> Result<(), Error> {
        let dir = &self.group.dir;
        if self.must_exist && !dir.is_dir() {
            let why = "must be there already when no schemata are given";
            let message = format!("linux.intelRdt.closID: {dir:?} {why}");
            return Err(Error::new(message).kind(ErrorKind::Invalid));
        }
        let made = match fs::create_dir(dir) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !own => false,
            Err(e) => return Err(self.explained(failed_to_make(dir, e))),
        };
        if made {
            self.group.set(&self.schemata).map_err(|e| self.explained(e))?;
        } else {
            self.compare()?;
        }
        self.group.add(pid).map_err(|e| self.explained(e))?;
        if let Some(monitor) = &self.group.monitor {
            fs::create_dir(monitor).map_err(|e| self.explained(failed_to_make(monitor, e)))?;
            write(&monitor.join("tasks"), &pid.to_string()).map_err(|e| self.explained(e))?;
        }
        Ok(())
    }

    /// A group that others use has to have the wanted shares; it is not changed under them.
    fn compare(&self) -> Result<(), Error> {
        let path = self.group.dir.join("schemata");
        let has = fs::read_to_string(&path).map_err(|e| Error::new(format!("read {path:?}")).because(e))?;
        for wanted in &self.schemata {
            if !has.lines().any(|line| covers(line, wanted)) {
                let why = format!("linux.intelRdt: {path:?} exists, and does not say {wanted:?}");
                return Err(Error::new(why).kind(ErrorKind::Invalid));
            }
        }
        Ok(())
    }

    fn explained(&self, error: Error) -> Error {
        let status = fs::read_to_string(self.root.join("info/last_cmd_status")).unwrap_or_default();
        match status.trim() {
            "" | "ok" => error,
            status => Error::new(format!("resctrl says {status:?}")).because(error),
        }
    }
}

impl Group {
    /// Gives the group these shares, a line each: `L3:0=ff;1=f`, `MB:0=50`.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn set(&self, schemata: &[String]) -> Result<(), Error> {
        if schemata.is_empty() {
            return Ok(());
        }
        // In one write: the kernel takes all lines or none after the first that is wrong.
        let text: String = schemata.iter().map(|line| format!("{line}\n")).collect();
        write(&self.dir.join("schemata"), &text)
    }

    /// The group's present shares of the resources that `lines` name.
    pub(crate) fn shares(&self, lines: &[String]) -> Result<Vec<String>, Error> {
        let path = self.dir.join("schemata");
        let has = fs::read_to_string(&path).map_err(|e| Error::new(format!("read {path:?}")).because(e))?;
        let resource = |line: &str| line.split(':').next().unwrap_or_default().trim().to_owned();
        let named = |line: &str| lines.iter().any(|wanted| resource(wanted) == resource(line));
        Ok(has.lines().filter(|line| named(line)).map(|line| line.trim().to_owned()).collect())
    }

    /// Puts a process into the group.
    pub(crate) fn add(&self, pid: i32) -> Result<(), Error> {
        write(&self.dir.join("tasks"), &pid.to_string())
    }

    /// Puts one more process of the container into its groups, if they are still there.
    pub(crate) fn follow(&self, pid: i32) -> Result<(), Error> {
        for dir in [Some(&self.dir), self.monitor.as_ref()].into_iter().flatten().filter(|dir| dir.exists()) {
            write(&dir.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Removes what was made for the container. The monitoring group of a group of its own goes with that.
    ///
    /// # Errors
    /// The kernel's, but for what is gone already.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let Some(dir) = (if self.own { Some(&self.dir) } else { self.monitor.as_ref() }) else {
            return Ok(());
        };
        match fs::remove_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(format!("remove resctrl group {dir:?}")).because(e))
            }
            _ => Ok(()),
        }
    }
}

fn failed_to_make(dir: &Path, why: io::Error) -> Error {
    Error::new(format!("make resctrl group {dir:?}")).because(why)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    // Never made by us: a file that is not there means that this is no group.
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|e| Error::new(format!("write {:?} to {path:?}", text.trim_end())).because(e))
}

/// Whether a line of `schemata` says all that `wanted` says: `  L3:0=00f;1=fff` says `L3:1=fff`.
fn covers(line: &str, wanted: &str) -> bool {
    let parts = |text: &str| -> Option<(String, Vec<(String, u64)>)> {
        let (resource, shares) = text.split_once(':')?;
        let resource = resource.trim();
        let radix = if resource.starts_with("MB") || resource.starts_with("SMBA") { 10 } else { 16 };
        let shares = shares.trim().split(';').map(|share| {
            let (id, value) = share.split_once('=')?;
            Some((id.trim().to_owned(), u64::from_str_radix(value.trim(), radix).ok()?))
        });
        Some((resource.to_owned(), shares.collect::<Option<_>>()?))
    };
    match (parts(line), parts(wanted)) {
        (Some((resource, has)), Some((same, wants))) => {
            resource == same && wants.iter().all(|share| has.contains(share))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory laid out as the kernel lays out a mounted resctrl. Groups do not get their files by themselves.
    fn resctrl() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["info/L3", "mon_groups"] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        group(dir.path());
        dir
    }

    fn group(dir: &Path) {
        fs::create_dir_all(dir.join("mon_groups")).unwrap();
        fs::write(dir.join("tasks"), "").unwrap();
        fs::write(dir.join("schemata"), "    L3:0=00ff;1=0fff\n    MB:0= 50;1=100\n").unwrap();
    }

    fn entry(root: &Path, clos: &str) -> Entry {
        let group = Group { dir: root.join(clos), monitor: None, own: false };
        Entry { group, root: root.to_owned(), schemata: Vec::new(), must_exist: true }
    }

    #[test]
    fn the_file_system_is_found_where_it_is_mounted() {
        let text =
            "22 1 0:21 / /proc rw - proc proc rw\n30 1 0:30 / /mnt/rdt rw shared:1 - resctrl resctrl rw\n";
        assert_eq!(mount_point(text), Some("/mnt/rdt".into()));
        assert_eq!(mount_point("30 1 0:30 / /mnt rw - tmpfs resctrl rw\n"), None);
        let root = resctrl();
        let found = Resctrl::at(root.path());
        assert_eq!((found.l3, found.bandwidth), (true, false));
    }

    #[test]
    fn a_group_of_others_is_entered_and_left_alone() {
        let root = resctrl();
        let mut entry = entry(root.path(), "gold");
        let error = entry.enter(entry.claim().own, 7).unwrap_err();
        assert!(error.to_string().contains("must be there already"), "{error:#}");
        assert!(!root.path().join("gold").exists(), "made and not removed");
        fs::create_dir(root.path().join("gold")).unwrap();
        group(&root.path().join("gold"));
        entry.group.monitor = Some(root.path().join("gold/mon_groups/web"));
        // The kernel would have made its files.
        let error = entry.enter(entry.claim().own, 7).unwrap_err();
        assert!(format!("{error:#}").contains("mon_groups/web/tasks"), "{error:#}");
        assert_eq!(fs::read_to_string(root.path().join("gold/tasks")).unwrap(), "7");
        entry.group.remove().unwrap();
        assert!(!root.path().join("gold/mon_groups/web").exists());
        entry.group.remove().unwrap();
        assert!(root.path().join("gold/tasks").exists());
    }

    #[test]
    fn shares_of_an_existing_group_must_be_the_wanted_ones() {
        let root = resctrl();
        let mut entry = Entry { must_exist: false, ..entry(root.path(), "gold") };
        fs::create_dir(root.path().join("gold")).unwrap();
        group(&root.path().join("gold"));
        entry.schemata = vec!["L3:0=ff".into(), "MB:1=100;0=50".into()];
        entry.enter(entry.claim().own, 7).unwrap();
        for other in ["L3:0=fe", "L3:2=ff", "L2:0=ff", "MB:0=5", "nonsense"] {
            entry.schemata = vec![other.into()];
            let error = entry.enter(entry.claim().own, 7).unwrap_err();
            assert!(error.to_string().contains("does not say"), "{other}: {error:#}");
        }
        let schemata = fs::read_to_string(root.path().join("gold/schemata")).unwrap();
        assert!(schemata.contains("00ff"), "it was changed: {schemata}");
    }

    #[test]
    fn an_own_group_is_made_and_removed() {
        let root = resctrl();
        let mut entry = Entry { must_exist: false, ..entry(root.path(), "web") };
        entry.group.own = true;
        fs::write(root.path().join("info/last_cmd_status"), "no free closids\n").unwrap();
        let error = entry.enter(entry.claim().own, 7).unwrap_err();
        assert!(format!("{error:#}").contains("no free closids"), "{error:#}");
        // Its files are the kernel's: the directory is there, empty, and is taken away.
        assert!(root.path().join("web").exists());
        entry.group.remove().unwrap();
        assert!(!root.path().join("web").exists());
        fs::create_dir(root.path().join("web")).unwrap();
        let error = entry.enter(true, 7).unwrap_err();
        assert!(format!("{error:#}").contains("make resctrl group"), "somebody was quicker: {error:#}");
        assert!(!entry.claim().own, "another's group of that name");
    }

    #[test]
    fn shares_can_be_changed_and_put_back() {
        let root = resctrl();
        let group = Group { dir: root.path().to_owned(), monitor: None, own: false };
        assert_eq!(group.shares(&["MB:1=10".into()]).unwrap(), ["MB:0= 50;1=100"]);
        assert_eq!(group.shares(&["L3:0=f".into(), "L2:0=f".into()]).unwrap(), ["L3:0=00ff;1=0fff"]);
        let found = Resctrl::at(root.path());
        let l3 = Shares { l3: Some("L3:0=f"), bandwidth: None };
        l3.check(Some(&found)).unwrap();
        let none = l3.check(None).unwrap_err().to_string();
        assert_eq!(none, "Intel RDT/CAT: l3 cache schema is not enabled");
        let bandwidth = Shares { l3: None, bandwidth: Some("MB:0=10") };
        let lacks = bandwidth.check(Some(&found)).unwrap_err().to_string();
        assert_eq!(lacks, "Intel RDT/MBA: memory bandwidth schema is not enabled");
        let two = Shares { l3: Some("L3:0=f\nMB:0=1"), bandwidth: None };
        assert!(two.check(Some(&found)).is_err());
    }

    #[test]
    fn the_default_group_is_the_root() {
        let root = resctrl();
        let entry = entry(root.path(), "");
        entry.enter(false, 9).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("tasks")).unwrap(), "9");
        entry.group.follow(10).unwrap();
        // A file of the kernel's adds, this one is overwritten from its start.
        assert_eq!(fs::read_to_string(root.path().join("tasks")).unwrap(), "10");
        entry.group.remove().unwrap();
        entry.group.set(&["L3:0=f".into()]).unwrap();
        assert!(fs::read_to_string(root.path().join("schemata")).unwrap().starts_with("L3:0=f\n"));
    }
}
