//! How `rcr` treats who types: completions with live names, manual pages, guesses at slips, listings that are fast.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::host::Need::{Path, Program, Root};
use harness::world::{World, binary, fails, ok};
use harness::{Case, cases, image};
use serde_json::{Value, json};

use crate::counts::count;

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("manners":
    bash_completes_live_names [Root, BUSYBOX, Program("bash")],
    zsh_reads_its_script [Program("zsh")],
    fish_completes [Program("fish")],
    manual_pages_are_clean [Program("groff")],
    slips_are_told_what_was_meant [Root, BUSYBOX],
    colour_is_for_terminals_and_who_wants_it [Program("python3")],
    groups_of_commands_do_the_same [Root, BUSYBOX],
    sizes_are_what_was_written [Root, BUSYBOX],
    a_thousand_containers_are_listed_at_once [Root, Program("strace"), BUSYBOX],
);

/// A world with a kept container `web`, its image without a name, and volume `data`.
fn world() -> World {
    let world = World::new();
    let config = json!({ "Cmd": ["true"], "Env": ["PATH=/bin"], "Labels": { "org.x": "y" } });
    let image = image::busybox_layout(&world.path().join("layout"), config);
    let mut run = world.rcr();
    run.args(["run", "--name", "web", "--network", "none", "-v", "data:/data", &image]).stdin(Stdio::null());
    ok(run.args(["sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1000 count=12 2>/dev/null; exit 0"]));
    world
}

/// A program `rcr` in a directory of its own, which uses this world; for scripts that call it by its name.
fn rcr_in_path(world: &World) -> String {
    let dir = world.path().join("bin");
    fs::create_dir_all(&dir).expect("writable");
    let _ = symlink(binary("rcr"), dir.join("rcr"));
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default())
}

fn bash_completes_live_names() {
    let world = world();
    let script = world.path().join("rcr.bash");
    fs::write(&script, ok(world.rcr().args(["completion", "bash"]))).expect("writable");
    let complete = |words: &[&str]| -> Vec<String> {
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let code = format!(
            "source {}; COMP_WORDS=(rcr {line}); COMP_CWORD={}; _rcr; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.len()
        );
        let mut bash = Command::new("bash");
        let said = ok(bash.args(["--norc", "-c", &code]).env("PATH", rcr_in_path(&world)));
        said.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
    };
    let root = world.path().join("store").display().to_string();
    let here = |words: &[&str]| complete(&[&["--root", &root][..], words].concat());
    assert_eq!(here(&["rm", "-f", ""]), ["web"]);
    assert_eq!(here(&["run", "-v", ""]), ["data"]);
    assert_eq!(here(&["inspect", "w"]), ["web"]);
    assert_eq!(complete(&["ex"]), ["exec", "export"]);
    assert_eq!(complete(&["container", "ex"]), ["exec", "export"]);
    assert_eq!(complete(&["exec", "--detach-k"]), ["--detach-keys"]);
    // Where nothing is, nothing is said, and nothing is made.
    let nowhere = world.path().join("nowhere");
    assert!(complete(&["--root", &nowhere.display().to_string(), "rm", ""]).is_empty());
    assert!(!nowhere.exists());
}

fn zsh_reads_its_script() {
    let world = World::new();
    let script = world.path().join("_rcr");
    fs::write(&script, ok(world.rcr().args(["completion", "zsh"]))).expect("writable");
    ok(Command::new("zsh").arg("-n").arg(&script));
    let load = "fpath=($0 $fpath); autoload -Uz compinit; compinit -D -u; print $_comps[rcr]; \
                autoload +X _rcr && print read";
    assert_eq!(ok(Command::new("zsh").args(["-fc", load]).arg(world.path())), "_rcr\nread");
}

fn fish_completes() {
    let world = World::new();
    let script = world.path().join("rcr.fish");
    fs::write(&script, ok(world.rcr().args(["completion", "fish"]))).expect("writable");
    let complete = |line: &str| {
        let code = format!("source {}; complete -C '{line}'", script.display());
        let mut fish = Command::new("fish");
        let said = ok(fish
            .args(["--no-config", "-c", &code])
            .env("HOME", world.path())
            .env("PATH", rcr_in_path(&world)));
        said.lines().map(|l| l.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(complete("rcr exe"), ["exec"]);
    assert_eq!(complete("rcr run --entryp"), ["--entrypoint"]);
}

fn manual_pages_are_clean() {
    let world = World::new();
    let pages = world.path().join("pages");
    fs::create_dir(&pages).expect("writable");
    ok(world.rcr().args(["man", "--write"]).arg(&pages));
    let mut count = 0;
    for entry in fs::read_dir(&pages).expect("readable") {
        let path = entry.expect("readable").path();
        count += 1;
        let said =
            harness::world::say(Command::new("groff").args(["-man", "-ww", "-Tutf8", "-z"]).arg(&path));
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", path.display());
    }
    assert!(count > 20, "one for each command and one for the program: {count}");
    assert!(ok(world.rcr().args(["man", "network", "create"])).contains("subnet"));
    fails(world.rcr().args(["man", "rnu"]), 1, &["no manual page", "rnu"]);
}

fn slips_are_told_what_was_meant() {
    let world = world();
    fails(world.rcr().args(["rm", "wbe"]), 1, &["no such container: wbe", "did you mean web?"]);
    fails(world.rcr().args(["rm", "unlike"]), 1, &["no such container: unlike", "rcr ps -a"]);
    fails(world.rcr().args(["exec", "wev", "true"]), 1, &["did you mean web?"]);
    fails(world.rcr().args(["inspect", "wbe"]), 1, &["did you mean web?"]);
    fails(world.rcr().args(["exec", "web", "true"]), 1, &["web is not running", "rcr start web"]);
    fails(world.rcr().args(["rnu"]), 1, &["'run'"]);
    fails(world.rcr().args(["exec", "--dteach", "web", "true"]), 125, &["--detach"]);
    // Nothing is coloured where no terminal is.
    let help = ok(world.rcr().args(["exec", "--help"]));
    assert!(!help.contains('\x1b') && help.contains("Examples:"), "{help}");
}

fn groups_of_commands_do_the_same() {
    let world = world();
    let of = |words: &[&str]| ok(world.rcr().args(words));
    assert_eq!(of(&["container", "ls", "-aq"]), of(&["ps", "-aq"]));
    assert_eq!(of(&["image", "ls", "-q"]), of(&["images", "-q"]));
    assert_eq!(of(&["container", "inspect", "web"]), of(&["inspect", "web"]));
    let id = of(&["images", "-q"]);
    assert_eq!(of(&["image", "inspect", "-f", "{{.Os}}", &id]), "linux");
    fails(world.rcr().args(["image", "inspect", "web"]), 1, &["no such image: web"]);
    fails(world.rcr().args(["inspect", "--type", "container", &id]), 1, &["no such container"]);
    assert_eq!(of(&["container", "rm", "web"]), "web");
    assert_eq!(of(&["container", "list", "-aq"]), "");
}

fn sizes_are_what_was_written() {
    let world = world();
    let found: Value = serde_json::from_str(&ok(world.rcr().args(["inspect", "-s", "web"]))).expect("JSON");
    assert_eq!(found[0]["SizeRw"], 12_000);
    let image = found[0]["SizeRootFs"].as_u64().expect("a number") - 12_000;
    let images: Value = serde_json::from_str(&ok(world.rcr().args([
        "image",
        "inspect",
        &ok(world.rcr().args(["images", "-q"])),
    ])))
    .expect("JSON");
    assert_eq!(images[0]["Size"], image);
    let listed = ok(world.rcr().args(["ps", "-as"]));
    assert!(listed.lines().next().is_some_and(|line| line.ends_with("NAMES     SIZE")), "{listed}");
    assert!(listed.contains("12kB (virtual "), "{listed}");
    let shown = ok(world.rcr().args([
        "ps",
        "-a",
        "--format",
        "{{.Names}} {{.Label \"org.x\"}} {{.LocalVolumes}} {{.Status}}",
    ]));
    assert!(shown.starts_with("web y 1 Exited (0) "), "{shown}");
}

fn a_thousand_containers_are_listed_at_once() {
    let world = world();
    let store = world.path().join("store");
    let id = ok(world.rcr().args(["ps", "-aq", "--no-trunc"]));
    let dir = store.join("containers").join(&id);
    let record: Value =
        serde_json::from_slice(&fs::read(dir.join("record.json")).expect("a record")).expect("JSON");
    for number in 1..1000 {
        let (id, name) = (format!("{number:064x}"), format!("copy-{number}"));
        let copy = store.join("containers").join(&id);
        fs::create_dir(&copy).expect("writable");
        let mut record = record.clone();
        (record["id"], record["name"]) = (json!(id), json!(name));
        fs::write(copy.join("record.json"), record.to_string()).expect("writable");
        for file in ["exit.json", "started"] {
            fs::copy(dir.join(file), copy.join(file)).expect("copied");
        }
        symlink(&id[..48], store.join("container-names").join(name)).expect("linked");
    }
    assert_eq!(ok(world.rcr().args(["ps", "-a"])).lines().count(), 1001);
    let start = Instant::now();
    ok(world.rcr().args(["ps", "-a"]));
    println!("ps -a of 1,000 containers: {:?}", start.elapsed());
    // Not in time, which is also a matter of who else works on this machine. Seen: 16.
    let calls = count(&world, world.rcr().args(["ps", "-a"]));
    assert!(calls < 20_000, "{calls} system calls for 1,000 containers");
    let root = store.display().to_string();
    let calls = count(&world, world.rcr().args(["__complete", "--", "--root", &root, "rm", "copy-99"]));
    assert!(calls < 20_000, "{calls} system calls for 1,000 names");
}

fn colour_is_for_terminals_and_who_wants_it() {
    let world = World::new();
    let on_a_terminal = |set: Option<&str>, args: &[&str]| {
        let rcr = world.rcr();
        let mut command = Command::new("python3");
        let terminal = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/terminal.py");
        command.arg(terminal).arg(rcr.get_program()).args(rcr.get_args()).args(args).stdin(Stdio::null());
        command
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .env_remove("CLICOLOR_FORCE");
        command.envs(set.map(|value| ("NO_COLOR", value)));
        let output = command.output().expect("python3 starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for args in [&["--help"][..], &["run", "--help"]] {
        assert!(on_a_terminal(None, args).contains("\x1b["), "{args:?}");
        // Its presence counts, but not when it is empty (no-color.org).
        assert!(on_a_terminal(Some(""), args).contains("\x1b["), "{args:?}");
        assert!(!on_a_terminal(Some("1"), args).contains('\x1b'), "{args:?}");
        let said = world.rcr().args(args).env("TERM", "xterm").output().expect("rcr runs");
        assert!(!said.stdout.contains(&0x1b) && !said.stderr.contains(&0x1b), "{args:?}: no terminal");
    }
}
