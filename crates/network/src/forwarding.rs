//! Forwarding between the host's links, which NAT needs and hosts have switched off.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Error;

/// Switches forwarding on for IPv4, and for IPv6 if it is wanted; tells what was off.
///
/// An IPv6 router ignores router advertisements, so that the host itself would lose its default route: links that
/// listen to them are told to go on.
///
/// # Errors
/// A file of /proc/sys cannot be written.
pub fn switch_on(ipv6: bool) -> Result<Vec<&'static str>, Error> {
    let mut switched = Vec::new();
    if switch(Path::new("/proc/sys/net/ipv4/ip_forward"))? {
        switched.push("net.ipv4.ip_forward");
    }
    let six = Path::new("/proc/sys/net/ipv6/conf/all/forwarding");
    if ipv6 && six.exists() && read(six)? != "1" {
        for link in listening("/proc/sys/net/ipv6/conf")? {
            write(&link, "2")?;
        }
        switch(six)?;
        switched.push("net.ipv6.conf.all.forwarding");
    }
    Ok(switched)
}

/// The accept_ra files that say 1: accept router advertisements unless forwarding.
fn listening(conf: &str) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(conf).map_err(Error::io(format!("list {conf:?}")))?;
    let files = entries.flatten().map(|entry| entry.path().join("accept_ra"));
    Ok(files.filter(|file| read(file).is_ok_and(|value| value == "1")).collect())
}

fn switch(path: &Path) -> Result<bool, Error> {
    if read(path)? == "1" {
        return Ok(false);
    }
    write(path, "1").map(|()| true)
}

fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(Error::io(format!("read {path:?}")))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a file of /proc/sys.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).or_else(|e| match e.kind() {
        // A read-only /proc/sys that says what is wanted already is good enough.
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
            if read(path).is_ok_and(|now| now == value) =>
        {
            Ok(())
        }
        _ => Err(Error::io(format!("write {value:?} to {path:?}"))(e)),
    })
}
