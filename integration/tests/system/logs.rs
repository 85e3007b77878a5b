//! What a background container wrote, and how long it is kept.

use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::host::Need::{Path as File, Root};
use harness::world::{fails, ok, say};
use harness::{Case, cases};
use serde_json::Value;

use crate::detached::{assert_no_container, inspect, rcr, until, world};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("logs":
    streams_and_times_are_kept_apart [Root, BUSYBOX],
    long_lines_come_in_parts_and_whole [Root, BUSYBOX],
    followed_until_the_end [Root, BUSYBOX],
    files_are_rotated_under_load [Root, BUSYBOX],
    a_log_that_is_not_wanted_is_not_kept [Root, BUSYBOX],
    details_are_as_dockers [Root, BUSYBOX],
);

fn streams_and_times_are_kept_apart() {
    let (world, image) = world();
    let script = "echo one; sleep 0.1; echo two >&2; sleep 1.2; echo three; printf four";
    ok(&mut rcr(&world, &["run", "-d", "--name", "talk", &image, "sh", "-c", script]));
    assert_eq!(ok(&mut rcr(&world, &["wait", "talk"])), "0");
    let said = say(&mut rcr(&world, &["logs", "talk"]));
    assert_eq!((said.out.as_str(), said.err.as_str()), ("one\nthree\nfour", "two\n"), "{said:?}");
    assert_eq!(ok(&mut rcr(&world, &["logs", "--tail", "1", "talk"])), "four");
    assert_eq!(ok(&mut rcr(&world, &["logs", "-n", "2", "talk"])), "three\nfour");
    let file = inspect(&world, "talk")["LogPath"].as_str().expect("a path").to_owned();
    let objects: Vec<Value> = std::fs::read_to_string(file)
        .expect("a log")
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let streams: Vec<_> = objects.iter().map(|o| o["stream"].as_str().expect("a stream")).collect();
    assert_eq!(streams, ["stdout", "stderr", "stdout", "stdout"]);
    assert_eq!((&objects[0]["log"], &objects[3]["log"]), (&Value::from("one\n"), &Value::from("four")));
    let third = objects[2]["time"].as_str().expect("a time");
    assert_eq!(ok(&mut rcr(&world, &["logs", "--since", third, "talk"])), "three\nfour");
    assert_eq!(ok(&mut rcr(&world, &["logs", "--until", third, "talk"])), "one");
    assert_eq!(ok(&mut rcr(&world, &["logs", "--since", "1h", "talk"])), "one\nthree\nfour");
    assert_eq!(
        ok(&mut rcr(&world, &["logs", "-t", "--since", third, "--tail=2", "talk"])).lines().next(),
        Some(&*format!("{third} three"))
    );
    fails(&mut rcr(&world, &["logs", "--since", "soon", "talk"]), 1, &["--since", "soon"]);
    fails(&mut rcr(&world, &["logs", "nobody"]), 1, &["no such container: nobody"]);
    ok(&mut rcr(&world, &["rm", "talk"]));
    assert_no_container(&world);
}

fn long_lines_come_in_parts_and_whole() {
    let (world, image) = world();
    let script = "head -c 50000 /dev/zero | tr '\\0' x; echo; printf '\\377<&>\\n'";
    ok(&mut rcr(&world, &["run", "-d", "--name", "long", &image, "sh", "-c", script]));
    ok(&mut rcr(&world, &["wait", "long"]));
    assert_eq!(ok(&mut rcr(&world, &["logs", "long"])), format!("{}\n\u{fffd}<&>", "x".repeat(50_000)));
    let file = inspect(&world, "long")["LogPath"].as_str().expect("a path").to_owned();
    let lengths: Vec<usize> = std::fs::read_to_string(file)
        .expect("a log")
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("JSON")["log"].as_str().expect("text").len())
        .collect();
    assert_eq!(lengths[..4], [16_384, 16_384, 16_384, 849], "docker's parts");
    ok(&mut rcr(&world, &["rm", "long"]));
    assert_no_container(&world);
}

fn followed_until_the_end() {
    let (world, image) = world();
    let script = "for n in 1 2 3 4 5; do echo $n; sleep 0.3; done";
    ok(&mut rcr(&world, &["run", "-d", "--name", "slow", &image, "sh", "-c", script]));
    let start = Instant::now();
    assert_eq!(ok(&mut rcr(&world, &["logs", "-f", "slow"])), "1\n2\n3\n4\n5");
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(
        ok(&mut rcr(&world, &["logs", "-f", "--tail", "2", "slow"])),
        "4\n5",
        "one that has ended is not waited for"
    );
    ok(&mut rcr(&world, &["rm", "slow"]));
    // One that is removed meanwhile ends it too.
    ok(&mut rcr(&world, &["run", "-d", "--name", "gone", &image, "sh", "-c", "echo hi; sleep 60"]));
    let mut child = rcr(&world, &["logs", "-f", "gone"]).stdout(Stdio::null()).spawn().expect("rcr starts");
    std::thread::sleep(Duration::from_millis(300));
    ok(&mut rcr(&world, &["rm", "-f", "gone"]));
    until("it ends", || child.try_wait().expect("a child").is_some());
    assert_no_container(&world);
}

fn files_are_rotated_under_load() {
    let (world, image) = world();
    let script = "n=0; while [ $n -lt 30000 ]; do n=$((n+1)); echo this is line number $n; done";
    let flags = ["run", "-d", "--name", "load", "--log-opt", "max-size=500k", "--log-opt", "max-file=3"];
    ok(&mut rcr(&world, &[&flags[..], &[&image, "sh", "-c", script]].concat()));
    let config = inspect(&world, "load")["HostConfig"]["LogConfig"].clone();
    assert_eq!(
        (&config["Type"], &config["Config"]["max-file"]),
        (&Value::from("json-file"), &Value::from("3"))
    );
    // A follower loses nothing while files come and go.
    let followed = ok(&mut rcr(&world, &["logs", "-f", "load"]));
    assert_eq!(followed.lines().last(), Some("this is line number 30000"));
    let file = inspect(&world, "load")["LogPath"].as_str().expect("a path").to_owned();
    for name in [file.clone(), format!("{file}.1"), format!("{file}.2")] {
        let size = std::fs::metadata(&name).expect(&name).len();
        assert!(size <= 500 << 10, "{name} has {size} bytes");
    }
    assert!(!std::path::Path::new(&format!("{file}.3")).exists());
    let kept = ok(&mut rcr(&world, &["logs", "load"]));
    let kept: Vec<&str> = kept.lines().collect();
    assert!(kept.len() > 8_000 && kept.len() < 30_000, "{} lines", kept.len());
    let first = 30_001 - kept.len();
    let whole =
        kept.iter().enumerate().all(|(n, line)| *line == format!("this is line number {}", first + n));
    assert!(whole, "the last lines, all of them, in order");
    ok(&mut rcr(&world, &["rm", "load"]));
    assert_no_container(&world);
}

fn a_log_that_is_not_wanted_is_not_kept() {
    let (world, image) = world();
    ok(&mut rcr(&world, &["run", "-d", "--name", "mute", "--log-driver", "none", &image, "echo", "x"]));
    ok(&mut rcr(&world, &["wait", "mute"]));
    fails(&mut rcr(&world, &["logs", "mute"]), 1, &["mute", "--log-driver none"]);
    fails(
        &mut rcr(&world, &["run", "-d", "--log-driver", "syslog", &image, "true"]),
        125,
        &["syslog", "json-file"],
    );
    ok(&mut rcr(&world, &["rm", "mute"]));
    assert_no_container(&world);
}

/// What a log driver was asked to add comes before each line; json-file was asked for nothing, and docker prints the space.
fn details_are_as_dockers() {
    let (world, image) = world();
    let run = [
        "run",
        "-d",
        "--name",
        "talk",
        "--label",
        "a=b",
        "-e",
        "C=d",
        &image,
        "sh",
        "-c",
        "echo x; echo y >&2",
    ];
    ok(&mut rcr(&world, &run));
    ok(&mut rcr(&world, &["wait", "talk"]));
    let said = say(&mut rcr(&world, &["logs", "--details", "talk"]));
    assert_eq!((said.out.as_str(), said.err.as_str()), (" x\n", " y\n"));
    let timed = ok(&mut rcr(&world, &["logs", "--details", "-t", "talk"]));
    let (time, rest) = timed.split_once(' ').expect("a time");
    assert!(time.ends_with('Z') && rest == " x", "{timed}");
    ok(&mut rcr(&world, &["rm", "talk"]));
    assert_no_container(&world);
}
