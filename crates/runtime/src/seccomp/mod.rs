//! Seccomp: a profile of the runtime specification compiled to the kernel's filter program.
//!
//! Own compiler, so that the binary needs no libseccomp; [`sys::seccomp::load`] loads what comes out. Which
//! process gets it, and when, is the plan's.

mod abi;
mod assemble;
mod default;
#[cfg(test)]
mod evaluate;
mod rules;
#[cfg(test)]
mod tests;

pub use default::default_profile;

use crate::{Error, ErrorKind};
use abi::Abi;
use oci::runtime::{Arch, LinuxSeccomp, LinuxSeccompFilterFlag};
use sys::seccomp::flag;

/// The kernel's limit for one program (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

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
/// Architectures of other machines in it mean nothing here; this machine's own is always included.
///
/// # Errors
/// A profile that makes no sense, named by its place in config.json.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, Error> {
    compile_for(std::env::consts::ARCH, profile)
}

fn compile_for(cpu: &str, profile: &LinuxSeccomp) -> Result<Filter, Error> {
    let family = abi::family(cpu);
    let Some(native) = family.first() else {
        return Err(Error::new(format!("linux.seccomp: no table of the system calls of {cpu}")));
    };
    let wanted = |abi: &&Abi| {
        abi.arch == native.arch || profile.architectures().iter().flatten().any(|arch| *arch == abi.arch)
    };
    let rules = rules::Rules::new(profile)?;
    let program = assemble::program(&rules, &family.iter().filter(wanted).collect::<Vec<_>>());
    if program.len() > MAX_INSTRUCTIONS {
        let why = format!(
            "linux.seccomp: {} instructions, the kernel takes {MAX_INSTRUCTIONS}: drop architectures or conditions",
            program.len()
        );
        return Err(Error::new(why).kind(ErrorKind::Invalid));
    }
    Ok(Filter { program, flags: flags(profile, rules.notify), listener: rules.notify })
}

fn flags(profile: &LinuxSeccomp, listener: bool) -> u32 {
    let mut flags = if listener { flag::NEW_LISTENER } else { 0 };
    // Without any flags, not even an empty list, runc and crun leave speculation as it is.
    let Some(wanted) = profile.flags() else { return flags | flag::SPEC_ALLOW };
    for wanted in wanted {
        flags |= match wanted {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => flag::LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => flag::SPEC_ALLOW,
            // Means something to a listener only, and the kernel refuses it without one.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if listener => flag::WAIT_KILLABLE_RECV,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            // The process that loads the filter has one thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        };
    }
    flags
}

/// Architectures whose system calls this machine has.
pub(crate) fn known_architectures() -> impl Iterator<Item = Arch> {
    abi::family(std::env::consts::ARCH).iter().map(|abi| abi.arch)
}
