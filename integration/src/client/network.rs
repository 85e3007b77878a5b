//! A network for an engine that makes bridges and firewall rules, so that the host's stay as they are.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use crate::world::ok;

/// A network namespace with loopback up. It lasts as long as the value or a process in it.
pub struct Network {
    descriptor: File,
}

impl Network {
    /// Makes one.
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root");
            File::open("/proc/thread-self/ns/net").expect("its own namespace")
        };
        // The namespace is a thread's, so a thread that ends is all that ever was in it.
        let network = Self { descriptor: std::thread::spawn(make).join().expect("no panic") };
        ok(network.command("ip").args(["link", "set", "lo", "up"]));
        network
    }

    /// That of this thread.
    pub fn here() -> Self {
        Self { descriptor: File::open("/proc/thread-self/ns/net").expect("its own namespace") }
    }

    /// This thread goes there, and what it starts.
    pub fn enter(&self) {
        setns(self.descriptor.as_fd(), CloneFlags::CLONE_NEWNET).expect("root");
    }

    /// `program` in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd());
        command.arg(format!("--net={path}")).arg("--").arg(program);
        command
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}
