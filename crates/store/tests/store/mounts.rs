//! Overlay mounts, copies, removal of trees.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use store::{
    Overlay, Owners, copy_tree, mapped_overlay, mapped_overlay_on_old_kernels, new_upper, overlay,
    overlay_on_old_kernels, remove_tree,
};
use sys::userns::{IdMap, Range};

use crate::archive::{device, dir, entry, file, hardlink, symlink, tar};
use crate::image::{chain, image};
use crate::tree::{Merged, read};
use crate::{Place, Test};

pub(crate) const TESTS: &[Test] = &[
    ("mounts_many_layers", many_layers),
    ("mounts_too_many_layers", too_many_layers),
    ("mounts_options", options),
    ("mounts_odd_paths", odd_paths),
    ("mounts_upper", upper),
    ("mounts_errors", errors),
    ("mounts_copy", copy),
    ("mounts_remove_deep", remove_deep),
];

pub(crate) const MAPPED_TESTS: &[Test] =
    &[("mounts_mapped", mapped), ("mounts_mapped_without_upper", mapped_read_only)];

type Stack = fn(&Overlay<'_>) -> Result<OwnedFd, store::Error>;
const BOTH: [(&str, Stack); 2] = [("lowerdir+", overlay), ("old kernels", overlay_on_old_kernels)];

fn paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

fn stacked(count: usize) -> (Place, store::Image) {
    let place = Place::new();
    let tars: Vec<_> = (0..count)
        .map(|n| {
            tar(&[
                file("last", n.to_string()),
                file(format!("f{n}"), ""),
                file(format!(".wh.f{}", n / 2), ""),
            ])
        })
        .collect();
    let image = image(&tars).pull(&place.store).unwrap();
    (place, image)
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn many_layers() {
    for count in [2, 127, 128, 300, 500] {
        let (_place, image) = stacked(count);
        let before = mounts().lines().count();
        for (how, stack) in BOTH {
            let merged = Merged {
                mount: stack(&Overlay { lower: &paths(&image.layers), upper: None, source: "t" }).unwrap(),
            };
            let tree = merged.tree();
            assert!(tree["last"].starts_with(&format!("file {} ", count - 1)), "{how} {count}");
            let kept = (0..count).filter(|n| tree.contains_key(&format!("f{n}"))).count();
            // Layer n takes away f(n/2); a file of its own name stays.
            assert_eq!(
                kept,
                count - (1..count).map(|n| n / 2).collect::<std::collections::BTreeSet<_>>().len(),
                "{how} {count}"
            );
            let written = std::fs::write(merged.path().join("new"), "").unwrap_err();
            assert_eq!(written.raw_os_error(), Some(libc::EROFS), "{how} {count}");
        }
        assert_eq!(mounts().lines().count(), before);
    }
}

fn too_many_layers() {
    let (_place, image) = stacked(500);
    let mut layers = paths(&image.layers);
    layers.push(layers[0]);
    let error = overlay(&Overlay { lower: &layers, upper: None, source: "t" }).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("501 layers") && text.contains("at most 500"), "{text}");
}

fn options() {
    let (place, image) = stacked(3);
    let up = place.path.with_file_name("up");
    let work = place.path.with_file_name("work");
    let at = place.path.with_file_name("at");
    std::fs::create_dir(&at).unwrap();
    new_upper(&paths(&image.layers), &up, &work).unwrap();
    for (how, stack) in BOTH {
        let what =
            Overlay { lower: &paths(&image.layers), upper: Some((&up, &work)), source: "source-of-it" };
        let mount = stack(&what).unwrap();
        let to = std::fs::File::open(&at).unwrap();
        sys::mount::move_mount(mount.as_fd(), to.as_fd()).unwrap();
        let shown = mounts();
        nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH).unwrap();
        let line = shown.lines().find(|line| line.contains(at.to_str().unwrap())).unwrap();
        let has = |word: &str| line.split([' ', ',']).any(|w| w == word);
        assert!(has("source-of-it") && has("overlay"), "{how}: {line}");
        // What is the kernel's default is not shown; nothing else may be.
        for bad in
            ["index=on", "metacopy=on", "redirect_dir=on", "redirect_dir=follow", "volatile", "userxattr"]
        {
            assert!(!has(bad), "{how}: {bad}: {line}");
        }
        assert!(line.contains("upperdir=") && line.contains("lowerdir"), "{how}: {line}");
    }
}

/// Characters that mean something in mount options, and paths longer than fsconfig(2) takes.
fn odd_paths() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "l".repeat(200), "m".repeat(200));
    for odd in ["a:b", "a,b", "a\\b", "a b\n", "a\\,b:\\\\c", "\u{fc}", long.as_str()] {
        let top = dir.path().join(odd);
        let (one, two, up, work) = (top.join("1"), top.join("2"), top.join("up"), top.join("work"));
        for path in [&one, &two] {
            std::fs::create_dir_all(path).unwrap();
            std::fs::write(path.join(path.file_name().unwrap()), "x").unwrap();
        }
        for (how, stack) in BOTH {
            new_upper(&[&one, &two], &up, &work).unwrap();
            let mount =
                stack(&Overlay { lower: &[&one, &two], upper: Some((&up, &work)), source: "t" }).unwrap();
            let merged = Merged { mount };
            std::fs::write(merged.path().join("3"), "x").unwrap();
            assert_eq!(merged.tree().len(), 4, "{how} {odd:?}");
            assert!(up.join("3").exists(), "{how} {odd:?}");
            drop(merged);
            std::fs::remove_dir_all(&up).unwrap();
            std::fs::remove_dir_all(&work).unwrap();
        }
    }
}

fn upper() {
    let place = Place::new();
    let lowest = tar(&[
        dir(".").mode(0o711).owner(4, 5).mtime(77),
        dir("d"),
        file("d/f", "f"),
        dir("e"),
        file("e/x", ""),
    ]);
    let image = image(&[lowest, tar(&[file("g", "g")])]).pull(&place.store).unwrap();
    let (up, work) = (place.path.with_file_name("up"), place.path.with_file_name("work"));
    new_upper(&paths(&image.layers), &up, &work).unwrap();
    let what = Overlay { lower: &paths(&image.layers), upper: Some((&up, &work)), source: "t" };
    let merged = Merged { mount: overlay(&what).unwrap() };
    assert!(merged.tree()["."].starts_with("dir 711 4:5 77.0"), "{}", merged.tree()["."]);
    std::fs::write(merged.path().join("d/f"), "changed").unwrap();
    std::fs::remove_file(merged.path().join("g")).unwrap();
    let moved = std::fs::rename(merged.path().join("e"), merged.path().join("e2")).unwrap_err();
    assert_eq!(moved.raw_os_error(), Some(libc::EXDEV), "directories of the image are not redirected");
    drop(merged);
    // The image is as it was, and the changes are there again.
    assert!(crate::tree::merged(&image)["d/f"].starts_with("file f "));
    let again = Merged { mount: overlay(&what).unwrap() }.tree();
    assert!(again["d/f"].starts_with("file changed ") && !again.contains_key("g"), "{again:?}");
    assert_eq!(place.store.fsck().unwrap(), []);
}

type Mapped = fn(&Overlay<'_>, Owners<'_>) -> Result<OwnedFd, store::Error>;
const MAPPED: [(&str, Mapped); 2] =
    [("lowerdir+", mapped_overlay), ("old kernels", mapped_overlay_on_old_kernels)];

/// A user namespace whose root is user 100000 and group 200000.
fn users() -> std::fs::File {
    let map = |outside| vec![Range { inside: 0, outside, size: 1000 }];
    sys::userns::make(&IdMap { uid: map(100_000), gid: map(200_000) }).unwrap()
}

/// Layers are seen by other owners, and what is changed is kept by the owners that layers have.
fn mapped() {
    let (mounts_before, users) = (mounts(), users());
    let owners = Owners { users: users.as_fd(), root: (100_000, 200_000) };
    let owner = |path: &Path| {
        let stat = path.symlink_metadata().unwrap();
        (stat.uid(), stat.gid())
    };
    for count in [2, 300] {
        for (how, stack) in MAPPED {
            if how == "old kernels" && count > 127 {
                continue; // more do not fit into one page
            }
            let place = Place::new();
            let mut tars =
                vec![tar(&[file("mine", "m").owner(4, 5), file("gone", ""), dir("d"), file("d/x", "")])];
            tars.extend((1..count).map(|n| tar(&[file(format!("f{n}"), "")])));
            let image = image(&tars).pull(&place.store).unwrap();
            let own = place.path.with_file_name("own");
            std::fs::create_dir(&own).unwrap();
            let (up, work) = (own.join("up"), own.join("work"));
            new_upper(&paths(&image.layers), &up, &work).unwrap();
            let what = Overlay { lower: &paths(&image.layers), upper: Some((&up, &work)), source: "t" };
            let merged = Merged { mount: stack(&what, owners).unwrap() };
            let path = merged.path();
            assert_eq!(owner(&path.join("mine")), (100_004, 200_005), "{how}");
            assert_eq!(owner(&path.join(format!("f{}", count - 1))), (100_000, 200_000), "{how}");
            // Whiteouts and copies are the mount's own to make.
            std::fs::remove_file(path.join("gone")).unwrap();
            std::fs::remove_dir_all(path.join("d")).unwrap();
            std::fs::write(path.join("mine"), "changed").unwrap();
            let made = std::fs::write(path.join("new"), "x").unwrap_err();
            assert_eq!(made.raw_os_error(), Some(libc::EOVERFLOW), "{how}: the host's root is nobody there");
            std::os::unix::fs::chown(path.join("f1"), Some(100_007), Some(200_008)).unwrap();
            assert!(std::os::unix::fs::chown(path.join("f1"), Some(7), None).is_err(), "{how}");
            assert_eq!((owner(&up.join("mine")), owner(&up.join("f1"))), ((4, 5), (7, 8)), "{how}");
            assert_eq!(owner(&up.join("gone")), (0, 0), "{how}");
            drop(merged);
            // And means the same without.
            let plain = Merged { mount: overlay(&what).unwrap() };
            let tree = plain.tree();
            assert!(
                tree["mine"].starts_with("file changed ") && !tree.contains_key("gone"),
                "{how}: {tree:?}"
            );
            assert_eq!(owner(&plain.path().join("mine")), (4, 5), "{how}");
            drop(plain);
            assert_eq!(place.store.fsck().unwrap(), []);
        }
    }
    assert_eq!(mounts(), mounts_before);
    assert_eq!(nix::unistd::geteuid().as_raw(), 0);
}

fn mapped_read_only() {
    let users = users();
    let owners = Owners { users: users.as_fd(), root: (100_000, 200_000) };
    for count in [1, 2] {
        let (_place, image) = stacked(count);
        for (how, stack) in MAPPED {
            let what = Overlay { lower: &paths(&image.layers), upper: None, source: "t" };
            let merged = Merged { mount: stack(&what, owners).unwrap() };
            let stat = std::fs::metadata(merged.path().join("last")).unwrap();
            assert_eq!((stat.uid(), stat.gid()), (100_000, 200_000), "{how} {count}");
            let refused = std::fs::write(merged.path().join("last"), "x").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{how} {count}");
        }
    }
    // A file system that cannot be mapped says so.
    let proc = [Path::new("/proc/sys"), Path::new("/proc/fs")];
    for (how, stack) in MAPPED {
        let what = Overlay { lower: &proc, upper: None, source: "t" };
        let text = chain(&stack(&what, owners).unwrap_err());
        assert!(text.contains("id-map") && text.contains("can't be id-mapped"), "{how}: {text}");
    }
}

fn errors() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    for (_, stack) in BOTH {
        let text =
            chain(&stack(&Overlay { lower: &[&missing, dir.path()], upper: None, source: "t" }).unwrap_err());
        assert!(text.contains("missing") && text.contains("No such file"), "{text}");
    }
    let text = chain(&overlay(&Overlay { lower: &[], upper: None, source: "t" }).unwrap_err());
    assert!(text.contains("overlay of 0 layers") && text.contains("no lower directory"), "{text}");
    // An upper directory on an overlay.
    let make = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (a, b, at) = (make("a"), make("b"), make("at"));
    let mount = overlay(&Overlay { lower: &[&a, &b], upper: None, source: "t" }).unwrap();
    sys::mount::move_mount(mount.as_fd(), std::fs::File::open(&at).unwrap().as_fd()).unwrap();
    let error = overlay(&Overlay { lower: &[&a], upper: Some((&at, &at)), source: "t" });
    nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let text = chain(&error.unwrap_err());
    assert!(text.contains("kernel says") || text.contains("Read-only"), "{text}");
}

fn copy() {
    let place = Place::new();
    let cap = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\n\0\0\0";
    let lowest = tar(&[
        dir("d").mode(0o1777).owner(7, 8).mtime(5),
        file("d/f", "x".repeat(100_000))
            .mode(0o4755)
            .owner(9, 9)
            .pax("SCHILY.xattr.security.capability", cap),
        hardlink("d/h", "d/f"),
        hardlink("z", "d/f"),
        symlink("l", "/d/f").owner(3, 3).mtime(6),
        device("null", 1, 3).mode(0o666),
        entry("p", b'6'),
        file("sparse", "")
            .pax("GNU.sparse.map", "")
            .pax("GNU.sparse.size", "50000000")
            .pax("GNU.sparse.numblocks", "0"),
    ]);
    let image = image(&[lowest, tar(&[file("d/.wh.h", ""), file("n", "n")])]).pull(&place.store).unwrap();
    let merged = Merged::new(&image);
    let to = place.path.with_file_name("copy");
    std::fs::create_dir(&to).unwrap();
    let bytes = copy_tree(merged.mount.as_fd(), std::fs::File::open(&to).unwrap().as_fd()).unwrap();
    assert_eq!(bytes, 100_001);
    assert_eq!(read(&to), merged.tree());
    let meta = to.join("sparse").metadata().unwrap();
    assert_eq!((meta.size(), meta.blocks()), (50_000_000, 0));
    // What is there already is not touched.
    let error = copy_tree(merged.mount.as_fd(), std::fs::File::open(&to).unwrap().as_fd()).unwrap_err();
    assert!(chain(&error).contains("File exists"), "{}", chain(&error));
}

fn remove_deep() {
    let top = tempfile::tempdir().unwrap();
    let start = std::fs::File::open(top.path()).unwrap();
    let mut at: OwnedFd = start.try_clone().unwrap().into();
    for _ in 0..5000 {
        nix::sys::stat::mkdirat(&at, "deep", nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "deep", flags, nix::sys::stat::Mode::empty()).unwrap();
        nix::unistd::symlinkat("/", &at, "link").unwrap();
    }
    drop(at);
    remove_tree(start.as_fd(), b"deep").unwrap();
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    remove_tree(start.as_fd(), b"deep").unwrap();
}
