//! The built `rcr` without root: help, refusals, exit codes, and where each goes.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output, Stdio};

/// The subcommands, as `rcr --help` has to list them.
const COMMANDS: [&str; 11] =
    ["run", "pull", "images", "rmi", "ps", "rm", "inspect", "bundle", "system", "info", "version"];

fn rcr(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcr"));
    command.args(words).stdin(Stdio::null()).env_remove("RUST_BACKTRACE").env("HOME", "/nonexistent");
    command.output().unwrap()
}

/// Exit code, standard output, standard error.
fn said(words: &[&str]) -> (i32, String, String) {
    let output = rcr(words);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_goes_to_standard_output_and_names_every_flag() {
    let (code, out, err) = said(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for command in COMMANDS {
        assert!(out.contains(&format!("\n  {command} ")), "{command} is not in: {out}");
    }
    let flags: [(&str, &[&str]); 11] = [
        (
            "run",
            &[
                "--rm",
                "-i, --interactive",
                "-t, --tty",
                "-e, --env",
                "--env-file",
                "-v, --volume",
                "--tmpfs",
                "-w, --workdir",
                "-u, --user",
                "--name",
                "-h, --hostname",
                "--entrypoint",
                "--read-only",
                "--network",
                "--cap-add",
                "--cap-drop",
                "--privileged",
                "-m, --memory",
                "--cpus",
                "--pids-limit",
                "--ulimit",
                "--init",
                "--pull",
                "--platform",
                "-q, --quiet",
                "-l, --label",
            ],
        ),
        ("pull", &["-q, --quiet", "--platform", "--tls-verify", "--cert-dir", "--authfile"]),
        ("images", &["-a, --all", "--digests", "-f, --filter", "--format", "--no-trunc", "-q, --quiet"]),
        ("rmi", &["-f, --force"]),
        (
            "ps",
            &[
                "-a, --all",
                "-f, --filter",
                "--format",
                "-n, --last",
                "-l, --latest",
                "--no-trunc",
                "-q, --quiet",
            ],
        ),
        ("rm", &["-f, --force", "-v, --volumes"]),
        ("inspect", &["-f, --format"]),
        ("bundle", &["<IMAGE>", "<DIR>"]),
        ("system", &["df", "fsck", "prune"]),
        ("info", &["-f, --format"]),
        ("version", &["-f, --format"]),
    ];
    for (command, flags) in flags {
        let (code, out, err) = said(&[command, "--help"]);
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        for flag in flags.iter().chain(&["--root", "--runroot", "--debug", "--log-level"]) {
            assert!(out.contains(flag), "{command}: {flag} is not in: {out}");
        }
        assert!(!out.contains('\u{1b}'), "{command}: colour where there is no terminal");
    }
}

#[test]
fn nothing_asked_shows_the_help_as_docker_does() {
    for words in [&[][..], &["system"]] {
        let (code, out, err) = said(words);
        assert_eq!((code, out.as_str()), (0, ""));
        assert!(err.contains("Usage: rcr"), "{err}");
    }
}

#[test]
fn mistakes_are_one_line_on_standard_error() {
    let table: [(&[&str], i32, &[&str]); 17] = [
        (&["pul"], 1, &["'pul'", "'pull'", "rcr --help"]),
        (&["pull"], 1, &["IMAGE", "rcr pull --help"]),
        (&["pull", "--bogus", "x"], 125, &["--bogus"]),
        (&["rm"], 1, &["CONTAINER"]),
        (&["rmi"], 1, &["IMAGE"]),
        (&["inspect"], 1, &["NAME"]),
        (&["bundle", "x"], 1, &["DIR"]),
        (&["run"], 125, &["IMAGE"]),
        (&["run", "--nmae", "x", "y"], 125, &["--nmae", "'--name'", "rcr run --help"]),
        (
            &["--root", "/nonexistent", "run", "--memory", "lots", "x"],
            125,
            &["lots", "64m", "rcr run --help"],
        ),
        (&["run", "--network", "a:ip=x", "x"], 125, &["--network", "a:ip=x", "address"]),
        (&["run", "--env-file", "/nonexistent", "x"], 125, &["/nonexistent"]),
        (&["images", "--format", "{{.ID"], 125, &["{{.ID", "not closed"]),
        (&["images", "--format", "ID"], 125, &["wants table, json or a template"]),
        (&["ps", "--filter", "colour=red"], 125, &["colour", "name"]),
        (&["ps", "--last", "-1"], 125, &["-1"]),
        (&["--log-level", "loud", "version"], 125, &["loud", "debug"]),
    ];
    for (words, want, parts) in table {
        let (code, out, err) = said(words);
        assert_eq!((code, out.as_str()), (want, ""), "{words:?}: {err}");
        assert!(err.starts_with("rcr: ") && err.ends_with('\n'), "{words:?}: {err:?}");
        assert_eq!(err.lines().count(), 1, "{words:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{words:?}: {part:?} is not in: {err}");
        }
    }
}

#[test]
fn an_argument_cannot_write_on_the_terminal() {
    let (_, _, err) = said(&["\u{1b}]0;owned\u{7}"]);
    assert!(!err.contains(['\u{1b}', '\u{7}']), "{err:?}");
}

#[test]
fn the_version_in_every_format() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(said(&["--version"]).1, format!("rcr {version}\n"));
    assert!(said(&["version"]).1.contains(version));
    assert_eq!(said(&["version", "--format", "{{.Version}}"]).1, format!("{version}\n"));
    let json: serde_json::Value = serde_json::from_str(&said(&["version", "-f", "json"]).1).unwrap();
    assert_eq!(json["Version"], version);
    let (code, _, err) = said(&["version", "-f", "{{.Verzion}}"]);
    assert_eq!(code, 1);
    assert!(err.contains("there is no field .Verzion; there are .Arch"), "{err}");
}

#[test]
fn a_reader_that_left_ends_it_quietly() {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    for words in [&["version"][..], &["--help"], &["run", "--help"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rcr"));
        let output = command.args(words).stdout(write.try_clone().unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{words:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    }
}

#[test]
fn a_full_disk_is_told() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rcr")).arg("version").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.starts_with("rcr: write standard output: No space left on device"), "{err}");
}
