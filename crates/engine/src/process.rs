//! The container's process: command line, environment, working directory, limits.

use std::collections::HashSet;
use std::path::PathBuf;

use oci::image::Config;
use oci::runtime::{
    Capability, LinuxCapabilities, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process,
    User as SpecUser,
};

use crate::options::{RunOptions, Ulimit};
use crate::user::User;

/// Where docker looks for commands when neither image nor user says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command line in docker's two halves: Entrypoint and Cmd, as far as the user did not replace the image's.
///
/// # Errors
/// Both are empty.
pub(crate) fn command(image: &Config, options: &RunOptions) -> Result<(Vec<String>, Vec<String>), String> {
    let entrypoint = match &options.entrypoint {
        Some(word) if word.is_empty() => Vec::new(),
        Some(word) => vec![word.clone()],
        None => image.entrypoint().clone().unwrap_or_default(),
    };
    let command = if options.command.is_empty() && options.entrypoint.is_none() {
        image.cmd().clone().unwrap_or_default()
    } else {
        options.command.clone()
    };
    if entrypoint.iter().chain(&command).next().is_none_or(String::is_empty) {
        return Err("no command: the image names none, so give one after the image".to_owned());
    }
    Ok((entrypoint, command))
}

/// The environment: docker's defaults, what is `linked`, the image's, the user's, each replacing the value of one before; HOME only if
/// `home` is known.
///
/// An entry of the image that is not KEY=VALUE is left out; it must never fetch a value from the host's environment
/// (CVE-2026-57231).
pub(crate) fn environment(
    image: &Config,
    options: &RunOptions,
    hostname: &str,
    linked: &[String],
    home: Option<&str>,
) -> Vec<String> {
    let mut all = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if options.tty {
        all.push("TERM=xterm".to_owned());
    }
    for entry in linked.iter().chain(image.env().iter().flatten()).chain(&options.env) {
        let Some((key, _)) = entry.split_once('=') else { continue };
        if key.is_empty() || entry.contains('\0') {
            continue;
        }
        set_variable(&mut all, entry);
    }
    if let Some(home) = home.filter(|_| !all.iter().any(|entry| entry.starts_with("HOME="))) {
        all.push(format!("HOME={home}"));
    }
    all
}

/// Puts `KEY=VALUE` into an environment, in the place of an old value.
pub(crate) fn set_variable(env: &mut Vec<String>, entry: &str) {
    let key = entry.split('=').next();
    match env.iter_mut().find(|old| old.split('=').next() == key) {
        Some(old) => entry.clone_into(old),
        None => env.push(entry.to_owned()),
    }
}

/// The working directory, absolute and without `..`.
///
/// # Errors
/// `-w` is relative. An image's relative one counts from the root.
pub(crate) fn workdir(image: &Config, options: &RunOptions) -> Result<String, String> {
    if let Some(dir) = &options.workdir
        && !dir.starts_with('/')
    {
        return Err(format!("invalid working directory {dir:?}: wants an absolute path"));
    }
    let dir = options.workdir.as_ref().or(image.working_dir().as_ref()).map_or("/", String::as_str);
    if dir.contains('\0') {
        return Err(format!("invalid working directory {dir:?}: it has a NUL"));
    }
    Ok(crate::mount::clean(dir))
}

/// Everything together.
pub(crate) fn process(
    args: Vec<String>,
    env: Vec<String>,
    cwd: &str,
    user: &User,
    capabilities: &[Capability],
    options: &RunOptions,
) -> Result<Process, String> {
    let mut who = SpecUser::default();
    who.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups.clone()));
    let rlimits = options.ulimits.iter().map(rlimit).collect::<Result<Vec<_>, _>>()?;
    let mut process = Process::default();
    process
        .set_terminal(Some(options.tty))
        .set_user(who)
        .set_args(Some(args))
        .set_env(Some(env))
        .set_cwd(PathBuf::from(cwd))
        .set_capabilities(Some(self::capabilities(capabilities)))
        .set_rlimits(Some(rlimits).filter(|list| !list.is_empty()))
        .set_no_new_privileges(options.isolation.no_new_privileges.then_some(true))
        .set_apparmor_profile(options.isolation.apparmor.clone())
        .set_oom_score_adj(options.limits.oom_score_adj);
    Ok(process)
}

/// The sets of a process that has these.
pub(crate) fn capabilities(names: &[Capability]) -> LinuxCapabilities {
    let set: HashSet<Capability> = names.iter().copied().collect();
    let mut sets = LinuxCapabilities::default();
    // Inheritable and ambient stay empty (CVE-2022-24769).
    sets.set_bounding(Some(set.clone())).set_effective(Some(set.clone())).set_permitted(Some(set));
    sets.set_inheritable(None).set_ambient(None);
    sets
}

fn rlimit(limit: &Ulimit) -> Result<PosixRlimit, String> {
    let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    let typ: PosixRlimitType = serde_json::from_value(serde_json::Value::String(name))
        .map_err(|_| format!("invalid ulimit {:?}: no such limit", limit.name))?;
    PosixRlimitBuilder::default()
        .typ(typ)
        .soft(limit.soft)
        .hard(limit.hard)
        .build()
        .map_err(|e| format!("invalid ulimit {:?}: {e}", limit.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(json: serde_json::Value) -> Config {
        serde_json::from_value(json).unwrap()
    }

    fn asked(command: &[&str], entrypoint: Option<&str>) -> RunOptions {
        RunOptions {
            command: command.iter().map(|w| (*w).to_owned()).collect(),
            entrypoint: entrypoint.map(str::to_owned),
            ..RunOptions::new("x")
        }
    }

    #[test]
    fn command_lines_as_docker_joins_them() {
        let image = image(serde_json::json!({ "Entrypoint": ["e", "1"], "Cmd": ["c"] }));
        let table: &[(&[&str], Option<&str>, &[&str])] = &[
            (&[], None, &["e", "1", "c"]),
            (&["x", "y"], None, &["e", "1", "x", "y"]),
            (&[], Some("n"), &["n"]),
            (&["x"], Some("n"), &["n", "x"]),
            (&["x"], Some(""), &["x"]),
        ];
        for (words, entrypoint, want) in table {
            let (entrypoint, command) = command(&image, &asked(words, *entrypoint)).unwrap();
            assert_eq!([entrypoint, command].concat(), *want);
        }
        for empty in [command(&image, &asked(&[], Some(""))), command(&Config::default(), &asked(&[], None))]
        {
            assert!(empty.unwrap_err().contains("no command"));
        }
    }

    #[test]
    fn environments_never_take_from_the_host() {
        let image = image(serde_json::json!({ "Env": [
            "PATH=/bin", "A=image", "HOME", "*", "AWS_*", "PATH", "=x", "", "N\u{0}=b", "A=twice", "E=", "Q=a=b"
        ] }));
        let mut options = asked(&[], None);
        options.env = vec!["A=user".to_owned(), "B=1".to_owned()];
        assert_eq!(
            environment(&image, &options, "h", &[], Some("/root")),
            ["PATH=/bin", "HOSTNAME=h", "A=user", "E=", "Q=a=b", "B=1", "HOME=/root"]
        );
        options.tty = true;
        options.env = vec!["TERM=dumb".to_owned(), "HOME=/h".to_owned()];
        let env = environment(&Config::default(), &options, "h", &[], Some("/root"));
        assert_eq!(env, [PATH, "HOSTNAME=h", "TERM=dumb", "HOME=/h"]);
    }

    #[test]
    fn working_directories_stay_below_the_root() {
        let dir = |image_dir: &str, flag: Option<&str>| {
            let image = image(serde_json::json!({ "WorkingDir": image_dir }));
            workdir(&image, &RunOptions { workdir: flag.map(str::to_owned), ..RunOptions::new("x") })
        };
        for (image_dir, flag, want) in [
            ("", None, "/"),
            ("/app/", None, "/app"),
            ("app", None, "/app"),
            ("/../../x", None, "/x"),
            ("/a", Some("/b//c/."), "/b/c"),
        ] {
            assert_eq!(dir(image_dir, flag).as_deref(), Ok(want));
        }
        assert!(dir("/a", Some("b")).unwrap_err().contains("absolute"));
        assert!(dir("/a\0b", None).unwrap_err().contains("NUL"));
    }
}
