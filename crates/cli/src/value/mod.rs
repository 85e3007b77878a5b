//! Reads the values of flags into the engine's types: no I/O. Every refusal says what is wanted.

pub(crate) mod cpus;
pub(crate) mod device;
pub(crate) mod env;
pub(crate) mod gpus;
pub(crate) mod keys;
pub(crate) mod label;
pub(crate) mod log;
pub(crate) mod mac;
pub(crate) mod moment;
pub(crate) mod mount;
pub(crate) mod offset;
pub(crate) mod restart;
pub(crate) mod signal;
pub(crate) mod size;
pub(crate) mod stream;
pub(crate) mod tmpfs;
pub(crate) mod ulimit;
pub(crate) mod userns;
pub(crate) mod volume;
pub(crate) mod workdir;
