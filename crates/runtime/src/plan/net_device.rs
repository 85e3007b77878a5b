//! From `linux.netDevices` to what the parent moves into the container's network namespace.

use sys::clone::namespace;

use super::{Barrier, NetDevice, Planner, Step, invalid};
use crate::Error;

/// Longest name of a network device, in bytes: IFNAMSIZ of linux/if.h, less the NUL.
const NAME_MAX: usize = 15;

/// What the kernel takes for a name (dev_valid_name).
fn is_name(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace() || c == '\x0b';
    !name.is_empty() && name.len() <= NAME_MAX && name != "." && name != ".." && !name.contains(odd)
}

/// A template is a name with one `%d`, for which the kernel's lowest free number comes.
fn is_template(name: &str) -> bool {
    name.contains('%')
}

impl Planner<'_> {
    /// All of `linux.netDevices`, in the order of their names.
    pub(super) fn net_devices(&mut self) -> Result<(), Error> {
        let devices = self.spec.linux().as_ref().and_then(|l| l.net_devices().as_ref());
        let Some(devices) = devices.filter(|devices| !devices.is_empty()) else { return Ok(()) };
        let at = "linux.netDevices";
        if !self.namespaces.has(namespace::NET) {
            return Err(invalid(at, "unable to move network devices without a private NET namespace"));
        }
        if self.host.euid != 0 {
            return Err(invalid(at, "network devices are not supported for rootless containers"));
        }
        let mut devices: Vec<_> = devices.iter().collect();
        devices.sort_by_key(|(name, _)| *name);
        for (name, wanted) in devices {
            let at = format!("{at}.{name}");
            let refuse = |name: &str| invalid(&at, format!("invalid network device name {name:?}"));
            if !is_name(name) || is_template(name) {
                return Err(refuse(name));
            }
            if name == "lo" {
                return Err(invalid(&at, "the loopback device cannot be moved"));
            }
            let new = wanted.name().as_deref().filter(|new| !new.is_empty());
            let Some(new) = new else {
                self.take_net_device(&at, name, None)?;
                continue;
            };
            let one_number = new.matches('%').count() == 1 && new.contains("%d");
            if !is_name(new) || is_template(new) && !one_number {
                return Err(refuse(new));
            }
            self.take_net_device(&at, name, Some(new))?;
        }
        self.steps.push(Step::Barrier(Barrier::NetDevices));
        Ok(())
    }

    fn take_net_device(&mut self, at: &str, name: &str, new: Option<&str>) -> Result<(), Error> {
        let inside = |device: &NetDevice| device.new_name.clone().unwrap_or_else(|| device.name.clone());
        let new_name = new.map(str::to_owned);
        let device = NetDevice { name: name.to_owned(), new_name };
        let twin = self.plan.net_devices.iter().find(|other| inside(other) == inside(&device));
        if let Some(twin) = twin.filter(|_| !is_template(&inside(&device))) {
            let why = format!("{:?} is the name of {:?} in the container too", inside(&device), twin.name);
            return Err(invalid(at, why));
        }
        self.plan.net_devices.push(device);
        Ok(())
    }
}
