//! Running hooks: programs of the configuration that are told the container's state at a moment of its life.
//!
//! When which hooks run is the lifecycle's business; here is how one runs: state on standard input, a time limit,
//! its output kept for the error message. createContainer and startContainer hooks run in the container's
//! namespaces and are started by the launcher, all others by this process (runtime-spec, config.md, "POSIX-platform
//! Hooks").

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci::runtime::Hook;
use serde::Serialize;
use sys::wait::Ended;

use crate::error::reason;
use crate::{Error, Status, Stdio, seal};

/// Longest piece of a hook's output that an error quotes, in bytes.
const MAX_OUTPUT: u64 = 8 << 10;

/// The state as hooks read it (runtime-spec, runtime.md, "State").
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HookState<'a> {
    #[serde(rename = "ociVersion")]
    pub(crate) oci_version: &'a str,
    pub(crate) id: &'a str,
    pub(crate) status: Status,
    /// As the namespace the hook runs in sees it; left out when there is no process any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<i32>,
    pub(crate) bundle: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: &'a BTreeMap<String, String>,
}

/// Runs `hooks` in order, in this process's own namespaces; the first failure ends it.
///
/// # Errors
/// A hook that cannot be started, fails, or takes longer than its timeout; its output is quoted.
pub(crate) fn run_here(kind: &str, hooks: &[Hook], state: &HookState<'_>) -> Result<(), Error> {
    run_each(kind, hooks, state, &mut |hook, stdio| {
        let mut command = Command::new(hook.path());
        if let Some((name, args)) = hook.args().as_deref().and_then(<[String]>::split_first) {
            command.arg0(name).args(args);
        }
        command.env_remove(seal::MARK);
        if let Some(env) = hook.env() {
            // Like every pair of environ(7), one without `=` is handed on by nobody: it names no value.
            command.env_clear().envs(env.iter().filter_map(|pair| pair.split_once('=')));
        }
        if let Some(stdin) = stdio.stdin {
            command.stdin(stdin);
        }
        if let (Some(stdout), Some(stderr)) = (stdio.stdout, stdio.stderr) {
            command.stdout(stdout).stderr(stderr);
        }
        let start = || -> std::io::Result<OwnedFd> {
            let child = command.spawn()?;
            let pid = i32::try_from(child.id()).map_err(|_| Errno::ERANGE)?;
            // Nobody has waited for the child, so the number is still its own.
            sys::pidfd::open(pid)
        };
        let mut start = start;
        start().map_err(|e| Error::new(format!("start {:?}", hook.path())).because(e))
    })
}

/// Runs `hooks` in order, each started by `launch`, which returns its pidfd; the first failure ends it.
///
/// # Errors
/// As [`run_here`].
pub(crate) fn run_each(
    kind: &str,
    hooks: &[Hook],
    state: &HookState<'_>,
    launch: &mut dyn FnMut(&Hook, Stdio) -> Result<OwnedFd, Error>,
) -> Result<(), Error> {
    for (number, hook) in hooks.iter().enumerate() {
        run(hook, state, launch)
            .map_err(|e| Error::new(format!("error running {kind} hook #{number}")).because(e))?;
    }
    Ok(())
}

fn run(
    hook: &Hook,
    state: &HookState<'_>,
    launch: &mut dyn FnMut(&Hook, Stdio) -> Result<OwnedFd, Error>,
) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::new("memfd for a hook").because(e);
    // Files in memory, not pipes: a hook that never reads its state, or leaves a daemon holding its output, cannot
    // make the runtime hang.
    let mut input = memory_file().map_err(failed)?;
    let json = serde_json::to_vec(state).map_err(|e| Error::new("write the state for a hook").because(e))?;
    input.write_all(&json).and_then(|()| input.seek(SeekFrom::Start(0))).map_err(failed)?;
    let mut output = memory_file().map_err(failed)?;
    let stdio = Stdio {
        stdin: Some(input.into()),
        stdout: Some(output.try_clone().map_err(failed)?.into()),
        stderr: Some(output.try_clone().map_err(failed)?.into()),
    };
    let pidfd = launch(hook, stdio)?;
    let timeout = hook.timeout().map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0)));
    let in_time = wait_until_dead(pidfd.as_fd(), timeout)?;
    if !in_time {
        // It may have ended just now; then there is nothing left to kill.
        let _ = sys::pidfd::signal(pidfd.as_fd(), nix::libc::SIGKILL);
    }
    let ended = sys::wait::wait(pidfd.as_fd()).map_err(|e| Error::new("wait for a hook").because(e))?;
    if let (false, Some(timeout)) = (in_time, timeout) {
        let seconds = timeout.as_secs_f64();
        return Err(Error::new(format!(
            "{:?}: hook ran past specified timeout of {seconds:.1}s",
            hook.path()
        )));
    }
    let how = match ended {
        Ended::Exited(0) => return Ok(()),
        Ended::Exited(code) => format!("exit status {code}"),
        Ended::Killed(signal) => format!("signal: {}", sys::wait::signal_text(signal)),
    };
    Err(Error::new(format!("{:?}: {how}, output: {:?}", hook.path(), printed(&mut output))))
}

fn memory_file() -> std::io::Result<File> {
    Ok(memfd_create(c"hook", MFdFlags::MFD_CLOEXEC)?.into())
}

/// Waits until the process ends; false when `timeout` passes first.
fn wait_until_dead(pidfd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<bool, Error> {
    let end = timeout.map(|t| Instant::now() + t);
    loop {
        let left = match end {
            None => PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                // Rounded up, so that the last round does not spin; longer than poll can count is done in rounds.
                PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], left) {
            Ok(0) if end.is_some_and(|end| Instant::now() >= end) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(Error::new("wait for a hook").because(e)),
        }
    }
}

/// What the hook printed.
fn printed(output: &mut File) -> String {
    let mut text = Vec::new();
    match output.seek(SeekFrom::Start(0)).and_then(|_| output.take(MAX_OUTPUT).read_to_end(&mut text)) {
        Ok(_) => String::from_utf8_lossy(&text).trim_end().to_owned(),
        Err(e) => reason(&e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = Hook::default();
        hook.set_path("/bin/sh".into());
        hook.set_args(Some(vec!["sh".into(), "-c".into(), script.into()]));
        hook.set_timeout(timeout);
        hook
    }

    fn run_hooks(hooks: &[Hook]) -> Result<(), String> {
        let annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let state = HookState {
            oci_version: "1.2.0",
            id: "web",
            status: Status::Creating,
            pid: Some(42),
            bundle: "/b",
            annotations: &annotations,
        };
        run_here("createRuntime", hooks, &state).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn the_state_is_on_standard_input() {
        let expected = r#"{"ociVersion":"1.2.0","id":"web","status":"creating","pid":42,"bundle":"/b","annotations":{"k":"v"}}"#;
        let script = format!("test \"$(cat)\" = '{expected}'");
        run_hooks(&[hook(&script, None)]).unwrap();
    }

    #[test]
    fn a_failing_hook_is_named_with_its_output() {
        let error =
            run_hooks(&[hook("exit 0", None), hook("echo out; echo err >&2; exit 3", None)]).unwrap_err();
        assert_eq!(
            error,
            "error running createRuntime hook #1: \"/bin/sh\": exit status 3, output: \"out\\nerr\""
        );
    }

    #[test]
    fn a_slow_hook_is_killed() {
        let start = Instant::now();
        let error = run_hooks(&[hook("exec sleep 60", Some(1))]).unwrap_err();
        assert_eq!(
            error,
            "error running createRuntime hook #0: \"/bin/sh\": hook ran past specified timeout of 1.0s"
        );
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn environment_and_name_are_the_hooks_own() {
        let mut own = hook("test \"$A$HOME\" = b && test \"$0\" = me", None);
        own.set_args(Some(vec!["me".into(), "-c".into(), own.args().as_ref().unwrap()[2].clone()]));
        own.set_env(Some(vec!["A=b".into()]));
        run_hooks(&[own]).unwrap();
        let mut missing = Hook::default();
        missing.set_path("/no/such/hook".into());
        let error = run_hooks(&[missing]).unwrap_err();
        assert_eq!(
            error,
            "error running createRuntime hook #0: start \"/no/such/hook\": no such file or directory"
        );
    }
}
