//! Containers of a user who is not root: in a cgroup that the user's systemd delegates, in one that nobody delegates, and
//! with ids from /etc/subuid.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::bundle::Bundle;
use harness::host::Need::{Path as FileNeed, Program, PureCgroup2, Root, Systemd};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{Said, binary, ok, say};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = FileNeed("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("rootless":
    a_delegated_cgroup_is_used [Root, BUSYBOX, PureCgroup2, Systemd, FileNeed("/home/user"), Program("runuser")],
    without_a_cgroup_only_limits_are_refused [Root, BUSYBOX, PureCgroup2, Systemd, FileNeed("/home/user"), Program("runuser")],
    ids_of_subuid_are_mapped [Root, BUSYBOX, PureCgroup2, Systemd, FileNeed("/home/user"), Program("newuidmap")],
);

/// The user's id.
const USER: u32 = 1000;

/// A bundle that belongs to the user, with a rootless config.
struct Own(Bundle);

impl Own {
    fn new(script: &str, adjust: impl FnOnce(&mut Value)) -> Own {
        // What only root may is missing in the rootless spec.
        let bundle = Bundle::new(script, |_, _| ());
        let world = bundle.world.path();
        fs::remove_file(bundle.dir.join("config.json")).expect("there");
        ok(Command::new("chmod").arg("755").arg(world));
        ok(Command::new("chown").arg("-R").arg(format!("{USER}:{USER}")).arg(world));
        let own = Own(bundle);
        ok(&mut own.plainly(&format!("{} spec --rootless --bundle {}", own.program(), own.0.dir.display())));
        let file = own.0.dir.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        adjust(&mut config);
        fs::write(&file, config.to_string()).expect("writable");
        own
    }

    fn program(&self) -> String {
        format!("{} --root {}/state", binary("rcr-runtime").display(), self.0.world.path().display())
    }

    /// A shell of the user, in whatever cgroup this process is.
    fn plainly(&self, script: &str) -> Command {
        let mut command = Command::new("runuser");
        command
            .args(["-u", "user", "--", "sh", "-c", script])
            .env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
        command.stdin(Stdio::null());
        command
    }

    /// The same in a scope of the user's systemd that has all controllers the user has.
    fn in_scope(&self, script: &str) -> Said {
        let bus = format!("unix:path=/run/user/{USER}/bus");
        let quoted = script.replace('\'', r"'\''");
        let scope = format!("systemd-run --user --scope --quiet -p Delegate=yes -- sh -c '{quoted}'");
        say(self.plainly(&scope).env("DBUS_SESSION_BUS_ADDRESS", bus))
    }
}

/// Starts the user's systemd, which goes when it is not used; its cgroups stay the same for the tests' snapshots.
fn user_manager() {
    ok(Command::new("systemctl").arg("start").arg(format!("user@{USER}.service")));
}

fn a_delegated_cgroup_is_used() {
    user_manager();
    let own = Own::new("sleep 1000", |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 30}});
    });
    let before = Snapshot::take();
    let (program, dir) = (own.program(), own.0.dir.display().to_string());
    let script = format!(
        "set -e; cgroup=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); \
         {program} create --bundle {dir} box </dev/null >/dev/null 2>{dir}/errors || {{ cat {dir}/errors >&2; exit 1; }}; \
         {program} start box; \
         its=$(dirname $cgroup)/box; cat $its/memory.max $its/pids.max; wc -l <$its/cgroup.procs; \
         {program} exec box sh -c 'id -u; cat /proc/self/cgroup' </dev/null; \
         {program} pause box; grep frozen $its/cgroup.events; {program} resume box; \
         {program} ps -f json box; {program} kill box KILL; \
         i=0; until {program} state box | grep -q stopped; do sleep 0.1; i=$((i+1)); [ $i -lt 100 ]; done; \
         {program} delete box; test ! -e $its"
    );
    let said = own.in_scope(&script);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[..6], ["67108864", "30", "1", "0", "0::/", "frozen 1"], "{}", said.err);
    assert_none_since(&before);
    // A path of the user's own choice below what he was given.
    let named = Own::new("cat /proc/self/cgroup", |config| {
        let path = format!("/user.slice/user-{USER}.slice/user@{USER}.service/rcr-named");
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}});
    });
    let said = named.in_scope(&format!(
        "{} run --bundle {} named </dev/null",
        named.program(),
        named.0.dir.display()
    ));
    assert_eq!((said.code, said.out.as_str()), (0, "0::/\n"), "{}", said.err);
    assert_none_since(&before);
}

fn without_a_cgroup_only_limits_are_refused() {
    let run = |adjust: fn(&mut Value)| {
        let own = Own::new("echo ran; cat /proc/self/cgroup", adjust);
        let command = format!("{} run --bundle {} box </dev/null", own.program(), own.0.dir.display());
        say(&mut own.plainly(&command))
    };
    let before = Snapshot::take();
    let said = run(|_| ());
    assert_eq!((said.code, said.out.lines().next()), (0, Some("ran")), "{}", said.err);
    // What runc's own tests look for in both cases.
    let said = run(|config| config["linux"]["resources"] = json!({"pids": {"limit": 10}}));
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(
        said.err.contains("cannot set pids limit: container could not join or create cgroup"),
        "{}",
        said.err
    );
    let said = run(|config| config["linux"]["cgroupsPath"] = json!("/rcr-not-mine"));
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.contains("permission denied"), "{}", said.err);
    assert_none_since(&before);
    assert!(!Path::new("/sys/fs/cgroup/rcr-not-mine").exists());
}

fn ids_of_subuid_are_mapped() {
    let own = Own::new(
        "cat /proc/self/uid_map; touch /tmp/mine; chown 7:8 /tmp/mine; stat -c %u:%g /tmp/mine",
        |config| {
            config["root"]["readonly"] = json!(false);
            let maps = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65_536}]);
            config["linux"]["uidMappings"] = maps.clone();
            config["linux"]["gidMappings"] = maps;
            for set in ["bounding", "permitted", "effective"] {
                config["process"]["capabilities"][set] = json!(["CAP_CHOWN"]);
            }
        },
    );
    let said = say(&mut own.plainly(&format!(
        "{} run --bundle {} box </dev/null",
        own.program(),
        own.0.dir.display()
    )));
    assert_eq!(said.code, 0, "{}", said.err);
    let lines: Vec<Vec<&str>> = said.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines, [vec!["0", "1000", "1"], vec!["1", "100000", "65536"], vec!["7:8"]]);
}
