//! Nodes and links in /dev: the default ones, and `linux.devices`.

use std::ffi::CString;
use std::path::Path;

use nix::sys::stat::SFlag;
use oci::runtime::{LinuxDevice, LinuxDeviceType};
use sys::clone::namespace::USER;

use super::mount::clean;
use super::{Device, Planner, Step, c_string, invalid};
use crate::Error;
use crate::devices::DEFAULT_NODES;

/// Permission bits of a node, unless the spec says otherwise.
const DEFAULT_MODE: u32 = 0o666;

/// Links every container has: target and place (config-linux.md, "Default Devices", "Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

impl Planner<'_> {
    /// Whether /dev is the runtime's to fill: a bind mount there brings its own.
    pub(super) fn sets_up_dev(&self) -> bool {
        !self.spec.mounts().iter().flatten().any(|mount| {
            let words = mount.options().as_deref().unwrap_or_default();
            let bind =
                mount.typ().as_deref() == Some("bind") || words.iter().any(|w| w == "bind" || w == "rbind");
            bind && clean(mount.destination()) == Path::new("/dev")
        })
    }

    pub(super) fn devices(&mut self) -> Result<(), Error> {
        let spec = self.spec;
        let list = spec.linux().as_ref().and_then(|l| l.devices().as_deref()).unwrap_or_default();
        let nodes: Vec<_> = list
            .iter()
            .enumerate()
            .map(|(index, device)| self.device(&format!("linux.devices[{index}]"), device))
            .collect::<Result<_, _>>()?;
        if !self.sets_up_dev() {
            return Ok(());
        }
        for node in DEFAULT_NODES {
            let path = c_string("linux.devices", node.path)?;
            if nodes.iter().all(|given| given.path != path) {
                let step = self.node(path, SFlag::S_IFCHR, DEFAULT_MODE, (node.major, node.minor), (0, 0))?;
                self.steps.push(Step::Device(step));
            }
        }
        // ptmx is a link into the container's devpts, below.
        self.steps.extend(nodes.into_iter().filter(|d| d.path.as_c_str() != c"/dev/ptmx").map(Step::Device));
        self.link("pts/ptmx", "/dev/ptmx", true)?;
        for (to, at) in LINKS {
            self.link(to, at, false)?;
        }
        if self.host.kcore {
            self.link("/proc/kcore", "/dev/core", false)?;
        }
        Ok(())
    }

    fn link(&mut self, to: &str, at: &str, replace: bool) -> Result<(), Error> {
        let step = Step::Link { to: c_string("/dev", to)?, at: c_string("/dev", at)?, replace };
        self.steps.push(step);
        Ok(())
    }

    fn device(&mut self, at: &str, device: &LinuxDevice) -> Result<Device, Error> {
        if !device.path().is_absolute() {
            return Err(invalid(format!("{at}.path"), format!("{:?} is not absolute", device.path())));
        }
        let path = c_string(&format!("{at}.path"), clean(device.path()).as_os_str())?;
        let kind = match device.typ() {
            LinuxDeviceType::B => SFlag::S_IFBLK,
            LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
            LinuxDeviceType::P => SFlag::S_IFIFO,
            LinuxDeviceType::A => return Err(invalid(format!("{at}.type"), "wants b, c, u or p")),
        };
        // 12 and 20 bits in the kernel (linux/kdev_t.h); mknod(2) would cut the rest off.
        let number = |field: &str, value: i64, bits: u32| {
            let fits = u32::try_from(value).ok().filter(|v| v >> bits == 0);
            fits.ok_or_else(|| invalid(format!("{at}.{field}"), format!("{value} is out of range")))
        };
        let number = if kind == SFlag::S_IFIFO {
            (0, 0)
        } else {
            (number("major", device.major(), 12)?, number("minor", device.minor(), 20)?)
        };
        let mode = device.file_mode().map_or(DEFAULT_MODE, |mode| mode & !SFlag::S_IFMT.bits());
        if mode & !0o7777 != 0 {
            return Err(invalid(format!("{at}.fileMode"), format!("{mode:#o} is out of range")));
        }
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        self.node(path, kind, mode, number, owner)
    }

    fn node(
        &mut self,
        path: CString,
        kind: SFlag,
        mode: u32,
        number: (u32, u32),
        owner: (u32, u32),
    ) -> Result<Device, Error> {
        let bind = if self.namespaces.has(USER) || self.host.in_user_namespace {
            let host = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
            Some(self.bind_source("linux.devices", Path::new::<std::ffi::OsStr>(host), false, None)?)
        } else {
            None
        };
        Ok(Device { path, mode: kind.bits() | mode, number, owner, bind })
    }
}
