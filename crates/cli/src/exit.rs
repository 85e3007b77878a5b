//! Exit codes, all of them: docker's.

use clap::error::ErrorKind;

use crate::error::Error;

/// A reader that went away, as a program that SIGPIPE kills ends: 128 + 13.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// The exit code for an error: `run` keeps 1 to 124 for the container's own, so it has 125 for rcr's, 126 for a
/// command that cannot be executed and 127 for one that does not exist. 128+N after signal N everywhere.
pub(crate) fn code(is_run: bool, error: &Error) -> u8 {
    match error {
        Error::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe => BROKEN_PIPE,
        Error::Interrupted(signal) | Error::Engine(engine::Error::Interrupted(signal)) => {
            signal_code(*signal)
        }
        Error::Engine(error) if is_run => error.exit_code(),
        Error::Exec(error) => error.exec_exit_code(),
        _ if is_run => 125,
        _ => 1,
    }
}

/// The exit code for a command line that cannot be understood: as docker's, 125 for a flag and always for `run`,
/// 1 for a command that does not exist and for too few arguments.
pub(crate) fn usage(is_run: bool, kind: ErrorKind) -> u8 {
    match kind {
        _ if is_run => 125,
        ErrorKind::InvalidSubcommand
        | ErrorKind::MissingSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::TooFewValues => 1,
        _ => 125,
    }
}

/// The exit code after signal N: 128+N.
pub(crate) fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal).ok().and_then(|n| n.checked_add(128)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn errors() {
        let engine = |e| Error::Engine(e);
        for (is_run, error, want) in [
            (true, engine(engine::Error::NoSuchImage("x".into())), 125),
            (false, engine(engine::Error::NoSuchImage("x".into())), 1),
            (true, engine(engine::Error::Interrupted(15)), 143),
            (false, engine(engine::Error::Interrupted(2)), 130),
            (false, Error::Exec(engine::Error::NotRunning("x".into())), 1),
            (true, Error::Interrupted(2), 130),
            (false, Error::Interrupted(1), 129),
            (false, Error::Interrupted(200), 255),
            (true, Error::Usage("x".into()), 125),
            (false, Error::Usage("x".into()), 1),
            (false, Error::Output(io::ErrorKind::BrokenPipe.into()), 141),
            (false, Error::Output(io::ErrorKind::StorageFull.into()), 1),
            (true, Error::Output(io::ErrorKind::StorageFull.into()), 125),
        ] {
            assert_eq!(code(is_run, &error), want, "{is_run} {error:?}");
        }
    }

    #[test]
    fn command_lines() {
        for (is_run, kind, want) in [
            (true, ErrorKind::MissingRequiredArgument, 125),
            (true, ErrorKind::UnknownArgument, 125),
            (false, ErrorKind::MissingRequiredArgument, 1),
            (false, ErrorKind::InvalidSubcommand, 1),
            (false, ErrorKind::TooFewValues, 1),
            (false, ErrorKind::UnknownArgument, 125),
            (false, ErrorKind::ValueValidation, 125),
        ] {
            assert_eq!(usage(is_run, kind), want, "{is_run} {kind:?}");
        }
    }
}
