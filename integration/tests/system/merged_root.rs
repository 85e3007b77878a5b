//! The merged root that rcr makes of an image against what `umoci unpack` and podman make of it, for images from
//! different builders: every path, type, mode, owner, mtime, xattr, link target, hard-link group and device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::client::{Docker, Podman};
use harness::host::Need::{Program, Root};
use harness::image::{Layer, Packing, write_layout};
use harness::tree::{assert_same, assert_same_lines, describe};
use harness::world::{World, ok};
use harness::{Case, cases};
use serde_json::json;

pub(crate) const CASES: &[Case] = cases!("merged_root":
    of_buildahs_image [Root, Program("buildah"), Program("umoci"), Program("podman"), Program("setcap"), Program("setfattr")],
    of_umocis_image [Root, Program("umoci"), Program("podman")],
    of_dockers_image [Root, Program("dockerd"), Program("docker"), Program("umoci"), Program("podman"), Program("skopeo")],
    of_an_image_with_every_kind_of_change [Root, Program("umoci")],
    of_links_into_lower_layers [Root, Program("umoci")],
    of_each_packing [Root, Program("umoci"), Program("podman")],
);

/// Compares rcr's root of `layout:tag` with umoci's and podman's.
fn compare(world: &World, layout: &Path, tag: &str) {
    let ours = compare_with_umoci(world, layout, tag);
    let podman = Podman::new(world, None);
    let id = ok(podman.command().args(["pull", "-q", &format!("oci:{}:{tag}", layout.display())]));
    let mounted = ok(podman.command().args(["image", "mount", id.lines().last().expect("an ID")]));
    let (mut left, mut right) = (describe(&ours), describe(Path::new(mounted.trim())));
    // Where no layer names the root itself, podman's is 0555, umoci's and ours 0755, as docker's.
    left.remove("");
    right.remove("");
    assert_same_lines(("rcr", &left), ("podman", &right));
}

/// Compares with umoci's only, for what podman cannot unpack. Gives rcr's root.
fn compare_with_umoci(world: &World, layout: &Path, tag: &str) -> PathBuf {
    let image = format!("{}:{tag}", layout.display());
    let ours = world.path().join("ours");
    ok(world.rcr().args(["bundle", &format!("oci:{image}")]).arg(&ours));
    let umoci = world.path().join("umoci");
    ok(Command::new("umoci").args(["unpack", "--image", &image]).arg(&umoci));
    assert_same(("rcr", &ours.join("rootfs")), ("umoci", &umoci.join("rootfs")));
    ours.join("rootfs")
}

/// buildah with a store of its own.
fn buildah(world: &World) -> Command {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(world.path().join("buildah/root"));
    command.arg("--runroot").arg(world.path().join("buildah/run"));
    // vfs leaves no mounts behind; what it commits is the same.
    command.args(["--storage-driver", "vfs"]);
    command
}

fn sh(dir: &Path, script: &str) {
    ok(Command::new("sh").args(["-euc", script]).current_dir(dir));
}

fn of_buildahs_image() {
    let world = World::new();
    let layout = world.path().join("layout");
    let mut from = String::from("scratch");
    let changes = [
        "mkdir -p a/b/c bin etc; echo 1 > a/b/c/f; echo keep > a/keep; ln a/keep etc/linked; ln -s ../a/b bin/link
         mknod etc/null c 1 3; mknod etc/blk b 7 0; mkfifo etc/fifo; chmod 4755 a/keep; chown 12345:54321 a/b
         mkdir old; echo x > old/x; echo y > old/y; setfattr -n user.note -v hello a/b/c/f
         touch -d '2001-02-03 04:05:06.789012345' a/b/c/f; printf x > \"$(printf 'caf\\351')\"
         d=long/$(printf 'd%.0s' $(seq 90))/$(printf 'e%.0s' $(seq 90)); mkdir -p $d; echo deep > $d/$(printf 'f%.0s' $(seq 200))
         cp /bin/true bin/ping; setcap cap_net_raw+ep bin/ping",
        "rm a/b/c/f; rm -r old; mkdir old; echo new > old/z; echo file > a/b/c/g; chmod 700 a; rm bin/link; mkdir bin/link",
        "rm -r a/b; echo now-a-file > a/b; rm -r long; ln -s /etc long; chmod 1777 etc; touch -d @1 etc/linked",
    ];
    for change in changes {
        let container = ok(buildah(&world).args(["from", &from]));
        let root = ok(buildah(&world).args(["mount", &container]));
        sh(Path::new(&root), change);
        ok(buildah(&world).args(["umount", &container]));
        from = ok(buildah(&world).args(["commit", "-q", "--rm", &container]));
    }
    ok(buildah(&world).args(["push", "-q", &from, &format!("oci:{}:t", layout.display())]));
    compare(&world, &layout, "t");
}

fn of_umocis_image() {
    let world = World::new();
    let layout = world.path().join("layout");
    let image = format!("{}:t", layout.display());
    ok(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    ok(Command::new("umoci").args(["new", "--image", &image]));
    for (n, change) in [
        "mkdir -p x/y; echo 1 > x/y/1; echo 2 > x/2; ln x/2 x/y/two; ln -s y x/z; mknod dev0 c 5 1; chmod 2750 x/y",
        "rm x/2; rm x/z; mkdir x/z; echo in > x/z/in; chown 7:8 x/y/1",
        "rm -r x; mkdir x; echo only > x/only",
    ]
    .iter()
    .enumerate()
    {
        let bundle = world.path().join(format!("bundle{n}"));
        ok(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle));
        sh(&bundle.join("rootfs"), change);
        ok(Command::new("umoci").args(["repack", "--image", &image]).arg(&bundle));
    }
    compare(&world, &layout, "t");
}

fn of_dockers_image() {
    let world = World::new();
    let docker = Docker::start(&world, None);
    let context = world.path().join("context");
    fs::create_dir(&context).expect("writable");
    sh(
        &context,
        "mkdir -p tree/sub; echo one > tree/one; echo two > tree/sub/two; ln -s one tree/link; cp /bin/busybox busybox",
    );
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY tree /tree\n\
        RUN [\"/bin/busybox\", \"rm\", \"/tree/one\"]\n\
        RUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox rm -r /tree/sub; /bin/busybox mkdir /tree/sub; /bin/busybox mknod /n c 1 5; /bin/busybox ln /tree/link /tree/hard; /bin/busybox chmod 2711 /tree/sub\"]\n\
        CMD [\"/bin/sh\"]\n";
    fs::write(context.join("Dockerfile"), dockerfile).expect("writable");
    ok(docker
        .command()
        .args(["build", "-q", "--network", "none", "-t", "made", "."])
        .current_dir(&context)
        .env("DOCKER_BUILDKIT", "0"));
    let archive = world.path().join("docker.tar");
    ok(docker.command().args(["save", "-o"]).arg(&archive).arg("made"));
    let layout = world.path().join("layout");
    let target = format!("oci:{}:t", layout.display());
    ok(Command::new("skopeo").args([
        "--insecure-policy",
        "copy",
        "-q",
        &format!("docker-archive:{}", archive.display()),
        &target,
    ]));
    compare(&world, &layout, "t");
    // The archive itself gives the same root as the layout made of it.
    let direct = world.path().join("direct");
    ok(world.rcr().args(["bundle", &format!("docker-archive:{}", archive.display())]).arg(&direct));
    assert_same(("docker-archive", &direct.join("rootfs")), ("oci", &world.path().join("ours/rootfs")));
}

fn of_an_image_with_every_kind_of_change() {
    let world = World::new();
    let layout = world.path().join("layout");
    fs::create_dir(&layout).expect("writable");
    let base = Layer::new()
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o755)
        .symlink("lib", "usr/lib")
        .file("usr/lib/a", 0o644, b"a")
        .dir("d/", 0o750)
        .file("d/1", 0o600, b"1")
        .file("d/2", 0o600, b"2")
        .dir("d/sub/", 0o711)
        .file("d/sub/x", 0o644, b"x")
        .file("f", 0o644, b"f")
        .file("gone", 0o644, b"gone")
        .symlink("s", "f")
        .dir("opaque/", 0o700)
        .file("opaque/below", 0o644, b"below")
        .file("target", 0o640, b"linked")
        .dir("to-link/", 0o755)
        .file("to-link/x", 0o644, b"x");
    // Parents that the layer doesn't name keep what the lower layer said.
    let second = Layer::new()
        .file("d/3", 0o644, b"3")
        .file("d/.wh.1", 0o644, b"")
        .file(".wh.gone", 0o644, b"")
        .dir("f/", 0o755)
        .file("f/inside", 0o644, b"i")
        .dir("opaque/", 0o755)
        .file("opaque/.wh..wh..opq", 0o644, b"")
        .file("opaque/own", 0o644, b"own")
        .symlink("to-link", "usr");
    // Again opaque, now after its own entries; a whiteout beside a new entry of that name; the link replaced.
    let third = Layer::new()
        .file("opaque/third", 0o644, b"3")
        .file("opaque/.wh..wh..opq", 0o644, b"")
        .file("d/.wh.sub", 0o644, b"")
        .dir("d/sub/", 0o700)
        .file("d/sub/new", 0o644, b"new")
        .file("s", 0o644, b"no link any more")
        .file("usr/lib/b", 0o644, b"b")
        .file("usr/lib/.wh.a", 0o644, b"");
    let layers = [base.into_tar(), second.into_tar(), third.into_tar()];
    write_layout(&layout, "t", &layers, Packing::Gzip, json!({}));
    // podman 4.3 gives parents that a layer does not name a mode and a time of its own, and lets a removed directory's
    // files show in a new one of that name.
    compare_with_umoci(&world, &layout, "t");
}

fn of_links_into_lower_layers() {
    // A hard link to a file of a lower layer copies it up; a directory that is a link below is followed. podman 4.3
    // refuses the one and hides the link with the other.
    let world = World::new();
    let layout = world.path().join("layout");
    fs::create_dir(&layout).expect("writable");
    let base = Layer::new()
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o711)
        .symlink("lib", "usr/lib")
        .file("target", 0o640, b"linked");
    let top = Layer::new().hardlink("hard", "target").file("lib/new", 0o644, b"in usr/lib");
    write_layout(&layout, "t", &[base.into_tar(), top.into_tar()], Packing::Gzip, json!({}));
    compare_with_umoci(&world, &layout, "t");
}

fn of_each_packing() {
    for packing in [Packing::Plain, Packing::Gzip] {
        let world = World::new();
        let layout = world.path().join("layout");
        fs::create_dir(&layout).expect("writable");
        let layers = [Layer::new().dir("a/", 0o755).file("a/x", 0o644, &[7; 100_000]).into_tar()];
        write_layout(&layout, "t", &layers, packing, json!({}));
        compare(&world, &layout, "t");
    }
    // umoci 0.4 knows no zstd, so the same layer as gzip is the reference.
    let world = World::new();
    let layers = [Layer::new().dir("a/", 0o755).file("a/x", 0o644, &[7; 100_000]).into_tar()];
    for (name, packing) in [("zstd", Packing::Zstd), ("gzip", Packing::Gzip)] {
        let layout = world.path().join(name);
        fs::create_dir(&layout).expect("writable");
        write_layout(&layout, "t", &layers, packing, json!({}));
        ok(world
            .rcr()
            .args(["bundle", &format!("oci:{}:t", layout.display())])
            .arg(world.path().join(format!("{name}.bundle"))));
    }
    let root = |name: &str| world.path().join(format!("{name}.bundle/rootfs"));
    assert_same(("zstd", &root("zstd")), ("gzip", &root("gzip")));
}
