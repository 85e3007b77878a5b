//! The steps of a plan.

use std::fmt;

/// A point where the new process waits for the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Answered by the launcher: uid_map, gid_map, setgroups.
    IdMap,
    /// The process exists: join it to its cgroups (v1; v2 it is born into) and apply the limits. Comes early, while the
    /// process goes on mounting; the process waits for the answer only where it needs its cgroup.
    Cgroup,
    /// prestart and createRuntime hooks: mounts are made, the root is not entered yet.
    RuntimeHooks,
    /// createContainer hooks: the same moment; run them with [`super::hook`].
    ContainerHooks,
    /// The seccomp listener is to be handed on.
    SeccompFd,
    /// All is set up but the user's identity and the execve: record the state.
    Ready,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Wait for the parent.
    Barrier(Barrier),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Barrier(barrier) => write!(f, "wait for {barrier:?}"),
        }
    }
}
