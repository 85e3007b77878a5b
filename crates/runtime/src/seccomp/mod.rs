//! Seccomp: a profile of the runtime specification compiled to the kernel's filter program.

use crate::Error;
use oci::runtime::{Capability, LinuxSeccomp};

/// A program for seccomp(2), ready to be loaded with [`sys::seccomp::load`].
#[derive(Debug, Clone)]
pub struct Filter {
    /// Classic BPF.
    pub program: Vec<sys::seccomp::Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`, the listener's included.
    pub flags: u32,
    /// The profile notifies: loading gives a descriptor for `listenerPath`.
    pub listener: bool,
}

/// Compiles `profile` for this machine.
///
/// # Errors
/// A profile that makes no sense, named by its place in config.json.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, Error> {
    let _ = profile;
    todo!()
}

/// The profile `rcr run` uses by default: what Docker's default allows to a container with these capabilities.
pub fn default_profile(capabilities: &[Capability]) -> LinuxSeccomp {
    let _ = capabilities;
    todo!()
}
