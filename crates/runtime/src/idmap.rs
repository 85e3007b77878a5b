//! uid_map and gid_map of a user namespace (user_namespaces(7)), written from outside.

use std::process::Command;

use crate::Error;
use crate::plan::{IdMap, IdMaps, Range};

/// Writes the maps of the user namespace that process `pid` is in, as the plan says.
pub(crate) fn apply(pid: i32, maps: &IdMaps) -> Result<(), Error> {
    if maps.deny_setgroups {
        write_file(pid, "setgroups", "deny")?;
    }
    if maps.helpers {
        run_helper("newuidmap", pid, &maps.map.uid)?;
        return run_helper("newgidmap", pid, &maps.map.gid);
    }
    write(pid, &maps.map)
}

/// Writes the maps directly.
pub(crate) fn write(pid: i32, map: &IdMap) -> Result<(), Error> {
    write_file(pid, "uid_map", &text(&map.uid))?;
    write_file(pid, "gid_map", &text(&map.gid))
}

fn text(ranges: &[Range]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.size)).collect()
}

fn write_file(pid: i32, name: &str, text: &str) -> Result<(), Error> {
    let path = format!("/proc/{pid}/{name}");
    // One write: the kernel takes the whole map or nothing.
    std::fs::write(&path, text)
        .map_err(|e| Error::new(format!("write {:?} to {path}", text.trim_end())).because(e))
}

fn run_helper(program: &str, pid: i32, ranges: &[Range]) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for range in ranges {
        command.args([range.inside, range.outside, range.size].map(|n| n.to_string()));
    }
    let fail =
        || Error::new(format!("map ids: {program} (package uidmap, ranges in /etc/subuid and /etc/subgid)"));
    let output = command.output().map_err(|e| fail().because(e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(fail().because(format!("{}: {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines_of_three_numbers() {
        let ranges =
            [Range { inside: 0, outside: 1000, size: 1 }, Range { inside: 1, outside: 100_000, size: 65536 }];
        assert_eq!(text(&ranges), "0 1000 1\n1 100000 65536\n");
    }
}
