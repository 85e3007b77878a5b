//! Moving network devices of the host into a container's network namespace (`linux.netDevices`).
//!
//! What a device is stays (address, MTU, queues); its permanent global addresses are put back, because the kernel drops
//! them on the way. A namespace's end is not watched: then physical devices return to the host and virtual ones vanish,
//! as the specification wants it (config-linux.md, "Namespace Lifecycle and Container Termination").

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use sys::rtnetlink::{Link, Netlink};

use crate::Error;
use crate::plan::NetDevice;

/// How many numbers are tried for a name with `%d`.
const NUMBERS: u32 = 4096;

/// One network namespace, and a socket in it.
struct Side {
    namespace: File,
    netlink: Netlink,
}

/// Devices that were moved. [`Moved::undo`] brings them home; without it they stay.
pub(crate) struct Moved {
    home: Side,
    away: Side,
    devices: Vec<(Link, String)>,
}

impl Moved {
    /// Moves `devices` into the network namespace of process `pid`. On error none has moved.
    ///
    /// # Errors
    /// No such device, the loopback device, one that cannot leave its namespace, a name that is taken.
    pub(crate) fn into_namespace_of(pid: i32, devices: &[NetDevice]) -> Result<Moved, Error> {
        let fail = |e: std::io::Error| Error::new("open the container's network namespace").because(e);
        let own = File::open("/proc/self/ns/net").map_err(fail)?;
        let other = File::open(format!("/proc/{pid}/ns/net")).map_err(fail)?;
        let home = Side { netlink: Netlink::open().map_err(fail)?, namespace: own };
        let netlink = Netlink::open_in(other.as_fd()).map_err(fail)?;
        let mut moved = Moved { home, away: Side { netlink, namespace: other }, devices: Vec::new() };
        for device in devices {
            if let Err(e) = moved.take(device) {
                moved.undo();
                return Err(Error::new(format!("linux.netDevices.{}", device.name)).because(e));
            }
        }
        Ok(moved)
    }

    fn take(&mut self, device: &NetDevice) -> Result<(), Error> {
        let link = self
            .home
            .netlink
            .link(&device.name)
            .map_err(|e| Error::new("find the network device").because(e))?;
        if link.loopback {
            return Err(Error::new("the loopback device cannot be moved"));
        }
        let name = match &device.new_name {
            Some(name) => numbered(&self.away.netlink, name)?,
            // Found by an alternative name, which goes with it.
            None => link.name.clone(),
        };
        // Asked before the device is switched off for the move.
        if self.away.netlink.link(&name).is_ok() {
            let why = format!("{name:?} exists in the container's network namespace");
            return Err(Error::new(why));
        }
        let up = link.up;
        relocate(&self.home, &self.away, &link, &name, true, &mut |link| {
            self.devices.push((link, name.clone()));
        })
        .inspect_err(|_| {
            // Not moved: as it was.
            if up {
                let _ = self.home.netlink.set_up(link.index, true);
            }
        })
    }

    /// Brings the devices home, as far as that is possible: something else has failed, and that is what is told.
    pub(crate) fn undo(&mut self) {
        for (before, name) in std::mem::take(&mut self.devices).into_iter().rev() {
            if let Ok(link) = self.away.netlink.link(&name) {
                let _ = relocate(&self.away, &self.home, &link, &before.name, before.up, &mut |_| ());
            }
        }
    }
}

/// `name` with its `%d` replaced by the lowest number that is free.
fn numbered(netlink: &Netlink, name: &str) -> Result<String, Error> {
    if !name.contains("%d") {
        return Ok(name.to_owned());
    }
    (0..NUMBERS)
        .map(|number| name.replace("%d", &number.to_string()))
        .find(|name| netlink.link(name).is_err_and(|e| e.raw_os_error() == Some(Errno::ENODEV as i32)))
        .ok_or_else(|| Error::new(format!("no number is free for {name:?}")))
}

/// Moves one device from one side to the other; `moved` is told between the move and what follows it.
fn relocate(
    from: &Side,
    to: &Side,
    link: &Link,
    name: &str,
    up: bool,
    moved: &mut dyn FnMut(Link),
) -> Result<(), Error> {
    let fail = |what: &'static str| move |e: std::io::Error| Error::new(what).because(e);
    // Before it is switched off, which takes it its IPv6 addresses.
    let addresses = from.netlink.addresses(link.index).map_err(fail("read the device's addresses"))?;
    from.netlink.set_up(link.index, false).map_err(fail("switch the device off"))?;
    from.netlink
        .move_link(link.index, name, to.namespace.as_fd())
        .map_err(|e| Error::new(format!("move the device to the container as {name:?}")).because(e))?;
    moved(link.clone());
    let there = to.netlink.link(name).map_err(fail("find the device in the container"))?;
    for address in addresses.iter().filter(|address| address.is_permanent_and_global()) {
        to.netlink
            .add_address(there.index, address)
            .map_err(fail("give the device its addresses in the container"))?;
    }
    if up {
        to.netlink.set_up(there.index, true).map_err(fail("switch the device on in the container"))?;
    }
    Ok(())
}
