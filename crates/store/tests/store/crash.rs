//! Processes that die at any moment, and how much memory they need.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use store::Store;

use crate::archive::{dir, file, tar};
use crate::image::{Bundle, image};
use crate::tree::merged;
use crate::{Place, Test};

pub(crate) const TESTS: &[Test] = &[("crash_kill", kill), ("crash_memory", memory)];

/// Three layers that look at the ones below; the same bytes each time.
fn bundle() -> Bundle {
    let noise: Vec<u8> = (0..3_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let files =
        |prefix: &str| (0..300).map(|n| file(format!("{prefix}/{n}"), n.to_string())).collect::<Vec<_>>();
    let mut lowest = vec![dir("d"), file("d/noise", noise)];
    lowest.extend(files("d"));
    let mut middle = files("e");
    middle.push(file("d/.wh.noise", ""));
    image(&[tar(&lowest), tar(&middle), tar(&files("d/sub"))])
}

/// What `--child-pull STORE` does, in a process of its own: pulls, names and removes, until it is killed.
pub(crate) fn child_pull(path: &Path) {
    let bundle = bundle();
    println!("ready");
    loop {
        let store = Store::open(path).unwrap();
        // Another one at the same image may have removed it by now, or its name; nothing else may go wrong.
        let image = match bundle.pull(&store) {
            Err(e) if matches!(e.downcast_ref(), Some(store::Error::NoImage(_))) => continue,
            other => other.unwrap(),
        };
        let gone = |result| match result {
            Err(store::Error::NoImage(_)) => true,
            other => other.map(|()| false).unwrap(),
        };
        if gone(store.tag(&"name".parse().unwrap(), &image.id)) || gone(store.pin("holder", &image.id)) {
            continue;
        }
        store.unpin("holder").unwrap();
        gone(store.remove("name", true).map(drop));
    }
}

/// One that has made what it pulls, which takes longest, and begins to pull.
fn puller(store: &str) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--child-pull", store]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    child
}

fn kill() {
    let place = Place::new();
    let path = place.path.to_str().unwrap();
    let mut found = 0;
    for round in 0..50u64 {
        let first = puller(path);
        // Every third time another one is at it too.
        let second = (round % 3 == 0).then(|| puller(path));
        std::thread::sleep(Duration::from_millis(20 + (round * 7919) % 400));
        for mut child in std::iter::once(first).chain(second) {
            // It must not have failed by itself.
            if let Some(status) = child.try_wait().unwrap() {
                let mut text = String::new();
                std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut text).unwrap();
                panic!("round {round}: {status}: {text}");
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        found += place.staged().len();
        let store = Store::open(&place.path).unwrap();
        assert_eq!(place.staged(), Vec::<String>::new(), "round {round}");
        assert_eq!(store.fsck().unwrap(), [], "round {round}");
    }
    assert!(found > 0, "no round was killed at work");
    let image = bundle().pull(&place.store).unwrap();
    let tree = merged(&image);
    assert!(tree.contains_key("d/sub/299") && tree.contains_key("e/0") && !tree.contains_key("d/noise"));
}

/// What `--child-memory STORE` does: pulls eight layers of 40 MB at once, and says how much memory that took.
pub(crate) fn child_memory(path: &Path) {
    // Only one layer is in memory: it is sent eight times, under other names of the lower ones.
    let noise: Vec<u8> = (0..10_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let mut archive = file("noise", "").size(40_000_000).bytes();
    for _ in 0..4 {
        archive.extend_from_slice(&noise);
    }
    drop(noise);
    archive.resize(archive.len() + 1024 + 512, 0);
    archive.truncate(archive.len() / 512 * 512);
    let blob = crate::image::gzipped(&archive);
    drop(archive);
    let bundle = Bundle::new(vec![blob; 8]);
    let before = peak();
    let store = Store::open(path).unwrap();
    let sink = store.sink().unwrap();
    bundle.begin(&sink).unwrap();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let (sink, bundle) = (&sink, &bundle);
            scope.spawn(move || bundle.send(sink, index, 16_384).unwrap());
        }
    });
    bundle.commit(&sink).unwrap();
    println!("{}", peak() - before);
}

/// Peak of this process's own memory, in KiB (proc(5), VmHWM).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn memory() {
    let place = Place::new();
    let out = Command::new("/proc/self/exe")
        .args(["--child-memory", place.path.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let kib: u64 = String::from_utf8_lossy(&out.stdout).trim().parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB for eight layers at once");
}
