//! What can go wrong between a user's wish and a container, and the exit code each means.

use std::io;
use std::path::PathBuf;

use runtime::ErrorKind;

/// Why a command of the engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag, or a value in the image's config, cannot be used; the text says which and why.
    #[error("{0}")]
    Invalid(String),
    /// No image of that name or ID is in the store.
    #[error("no such image: {0}")]
    NoSuchImage(String),
    /// No container of that name or ID.
    #[error("no such container: {0}")]
    NoSuchContainer(String),
    /// No volume of that name.
    #[error("no such volume: {0}")]
    NoSuchVolume(String),
    /// `volume rm` of a volume that containers use.
    #[error("remove volume {name}: it is in use by {}; remove them first (rcr rm NAME)", .containers.join(", "))]
    VolumeInUse {
        /// The volume.
        name: String,
        /// Names of the containers.
        containers: Vec<String>,
    },
    /// Neither a container nor an image.
    #[error("no such object: {0}")]
    NoSuchObject(String),
    /// An ID prefix that fits several.
    #[error("{0:?} is the beginning of more than one ID; give more digits")]
    Ambiguous(String),
    /// The name belongs to another container.
    #[error(
        "the name {name:?} is already in use by container {by}; remove it (rcr rm {name}) or take another name"
    )]
    NameInUse {
        /// The name asked for.
        name: String,
        /// Short ID of its owner.
        by: String,
    },
    /// `rm` of a running container without force.
    #[error("cannot remove container {0}: it is running; stop it first or use force (rcr rm -f {0})")]
    Running(String),
    /// Another command is at work on the container.
    #[error("container {0} is being started or removed by another command")]
    Busy(String),
    /// What wants a running container.
    #[error("container {0} is not running; start it first (rcr start {0})")]
    NotRunning(String),
    /// `exec` as a user that the container does not have, or that cannot be; the text says which.
    #[error("{0}")]
    User(String),
    /// Something is asked of a container that a frozen one cannot do.
    #[error("container {0} is paused; let it go on first (rcr unpause {0})")]
    Paused(String),
    /// The process that was to start a container in the background says so.
    #[error("{message}")]
    Detached {
        /// As [`Error::exit_code`] of the error there.
        code: u8,
        /// What it was, causes included.
        message: String,
    },
    /// `rmi` of an image that a container needs.
    #[error(
        "cannot remove image {image}: container {container} uses it; remove that first (rcr rm {container})"
    )]
    ImageInUse {
        /// The image as asked for.
        image: String,
        /// Name of the container.
        container: String,
    },
    /// The command does not exist in the container: exit code 127.
    #[error("{message}")]
    CommandNotFound {
        /// What was not found, on one line.
        message: String,
        /// The runtime's error.
        #[source]
        source: runtime::Error,
    },
    /// The command exists and cannot be executed: exit code 126.
    #[error("{message}")]
    CommandNotExecutable {
        /// What cannot be executed, on one line.
        message: String,
        /// The runtime's error.
        #[source]
        source: runtime::Error,
    },
    /// The pull or the run was interrupted by a signal of this number: exit code 128+N.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    /// A system call of the engine's own.
    #[error("{what}")]
    Io {
        /// The call and the thing, for instance `open "/var/lib/rcr/containers/…"`.
        what: String,
        /// Its errno.
        #[source]
        source: io::Error,
    },
    /// A file of the engine's own that does not hold what it should.
    #[error("{path:?} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not parse.
        #[source]
        source: serde_json::Error,
    },
    /// From the puller.
    #[error(transparent)]
    Pull(#[from] puller::Error),
    /// From the store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// From the network.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The host cannot have a network: rcr is not run by root, or the kernel lacks something.
    #[error(
        "network {network} cannot be made on this host; use its own (--network host) or none (--network none)"
    )]
    NoNetwork {
        /// Name of the network.
        network: String,
        /// What was refused.
        #[source]
        source: network::Error,
    },
    /// A port of the host that is to be published has somebody already.
    #[error("publish {port}: the host's port is in use{by}; take another one (-p)")]
    PortInUse {
        /// The port, with its protocol.
        port: String,
        /// By whom, if that can be told.
        by: String,
    },
    /// From the runtime.
    #[error("{what}")]
    Runtime {
        /// What was asked of it.
        what: String,
        /// Its answer.
        #[source]
        source: runtime::Error,
    },
}

impl Error {
    /// The exit code of `rcr run` that ended with this error: docker's 127, 126, 128+N, and 125 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Detached { code, .. } => *code,
            Self::CommandNotFound { .. } => 127,
            Self::CommandNotExecutable { .. } => 126,
            Self::Pull(puller::Error::Cancelled) => 130,
            Self::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            _ => 125,
        }
    }

    /// The exit code of `rcr exec` that ended with this error: docker's 127 and 126 where the command is to blame, 126
    /// where the process could not be started or its user not found, 1 for all else.
    pub fn exec_exit_code(&self) -> u8 {
        match self {
            Self::CommandNotFound { .. } => 127,
            Self::CommandNotExecutable { .. } | Self::Runtime { .. } | Self::User(_) => 126,
            _ => 1,
        }
    }

    /// What the runtime's refusal to start a `command` means to who typed it; `what` was asked of it.
    pub(crate) fn start(what: &str, command: Option<&String>, source: runtime::Error) -> Self {
        let command = command.map_or("", String::as_str);
        match source.what() {
            ErrorKind::CommandNotFound => Self::CommandNotFound {
                message: format!("command {command:?} not found in the container"),
                source,
            },
            ErrorKind::CommandNotExecutable => Self::CommandNotExecutable {
                message: format!("command {command:?} cannot be executed"),
                source,
            },
            _ => Self::Runtime { what: what.to_owned(), source },
        }
    }

    /// The error of a system call: `what` names the call and the thing.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// An error and its causes on one line. A cause that the text before it ends with already is not said twice.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}
