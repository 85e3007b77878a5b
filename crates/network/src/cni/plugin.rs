//! One plugin, run once.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Map, Value};

use crate::Error;

/// What a plugin may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
}

impl Command {
    fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// A call of a plugin.
pub(super) struct Call<'a> {
    pub(super) command: Command,
    pub(super) container: &'a str,
    pub(super) namespace: &'a Path,
    pub(super) link: &'a str,
    pub(super) path: &'a [PathBuf],
}

/// How long a plugin may take: dhcp waits for a server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most that a plugin can say.
const MOST: u64 = 1 << 20;
/// For plugins that run others, as portmap runs iptables; a monitor of ours has no environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Call<'_> {
    /// Runs the plugin that `request` names; answers its result, which not every one has.
    pub(super) fn make(&self, network: &str, request: &Map<String, Value>) -> Result<Option<Value>, Error> {
        let kind = request.get("type").and_then(Value::as_str).unwrap_or_default();
        let fail = |why: String| {
            let command = self.command.word();
            Error::Invalid(format!("network cni:{network}: plugin {kind:?} ({command}): {why}"))
        };
        let program = self.path.iter().map(|dir| dir.join(kind)).find(|program| program.is_file());
        let program = program.ok_or_else(|| {
            let places: Vec<_> = self.path.iter().map(|dir| dir.display().to_string()).collect();
            let cure = "install it (Debian: containernetworking-plugins), or set CNI_PATH";
            fail(format!("there is none in {}; {cure}", places.join(" or ")))
        })?;
        let (status, out, err) = self.run(&program, request).map_err(|e| fail(e.to_string()))?;
        if !status.success() {
            return Err(fail(cause(status, &out, &err)));
        }
        match (self.command, out.trim_ascii()) {
            (Command::Del, _) | (_, []) => Ok(None),
            (Command::Add, said) => match serde_json::from_slice(said) {
                Ok(Value::Object(result)) => Ok(Some(Value::Object(result))),
                Ok(_) => Err(fail("its result is no object".to_owned())),
                Err(e) => Err(fail(format!("its result is no JSON: {e}"))),
            },
        }
    }

    /// How it ended, and what it wrote. Files without a name are its streams: nobody has to read while it writes.
    fn run(
        &self,
        program: &Path,
        request: &Map<String, Value>,
    ) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let stream = || memfd_create("cni", MFdFlags::MFD_CLOEXEC).map(File::from);
        let (mut stdin, stdout, stderr) = (stream()?, stream()?, stream()?);
        stdin.write_all(Value::Object(request.clone()).to_string().as_bytes())?;
        stdin.rewind()?;
        // Of a namespace that is gone there is nothing to be found: DEL without one is allowed.
        let namespace = if self.namespace.exists() { self.namespace } else { Path::new("") };
        let mut command = std::process::Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
            .env("CNI_COMMAND", self.command.word())
            .env("CNI_CONTAINERID", self.container)
            .env("CNI_NETNS", namespace)
            .env("CNI_IFNAME", self.link)
            .env("CNI_PATH", std::env::join_paths(self.path).map_err(io::Error::other)?)
            .current_dir("/")
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::from(stdout.try_clone()?))
            .stderr(Stdio::from(stderr.try_clone()?));
        let mut child = command.spawn()?;
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let ended = sys::pidfd::open(group.as_raw()).and_then(|pidfd| ends_in_time(&pidfd));
        if !matches!(ended, Ok(true)) {
            // With what it has started. Not yet reaped, its number is nobody else's.
            let _ = killpg(group, Signal::SIGKILL);
        }
        let status = child.wait()?;
        if !ended? {
            let seconds = PATIENCE.as_secs();
            return Err(io::Error::other(format!(
                "it was killed, because it took more than {seconds} seconds"
            )));
        }
        Ok((status, said(stdout)?, said(stderr)?))
    }
}

fn ends_in_time(pidfd: impl AsFd) -> io::Result<bool> {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result? > 0),
        }
    }
}

fn said(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The error that it printed, in the specification's form; else the first line of whatever it wrote.
fn cause(status: ExitStatus, out: &[u8], err: &[u8]) -> String {
    let error = serde_json::from_slice::<Value>(out).unwrap_or_default();
    let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    let parts: Vec<&str> =
        [text("msg"), text("details")].into_iter().filter(|part| !part.is_empty()).collect();
    if !parts.is_empty() {
        return one_line(&parts.join("; "));
    }
    let all = [err, out].concat();
    let all = String::from_utf8_lossy(&all);
    let line = all.lines().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(
        || format!("it failed without a word ({status})"),
        |line| format!("{} ({status})", one_line(line)),
    )
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(1000).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    /// What a plugin that is this shell script says.
    fn call(command: Command, script: &str) -> Result<Option<Value>, String> {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("test");
        std::fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = [dir.path().to_owned()];
        let call = Call {
            command,
            container: "id",
            namespace: Path::new("/proc/self/ns/net"),
            link: "eth0",
            path: &path,
        };
        let request = json!({ "type": "test", "x": 1 });
        call.make("net", request.as_object().unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn it_is_told_by_stdin_and_environment() {
        let script = r#"printf '{"a":"%s %s %s %s %s","in":%s}' $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME "${HOME-none}" "$(cat)""#;
        let said = call(Command::Add, script).unwrap().unwrap();
        assert_eq!(said["a"], "ADD id /proc/self/ns/net eth0 none");
        assert_eq!(said["in"], json!({ "type": "test", "x": 1 }));
        assert_eq!(call(Command::Add, "").unwrap(), None);
        assert_eq!(call(Command::Del, "echo not JSON").unwrap(), None);
    }

    #[test]
    fn failures_name_network_plugin_and_cause() {
        for (script, words) in [
            (
                r#"printf %s '{"code":11,"msg":"no addresses","details":"pool\nis full"}'; exit 1"#,
                "no addresses; pool is full",
            ),
            ("echo panic: oops >&2; echo more >&2; exit 2", "panic: oops (exit status: 2)"),
            ("exit 3", "it failed without a word (exit status: 3)"),
            ("echo '[]'", "its result is no object"),
            ("echo '{'", "its result is no JSON"),
        ] {
            let said = call(Command::Add, script).unwrap_err();
            assert!(
                said.starts_with("network cni:net: plugin \"test\" (ADD): ") && said.contains(words),
                "{said}"
            );
        }
        let call = Call {
            command: Command::Del,
            container: "id",
            namespace: Path::new(""),
            link: "eth0",
            path: &["/no/such".into()],
        };
        let said = call.make("net", json!({ "type": "none" }).as_object().unwrap()).unwrap_err().to_string();
        assert!(said.contains("(DEL)") && said.contains("/no/such") && said.contains("CNI_PATH"), "{said}");
    }
}
