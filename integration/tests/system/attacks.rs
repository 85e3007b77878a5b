//! Known attacks on container runtimes, each named by its advisory: a hostile root file system or config must not
//! reach anything outside. The row names (RT-…) are those of the project's catalogue of attacks.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use harness::bundle::Bundle;
use harness::canary::Canary;
use harness::host::Need::{Path as File, Program, Root};
use harness::image::{busybox_layout, sha256};
use harness::leaks::{Snapshot, assert_none_since};
use harness::stage::Stage;
use harness::world::{World, binary, fails, ok, say};
use harness::{Case, cases};
use serde_json::json;

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("attacks":
    overwriting_the_runtime_through_proc_self_exe [Root, BUSYBOX],
    numeric_users_are_never_names_and_never_wrap [Root, BUSYBOX],
    mounts_onto_proc_are_refused [Root, BUSYBOX],
    proc_and_sys_as_symlinks_are_refused [Root, BUSYBOX],
    dev_as_a_symlink_leaves_the_host_alone [Root, BUSYBOX],
    mount_destinations_stay_in_the_root [Root, BUSYBOX],
    no_inheritable_and_no_ambient_capabilities [Root, BUSYBOX],
    no_descriptor_of_the_host_leaks [Root, BUSYBOX],
    a_false_dev_null_is_not_bound_over_masked_paths [Root, BUSYBOX],
    identifiers_that_are_paths_are_refused [Root, BUSYBOX],
    cgroup_paths_stay_below_their_root [Root, BUSYBOX],
    sysctls_of_the_host_are_refused [Root, BUSYBOX],
    device_numbers_that_wrap_are_refused [Root, BUSYBOX],
    a_read_only_root_stays_read_only [Root, BUSYBOX],
    state_files_placed_before_are_not_followed [Root, BUSYBOX],
    a_failing_hook_rolls_everything_back [Root, BUSYBOX],
    a_swapped_mount_destination_stays_inside [Root, BUSYBOX],
    set_user_id_programs_refuse_to_run [Root, Program("setpriv")],
    rcr_runs_containers_from_a_copy_nobody_can_write [Root, BUSYBOX],
);

/// Runs a bundle that must be refused (exit 1, none of the script's output) or stay harmless, and checks the canary.
fn refused(bundle: &Bundle, canary: &Canary, what: &str) {
    let before = Snapshot::take();
    let said = bundle.run("hostile");
    assert_ne!(said.code, 0, "{what}: it ran: {}", said.out);
    assert!(!said.err.is_empty() && !said.err.contains("panicked"), "{what}: {}", said.err);
    canary.assert_untouched(what);
    assert_none_since(&before);
}

fn overwriting_the_runtime_through_proc_self_exe() {
    // CVE-2019-5736 (RT-01): whoever gets hold of /proc/PID/exe of the runtime tries to write to it.
    let runtime = binary("rcr-runtime");
    let sum = || sha256(&fs::read(&runtime).expect("readable"));
    let honest = sum();
    let script = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in *rcr*) echo seen; (echo x >> $p/exe) 2>/dev/null && echo written; esac; done; done";
    let bundle = Bundle::new(script, |_, _| ());
    let quiet =
        |args: &[&str]| ok(bundle.world.runtime().args(args).stdin(Stdio::null()).stdout(Stdio::null()));
    let log = fs::File::create(bundle.world.path().join("log")).expect("writable");
    let mut create = bundle.world.runtime();
    create.arg("create").arg("--bundle").arg(&bundle.dir).arg("victim").stdin(Stdio::null()).stdout(log);
    assert!(create.status().expect("it starts").success());
    quiet(&["start", "victim"]);
    for _ in 0..100 {
        let said = say(bundle.world.runtime().args(["exec", "victim", "/bin/true"]).stdin(Stdio::null()));
        assert_eq!(said.code, 0, "{}", said.err);
    }
    // A shebang of /proc/self/exe runs whatever the executing process was.
    fs::write(bundle.rootfs().join("bin/evil"), "#!/proc/self/exe\n").expect("writable");
    ok(Command::new("chmod").arg("755").arg(bundle.rootfs().join("bin/evil")));
    let _ = say(bundle.world.runtime().args(["exec", "victim", "/bin/evil"]).stdin(Stdio::null()));
    quiet(&["delete", "--force", "victim"]);
    let log = fs::read_to_string(bundle.world.path().join("log")).expect("readable");
    assert!(!log.contains("written"), "the runtime's binary was open for writing");
    assert_eq!(sum(), honest, "the runtime's binary changed");
}

fn numeric_users_are_never_names_and_never_wrap() {
    // CVE-2026-30892, CVE-2016-3697 (RT-03).
    let bundle = Bundle::new("sleep 60", |_, _| ());
    ok(bundle
        .world
        .runtime()
        .arg("create")
        .arg("--bundle")
        .arg(&bundle.dir)
        .arg("users")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null()));
    ok(bundle.world.runtime().args(["start", "users"]));
    let exec = |user: &str| {
        say(bundle.world.runtime().args(["exec", "-u", user, "users", "/bin/id", "-u"]).stdin(Stdio::null()))
    };
    assert_eq!(exec("1").out, "1\n");
    assert_eq!(exec("1:1").out, "1\n");
    for bad in [
        "4294967295",
        "4294967296",
        "-1",
        "1abc",
        " 1",
        "",
        "999999999999999999999999999999999999",
        "1:4294967296",
    ] {
        let said = exec(bad);
        assert_ne!(said.code, 0, "{bad:?} ran as {}", said.out);
    }
    ok(bundle.world.runtime().args(["delete", "--force", "users"]));
}

fn mounts_onto_proc_are_refused() {
    // CVE-2019-16884 (RT-04).
    let source = |dir: &Path| dir.join("rootfs/tmp");
    for destination in
        ["/proc", "/proc/self", "/proc/self/attr", "//proc", "/proc/../proc/self", "/sys/../proc/kmsg"]
    {
        let bundle = Bundle::new("exit 0", |config, dir| {
            let mount = json!({ "destination": destination, "type": "bind", "source": source(dir), "options": ["rbind"] });
            config["mounts"].as_array_mut().expect("mounts").push(mount);
        });
        let canary = Canary::new(&bundle.world.path().join("canary"));
        refused(&bundle, &canary, destination);
    }
}

fn proc_and_sys_as_symlinks_are_refused() {
    // CVE-2019-19921, CVE-2023-27561, CVE-2025-54867 (RT-05).
    for name in ["proc", "sys"] {
        for target in ["bad", "../../canary"] {
            let bundle = Bundle::new("exit 0", |_, _| ());
            let canary = Canary::new(&bundle.world.path().join("canary"));
            fs::create_dir(bundle.rootfs().join("bad")).expect("writable");
            fs::remove_dir(bundle.rootfs().join(name)).expect("an empty directory");
            symlink(target, bundle.rootfs().join(name)).expect("writable");
            refused(&bundle, &canary, &format!("/{name} -> {target}"));
        }
    }
}

fn dev_as_a_symlink_leaves_the_host_alone() {
    // CVE-2026-41579, CVE-2026-47766 (RT-14).
    for mode in ["with a /dev mount", "without", "read-only root"] {
        let bundle = Bundle::new("exit 0", |config, _| {
            if mode != "with a /dev mount" {
                let mounts = config["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
            }
            config["root"]["readonly"] = json!(mode == "read-only root");
        });
        let canary = Canary::new(&bundle.world.path().join("canary"));
        fs::remove_dir(bundle.rootfs().join("dev")).expect("an empty directory");
        symlink(canary.path(), bundle.rootfs().join("dev")).expect("writable");
        let said = bundle.run("hostile");
        assert!(!said.err.contains("panicked"), "{}", said.err);
        canary.assert_untouched(mode);
    }
    // The same one level down (RT-15).
    for name in ["pts", "shm", "mqueue", "fd", "null", "console", "ptmx"] {
        let bundle = Bundle::new("exit 0", |config, _| {
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|m| m["destination"] != "/dev");
        });
        let canary = Canary::new(&bundle.world.path().join("canary"));
        symlink(canary.path(), bundle.rootfs().join("dev").join(name)).expect("writable");
        bundle.run("hostile");
        canary.assert_untouched(name);
    }
}

fn mount_destinations_stay_in_the_root() {
    // CVE-2024-45310, CVE-2022-23648's kin (RT-06, RT-16): directories and files made for mount points.
    for destination in ["/link/made", "/link/a/b/c", "/abs/made", "/up/../../made"] {
        let bundle = Bundle::new("exit 0", |config, _| {
            let mount = json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" });
            config["mounts"].as_array_mut().expect("mounts").push(mount);
        });
        let canary = Canary::new(&bundle.world.path().join("canary"));
        symlink("../../canary", bundle.rootfs().join("link")).expect("writable");
        symlink(canary.path(), bundle.rootfs().join("abs")).expect("writable");
        bundle.run("hostile");
        canary.assert_untouched(destination);
    }
}

fn no_inheritable_and_no_ambient_capabilities() {
    // CVE-2022-29162 and its twins in five projects (RT-08).
    let script = "grep -E '^Cap(Inh|Amb)' /proc/self/status";
    let empty = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    let bundle = Bundle::new(&format!("{script}; exec sleep 60"), |config, _| {
        let caps = config["process"]["capabilities"].as_object_mut().expect("capabilities");
        caps.remove("inheritable");
        caps.remove("ambient");
    });
    let out = bundle.world.path().join("out");
    let mut create = bundle.world.runtime();
    create.arg("create").arg("--bundle").arg(&bundle.dir).arg("caps").stdin(Stdio::null());
    assert!(create.stdout(fs::File::create(&out).expect("writable")).status().expect("it starts").success());
    ok(bundle.world.runtime().args(["start", "caps"]));
    let mut exec = bundle.world.runtime();
    exec.args(["exec", "--cap", "CAP_NET_RAW", "caps", "/bin/sh", "-c", script]).stdin(Stdio::null());
    assert_eq!(ok(&mut exec) + "\n", empty);
    ok(bundle.world.runtime().args(["delete", "--force", "caps"]));
    assert_eq!(fs::read_to_string(out).expect("readable"), empty);
}

fn no_descriptor_of_the_host_leaks() {
    // CVE-2024-21626 (RT-10): a working directory or a program behind a leaked descriptor.
    let climb = "../../../../../../../../../../../..";
    // A program of the host that needs no other file of the host's.
    let escape = World::new();
    let program = escape.path().join("busybox");
    fs::copy("/bin/busybox", &program).expect("a copy");
    let program = |fd: u32| format!("/proc/self/fd/{fd}/{climb}{}", program.display());
    for fd in 3..20 {
        for (what, cwd, args) in [
            ("cwd", format!("/proc/self/fd/{fd}"), json!(["/bin/pwd"])),
            ("cwd by link", "/w".to_owned(), json!(["/bin/pwd"])),
            (
                "the container's program",
                "/".to_owned(),
                json!([format!("/proc/self/fd/{fd}/{climb}/bin/true")]),
            ),
            ("the host's program", "/".to_owned(), json!([program(fd), "true"])),
        ] {
            let bundle = Bundle::new("", |config, _| {
                config["process"]["cwd"] = json!(cwd);
                config["process"]["args"] = args;
            });
            symlink(format!("/proc/self/fd/{fd}"), bundle.rootfs().join("w")).expect("writable");
            let said = bundle.run("hostile");
            assert_ne!(said.code, 0, "{what} {fd}: it ran: {}", said.out);
        }
    }
    let bundle = Stage::running("box", |_, _| ());
    let exec = |cwd: &str, command: &[&str]| {
        let mut exec = bundle.world.runtime();
        say(exec.args(["exec", "--cwd", cwd, "box"]).args(command).stdin(Stdio::null()))
    };
    for fd in 3..20 {
        let said = exec("/", &[&program(fd), "true"]);
        assert_ne!(said.code, 0, "exec of the host's program {fd}: it ran: {}", said.out);
        // The container's own root may be among them.
        let said = exec(&format!("/proc/self/fd/{fd}"), &["pwd"]);
        assert!(said.code != 0 || said.out == "/\n", "exec in {fd}: {}", said.out);
    }
    let bundle = Bundle::new("for f in /proc/self/fd/*; do readlink $f; done", |_, _| ());
    let said = bundle.run("fds");
    let leaked: Vec<&str> =
        said.out.lines().skip(3).filter(|l| !l.starts_with("/proc/") && !l.is_empty()).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

fn a_false_dev_null_is_not_bound_over_masked_paths() {
    // CVE-2025-31133, CVE-2025-62161 (RT-11).
    for kind in ["link", "file"] {
        let bundle = Bundle::new(
            "echo x > /proc/sysrq-trigger; cat /proc/kcore | head -c 1",
            |config, dir| {
                let mounts = config["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
                mounts.push(json!({ "destination": "/dev", "type": "bind", "source": dir.join("dev"), "options": ["rbind"] }));
                config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/sysrq-trigger"]);
            },
        );
        let dev = bundle.dir.join("dev");
        fs::create_dir(&dev).expect("writable");
        match kind {
            "link" => symlink("/proc/sys/kernel/core_pattern", dev.join("null")).expect("writable"),
            _ => fs::write(dev.join("null"), "").expect("writable"),
        }
        let pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("readable");
        let before = pattern();
        let said = bundle.run("hostile");
        assert!(!said.err.contains("panicked"), "{}", said.err);
        assert!(said.code != 0 || said.out.is_empty(), "{kind}: a masked path was readable");
        assert_eq!(pattern(), before, "{kind}: the host's core_pattern changed");
    }
}

fn identifiers_that_are_paths_are_refused() {
    // RT-17.
    let bundle = Bundle::new("exit 0", |_, _| ());
    let before = Snapshot::take();
    let long = "x".repeat(1025);
    for id in ["", ".", "..", "a/b", "../x", "/x", "a\nb", "a b", "ä", &long] {
        let said = bundle.run(id);
        assert_ne!(said.code, 0, "{id:?} was accepted");
        assert!(!said.err.is_empty(), "{id:?}");
    }
    assert_none_since(&before);
}

fn cgroup_paths_stay_below_their_root() {
    // RT-17: never a directory outside, whatever the path says; runc cleans it, refusing is fine too.
    for path in ["../outside", "./../outside", "foo/../../outside", "/../outside", "foo/bar/../../../outside"]
    {
        let bundle = Bundle::new("exit 0", |config, _| config["linux"]["cgroupsPath"] = json!(path));
        let before = Snapshot::take();
        let said = bundle.run("hostile");
        assert!(!said.err.contains("panicked"), "{}", said.err);
        assert_none_since(&before);
    }
}

fn sysctls_of_the_host_are_refused() {
    // CVE-2022-0811 (RT-19).
    let read = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("readable");
    let before = read();
    for (key, value) in [
        ("kernel.core_pattern", "|/x"),
        ("kernel/core_pattern", "|/x"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x"),
        ("net/../kernel/core_pattern", "|/x"),
        ("net.../kernel/core_pattern", "|/x"),
        ("vm.swappiness", "1"),
    ] {
        let bundle = Bundle::new("exit 0", |config, _| config["linux"]["sysctl"] = json!({ key: value }));
        let said = bundle.run("hostile");
        assert_ne!(said.code, 0, "{key} was accepted");
        assert_eq!(read(), before, "{key} reached the host");
    }
    let bundle = Bundle::new("exit 0", |config, _| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "network");
    });
    assert_ne!(bundle.run("hostile").code, 0, "a network sysctl without a network namespace");
}

fn device_numbers_that_wrap_are_refused() {
    // RT-26.
    for (field, value) in [
        ("major", json!(-1)),
        ("major", json!(4_294_967_296_u64)),
        ("minor", json!(-5)),
        ("fileMode", json!(0o7_777_777)),
    ] {
        let bundle = Bundle::new("exit 0", |config, _| {
            let mut device =
                json!({ "path": "/dev/made", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 });
            device[field] = value.clone();
            config["linux"]["devices"] = json!([device]);
        });
        let said = bundle.run("hostile");
        assert_eq!(said.code, 1, "{field} = {value} was accepted");
        assert!(said.err.contains("linux.devices[0]"), "{}", said.err);
    }
}

fn a_read_only_root_stays_read_only() {
    // RT-24: CAP_SYS_ADMIN is not given by the default spec; without it no remount.
    let script =
        "touch /x 2>/dev/null && echo wrote; mount -o remount,rw / 2>/dev/null && echo remounted; exit 0";
    let bundle = Bundle::new(script, |config, _| config["root"]["readonly"] = json!(true));
    assert_eq!(bundle.run("readonly").out, "");
}

fn state_files_placed_before_are_not_followed() {
    // RT-27: whoever can write to the state directory places links where the runtime will write.
    let bundle = Bundle::new("exit 0", |_, _| ());
    let canary = Canary::new(&bundle.world.path().join("canary"));
    let pid_file = bundle.world.path().join("pid");
    symlink(canary.path().join("marker"), &pid_file).expect("writable");
    let mut run = bundle.world.runtime();
    run.args(["run", "--bundle"])
        .arg(&bundle.dir)
        .arg("--pid-file")
        .arg(&pid_file)
        .arg("placed")
        .stdin(Stdio::null());
    say(&mut run);
    canary.assert_untouched("a pid file that is a link");
    let state = bundle.world.path().join("state");
    fs::create_dir_all(&state).expect("writable");
    symlink(canary.path().join("sub"), state.join("linked")).expect("writable");
    let said = bundle.run("linked");
    assert_ne!(said.code, 0, "state was written through a link");
    canary.assert_untouched("a state directory that is a link");
}

fn a_failing_hook_rolls_everything_back() {
    let before = Snapshot::take();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let path = if matches!(kind, "createContainer" | "startContainer") {
            "/bin/false"
        } else {
            "/usr/bin/false"
        };
        let bundle =
            Bundle::new("echo ran", |config, _| config["hooks"] = json!({ kind: [{ "path": path }] }));
        let said = bundle.run("hooked");
        assert_ne!(said.code, 0, "{kind}");
        assert_eq!(said.out, "", "{kind}: the process ran all the same");
        assert!(said.err.contains(kind) && said.err.contains(path), "{kind}: {}", said.err);
        assert_none_since(&before);
        assert!(!bundle.world.path().join("state/hooked").exists(), "{kind}: state is left");
    }
    let bundle = Bundle::new("echo ran", |config, _| {
        config["hooks"] =
            json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1 }] });
    });
    let start = std::time::Instant::now();
    assert_ne!(bundle.run("slow").code, 0);
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "the hook's timeout is one second");
    assert_none_since(&before);
}

fn a_swapped_mount_destination_stays_inside() {
    // CVE-2021-30465 (RT-06): a component of the destination is exchanged while the mount is made.
    let bundle = Bundle::new("exit 0", |config, dir| {
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/v", "type": "bind", "source": dir.join("shared"), "options": ["rbind"] }));
        mounts.push(json!({ "destination": "/v/d/x/y", "type": "tmpfs", "source": "tmpfs" }));
    });
    let canary = Canary::new(&bundle.world.path().join("canary"));
    let shared = bundle.dir.join("shared");
    fs::create_dir_all(shared.join("d")).expect("writable");
    symlink(format!("../../../../../../../..{}", canary.path().display()), shared.join("l"))
        .expect("writable");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut ran = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (d, l) = (shared.join("d"), shared.join("l"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = nix::fcntl::renameat2(
                    nix::fcntl::AT_FDCWD,
                    &d,
                    nix::fcntl::AT_FDCWD,
                    &l,
                    nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                );
            }
        });
        for _ in 0..200 {
            ran += u32::from(bundle.run("race").code == 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    println!("no escape seen in 200 starts, {ran} of which succeeded");
    canary.assert_untouched("a swapped component");
}

fn set_user_id_programs_refuse_to_run() {
    // CVE-2020-5291's class (RT-21): AT_SECURE is set.
    let world = World::new();
    ok(Command::new("chmod").arg("755").arg(world.path()));
    for (name, arguments) in
        [("rcr", &["--root", "/nowhere/root", "images"][..]), ("rcr-runtime", &["list"][..])]
    {
        let program = world.path().join(name);
        fs::copy(binary(name), &program).expect("a copy");
        ok(Command::new("chmod").arg("4755").arg(&program));
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(arguments);
        fails(&mut command, 1, &["refuses", "set-user-ID"]);
    }
}

fn rcr_runs_containers_from_a_copy_nobody_can_write() {
    // CVE-2019-5736 (RT-01) for `rcr run`: its program file, seen from a process, is not the host's.
    let world = World::new();
    let image = busybox_layout(&world.path().join("layout"), json!({ "Env": ["PATH=/bin"] }));
    let mut command = world.rcr();
    command.args(["run", "--network=none", "--rm", &image, "sleep", "60"]).stdin(Stdio::null());
    let mut child = command.spawn().expect("rcr starts");
    std::thread::sleep(std::time::Duration::from_millis(700));
    let running = format!("/proc/{}/exe", child.id());
    let (copy, original) = (fs::metadata(&running), fs::metadata(binary("rcr")).expect("it is there"));
    let written = fs::OpenOptions::new().append(true).open(&running).map(drop);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let copy = copy.expect("it runs");
    assert_ne!((copy.dev(), copy.ino()), (original.dev(), original.ino()), "it runs from the host's file");
    let error = written.expect_err("the program file can be written").raw_os_error();
    assert!(matches!(error, Some(nix::libc::EROFS | nix::libc::ETXTBSY | nix::libc::EPERM)), "{error:?}");
    ok(world.rcr().args(["ps", "-aq"]));
}
