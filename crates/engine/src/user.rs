//! Which numbers `USER[:GROUP]` stands for, given the image's passwd and group files.
//!
//! Pure: the files come as bytes and are the image's, hence hostile. A word of digits is always a number, never the
//! name of an entry (CVE-2016-3697), and no number wraps (CVE-2024-40635).

use std::collections::HashSet;

/// Whom the container's process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups, the primary one first: without it in the list a file's permissions for that group could be
    /// circumvented by dropping it (CVE-2022-36109).
    pub(crate) groups: Vec<u32>,
    /// From passwd; `/` without an entry.
    pub(crate) home: String,
}

/// Highest user and group number, as docker and runc have it: 2³¹−1.
const MAX_ID: u32 = i32::MAX as u32;
/// Most supplementary groups the kernel takes (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// A line of passwd that has all we need.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of group.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Finds the user; an empty `wanted` is root.
///
/// # Errors
/// What is wrong with `wanted`, naming the file it was looked for in.
pub(crate) fn resolve(wanted: &str, passwd: &[u8], group: &[u8]) -> Result<User, String> {
    if wanted.chars().any(char::is_control) {
        return Err(format!("invalid user {wanted:?}: it has a control character"));
    }
    let (name, group_name) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (wanted, None),
    };
    let number = number("user", name)?;
    let entry = entries(passwd).find(|e| match number {
        Some(uid) => e.uid == uid,
        None if name.is_empty() => e.uid == 0,
        None => e.name == name,
    });
    let (uid, gid, home) = match (&entry, number) {
        (Some(e), _) => (e.uid, e.gid, e.home),
        (None, Some(uid)) => (uid, 0, "/"),
        (None, None) if name.is_empty() => (0, 0, "/"),
        (None, None) => return Err(format!("no user {name:?} in /etc/passwd of the image")),
    };
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    if let Some(group_name) = group_name {
        let gid = find_group(group_name, group)?;
        return Ok(User { uid, gid, groups: vec![gid], home });
    }
    let mut all = vec![gid];
    if let Some(entry) = entry {
        let of_user = groups(group).filter(|g| g.members.split(',').any(|member| member == entry.name));
        let mut seen = HashSet::from([gid]);
        all.extend(of_user.map(|found| found.gid).filter(|gid| seen.insert(*gid)).take(MAX_GROUPS - 1));
    }
    Ok(User { uid, gid, groups: all, home })
}

impl User {
    /// Adds the groups of `--group-add`.
    ///
    /// # Errors
    /// A name that is not in the image's group file.
    pub(crate) fn join(&mut self, wanted: &[String], group: &[u8]) -> Result<(), String> {
        for name in wanted {
            let gid = find_group(name, group)?;
            if !self.groups.contains(&gid) {
                self.groups.push(gid);
            }
        }
        Ok(())
    }
}

/// The highest id below `limit` that is named; 0 if there is none.
pub(crate) fn highest_id(passwd: &[u8], group: &[u8], limit: u32) -> u32 {
    let users = entries(passwd).flat_map(|entry| [entry.uid, entry.gid]);
    users.chain(groups(group).map(|group| group.gid)).filter(|id| *id < limit).max().unwrap_or(0)
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, String> {
    if let Some(gid) = number("group", name)? {
        return Ok(gid);
    }
    let found = groups(group).find(|g| g.name == name);
    found.map(|g| g.gid).ok_or_else(|| format!("no group {name:?} in /etc/group of the image"))
}

/// A number, if `text` is written as one; `None` if it is a name.
fn number(what: &str, text: &str) -> Result<Option<u32>, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID && digits.len() == text.len() => Ok(Some(id)),
        _ => Err(format!("{what} {text} is out of range: wants 0 to {MAX_ID}")),
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file.split(|&b| b == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

fn entries(passwd: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
        let home = fields.nth(1).unwrap_or("");
        Some(Entry { name, uid, gid, home })
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some(Group { name, gid: id(fields.next()?)?, members: fields.next().unwrap_or("") })
    })
}

/// Lines with a number that no user may ask for are skipped, as if they were not there.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbin:x:1:1:bin:/bin:/sbin/nologin\n\
        alice:x:1000:1001:A:/home/alice:/bin/sh\nnohome:x:7:8::\nshort:x:9:9\nbroken:x:y:z::/:/\nalice:x:5:5::/:/\n";
    const GROUP: &str = "root:x:0:root\nbin:x:1:root,bin\nwheel:x:10:root,alice\nalice:x:1001:alice\nbig:x:4294967295:alice\n";

    fn ids(wanted: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let user = resolve(wanted, PASSWD.as_bytes(), GROUP.as_bytes())?;
        Ok((user.uid, user.gid, user.groups, user.home))
    }

    #[test]
    fn users_and_groups_as_docker_finds_them() {
        let table: &[(&str, u32, u32, &[u32], &str)] = &[
            ("", 0, 0, &[0, 1, 10], "/root"),
            ("root", 0, 0, &[0, 1, 10], "/root"),
            ("0", 0, 0, &[0, 1, 10], "/root"),
            ("alice", 1000, 1001, &[1001, 10], "/home/alice"),
            ("1000", 1000, 1001, &[1001, 10], "/home/alice"),
            ("01000", 1000, 1001, &[1001, 10], "/home/alice"),
            // An explicit group stands alone.
            ("alice:wheel", 1000, 10, &[10], "/home/alice"),
            ("alice:", 1000, 1001, &[1001, 10], "/home/alice"),
            ("1000:5", 1000, 5, &[5], "/home/alice"),
            ("1234", 1234, 0, &[0], "/"),
            ("1234:10", 1234, 10, &[10], "/"),
            (":wheel", 0, 10, &[10], "/root"),
            ("nohome", 7, 8, &[8], "/"),
            ("short", 9, 9, &[9], "/"),
        ];
        for (wanted, uid, gid, groups, home) in table {
            assert_eq!(ids(wanted), Ok((*uid, *gid, groups.to_vec(), (*home).to_owned())), "{wanted:?}");
        }
    }

    /// CVE-2016-3697, CVE-2024-40635, CVE-2026-46680, CVE-2026-30892.
    #[test]
    fn numbers_are_never_names_and_never_wrap() {
        let huge = "9".repeat(36);
        for planted in
            ["2147483648", "-1000", "4294967295", "4294967296", "18446744073709551616", &huge, "+5", "-0"]
        {
            let passwd = format!("{planted}:x:0:0::/:/bin/sh\n{PASSWD}");
            let group = format!("{planted}:x:0:\n{GROUP}");
            for wanted in [planted.to_owned(), format!("405:{planted}"), format!("{planted}:405")] {
                let said = resolve(&wanted, passwd.as_bytes(), group.as_bytes()).unwrap_err();
                assert!(said.contains("out of range"), "{wanted}: {said}");
            }
        }
        let passwd = format!("1000:x:0:0::/:/bin/sh\n{PASSWD}");
        assert_eq!(resolve("1000", passwd.as_bytes(), b"").unwrap().uid, 1000);
        for name in [" 1", "1abc", "nobody", "1 ", "alice "] {
            let said = ids(name).unwrap_err();
            assert!(said.contains("/etc/passwd"), "{said}");
        }
        assert!(ids("alice:nogroup").unwrap_err().contains("/etc/group"));
    }

    #[test]
    fn hostile_files_and_names_change_nothing() {
        assert!(ids("alice\nroot2::0:0").unwrap_err().contains("control character"));
        let noise = b"\xff\xfe:x:0:0::/:/\n::::::\n\0\0\0\nx:y\n";
        assert_eq!(
            resolve("", noise, noise).unwrap(),
            User { uid: 0, gid: 0, groups: vec![0], home: "/".into() }
        );
        let many: String = (0..70_000).map(|n| format!("g{n}:x:{n}:root\n")).collect();
        assert!(
            resolve("root", PASSWD.as_bytes(), &many.as_bytes()[..900_000]).unwrap().groups.len()
                <= MAX_GROUPS
        );
    }
}
