//! A block device of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{ok, say};

/// A loop device over a file of random bytes, detached when dropped.
pub struct LoopDevice {
    /// `/dev/loopN`.
    pub path: PathBuf,
}

impl LoopDevice {
    /// One of `size` bytes, whose file is in `dir`.
    pub fn new(dir: &Path, size: usize) -> Self {
        let file = dir.join("disk");
        let random = fs::File::open("/dev/urandom").expect("random bytes");
        let mut random = std::io::Read::take(random, size as u64);
        std::io::copy(&mut random, &mut fs::File::create(&file).expect("writable")).expect("a disk");
        let path = PathBuf::from(ok(Command::new("losetup").args(["--find", "--show"]).arg(&file)));
        Self { path }
    }

    /// Major and minor number.
    pub fn number(&self) -> (u32, u32) {
        let name = self.path.file_name().expect("a name");
        let text = fs::read_to_string(Path::new("/sys/block").join(name).join("dev")).expect("a number");
        let (major, minor) = text.trim().split_once(':').expect("two numbers");
        (major.parse().expect("a number"), minor.parse().expect("a number"))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        say(Command::new("losetup").arg("--detach").arg(&self.path));
    }
}
