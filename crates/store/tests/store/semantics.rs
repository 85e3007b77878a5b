//! What layers mean: image-spec layer.md, checked against what is written here and against `umoci unpack`, which
//! applies one layer after the other to one directory.

use std::process::Command;

use crate::archive::{E, device, dir, entry, file, hardlink, symlink, tar};
use crate::image::{Bundle, chain, image};
use crate::tree::{self, Tree, difference, merged};
use crate::{Place, Test};

pub(crate) const TESTS: &[Test] =
    &[("semantics_attributes", attributes), ("semantics_layers", layers), ("semantics_refused", refused)];

/// Needs umoci.
pub(crate) const UMOCI_TESTS: &[Test] = &[("semantics_as_umoci", as_umoci)];

/// Paths and the beginning of what is to be there; `-` for nothing.
type Want = &'static [(&'static str, &'static str)];

struct Case {
    name: &'static str,
    /// Above the base layer.
    layers: Vec<Vec<E>>,
    want: Want,
    /// Is the whole tree as umoci's?
    umoci: bool,
}

fn base() -> Vec<u8> {
    tar(&[
        dir("."),
        dir("a").mode(0o700).owner(3, 3).pax("SCHILY.xattr.user.k", "v"),
        dir("a/b"),
        file("a/b/c", "c"),
        file("a/d", "d"),
        file("etc", "x"),
        dir("usr"),
        dir("usr/lib").owner(9, 9),
        file("usr/lib/l1", "1"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr/lib"),
        symlink("up", "../../usr"),
        symlink("dangling", "nowhere/there"),
    ])
}

fn case(name: &'static str, layer: Vec<E>, want: Want) -> Case {
    Case { name, layers: vec![layer], want, umoci: true }
}

fn unlike_umoci(name: &'static str, layer: Vec<E>, want: Want) -> Case {
    Case { umoci: false, ..case(name, layer, want) }
}

const A: &str = "dir 700 3:3 1500000000.000000000 user.k=v";

fn cases() -> Vec<Case> {
    let whiteout = |name: &str| file(name, "");
    vec![
        case(
            "implicit parent",
            vec![file("a/b/n", "n")],
            &[("a", A), ("a/b/c", "file c"), ("a/b/n", "file n")],
        ),
        case("implicit and new", vec![file("q/r/n", "n")], &[("q", "dir 755 0:0"), ("q/r/n", "file n")]),
        case(
            "through links of lower layers",
            vec![file("lib/x", "x"), file("abs/y", "y"), file("up/lib/z", "z"), file("up/new/w", "w")],
            &[
                ("lib", "link usr/lib"),
                ("abs", "link /usr/lib"),
                ("usr/lib", "dir 755 9:9"),
                ("usr/lib/x", "file x"),
                ("usr/lib/y", "file y"),
                ("usr/lib/z", "file z"),
                ("usr/new/w", "file w"),
            ],
        ),
        case("through a dangling link", vec![file("dangling/x", "x")], &[("nowhere/there/x", "file x")]),
        case(
            "through a link of this layer",
            vec![symlink("new", "a/b"), file("new/x", "x")],
            &[("a", A), ("a/b/c", "file c"), ("a/b/x", "file x"), ("new", "link a/b")],
        ),
        case(
            "through both",
            vec![symlink("new", "lib"), file("new/x", "x")],
            &[("new", "link lib"), ("lib", "link usr/lib"), ("usr/lib/x", "file x")],
        ),
        case(
            "a tree through a link of lower layers",
            vec![dir("lib/sub").mode(0o711), file("lib/sub/x", "x"), file("lib/.wh.l1", "")],
            &[("usr/lib/sub", "dir 711 0:0 1500000000"), ("usr/lib/sub/x", "file x"), ("usr/lib/l1", "-")],
        ),
        case(
            "directory over link",
            vec![dir("lib"), file("lib/n", "n")],
            &[("lib/n", "file n"), ("lib/l1", "-")],
        ),
        case("whiteout of a file", vec![whiteout("a/b/.wh.c")], &[("a", A), ("a/b/c", "-"), ("a/b", "dir")]),
        case(
            "whiteout of a directory",
            vec![whiteout("a/.wh.b")],
            &[("a", A), ("a/b", "-"), ("a/d", "file d")],
        ),
        case("whiteout of nothing", vec![whiteout("a/.wh.no")], &[("a", A), ("a/no", "-")]),
        case("whiteout in no directory", vec![whiteout("z/y/.wh.no"), file("n", "n")], &[("z", "-")]),
        case("whiteout of a link", vec![whiteout(".wh.lib")], &[("lib", "-"), ("usr/lib/l1", "file 1")]),
        case(
            "whiteout through a link",
            vec![whiteout("lib/.wh.l1")],
            &[("lib", "link"), ("usr/lib/l1", "-")],
        ),
        case(
            "whiteout, then the file",
            vec![whiteout("a/.wh.d"), file("a/d", "new")],
            &[("a/d", "file new")],
        ),
        case(
            "the file, then whiteout",
            vec![file("a/d", "new"), whiteout("a/.wh.d")],
            &[("a/d", "file new")],
        ),
        case(
            "whiteout, then a directory",
            vec![whiteout("a/.wh.b"), dir("a/b"), file("a/b/z", "z")],
            &[("a/b/c", "-"), ("a/b/z", "file z")],
        ),
        case(
            "a directory, then whiteout",
            vec![dir("a/b"), file("a/b/z", "z"), whiteout("a/.wh.b")],
            &[("a/b/c", "-"), ("a/b/z", "file z")],
        ),
        unlike_umoci(
            "an implicit directory, then whiteout",
            vec![file("a/z", "z"), whiteout(".wh.a")],
            &[("a", "dir 755 0:0"), ("a/z", "file z"), ("a/d", "-")],
        ),
        case(
            "opaque first",
            vec![dir("a").mode(0o750), whiteout("a/.wh..wh..opq"), file("a/n", "n")],
            &[("a", "dir 750 0:0"), ("a/n", "file n"), ("a/d", "-"), ("a/b", "-")],
        ),
        case(
            "opaque last",
            vec![dir("a").mode(0o750), dir("a/b"), file("a/n", "n"), whiteout("a/.wh..wh..opq")],
            &[("a/n", "file n"), ("a/d", "-"), ("a/b", "dir"), ("a/b/c", "-")],
        ),
        case("opaque alone", vec![whiteout("a/.wh..wh..opq")], &[("a", A), ("a/d", "-"), ("a/b", "-")]),
        case(
            "opaque through a link",
            vec![whiteout("lib/.wh..wh..opq"), file("lib/k", "k")],
            &[("lib", "link"), ("usr/lib", "dir 755 9:9"), ("usr/lib/k", "file k"), ("usr/lib/l1", "-")],
        ),
        case(
            "opaque root",
            vec![file("n", "n"), dir("a"), file("a/e", "e"), whiteout(".wh..wh..opq")],
            &[("n", "file n"), ("a/e", "file e"), ("a/d", "-"), ("usr", "-"), ("lib", "-"), ("etc", "-")],
        ),
        case(
            "opaque with whiteouts in it",
            vec![whiteout("a/.wh..wh..opq"), whiteout("a/.wh.d"), whiteout("a/b/.wh.c"), file("a/n", "n")],
            &[("a/d", "-"), ("a/b", "-"), ("a/n", "file n")],
        ),
        case("file over directory", vec![file("a", "f")], &[("a", "file f"), ("a/d", "-")]),
        case("directory over file", vec![dir("etc"), file("etc/n", "n")], &[("etc/n", "file n")]),
        case("file over link", vec![file("lib", "f")], &[("lib", "file f"), ("usr/lib/l1", "file 1")]),
        case(
            "file, then directory over directory",
            vec![file("a", "f"), dir("a"), file("a/n", "n")],
            &[("a/n", "file n"), ("a/d", "-")],
        ),
        case("directory, then file", vec![dir("f"), file("f/x", "x"), file("f", "f")], &[("f", "file f")]),
        case(
            "file twice",
            vec![file("f", "1"), hardlink("g", "f"), file("f", "2")],
            &[("f", "file 2"), ("g", "file 1")],
        ),
        case(
            "directory twice",
            vec![
                dir("f").mode(0o700).pax("SCHILY.xattr.user.old", "1"),
                file("f/x", "x"),
                dir("f").mode(0o711),
            ],
            &[("f", "dir 711 0:0 1500000000.000000000"), ("f/x", "file x")],
        ),
        case(
            "hardlink to a lower layer",
            vec![hardlink("h", "a/b/c")],
            &[
                ("a", A),
                ("a/b/c", "file c 644 0:0 1500000000.000000000"),
                ("h", "file c 644 0:0 1500000000.000000000 same-as=a/b/c"),
            ],
        ),
        case("hardlink through a link", vec![hardlink("h", "lib/l1")], &[("h", "file 1"), ("lib", "link")]),
        case("absolute hardlink", vec![hardlink("h", "/a/d")], &[("h", "file d")]),
        case("hardlink from above", vec![hardlink("h", "../../../a/d")], &[("h", "file d")]),
        case("hardlink to a link", vec![hardlink("h", "lib")], &[("h", "link usr/lib")]),
        case(
            "hardlinks in a row",
            vec![hardlink("h", "a/d"), hardlink("i", "h"), hardlink("j/k", "i")],
            &[
                ("a/d", "file d"),
                ("h", "file d 644 0:0 1500000000.000000000 same-as=a/d"),
                ("j/k", "file d 644 0:0 1500000000.000000000 same-as=a/d"),
            ],
        ),
        unlike_umoci("hardlink to itself", vec![file("s", "s"), hardlink("s", "s")], &[("s", "file s")]),
        unlike_umoci("hardlink forward", vec![hardlink("s", "t"), file("t", "t")], &[("s", "file t")]),
        unlike_umoci(
            "AUFS's files",
            vec![
                file(".wh..wh.aufs", ""),
                dir(".wh..wh.plnk"),
                file(".wh..wh.plnk/1.2", "x"),
                dir("a/.wh..wh.orph"),
                file("n", "n"),
            ],
            &[(".wh..wh.aufs", "-"), (".wh..wh.plnk", "-"), ("a/.wh..wh.orph", "-"), ("n", "file n")],
        ),
        case(
            "a directory named like a whiteout",
            vec![file(".wh.foo/file", "x")],
            &[(".wh.foo/file", "file x")],
        ),
        unlike_umoci(
            "overlay's own whiteout",
            vec![device("a/d", 0, 0), device("n", 0, 0)],
            &[("a/d", "-"), ("n", "-")],
        ),
        // Shown under their own names, and without effect.
        unlike_umoci(
            "overlay's own attributes",
            vec![
                dir("a").pax("SCHILY.xattr.trusted.overlay.opaque", "y"),
                dir("usr").pax("SCHILY.xattr.trusted.overlay.redirect", "/a"),
                file("f", "").pax("SCHILY.xattr.trusted.overlay.metacopy", ""),
            ],
            &[("a/d", "file d"), ("usr/lib/l1", "file 1"), ("usr/d", "-"), ("f", "file  644")],
        ),
        case("root", vec![dir("./").mode(0o711).owner(4, 4)], &[(".", "dir 711 4:4 1500000000")]),
        case(
            "names from above",
            vec![file("../../x", "x"), file("/y", "y"), file("b/../../z", "z")],
            &[("x", "file x"), ("y", "file y"), ("z", "file z")],
        ),
        Case {
            name: "three layers",
            layers: vec![
                vec![whiteout("a/.wh.b"), dir("n"), file("n/x", "x")],
                vec![dir("a/b"), file("a/b/k", "k"), whiteout("n/.wh.x"), file("n/y", "y")],
                vec![file("a/b/m", "m"), whiteout("a/.wh.d"), whiteout(".wh.n"), file("n/z", "z")],
            ],
            want: &[
                ("a/b/c", "-"),
                ("a/b/k", "file k"),
                ("a/b/m", "file m"),
                ("a/d", "-"),
                ("n/x", "-"),
                ("n/y", "-"),
                ("n/z", "file z"),
            ],
            umoci: true,
        },
        Case {
            name: "whiteout in a directory that only upper layers have",
            layers: vec![vec![dir("n"), file("n/x", "x")], vec![whiteout("n/.wh.x"), whiteout("n/.wh.no")]],
            want: &[("n", "dir"), ("n/x", "-"), ("n/no", "-")],
            umoci: true,
        },
        Case {
            name: "whiteouts in the lowest layer",
            layers: vec![],
            want: &[("a", A), ("lib", "link"), ("usr/lib/l1", "file 1")],
            umoci: true,
        },
    ]
}

fn bundle(case: &Case) -> Bundle {
    let tars: Vec<_> = std::iter::once(base()).chain(case.layers.iter().map(|layer| tar(layer))).collect();
    image(&tars)
}

fn layers() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let tree = match bundle(&case).pull(&place.store) {
            Ok(image) => merged(&image),
            Err(e) => {
                wrong.push(format!("{}: {}", case.name, chain(&*e)));
                continue;
            }
        };
        for (path, want) in case.want {
            let have = tree.get(*path).map_or("-", String::as_str);
            if !have.starts_with(want) {
                wrong.push(format!("{}: {path}: {have}, wanted {want}", case.name));
            }
        }
        if let Some((path, _)) = tree.iter().find(|(_, text)| text.starts_with("char 0 ")) {
            wrong.push(format!("{}: {path}: a whiteout shows", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(place.store.fsck().unwrap(), []);
}

fn as_umoci() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for case in cases().into_iter().filter(|case| case.umoci) {
        let bundle = bundle(&case);
        let mut ours = merged(&bundle.pull(&place.store).unwrap());
        let mut theirs = umoci(&bundle);
        blank_new_times(&mut ours, &mut theirs);
        wrong.extend(difference(&ours, &theirs).into_iter().map(|line| format!("{}: {line}", case.name)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn umoci(bundle: &Bundle) -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    bundle.layout(&layout);
    let root = dir.path().join("root");
    let out = Command::new("umoci")
        .args(["raw", "unpack", "--image"])
        .arg(format!("{}:it", layout.display()))
        .arg(&root)
        .output()
        .unwrap();
    assert!(out.status.success(), "umoci: {}", String::from_utf8_lossy(&out.stderr));
    tree::read(&root)
}

/// Directories that no layer gives a time have the current one, in one of the trees or in both.
fn blank_new_times(ours: &mut Tree, theirs: &mut Tree) {
    let is_new = |text: &str| {
        text.split(' ').any(|word| word.len() == 20 && word > "1600000000.000000000" && word.starts_with('1'))
    };
    let blank = |text: &str| -> String {
        text.split(' ')
            .filter(|word| word.split_once('.').is_none_or(|(s, n)| s.len() != 10 || n.len() != 9))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (path, our) in ours.iter_mut() {
        if let Some(their) = theirs.get_mut(path)
            && our.starts_with("dir")
            && (is_new(our) || is_new(their))
        {
            (*our, *their) = (blank(our), blank(their));
        }
    }
}

fn refused() {
    let place = Place::new();
    let table: Vec<(Vec<E>, &str)> = vec![
        (vec![file(".wh.", "")], "a whiteout of nothing"),
        (vec![file("a/.wh..", "")], "a whiteout of nothing"),
        (vec![file("a/.wh...", "")], "a whiteout of nothing"),
        (vec![symlink(".", "/tmp")], "the root is a directory"),
        (vec![symlink("/", "/tmp")], "the root is a directory"),
        (vec![file("./.", "x")], "the root is a directory"),
        (vec![hardlink("./", "a")], "the root is a directory"),
        (vec![hardlink("h", ".")], "a hardlink to the root"),
        (vec![hardlink("h", "no")], r#"the target of this hardlink, "no", is not in the image"#),
        (vec![hardlink("h", "a")], "a hardlink to a directory"),
        (vec![file("b/.wh.x", ""), hardlink("h", "a/d"), file("a/.wh.d", "")], "is not in the image"),
        (vec![file("f", ""), file("f/x", "")], r#""f" is not a directory"#),
        (vec![file("etc/x", "")], "is not a directory in the layers below"),
        (vec![symlink("l", "l"), file("l/x", "")], "follow links"),
        (vec![symlink("s", "")], "link without a target"),
        (vec![file("f", "").owner(u64::from(u32::MAX), 0)], "its owner is out of range"),
        (vec![file("f", "").pax("uid", "4294967296")], "its owner is out of range"),
        (vec![device("d", 4096, 1)], "its device number is out of range"),
        (vec![file(vec![b'n'; 256], "")], "a name is longer than 255 bytes"),
        (vec![file("d/".repeat(257), "")], "more than 256 directories deep"),
        (vec![entry("x", b'V')], "unknown type"),
    ];
    for (layer, want) in table {
        let names: Vec<_> = layer.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect();
        let error = image(&[base(), tar(&layer)]).pull(&place.store).expect_err(&format!("{names:?}"));
        let text = chain(&*error);
        assert!(text.contains(want), "{names:?}: {text}");
        assert!(
            error.is::<oci::sink::WrongContent>() || text.contains("is not in the image"),
            "{names:?}: {text}"
        );
    }
    // Nothing is left but the base layer, until it is collected too.
    assert_eq!(place.staged(), Vec::<String>::new());
    assert_eq!(place.store.gc().unwrap().layers, 1);
    assert_eq!(place.store.fsck().unwrap(), []);
}

fn attributes() {
    let place = Place::new();
    let cap = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\n\0\0\0";
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x05\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let long = "y".repeat(200);
    let image = image(&[tar(&[
        dir("d").mode(0o1777).owner(7, 8).mtime(1_400_000_000),
        dir("none").mode(0),
        file("none/f", "x").mode(0),
        file("d/f", "hello").mode(0o6755).owner(1000, 1001).pax("mtime", "1234567890.123456789"),
        file("cap", "x").owner(5, 5).mode(0o4755).pax("SCHILY.xattr.security.capability", cap),
        file("acl", "x").mode(0o640).pax("SCHILY.xattr.system.posix_acl_access", acl),
        file("label", "x").pax("SCHILY.xattr.security.selinux", "system_u:object_r:etc_t:s0"),
        file("big-owner", "").owner(3_000_000_000, 2_500_000_000),
        file("old", "").pax("mtime", "-1.5"),
        symlink("d/s", "../cap").owner(3, 4).mtime(1),
        symlink("long-link", &long).mtime(1),
        hardlink("h", "d/f"),
        device("dev", 1, 3).mode(0o666).owner(0, 6).pax("SCHILY.xattr.trusted.t", "v"),
        entry("fifo", b'6').mode(0o600),
        E { device: (8, 300_000), ..entry("block", b'4') },
        file(vec![b'n'; 255], "long"),
        file([b"x/".repeat(120), b"deep".to_vec()].concat(), "deep"),
        file(b"non-utf8-\xff\xfe\n", "odd"),
        file(" ", "blank"),
        file("back\\slash", "b"),
    ])]);
    let tree = merged(&image.pull(&place.store).unwrap());
    let deep = format!("{}deep", "x/".repeat(120));
    let name = "n".repeat(255);
    let t = "1500000000.000000000";
    let want = [
        ("d", "dir 1777 7:8 1400000000.000000000".to_owned()),
        ("none", format!("dir 0 0:0 {t}")),
        ("none/f", format!("file x 0 0:0 {t}")),
        ("d/f", "file hello 6755 1000:1001 1234567890.123456789".into()),
        ("h", "file hello 6755 1000:1001 1234567890.123456789 same-as=d/f".into()),
        ("cap", format!("file x 4755 5:5 {t} security.capability={}", cap.escape_ascii())),
        ("acl", format!("file x 640 0:0 {t} system.posix_acl_access={}", acl.escape_ascii())),
        ("label", format!("file x 644 0:0 {t}")),
        ("big-owner", format!("file  644 3000000000:2500000000 {t}")),
        ("old", "file  644 0:0 -2.500000000".into()),
        ("d/s", "link ../cap 777 3:4 1.000000000".into()),
        ("long-link", format!("link {long} 777 0:0 1.000000000")),
        ("dev", format!("char 103 666 0:6 {t} trusted.t=v")),
        ("fifo", format!("fifo 600 0:0 {t}")),
        ("block", format!("block {:x} 644 0:0 {t}", nix::sys::stat::makedev(8, 300_000))),
        (&name, format!("file long 644 0:0 {t}")),
        (&deep, format!("file deep 644 0:0 {t}")),
        (r"non-utf8-\xff\xfe\n", format!("file odd 644 0:0 {t}")),
        (" ", format!("file blank 644 0:0 {t}")),
        (r"back\\slash", format!("file b 644 0:0 {t}")),
    ];
    for (path, want) in want {
        let have = tree.get(path).map_or("nothing", String::as_str);
        // The first of two hardlinks names itself.
        let have = have.strip_suffix(" same-as=d/f").filter(|_| path == "d/f").unwrap_or(have);
        assert_eq!(have, want, "{path}");
    }
}
