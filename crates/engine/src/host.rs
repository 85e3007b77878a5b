//! What the engine needs to know of the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::libc;
use oci::runtime::{LinuxDevice, LinuxDeviceType};

use crate::Error;

/// The caller's bounding set as a mask: no container can get more.
pub(crate) fn bounding_capabilities() -> Result<u64, Error> {
    let status = fs::read_to_string("/proc/self/status").map_err(Error::io("read \"/proc/self/status\""))?;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| Error::Invalid("read \"/proc/self/status\": no CapBnd".to_owned()))
}

/// The host's own name, as network mode `host` shows it in the container too.
pub(crate) fn nodename() -> String {
    let name = nix::sys::utsname::uname().ok().map(|uts| uts.nodename().to_string_lossy().into_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// Release of the running kernel.
pub(crate) fn kernel() -> String {
    let release = nix::sys::utsname::uname().map(|uts| uts.release().to_string_lossy().into_owned());
    release.unwrap_or_default()
}

/// Its first two numbers.
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = kernel();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A file of the host's /etc; empty if there is none.
pub(crate) fn etc(name: &str) -> String {
    fs::read(Path::new("/etc").join(name))
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default()
}

/// The host's resolv.conf, for a container with this network. Where the host asks systemd-resolved on loopback, which only
/// the host reaches, it is the one with the servers that systemd-resolved asks.
pub(crate) fn resolv_conf(mode: &network::Mode) -> String {
    let own = etc("resolv.conf");
    if *mode != network::Mode::Host && network::names_loopback_only(&own) {
        return fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(own);
    }
    own
}

/// What a privileged container sees below /dev: every device of the host, but for those that each container has of its
/// own (docker's list).
pub(crate) fn devices() -> Vec<LinuxDevice> {
    let mut found = Vec::new();
    list_devices(Path::new("/dev"), 0, &mut found);
    found.sort_by(|a, b| a.path().cmp(b.path()));
    found
}

/// Directories and files of /dev that are the container's own.
const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
/// How deep /dev is looked through.
const DEPTH: usize = 8;

fn list_devices(dir: &Path, depth: usize, found: &mut Vec<LinuxDevice>) {
    // A directory that cannot be read has nothing to offer.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(stat)) = (entry.path(), entry.metadata()) else { continue };
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        let kind = stat.file_type();
        if kind.is_dir() && depth < DEPTH {
            list_devices(&path, depth + 1, found);
        }
        found.extend(device(path, &stat));
    }
}

/// What `--device` names: a device, or a directory with all devices in it, under the paths they get in the container.
pub(crate) fn devices_at(source: &Path, target: &Path) -> Result<Vec<LinuxDevice>, Error> {
    let stat = fs::metadata(source).map_err(Error::io(format!("--device {source:?}")))?;
    let mut found = Vec::new();
    if stat.is_dir() {
        list_devices(source, 0, &mut found);
        for device in &mut found {
            let below = device.path().strip_prefix(source).map(|rest| target.join(rest));
            device.set_path(below.unwrap_or_default());
        }
    } else {
        found.extend(device(target.to_owned(), &stat));
    }
    match found.is_empty() {
        true => Err(Error::Invalid(format!("--device {}: it is no device", source.display()))),
        false => Ok(found),
    }
}

/// `None`: it is something else.
fn device(path: PathBuf, stat: &fs::Metadata) -> Option<LinuxDevice> {
    let kind = stat.file_type();
    let kind = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => LinuxDeviceType::C,
        (_, true) => LinuxDeviceType::B,
        _ => return None,
    };
    let number = |n: u32| i64::from(n);
    let mut device = LinuxDevice::default();
    device
        .set_path(path)
        .set_typ(kind)
        .set_major(number(libc::major(stat.rdev())))
        .set_minor(number(libc::minor(stat.rdev())))
        .set_file_mode(Some(stat.mode() & 0o7777))
        .set_uid(Some(stat.uid()))
        .set_gid(Some(stat.gid()));
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_null_is_among_its_devices() {
        let devices = devices();
        let null = devices.iter().find(|d| d.path() == Path::new("/dev/null")).unwrap();
        assert_eq!((null.major(), null.minor(), null.typ()), (1, 3, LinuxDeviceType::C));
        assert!(!devices.iter().any(|d| d.path().starts_with("/dev/pts")));
        assert!(bounding_capabilities().is_ok());
    }
}
