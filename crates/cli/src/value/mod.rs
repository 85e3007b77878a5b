//! Reads the values of flags: text in, plain data out, no I/O. Every refusal says what is wanted.

pub(crate) mod cpus;
pub(crate) mod env;
pub(crate) mod host_name;
pub(crate) mod size;
pub(crate) mod tmpfs;
pub(crate) mod ulimit;
pub(crate) mod volume;
