//! What the child says when it fails: the step, what the step was doing, and the errno, in 8 bytes; behind them what the
//! kernel had to say about a file system's options, if anything.

use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

/// What a step was doing when it failed. The text goes between the step and the errno.
macro_rules! doing {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Doing { $($(#[$doc])* $name,)* }

        impl Doing {
            const ALL: &'static [Doing] = &[$(Doing::$name),*];

            /// How it reads in a message; empty for the step's one call.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Doing::$name => $text,)* }
            }
        }
    };
}

doing! {
    /// Not a failure: the step was reached.
    Reached = "",
    Call = "",
    OpenSource = "open the source",
    OpenTarget = "open the mount point",
    MakeTarget = "make the mount point",
    NotOrdinary = "must be mounted on ordinary directory",
    InsideProc = "the mount point is inside /proc",
    NotProc = "only procfs may be mounted on /proc",
    OverRoot = "the mount point is the root itself",
    Mismatch = "are you trying to mount a directory onto a file (or vice-versa)?",
    NoType = "no such type of file system",
    SetOption = "set an option",
    MakeSuperblock = "make the file system",
    MakeMount = "make the mount",
    SetAttributes = "set the attributes",
    SetRecursive = "set the recursive attributes",
    SetPropagation = "set the propagation",
    Attach = "attach",
    CopyUp = "copy what the mount point holds",
    OpenParent = "open the directory",
    NotNull = "/dev/null is not the null device",
    OpenNull = "open /dev/null",
    ChangeOwner = "change the owner",
    OpenPtmx = "open /dev/pts/ptmx",
    NotPtmx = "/dev/pts/ptmx is not a pseudo terminal multiplexer",
    OpenPeer = "open the other end of the pseudo terminal",
    MakeConsole = "make /dev/console",
    SendTerminal = "send the terminal",
    ControlTerminal = "make it the controlling terminal",
    PivotRoot = "pivot_root",
    LetGo = "unmount the old root",
    SetGroups = "setgroups",
    SetGid = "setgid",
    SetUid = "setuid",
    KeepCaps = "keep the capabilities",
    OpenProc = "open procfs",
    NotProcfs = "this is not procfs",
    WriteOffsets = "write the offsets",
    EnterTime = "enter the time namespace",
    Permissions = "set its permissions",
    Outside = "current working directory is outside of container mount namespace root -- possible container breakout detected",
    ParentGone = "the parent is gone",
    CloneFailed = "clone3",
}

/// Room for the kernel's words; longer ones are cut.
pub(crate) const LOG_MAX: usize = 96;

/// A failed step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fail {
    pub(crate) doing: Doing,
    pub(crate) errno: i32,
    /// What the kernel said, followed by zeros.
    pub(crate) log: [u8; LOG_MAX],
}

impl Fail {
    pub(crate) fn new(doing: Doing, errno: Errno) -> Fail {
        Fail::raw(doing, errno as i32)
    }

    fn raw(doing: Doing, errno: i32) -> Fail {
        Fail { doing, errno, log: [0; LOG_MAX] }
    }

    /// Takes along what the kernel logged about the file system that `fs` configures.
    pub(crate) fn with_log(mut self, fs: BorrowedFd) -> Fail {
        // No data: ENODATA. The buffer stays as it is.
        let _ = nix::unistd::read(fs, &mut self.log);
        self
    }
}

/// Says what a call was for.
pub(crate) trait At<T> {
    fn at(self, doing: Doing) -> Result<T, Fail>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: Doing) -> Result<T, Fail> {
        self.map_err(|e| Fail::raw(doing, e.raw_os_error().unwrap_or(Errno::EIO as i32)))
    }
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, doing: Doing) -> Result<T, Fail> {
        self.map_err(|e| Fail::new(doing, e))
    }
}

/// One message of the child: the step it is about, and a failure or (0) an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) step: u16,
    pub(crate) doing: Doing,
    /// The errno of a failure; a descriptor's number for a seccomp listener that was reached.
    pub(crate) value: i32,
}

impl Message {
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.step.to_ne_bytes());
        bytes[2..4].copy_from_slice(&(self.doing as u16).to_ne_bytes());
        bytes[4..].copy_from_slice(&self.value.to_ne_bytes());
        bytes
    }

    /// `None` for bytes that no child of ours writes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Message> {
        let (step, rest) = bytes.split_first_chunk::<2>()?;
        let (doing, rest) = rest.split_first_chunk::<2>()?;
        let doing = *Doing::ALL.get(usize::from(u16::from_ne_bytes(*doing)))?;
        let value = i32::from_ne_bytes(*rest.first_chunk::<4>()?);
        Some(Message { step: u16::from_ne_bytes(*step), doing, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_socket() {
        for doing in [Doing::Reached, Doing::Attach, Doing::ParentGone] {
            let message = Message { step: 300, doing, value: -7 };
            assert_eq!(Message::from_bytes(&message.to_bytes()), Some(message));
        }
        assert_eq!(Message::from_bytes(&[0; 7]), None);
        assert_eq!(Message::from_bytes(&[0xff; 8]), None);
    }
}
