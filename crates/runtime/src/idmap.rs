//! uid_map and gid_map of a user namespace (user_namespaces(7)), written from outside.

use std::process::Command;

use sys::userns;

use crate::Error;
use crate::plan::{IdMaps, Range};

/// Writes the maps of the user namespace that process `pid` is in, as the plan says.
pub(crate) fn apply(pid: i32, maps: &IdMaps) -> Result<(), Error> {
    if maps.deny_setgroups {
        userns::write_file(pid, "setgroups", "deny").map_err(failed)?;
    }
    if maps.helpers {
        run_helper("newuidmap", pid, &maps.map.uid)?;
        return run_helper("newgidmap", pid, &maps.map.gid);
    }
    userns::write(pid, &maps.map).map_err(failed)
}

pub(crate) fn failed(failed: userns::Failed) -> Error {
    Error::new(failed.what).because(failed.source)
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
