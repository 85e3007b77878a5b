//! `exec`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci::runtime::{Capabilities, Capability, LinuxCapabilities, Process, User};

use super::create::detached_console;
use super::flags::{Flag, Parsed};
use super::global::{Global, absolute};
use super::{Command, foreground, id_of, invalid, listen};
use crate::lifecycle::{self, ExecOptions};
use crate::{Console, Error, spec};

/// Longest process.json that is read, in bytes.
const MAX_PROCESS: u64 = 16 << 20;

pub(crate) const COMMAND: Command = Command {
    name: "exec",
    usage: "execute new process inside the container",
    arguments: "<container-id> <command> [command options]  || -p process.json <container-id>\n\n\
        Where \"<container-id>\" is the name for the instance of the container and \"<command>\" is the command to be\n\
        executed in the container. \"<command>\" can't be empty unless a \"-p\" flag provided.",
    description: "The process is that of the container's configuration, as far as no flag changes it.",
    flags: &[
        Flag::value(
            "console-socket",
            "path to an AF_UNIX socket which will receive the master end of the console",
        ),
        Flag::value(
            "pidfd-socket",
            "path to an AF_UNIX socket which will receive a pidfd of the exec process",
        ),
        Flag::value("cwd", "current working directory in the container"),
        Flag::list("env", "set environment variables").or("e"),
        Flag::switch("tty", "allocate a pseudo-TTY").or("t"),
        Flag::value("user", "UID (format: <uid>[:<gid>])").or("u"),
        Flag::list("additional-gids", "additional gids").or("g"),
        Flag::value("process", "path to the process.json").or("p"),
        Flag::switch("detach", "detach from the container's process").or("d"),
        Flag::value("pid-file", "specify the file to write the process id to"),
        Flag::value("process-label", "set the SELinux label of the process"),
        Flag::value("apparmor", "set the apparmor profile for the process"),
        Flag::switch("no-new-privs", "set the no new privileges value for the process"),
        Flag::list("cap", "add a capability to the bounding set for the process").or("c"),
        Flag::value("preserve-fds", "pass N additional file descriptors to the container"),
        Flag::list(
            "cgroup",
            "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.",
        ),
        Flag::switch("ignore-paused", "allow exec in a paused container"),
    ],
    arity: (1, usize::MAX),
    stop_after: 1,
    failure: 255,
    enters: true,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let id = id_of(parsed)?;
    let path = |name| parsed.nonempty(name).map(PathBuf::from);
    let process = process(global, parsed, &id)?;
    let terminal = process.terminal().unwrap_or(false);
    let (console_socket, detach) = (path("console-socket"), parsed.on("detach"));
    let console = match (detach, terminal) {
        (true, _) => detached_console(terminal, console_socket.as_deref())?,
        (false, _) if console_socket.is_some() => {
            return Err(invalid("cannot use console socket if runc will not detach or allocate tty"));
        }
        (false, true) => Console::Relay,
        (false, false) => Console::None,
    };
    let (pid_file, pidfd_socket) =
        (path("pid-file").as_deref().map(absolute).transpose()?, path("pidfd-socket"));
    let mut options = ExecOptions {
        console,
        pid_file: pid_file.as_deref(),
        pidfd_socket: pidfd_socket.as_deref(),
        preserve_fds: listen::preserved(0, parsed.number("preserve-fds").map_err(invalid)?)?,
        cgroups: cgroups(&parsed.texts("cgroup").map_err(invalid)?)?,
        ignore_paused: parsed.on("ignore-paused"),
        ..ExecOptions::new(&global.root, &id, process)
    };
    if detach {
        lifecycle::exec(options)?;
        return Ok(0);
    }
    let foreground = foreground::prepare(terminal, false)?;
    foreground.size(&mut options.process);
    foreground.attend(lifecycle::exec(options)?)
}

/// The process to start: `--process FILE` as it stands, or the container's own changed by the flags.
fn process(global: &Global, parsed: &Parsed, id: &str) -> Result<Process, Error> {
    if let Some(path) = parsed.nonempty("process") {
        return read_process(Path::new(path));
    }
    let mut process = lifecycle::process(&global.root, id)?;
    let args: Option<Vec<String>> =
        parsed.rest[1..].iter().map(|arg| arg.to_str().map(str::to_owned)).collect();
    let args = args.ok_or_else(|| invalid("exec args must be UTF-8"))?;
    if args.is_empty() {
        return Err(invalid("exec args cannot be empty"));
    }
    process.set_args(Some(args));
    if let Some(cwd) = parsed.nonempty("cwd") {
        process.set_cwd(PathBuf::from(cwd));
    }
    if let Some(profile) = parsed.text("apparmor").map_err(invalid)? {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = parsed.text("process-label").map_err(invalid)? {
        process.set_selinux_label(Some(label.to_owned()));
    }
    let added = parsed.texts("cap").map_err(invalid)?;
    if !added.is_empty() {
        let capabilities = process.capabilities().clone().unwrap_or_else(no_capabilities);
        process.set_capabilities(Some(add_capabilities(capabilities, &added)?));
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(parsed.texts("env").map_err(invalid)?);
    process.set_env(Some(env));
    process.set_terminal(Some(parsed.on("tty")));
    if parsed.value("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(parsed.on("no-new-privs")));
    }
    if let Some(user) = parsed.texts("user").map_err(invalid)?.last() {
        set_user(process.user_mut(), user)?;
    }
    let more = parsed.texts("additional-gids").map_err(invalid)?;
    if !more.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        for gid in &more {
            groups.push(
                id_number(gid)
                    .ok_or_else(|| invalid(format!("additional-gids must be a number: {gid:?}")))?,
            );
        }
        process.user_mut().set_additional_gids(Some(groups));
    }
    Ok(process)
}

fn read_process(path: &Path) -> Result<Process, Error> {
    let fail = |e| Error::new(format!("read process {path:?}")).because(e);
    let mut json = Vec::new();
    // A pipe is as good as a file.
    File::open(path).and_then(|file| file.take(MAX_PROCESS + 1).read_to_end(&mut json)).map_err(fail)?;
    if json.len() as u64 > MAX_PROCESS {
        return Err(invalid(format!("read process {path:?}: longer than {MAX_PROCESS} bytes")));
    }
    let mut value: serde_json::Value =
        serde_json::from_slice(&json).map_err(|e| invalid(format!("parse process {path:?}")).because(e))?;
    // Root is what runc takes a missing user for.
    if let Some(object) = value.as_object_mut() {
        object.entry("user").or_insert_with(|| serde_json::json!({"uid": 0, "gid": 0}));
    }
    spec::parse_process(value).map_err(|e| invalid(format!("parse process {path:?}")).because(e))
}

/// The type's own default has a few in every set.
fn no_capabilities() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
}

/// Adds to the bounding, effective and permitted sets; to the ambient set only when there are inheritable ones, because
/// one without the other is impossible (capabilities(7)) and inheritable ones are never added (CVE-2022-29162).
fn add_capabilities(mut sets: LinuxCapabilities, added: &[String]) -> Result<LinuxCapabilities, Error> {
    let added: Vec<Capability> = added
        .iter()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            serde_json::from_value(upper.into()).map_err(|_| invalid(format!("unknown capability {name:?}")))
        })
        .collect::<Result<_, Error>>()?;
    let with = |set: &Option<Capabilities>| {
        Some(set.iter().flatten().copied().chain(added.iter().copied()).collect())
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    if sets.inheritable().is_some() {
        sets.set_ambient(with(sets.ambient()));
    }
    Ok(sets)
}

/// `uid` or `uid:gid`, as typed: no names, no wrapping around (CVE-2026-30892).
fn set_user(user: &mut User, text: &str) -> Result<(), Error> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    user.set_uid(id_number(uid).ok_or_else(|| invalid(format!("bad uid: {uid:?}")))?);
    if let Some(gid) = gid {
        user.set_gid(id_number(gid).ok_or_else(|| invalid(format!("bad gid: {gid:?}")))?);
    }
    Ok(())
}

/// A user or group id: digits only, and not the one that means "unchanged" to the kernel.
fn id_number(text: &str) -> Option<u32> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// `--cgroup [CONTROLLER[,CONTROLLER…]:]PATH` as controller to path; `""` is all controllers.
fn cgroups(args: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let mut paths = BTreeMap::new();
    for arg in args {
        let Some((controllers, path)) = arg.split_once(':') else {
            if args.len() > 1 {
                return Err(invalid(format!(
                    "invalid --cgroup argument: {arg} (missing <controller>: prefix)"
                )));
            }
            return Ok([(String::new(), arg.clone())].into());
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return Err(invalid(format!("invalid --cgroup argument: {arg} (empty <controller> prefix)")));
            }
            if paths.insert(controller.to_owned(), path.to_owned()).is_some() {
                return Err(invalid(format!(
                    "invalid --cgroup argument(s): controller {controller} specified multiple times"
                )));
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_as_typed_or_refused() {
        for (text, uid, gid) in [("1", 1, 7), ("01:2", 1, 2), ("4294967294:0", 4_294_967_294, 0)] {
            let mut user = User::default();
            user.set_gid(7);
            set_user(&mut user, text).unwrap();
            assert_eq!((user.uid(), user.gid()), (uid, gid), "{text}");
        }
        for text in ["", " 1", "1abc", "-1", "+1", "4294967295", "4294967296", "1:", "1:x", ":1", "root"] {
            assert!(set_user(&mut User::default(), text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn added_capabilities_are_never_inheritable() {
        let sets = add_capabilities(no_capabilities(), &["cap_net_raw".into()]).unwrap();
        assert!(sets.permitted().as_ref().unwrap().contains(&Capability::NetRaw));
        assert_eq!((sets.inheritable(), sets.ambient()), (&None, &None));
        assert!(add_capabilities(no_capabilities(), &["CAP_NOPE".into()]).is_err());
    }

    #[test]
    fn sub_cgroups() {
        let read = |args: &[&str]| cgroups(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&["sub"]).unwrap(), BTreeMap::from([(String::new(), "sub".to_owned())]));
        assert_eq!(read(&["cpu,cpuacct:x", "memory:y"]).unwrap().len(), 3);
        for bad in [&["a", "b"][..], &[":x"], &["cpu,:x"], &["cpu:x", "cpu:y"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
