//! A first-time user's walk: the commands of a docker tutorial, with `rcr` for `docker`.

use std::path::Path;
use std::process::Stdio;

use harness::host::Need::{Path as File, Program, Root};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::until;
use harness::world::{ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};
use sys::rtnetlink::Netlink;

use crate::network::{Host, answers, on_a_host, talk};

pub(crate) const CASES: &[Case] = cases!("walk":
    a_first_time_users_walk [Root, File("/bin/busybox"), Program("nft"), Program("tar"), Program("script")],
);

/// A server, a volume, a network with names, limits, restarts, an image of one's own; and nothing is left at the end.
fn a_first_time_users_walk() {
    on_a_host(|host| {
        let before = Snapshot::take();
        let image = host.image.as_str();
        let rcr = |args: &[&str]| ok(&mut host.rcr(args));
        // A web server in the background, and its port.
        let server = "echo ready; while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello' | nc -l -p 80; echo served; done";
        let id = rcr(&["run", "-d", "-p", "8080:80", "--name", "web", image, "sh", "-c", server]);
        assert_eq!(id.len(), 64);
        assert_eq!(rcr(&["ps", "--format", "{{.Names}} {{.Ports}}"]), "web 0.0.0.0:8080->80/tcp");
        assert!(talk("127.0.0.1:8080").ends_with("hello"));
        let mut logs = host.rcr(&["logs", "-f", "web"]);
        let logs = logs.stdout(Stdio::piped()).spawn().expect("rcr starts");
        // On a terminal, as people do.
        let program = harness::world::binary("rcr").display().to_string();
        let (root, runroot) = (host.world.path().join("store"), host.world.path().join("run"));
        let line = format!(
            "{program} --root {} --runroot {} exec -it web sh -c 'tty; cat /proc/1/comm'",
            root.display(),
            runroot.display()
        );
        let mut script = std::process::Command::new("script");
        let said = ok(script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()));
        assert!(said.contains("/dev/pts/") && said.contains("sh"), "{said}");
        // A volume outlives its containers.
        rcr(&["volume", "create", "data"]);
        rcr(&["run", "--rm", "-v", "data:/data", image, "sh", "-c", "echo kept > /data/file"]);
        assert_eq!(rcr(&["run", "--rm", "-v", "data:/data:ro", image, "cat", "/data/file"]), "kept");
        // Two containers talk by name.
        rcr(&["network", "create", "app"]);
        rcr(&["run", "-d", "--network", "app", "--name", "db", image, "sh", "-c", &answers("rows", 5432)]);
        let asks = "until echo q | nc -w 2 db 5432; do sleep 0.1; done";
        assert_eq!(rcr(&["run", "--rm", "--network", "app", image, "sh", "-c", asks]), "rows");
        rcr(&["network", "connect", "app", "web"]);
        assert!(
            rcr(&["run", "--rm", "--network", "app", image, "sh", "-c", "echo | nc -w 5 web 80"])
                .ends_with("hello")
        );
        a_limit_a_restart_and_an_image(host);
        // The end of it all.
        assert_eq!(rcr(&["stop", "-t", "1", "web", "db"]), "web\ndb");
        let written = logs.wait_with_output().expect("logs end with the container");
        let written = String::from_utf8_lossy(&written.stdout).into_owned();
        assert!(written.starts_with("ready\n") && written.matches("served\n").count() == 2, "{written}");
        rcr(&["rm", "web", "db", "greedy", "flaky"]);
        rcr(&["network", "rm", "app"]);
        rcr(&["volume", "rm", "data"]);
        rcr(&["rmi", "mine:1"]);
        rcr(&["network", "prune", "-f"]);
        rcr(&["system", "prune", "-a", "-f"]);
        assert_eq!(
            (rcr(&["ps", "-aq"]), rcr(&["volume", "ls", "-q"]), rcr(&["images", "-q"])),
            Default::default()
        );
        until("the end of the links", || {
            let links = Netlink::open().and_then(|netlink| netlink.links()).expect("links");
            !links.iter().any(|link| link.kind.as_deref() == Some("veth"))
        });
        assert_none_since(&before);
    });
}

fn a_limit_a_restart_and_an_image(host: &Host) {
    let image = host.image.as_str();
    let rcr = |args: &[&str]| ok(&mut host.rcr(args));
    // Too much memory: the kernel ends it, and inspect says so.
    let eats = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    let flags = ["run", "--name", "greedy", "--memory", "16m", "--memory-swap", "16m", image];
    assert_eq!(say(&mut host.rcr(&[&flags[..], &eats].concat())).code, 137);
    let state: Value =
        serde_json::from_str(&rcr(&["inspect", "-f", "{{json .State}}", "greedy"])).expect("JSON");
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&json!(true), &json!(137)));
    // What fails is tried again.
    rcr(&["run", "-d", "--name", "flaky", "--restart", "on-failure:2", image, "sh", "-c", "exit 3"]);
    until("it gives up", || {
        rcr(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "flaky"])
            == "2 exited 3"
    });
    // An image of one's own.
    rcr(&["exec", "web", "sh", "-c", "echo mine > /made"]);
    assert!(rcr(&["commit", "-c", "CMD [\"cat\", \"/made\"]", "web", "mine:1"]).starts_with("sha256:"));
    assert_eq!(rcr(&["run", "--rm", "mine:1"]), "mine");
    let tar = host.world.path().join("web.tar");
    rcr(&["export", "-o", &tar.display().to_string(), "web"]);
    assert!(
        ok(std::process::Command::new("tar").arg("-tf").arg(Path::new(&tar)))
            .lines()
            .any(|name| name == "made")
    );
}
