//! The shape of rcr-runtime's command line: help, version, spellings of flags, exit codes, log lines, features,
//! completion scripts, manual pages. What containers do is elsewhere.

use std::fs;
use std::process::{Command, Stdio};

use harness::host::Need::{Path as FileNeed, Program, Root};
use harness::stage::Stage;
use harness::world::{World, binary, fails, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("command_line":
    help_has_runcs_shape [],
    the_version_is_what_clients_parse [],
    flags_in_every_spelling [Root, BUSYBOX],
    mistakes_have_runcs_words_and_codes [],
    log_lines_in_both_formats [Root, BUSYBOX],
    features_are_complete [],
    features_as_runc_says_them [Program("runc")],
    bash_completes [Program("bash")],
    zsh_reads_its_script [Program("zsh")],
    fish_reads_its_script [Program("fish")],
    manual_pages_are_clean [Program("groff")],
);

fn runtime() -> Command {
    let mut command = Command::new(binary("rcr-runtime"));
    command.stdin(Stdio::null());
    command
}

const COMMANDS: [&str; 16] = [
    "completion",
    "create",
    "delete",
    "exec",
    "features",
    "kill",
    "list",
    "man",
    "pause",
    "plan",
    "ps",
    "resume",
    "run",
    "spec",
    "start",
    "state",
];

fn help_has_runcs_shape() {
    for args in [&[][..], &["-h"], &["--help"], &["help"], &["h"]] {
        let text = ok(runtime().args(args));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME:", "{args:?}");
        assert!(lines[1].starts_with("   rcr-runtime - Open Container Initiative runtime"), "{}", lines[1]);
        for title in ["USAGE:", "VERSION:", "COMMANDS:", "GLOBAL OPTIONS:"] {
            assert!(lines.contains(&title), "{args:?}: {title}");
        }
        for command in COMMANDS {
            assert!(lines.iter().any(|l| l.starts_with(&format!("   {command} "))), "{command}");
        }
    }
    for command in COMMANDS {
        for args in [[command, "-h"], [command, "--help"], ["help", command]] {
            let text = ok(runtime().args(args));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "NAME:", "{args:?}");
            assert!(lines[1].starts_with(&format!("   rcr-runtime {command} - ")), "{}", lines[1]);
            assert!(lines.contains(&"OPTIONS:") && lines.contains(&"GLOBAL OPTIONS:"), "{text}");
        }
    }
}

fn the_version_is_what_clients_parse() {
    for flag in ["--version", "-v"] {
        let text = ok(runtime().arg(flag));
        let lines: Vec<&str> = text.lines().collect();
        let version = lines[0].strip_prefix("rcr-runtime version ").expect("its name first");
        assert!(
            version.split('.').all(|n| n.chars().next().is_some_and(|c| c.is_ascii_digit())),
            "{version}"
        );
        assert!(lines[1].starts_with("commit: "), "{text}");
        let features: Value = serde_json::from_str(&ok(runtime().arg("features"))).expect("JSON");
        assert_eq!(lines[2], format!("spec: {}", features["ociVersionMax"].as_str().expect("a version")));
    }
    // Installed as runc it answers as runc, which podman and docker look for.
    let world = World::new();
    let link = world.path().join("runc");
    std::os::unix::fs::symlink(binary("rcr-runtime"), &link).expect("writable");
    assert!(ok(Command::new(&link).arg("--version")).starts_with("runc version "));
}

fn flags_in_every_spelling() {
    let stage = Stage::new("echo ran", |_, _| ());
    let dir = stage.dir.to_str().expect("UTF-8");
    let with = format!("--bundle={dir}");
    let short = format!("-b={dir}");
    for args in [
        &["run", "--bundle", dir, "box"][..],
        &["run", &with, "box"],
        &["run", "-b", dir, "box"],
        &["run", &short, "box"],
        &["run", "-bundle", dir, "box"],
        &["run", "box", "-b", dir],
        &["run", "-b", dir, "--", "box"],
        &["run", "--no-pivot=false", "--detach=f", "-b", dir, "box"],
        &["run", "--log-format", "text", "-b", dir, "box"],
        &["--debug=0", "run", "-b", dir, "box"],
    ] {
        assert_eq!(ok(stage.world.runtime().args(args).stdin(Stdio::null())), "ran", "{args:?}");
    }
    let glued = format!("-b{dir}");
    fails(stage.world.runtime().args(["run", &glued, "box"]), 1, &["flag provided but not defined: -b/"]);
    let mut run = stage.world.runtime();
    run.args(["run", "--preserve-fds", "-1", "-b", dir, "box"]).stdin(Stdio::null());
    fails(&mut run, 1, &["invalid value", "preserve-fds"]);
    let stage = Stage::running("box", |_, _| ());
    let exec = |args: &[&str]| ok(stage.world.runtime().arg("exec").args(args).stdin(Stdio::null()));
    assert_eq!(exec(&["box", "echo", "-e", "A=1", "--", "--tty"]), "A=1 -- --tty");
    assert_eq!(exec(&["--", "box", "echo", "-n"]), "");
    assert_eq!(exec(&["-e=A=1", "--env", "B=2", "box", "sh", "-c", "echo $A$B"]), "12");
    let kill = say(stage.world.runtime().args(["kill", "--all", "box", "0"]));
    assert_eq!(kill.code, 0, "{}", kill.err);
}

fn mistakes_have_runcs_words_and_codes() {
    for (args, code, words) in [
        (&["--frob"][..], 1, &["flag provided but not defined: -frob"][..]),
        (&["create", "--frob", "x"], 1, &["Incorrect Usage: flag provided but not defined: -frob"]),
        (&["create", "--bundle"], 1, &["flag needs an argument: --bundle"]),
        (&["run", "--detach=maybe", "x"], 1, &["invalid boolean value", "for flag -detach"]),
        (&["frobnicate"], 3, &["No help topic for 'frobnicate'"]),
        (&["frobnicate", "-h"], 3, &["No help topic for 'frobnicate'"]),
        (&["state"], 1, &["\\\"state\\\" requires exactly 1 argument(s)"]),
        (&["state", "a", "b"], 1, &["requires exactly 1 argument(s)"]),
        (&["kill"], 1, &["requires a minimum of 1 argument(s)"]),
        (&["kill", "a", "b", "c"], 1, &["requires a maximum of 2 argument(s)"]),
        (&["list", "x"], 1, &["requires exactly 0 argument(s)"]),
        (&["list", "--format", "yaml"], 1, &["invalid format option"]),
        (&["--log-format", "yaml", "list"], 1, &["invalid log-format: yaml"]),
        (&["--log", "/no/such/dir/log", "list"], 1, &["/no/such/dir/log"]),
        (&["--root=/", "list"], 1, &["--root argument should not be set to /"]),
        (&["exec", "--root", "/no/such", "x", "true"], 255, &["does not exist"]),
        (&["state", ""], 1, &["container id cannot be empty"]),
        (&["completion", "tcsh"], 1, &["no completion for shell", "bash, zsh or fish"]),
        (&["man", "frobnicate"], 1, &["no manual page for"]),
    ] {
        fails(runtime().args(args), code, words);
    }
    // The help of the command is shown with a wrong flag of it, on standard output.
    let said = say(runtime().args(["create", "--frob"]));
    assert!(said.out.starts_with("NAME:\n   rcr-runtime create - "), "{}", said.out);
}

fn log_lines_in_both_formats() {
    let stage = Stage::new("true", |config, _| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_NOT_YET", "CAP_KILL"]);
    });
    let log = stage.world.path().join("log");
    let run = |flags: &[&str]| {
        let _ = fs::remove_file(&log);
        let mut command = stage.world.runtime();
        command.arg("--log").arg(&log).args(flags).args(["run", "--bundle"]).arg(&stage.dir).arg("box");
        let said = say(command.stdin(Stdio::null()));
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        fs::read_to_string(&log).expect("a log")
    };
    // Warnings are for everybody, and nothing else is.
    let text = run(&[]);
    assert!(text.starts_with("time=\"20") && text.contains(" level=warning msg="), "{text}");
    assert!(text.contains("CAP_NOT_YET") && !text.contains("level=debug"), "{text}");
    let text = run(&["--debug", "--log-format=json"]);
    let levels: Vec<String> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(
                line["msg"].is_string() && line["time"].as_str().is_some_and(|t| t.ends_with('Z')),
                "{line}"
            );
            line["level"].as_str().expect("a level").to_owned()
        })
        .collect();
    assert!(levels.iter().any(|l| l == "warning") && levels.iter().any(|l| l == "debug"), "{levels:?}");
    // The log is added to, not begun anew.
    let said = say(stage.world.runtime().arg("--log").arg(&log).args(["state", "nobody"]));
    assert_eq!(said.code, 1);
    let longer = fs::read_to_string(&log).expect("a log");
    assert!(longer.starts_with(&text) && longer.len() > text.len());
}

fn features() -> Value {
    serde_json::from_str(&ok(runtime().arg("features"))).expect("JSON")
}

fn features_are_complete() {
    let features = features();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    for pointer in [
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/cgroup/v1",
        "/linux/cgroup/v2",
        "/linux/cgroup/systemd",
        "/linux/cgroup/systemdUser",
        "/linux/cgroup/rdma",
        "/linux/seccomp/enabled",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
        "/linux/seccomp/archs",
        "/linux/seccomp/knownFlags",
        "/linux/seccomp/supportedFlags",
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
        "/linux/intelRdt/enabled",
        "/linux/intelRdt/schemata",
        "/linux/intelRdt/monitoring",
        "/linux/memoryPolicy/modes",
        "/linux/memoryPolicy/flags",
        "/linux/mountExtensions/idmap/enabled",
        "/linux/netDevices/enabled",
        "/annotations",
        "/potentiallyUnsafeConfigAnnotations",
    ] {
        assert!(features.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer}");
    }
    // What the kernel is asked about is among what is known.
    let known = features["linux"]["seccomp"]["knownFlags"].as_array().expect("a list");
    for flag in features["linux"]["seccomp"]["supportedFlags"].as_array().expect("a list") {
        assert!(known.contains(flag), "{flag}");
    }
}

/// Whatever an older runc knows, this one knows too.
fn features_as_runc_says_them() {
    let said = say(Command::new("runc").arg("features"));
    let Ok(theirs) = serde_json::from_str::<Value>(&said.out) else {
        panic!("this runc has no features: {}", said.err)
    };
    let ours = features();
    for list in [
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
        "/linux/seccomp/archs",
    ] {
        let ours = ours.pointer(list).and_then(Value::as_array).expect("a list");
        for word in theirs.pointer(list).and_then(Value::as_array).expect("a list") {
            // ext4's own, which runc 1.1 took for general ones.
            if !matches!(word.as_str(), Some("acl" | "noacl")) {
                assert!(ours.contains(word), "{list}: {word}");
            }
        }
    }
}

fn bash_completes() {
    let world = World::new();
    let script = world.path().join("script");
    fs::write(&script, ok(runtime().args(["completion", "bash"]))).expect("writable");
    let complete = |words: &[&str]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "source {}; COMP_WORDS=(rcr-runtime {}); COMP_CWORD={}; _rcr_runtime; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            quoted.join(" "),
            words.len()
        );
        let mut path = binary("rcr-runtime").parent().expect("a directory").as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        let said = ok(Command::new("bash").args(["--norc", "-euc", &line]).env("PATH", path));
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["cre"]), ["create"]);
    assert_eq!(complete(&["--log-f"]), ["--log-format"]);
    assert_eq!(complete(&["--root", "/x", "del"]), ["delete"]);
    assert_eq!(complete(&["--root", "=", "/x", "pau"]), ["pause"]);
    assert_eq!(complete(&["run", "--no-n"]), ["--no-new-keyring"]);
    assert_eq!(complete(&["completion", ""]), ["bash", "zsh", "fish"]);
    assert_eq!(complete(&["create", "--bundle", "/et"]), ["/etc"]);
    assert!(complete(&[""]).iter().any(|word| word == "features"));
    if nix::unistd::geteuid().is_root() && std::path::Path::new("/bin/busybox").exists() {
        let stage = Stage::running("completed", |_, _| ());
        let root = stage.world.path().join("state");
        assert_eq!(complete(&["--root", root.to_str().expect("UTF-8"), "exec", "comp"]), ["completed"]);
    }
}

fn zsh_reads_its_script() {
    let world = World::new();
    let script = world.path().join("_rcr-runtime");
    fs::write(&script, ok(runtime().args(["completion", "zsh"]))).expect("writable");
    ok(Command::new("zsh").arg("-n").arg(&script));
    let load = "fpath=($0 $fpath); autoload -Uz compinit; compinit -D -u; print $_comps[rcr-runtime]; \
                autoload +X _rcr-runtime && print read";
    let said = ok(Command::new("zsh").args(["-fc", load]).arg(world.path()));
    assert_eq!(said, "_rcr-runtime\nread");
}

fn fish_reads_its_script() {
    let world = World::new();
    let script = world.path().join("rcr-runtime.fish");
    fs::write(&script, ok(runtime().args(["completion", "fish"]))).expect("writable");
    let complete = |line: &str| {
        let code = format!("source {}; complete -C '{line}'", script.display());
        let mut fish = Command::new("fish");
        let said = ok(fish.args(["--no-config", "-c", &code]).env("HOME", world.path()));
        said.lines().map(|l| l.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(complete("rcr-runtime featur"), ["features"]);
    assert_eq!(complete("rcr-runtime run --no-n"), ["--no-new-keyring"]);
}

fn manual_pages_are_clean() {
    let world = World::new();
    ok(runtime().args(["man", "--write"]).arg(world.path()));
    let mut pages = 0;
    for entry in fs::read_dir(world.path()).expect("readable") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|e| e != "8") {
            continue;
        }
        pages += 1;
        let said = say(Command::new("groff").args(["-man", "-ww", "-Tutf8", "-z"]).arg(&path));
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", path.display());
    }
    assert!(pages > COMMANDS.len(), "one for each command and one for the program: {pages}");
    let page = ok(runtime().args(["man", "exec"]));
    assert!(page.starts_with(".TH RCR\\-RUNTIME\\-EXEC 8"), "{page}");
    assert!(page.contains("\\fB\\-\\-ignore\\-paused\\fR"), "{page}");
}
