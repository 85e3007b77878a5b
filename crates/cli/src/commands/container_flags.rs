//! The flags that make a container, docker's in docker's shapes: `run` and `create` share them.

use std::path::PathBuf;

use clap::{ArgAction, ValueEnum};
use engine::{Hostname, Platform, PullPolicy, RestartPolicy, RunOptions, StreamName, Tmpfs, Ulimit, Volume};

use crate::commands::health_flags::HealthFlags;
use crate::commands::isolation_flags::IsolationFlags;
use crate::commands::limit_flags::LimitFlags;
use crate::commands::network_flags::NetworkFlags;
use crate::error::Error;
use crate::value::{
    cpus, env, label, log, mount, restart, signal, size, stream, tmpfs, ulimit, volume, workdir,
};

/// All of them, the image and its command included.
#[derive(Debug, clap::Args)]
pub(crate) struct ContainerFlags {
    /// Set an environment variable; KEY alone takes the value it has here
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = env::parse)]
    env: Vec<env::Variable>,
    /// Read environment variables from a file, KEY=VALUE or KEY on each line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Keep standard input open to the container
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove the container and its unnamed volumes when it has ended
    #[arg(long)]
    rm: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Host name in the container
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<Hostname>,
    /// User, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR", value_parser = workdir::parse)]
    workdir: Option<String>,
    /// Mount a path of the host or a volume
    #[arg(short, long, value_name = "[SRC:]DST[:OPTIONS]", value_parser = volume::parse)]
    volume: Vec<Volume>,
    /// Mount as type=bind|volume|tmpfs,source=PATH,target=DIR[,readonly] says
    #[arg(long, value_name = "FIELDS", value_parser = mount::parse)]
    mount: Vec<mount::Mount>,
    /// Mount what another container has
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "DIR[:OPTIONS]", value_parser = tmpfs::parse)]
    tmpfs: Vec<Tmpfs>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    network: NetworkFlags,
    /// Connect only these streams in the foreground: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", value_parser = stream::parse)]
    attach: Vec<StreamName>,
    /// Start it again when it ends: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", hide_default_value = true, value_parser = restart::parse)]
    restart: RestartPolicy,
    #[command(flatten)]
    health: HealthFlags,
    /// Signal that stop sends [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal::parse_name)]
    stop_signal: Option<String>,
    /// Seconds after which stop kills; -1 for never [default: 10]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// What becomes of a background container's output: json-file or none
    #[arg(long, value_name = "DRIVER", default_value = "json-file", hide_default_value = true, action = ArgAction::Set, value_parser = log::parse_driver)]
    log_driver: bool,
    /// max-size=BYTES (default 10m; -1 for no rotation) or max-file=NUMBER (default 3)
    #[arg(long, value_name = "KEY=VALUE", value_parser = log::parse_option)]
    log_opt: Vec<log::Setting>,
    /// Write the container's ID to this file, which must be new
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Give all capabilities and devices and lift seccomp
    #[arg(long)]
    privileged: bool,
    /// Most memory, for instance 64m or 1.5g
    #[arg(short, long, value_name = "BYTES", value_parser = size::parse)]
    memory: Option<u64>,
    /// Most processor time, for instance 1.5
    #[arg(long, value_name = "NUMBER", value_parser = cpus::parse)]
    cpus: Option<u64>,
    /// Most processes; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Set a limit of setrlimit(2), for instance nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit::parse)]
    ulimit: Vec<Ulimit>,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    isolation: IsolationFlags,
    /// Run an init as process 1, which forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label::parse)]
    label: Vec<(String, String)>,
    /// Read labels from a file, KEY=VALUE or KEY on each line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Set an annotation of the runtime spec
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parse)]
    annotation: Vec<(String, String)>,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Pull::Missing)]
    pull: Pull,
    /// Take the image for OS/ARCH[/VARIANT] instead of the host's
    #[arg(long)]
    platform: Option<Platform>,
    /// Do not show the pull
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// false: allow plain http and certificates that cannot be verified
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    // One argument, because with two clap would still take flags of its own between the first and the second.
    /// Image, and the command to run in it with all that follows instead of the image's
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    image_and_command: Vec<String>,
}

/// `--pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pull {
    /// Each time
    Always,
    /// When it is not here
    Missing,
    /// Never
    Never,
}

impl ContainerFlags {
    /// What the engine is asked for.
    pub(crate) fn options(self) -> Result<RunOptions, Error> {
        let (mut volumes, mut tmpfs) = (self.volume, self.tmpfs);
        for mount in self.mount {
            match mount {
                mount::Mount::Volume(volume) => volumes.push(volume),
                mount::Mount::Tmpfs(one) => tmpfs.push(one),
            }
        }
        let mut labels = Vec::new();
        for path in self.label_file {
            let bytes =
                std::fs::read(&path).map_err(|source| Error::LabelFile { path: path.clone(), source })?;
            let bad = |bad: env::BadLine| Error::Usage(format!("--label-file {}: {bad}", path.display()));
            let lines = env::parse_file(&bytes).map_err(bad)?;
            labels.extend(lines.into_iter().map(|line| (line.key, line.value.unwrap_or_default())));
        }
        labels.extend(self.label);
        let mut words = self.image_and_command.into_iter();
        let image = words.next().unwrap_or_default();
        if self.rm && self.restart != RestartPolicy::No {
            let why = "conflicting options: what --rm removes, --restart cannot start again; leave out one";
            return Err(Error::Usage(why.to_owned()));
        }
        let mut options = RunOptions {
            detach: false,
            attach: self.attach,
            restart: self.restart,
            health: self.health.healthcheck()?,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            log: log::options(self.log_driver, &self.log_opt),
            cidfile: self.cidfile,
            image,
            command: words.collect(),
            name: self.name,
            rm: self.rm,
            interactive: self.interactive,
            tty: self.tty,
            env: environment(self.env, self.env_file)?,
            volumes,
            volumes_from: self.volumes_from,
            tmpfs,
            workdir: self.workdir,
            user: self.user,
            hostname: self.hostname,
            entrypoint: self.entrypoint,
            read_only: self.read_only,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            privileged: self.privileged,
            memory: self.memory,
            nano_cpus: self.cpus,
            pids_limit: self.pids_limit,
            ulimits: self.ulimit,
            limits: self.limits.into(),
            isolation: self.isolation.isolation()?,
            init: self.init,
            labels,
            annotations: self.annotation,
            pull: match self.pull {
                Pull::Always => PullPolicy::Always,
                Pull::Missing => PullPolicy::Missing,
                Pull::Never => PullPolicy::Never,
            },
            platform: self.platform,
            tls_verify: self.tls_verify,
            ..RunOptions::new("")
        };
        self.network.apply(&mut options)?;
        Ok(options)
    }
}

/// The variables of `--env-file`s, then those of `-e`, each with its value.
///
/// # Errors
/// A file that cannot be read, or is none.
pub(crate) fn environment(flags: Vec<env::Variable>, files: Vec<PathBuf>) -> Result<Vec<String>, Error> {
    let mut variables = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).map_err(|source| Error::EnvFile { path: path.clone(), source })?;
        let bad = |bad: env::BadLine| Error::Usage(format!("--env-file {}: {bad}", path.display()));
        variables.extend(env::parse_file(&bytes).map_err(bad)?);
    }
    variables.extend(flags);
    Ok(env::resolve(variables, |key| std::env::var(key).ok()))
}

#[cfg(test)]
mod tests {
    use engine::NetworkMode;

    use super::*;
    use crate::args::{self, Command};

    fn parse(line: &[&str]) -> Result<RunOptions, String> {
        let words = ["rcr", "run"].iter().chain(line).map(Into::into);
        match args::parse(words).map_err(|refusal| refusal.to_string())?.command {
            Command::Run(run) => run.container.options().map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn options(line: &[&str]) -> RunOptions {
        parse(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
    }

    #[test]
    fn flags_stop_at_the_image() {
        let run = options(&["-it", "--rm", "box", "--rm", "-e", "X", "--", "-it", "--bogus", "--help"]);
        assert!(run.interactive && run.tty && run.rm && run.env.is_empty());
        assert_eq!(run.image, "box");
        assert_eq!(run.command, ["--rm", "-e", "X", "--", "-it", "--bogus", "--help"]);
        let run = options(&["box", "-i", "sh"]);
        assert!(!run.interactive);
        assert_eq!(run.command, ["-i", "sh"]);
        let run = options(&["--", "box", "-x"]);
        assert_eq!((run.image.as_str(), &run.command[..]), ("box", &["-x".to_owned()][..]));
    }

    #[test]
    fn every_flag() {
        let run = options(&[
            "--name=web",
            "-e",
            "A=1",
            "--env=B=2=3",
            "-eC=",
            "-w",
            "/w",
            "-u",
            "1:2",
            "-h",
            "h1",
            "--entrypoint",
            "",
            "--read-only",
            "--net",
            "host",
            "-p8080:80",
            "--publish=127.0.0.1:53:53/udp",
            "--cap-add",
            "NET_ADMIN",
            "--cap-drop=ALL",
            "--privileged",
            "-m512m",
            "--cpus",
            "1.5",
            "--pids-limit",
            "-1",
            "--ulimit",
            "nofile=1:2",
            "--ulimit=core=-1",
            "--init",
            "--pull=never",
            "--platform",
            "linux/arm64",
            "-v",
            "/a:/b:ro",
            "-v=c:/d",
            "--tmpfs",
            "/t:size=1m",
            "-l",
            "k=v",
            "--label",
            "bare",
            "--annotation",
            "a.b=c",
            "--tls-verify=false",
            "-q",
            "box",
        ]);
        assert_eq!(run.name.as_deref(), Some("web"));
        assert_eq!(run.env, ["A=1", "B=2=3", "C="]);
        assert_eq!((run.workdir.as_deref(), run.user.as_deref()), (Some("/w"), Some("1:2")));
        assert_eq!(run.hostname.map(|h| h.to_string()).as_deref(), Some("h1"));
        assert_eq!(run.entrypoint.as_deref(), Some(""));
        assert!(run.read_only && run.privileged && run.init && !run.rm && !run.tty && !run.interactive);
        assert_eq!(run.network, NetworkMode::Host);
        assert_eq!(run.ports.len(), 2);
        assert_eq!((run.cap_add, run.cap_drop), (vec!["NET_ADMIN".to_owned()], vec!["ALL".to_owned()]));
        assert_eq!(
            (run.memory, run.nano_cpus, run.pids_limit),
            (Some(512 << 20), Some(1_500_000_000), Some(-1))
        );
        assert_eq!(run.ulimits.len(), 2);
        assert_eq!(run.pull, PullPolicy::Never);
        assert_eq!(run.platform.map(|p| p.to_string()).as_deref(), Some("linux/arm64"));
        assert_eq!(run.volumes.len(), 2);
        assert_eq!(run.tmpfs[0].target, "/t");
        assert_eq!(run.labels, [("k".into(), "v".into()), ("bare".into(), String::new())]);
        assert_eq!(run.annotations, [("a.b".into(), "c".into())]);
        assert_eq!(run.tls_verify, Some(false));
    }

    #[test]
    fn defaults_are_dockers() {
        let (typed, plain) = (options(&["box"]), RunOptions::new("box"));
        assert_eq!(format!("{typed:?}"), format!("{plain:?}"));
    }

    #[test]
    fn the_last_of_a_flag_counts_and_switches_take_a_value() {
        let run = options(&["--name", "a", "--name", "b", "--rm=false", "-t=true", "-i", "box", "--x=true"]);
        assert_eq!(run.name.as_deref(), Some("b"));
        assert!(!run.rm && run.tty && run.interactive);
        assert_eq!(run.command, ["--x=true"]);
        assert!(options(&["--rm", "--rm=false", "--rm=1", "-it", "box"]).tty);
    }

    #[test]
    fn env_files_come_before_flags() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "A=file\nB=file\n").unwrap();
        let file = path.to_str().unwrap();
        assert_eq!(options(&["-e", "A=flag", "--env-file", file, "box"]).env, ["A=file", "B=file", "A=flag"]);
        std::fs::write(&path, "A=1\nB C=2\n").unwrap();
        assert!(parse(&["--env-file", file, "box"]).unwrap_err().contains("line 2: the name \"B C\""));
        assert!(parse(&["--env-file", "/no/such", "box"]).unwrap_err().contains("/no/such"));
    }

    #[test]
    fn refusals_name_flag_value_and_what_is_wanted() {
        for (line, words) in [
            (&["--memory", "lots", "x"][..], &["--memory", "lots", "64m"][..]),
            (&["--cpus", "many", "x"], &["--cpus", "many", "1.5"]),
            (&["--ulimit", "nofile", "x"], &["--ulimit", "nofile=1024:2048"]),
            (&["-v", "data", "x"], &["--volume", "data", "/srv/data:/data:ro"]),
            (&["--tmpfs", "tmp", "x"], &["--tmpfs", "/tmp:size=64m"]),
            (&["-e", "=x", "x"], &["--env", "KEY=VALUE"]),
            (&["-w", "rel", "x"], &["--workdir", "rel", "absolute"]),
            (&["-h", "a b", "x"], &["--hostname", "a b"]),
            (&["--network", "a:ip=x", "x"], &["--network", "a:ip=x", "address"]),
            (&["--network", "a", "--network", "host", "x"], &["--network", "combined"]),
            (&["-p", "99999:80", "x"], &["--publish", "99999:80", "1 to 65535"]),
            (&["--pull", "sometimes", "x"], &["--pull", "sometimes", "always, missing, never"]),
            (&["--platform", "linux", "x"], &["--platform", "linux/arm64"]),
            (&["--pids-limit", "few", "x"], &["--pids-limit", "few"]),
            (&["--label", "=x", "x"], &["--label", "KEY=VALUE"]),
            (&["--nmae", "x", "y"], &["--nmae", "'--name'"]),
            (&["--rm=maybe", "x"], &["--rm", "maybe"]),
            (&["-z", "x"], &["-z"]),
            (&["--rm"], &["IMAGE"]),
            (&["--name"], &["--name"]),
        ] {
            let said = parse(line).expect_err(&line.join(" "));
            for word in words {
                assert!(said.contains(word), "{line:?}: {word:?} is not in: {said}");
            }
            assert!(!said.contains('\n') && said.ends_with("; see 'rcr run --help'"), "{said}");
        }
    }
}
