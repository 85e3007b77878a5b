//! The plan of a launch: every step of it, in order, as values.
//!
//! [`create`], [`exec`] and [`hook`] are pure: spec, host facts and arguments in, plan or refusal out. A spec is valid
//! when it can be planned. `Display` of [`Plan`] is the dry run and the golden files; `Display` of [`Step`] is what an
//! error or the debug log says about it.

mod step;

use oci::runtime::{Hook, Process};

pub use step::{Barrier, Step};

use crate::args::Args;
use crate::host::Host;
use crate::{Error, Spec};

/// What a launch does.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Namespaces to create, `CLONE_NEW*`.
    pub clone_flags: u64,
    /// What an intermediate process does before it clones the real one (CLONE_PARENT); empty: there is none.
    pub trampoline: Vec<Step>,
    /// What the new process does, in order; the last is the execve.
    pub steps: Vec<Step>,
}

/// A running (or created) container that a further process joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its init process, as this process sees it.
    pub pid: i32,
}

/// Plans a container's init process.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`], naming the JSON path of what can't be done.
pub fn create(spec: &Spec, host: &Host, args: &Args) -> Result<Plan, Error> {
    let _ = (spec, host, args);
    Err(Error::new("not there yet"))
}

/// Plans a further `process` in the container that `spec` describes.
///
/// # Errors
/// As [`create`].
pub fn exec(spec: &Spec, process: &Process, target: Target, host: &Host, args: &Args) -> Result<Plan, Error> {
    let _ = (spec, process, target, host, args);
    Err(Error::new("not there yet"))
}

/// Plans a hook that runs in the container's namespaces: a createContainer hook at [`Barrier::ContainerHooks`] (the
/// root is still the host's then), or a startContainer hook at start (the root is the container's).
///
/// # Errors
/// As [`create`].
pub fn hook(spec: &Spec, hook: &Hook, target: Target, host: &Host, args: &Args) -> Result<Plan, Error> {
    let _ = (spec, hook, target, host, args);
    Err(Error::new("not there yet"))
}
