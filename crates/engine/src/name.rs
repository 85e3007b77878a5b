//! Names and IDs of containers: made up, claimed, looked up.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::{Duration, Instant};

use runtime::lifecycle;

use crate::lock::Lock;
use crate::mount::is_name;
use crate::record::{Exit, Record};
use crate::{Engine, Error};

/// How long one may take to go whose name is wanted.
const PATIENCE: Duration = Duration::from_secs(1);

/// A new ID: 64 hex digits, as docker has them.
pub(crate) fn new_id() -> Result<String, Error> {
    let mut bytes = [0u8; 32];
    random(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(64), |id, byte| id + &format!("{byte:02x}")))
}

/// How an ID is shown.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Claims `wanted`, or a name that is made up, for container `id`.
pub(crate) fn claim(engine: &Engine, wanted: Option<&str>, id: &str) -> Result<String, Error> {
    if let Some(name) = wanted {
        if !is_name(name) || name.len() < 2 {
            return Err(Error::Invalid(format!(
                "invalid container name {name:?}: wants [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most 255 characters"
            )));
        }
        let until = Instant::now() + PATIENCE;
        while !link(engine, name, id)? {
            let by = owner(engine, name).unwrap_or_default();
            match ids(engine)?.into_iter().find(|id| !by.is_empty() && id.starts_with(&by)) {
                Some(owner) if owner == id => break,
                Some(owner) if is_going(engine, &owner) && Instant::now() < until => {
                    sleep(Duration::from_millis(2));
                }
                // A container whose removal was cut short.
                None if !by.is_empty() => crate::place::remove_file(&engine.names().join(name))?,
                _ => return Err(Error::NameInUse { name: name.to_owned(), by: short(&by).to_owned() }),
            }
        }
        return Ok(name.to_owned());
    }
    let mut tries = 0u32;
    loop {
        let mut bytes = [0u8; 2];
        random(&mut bytes)?;
        let mut name = format!("{}_{}", pick(&ADJECTIVES, bytes[0]), pick(&THINGS, bytes[1]));
        if tries > 8 {
            name += short(id);
        }
        if link(engine, &name, id)? {
            return Ok(name);
        }
        tries += 1;
    }
}

/// Whether somebody is at a container that has no process: it starts now, or is removed, and then its name is free.
fn is_going(engine: &Engine, id: &str) -> bool {
    Lock::is_held(engine, id)
        && lifecycle::init(&engine.states(), id).is_err()
        && !matches!(Exit::read(&engine.container(id)), Ok(Some(exit)) if exit.restarting)
}

/// Gives a name back, if `id` has it.
pub(crate) fn release(engine: &Engine, name: &str, id: &str) -> Result<(), Error> {
    if is_name(name) && owner(engine, name).is_some_and(|owner| id.starts_with(&owner)) {
        crate::place::remove_file(&engine.names().join(name))?;
    }
    Ok(())
}

/// Gives every name of `id` back: for a container that was killed before it had a record.
pub(crate) fn release_all(engine: &Engine, id: &str) -> Result<(), Error> {
    release_but(engine, "", id)
}

/// Gives every name of `id` back but one.
pub(crate) fn release_but(engine: &Engine, kept: &str, id: &str) -> Result<(), Error> {
    let dir = engine.names();
    for entry in fs::read_dir(&dir).map_err(Error::io(format!("list {dir:?}")))?.flatten() {
        let name = entry.file_name();
        if name != kept {
            release(engine, &name.to_string_lossy(), id)?;
        }
    }
    Ok(())
}

/// ID of the container that has this name, this ID, or an ID that begins so.
pub(crate) fn resolve(engine: &Engine, wanted: &str) -> Result<String, Error> {
    let none = || Error::NoSuchContainer(wanted.chars().take(300).collect());
    let named = if is_name(wanted) { owner(engine, wanted) } else { None };
    let start = named.as_deref().unwrap_or(wanted);
    if !is_hex(start) {
        return Err(none());
    }
    let mut found = ids(engine)?.into_iter().filter(|id| id.starts_with(start));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Error::Ambiguous(wanted.to_owned())),
        (None, _) => Err(none()),
    }
}

/// All containers, those that are just being made too.
pub(crate) fn ids(engine: &Engine) -> Result<Vec<String>, Error> {
    let dir = engine.containers();
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(Error::io(format!("list {dir:?}")))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| is_id(name)).collect())
}

/// All containers that exist.
pub(crate) fn records(engine: &Engine) -> Result<Vec<Record>, Error> {
    let read = |id: String| Record::read(&engine.container(&id)).transpose();
    ids(engine)?.into_iter().filter_map(read).collect()
}

/// Could it be an ID?
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// How much of the ID the link of a name holds: ext4 keeps up to 59 bytes in the inode and wants a block for more.
const LINKED: usize = 48;

/// Beginning of the ID of the container that has claimed `name`.
fn owner(engine: &Engine, name: &str) -> Option<String> {
    let id = fs::read_link(engine.names().join(name)).ok()?.into_os_string().into_string().ok()?;
    (id.len() == LINKED && is_hex(&id)).then_some(id)
}

/// Makes the link; `false` if the name is taken.
fn link(engine: &Engine, name: &str, id: &str) -> Result<bool, Error> {
    let path = engine.names().join(name);
    match symlink(&id[..LINKED], &path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io(format!("link {path:?}"))(e)),
    }
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes));
    read.map_err(Error::io("read \"/dev/urandom\""))
}

fn pick(words: &[&'static str; 48], random: u8) -> &'static str {
    words[usize::from(random) % words.len()]
}

const ADJECTIVES: [&str; 48] = [
    "amber", "bold", "brave", "bright", "brisk", "calm", "clever", "cosy", "crisp", "curious", "dapper",
    "deft", "eager", "early", "fair", "fleet", "fond", "frank", "gentle", "glad", "golden", "grand", "happy",
    "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry",
    "mild", "modest", "neat", "nimble", "noble", "patient", "plucky", "proud", "quick", "quiet", "sharp",
    "steady", "sunny", "witty",
];

const THINGS: [&str; 48] = [
    "acorn", "anchor", "badger", "beacon", "birch", "bison", "cedar", "cobalt", "comet", "condor", "coral",
    "crane", "dolphin", "ember", "falcon", "fern", "finch", "fjord", "flint", "fox", "glacier", "harbour",
    "hazel", "heron", "island", "jasper", "juniper", "kestrel", "lagoon", "lantern", "larch", "lynx",
    "maple", "marlin", "meadow", "nebula", "oak", "orca", "otter", "pebble", "pine", "puffin", "quartz",
    "raven", "river", "sparrow", "tundra", "willow",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> (tempfile::TempDir, Engine) {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine { root: dir.path().join("root"), runroot: dir.path().join("run") };
        engine.make_places().unwrap();
        (dir, engine)
    }

    #[test]
    fn a_name_has_one_owner() {
        let (_dir, engine) = engine();
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        assert!(is_id(&a) && a != b);
        std::fs::create_dir(engine.container(&a)).unwrap();
        assert_eq!(claim(&engine, Some("web"), &a).unwrap(), "web");
        let said = claim(&engine, Some("web"), &b).unwrap_err().to_string();
        assert!(said.contains("\"web\" is already in use") && said.contains(short(&a)), "{said}");
        release(&engine, "web", &b).unwrap();
        assert_eq!(resolve(&engine, "web").unwrap(), a);
        release(&engine, "web", &a).unwrap();
        assert_eq!(claim(&engine, Some("web"), &b).unwrap(), "web");
        let made = claim(&engine, None, &a).unwrap();
        assert_eq!(resolve(&engine, &made).unwrap(), a);
    }

    #[test]
    fn the_name_of_one_that_is_just_being_removed_is_waited_for() {
        let (_dir, engine) = engine();
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        std::fs::create_dir(engine.container(&a)).unwrap();
        claim(&engine, Some("web"), &a).unwrap();
        // As another process's, because only such a lock is seen by the one that holds it.
        let lock = Lock::try_take_with_children(&engine, &a).unwrap().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_millis(50));
                release(&engine, "web", &a).unwrap();
            });
            assert_eq!(claim(&engine, Some("web"), &b).unwrap(), "web");
        });
        lock.finish().unwrap();
    }

    #[test]
    fn names_are_never_paths() {
        let (dir, engine) = engine();
        std::fs::write(dir.path().join("marker"), "x").unwrap();
        let id = new_id().unwrap();
        for bad in ["", ".", "..", "../x", "/etc", "a/b", "a\0b", "-x", "a", "a b", "a\n", &"x".repeat(4096)]
        {
            let said = claim(&engine, Some(bad), &id).unwrap_err().to_string();
            assert!(said.contains("invalid container name"), "{said}");
            assert!(matches!(resolve(&engine, bad), Err(Error::NoSuchContainer(_))), "{bad:?}");
            release(&engine, bad, &id).unwrap();
        }
        assert_eq!(std::fs::read_dir(engine.names()).unwrap().count(), 0);
        assert!(dir.path().join("marker").exists());
    }

    #[test]
    fn beginnings_of_ids_find_one_container() {
        let (_dir, engine) = engine();
        let (a, b) = ("ab".repeat(32), format!("ac{}", "0".repeat(62)));
        for id in [&a, &b] {
            std::fs::create_dir(engine.container(id)).unwrap();
        }
        assert_eq!(resolve(&engine, "ab").unwrap(), a);
        assert_eq!(resolve(&engine, &b).unwrap(), b);
        assert!(matches!(resolve(&engine, "a"), Err(Error::Ambiguous(_))));
        assert!(matches!(resolve(&engine, "ad"), Err(Error::NoSuchContainer(_))));
    }
}
