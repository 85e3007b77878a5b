//! Layers that attack the host: rows UP-01 to UP-12 of the security catalogue. Beside the store lies a canary; its
//! bytes, mode, owner, times and xattrs must be the same after each.

use std::path::Path;

use crate::archive::{E, GNU, USTAR, device, dir, entry, file, hardlink, record, sign, symlink, tar};
use crate::image::{Blob, Bundle, chain, gzip, gzipped, image, sha256};
use crate::tree::{self, merged};
use crate::{Place, Test};

pub(crate) const TESTS: &[Test] = &[
    ("hostile_links", links),
    ("hostile_archives", archives),
    ("hostile_streams", streams),
    ("hostile_bombs", bombs),
    ("hostile_diff_ids", diff_ids),
];

/// Paths and the beginning of what is to be there, `-` for nothing; or a part of the error.
type Want = Result<&'static [(&'static str, &'static str)], &'static str>;

fn canary(place: &Place) -> std::path::PathBuf {
    let canary = place.path.parent().unwrap().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("f"), "canary").unwrap();
    std::fs::create_dir(canary.join("d")).unwrap();
    canary
}

/// Pulls and compares; nothing may be left behind, whatever came of it.
fn try_one(place: &Place, canary: &Path, name: &str, bundle: &Bundle, want: Want) {
    let before = tree::read(canary);
    let result = bundle.pull(&place.store);
    assert_eq!(tree::read(canary), before, "{name}: the canary changed");
    match (result, want) {
        (Ok(image), Ok(want)) => {
            let tree = merged(&image);
            for (path, want) in want {
                let have = tree.get(*path).map_or("-", String::as_str);
                assert!(have.starts_with(want), "{name}: {path}: {have}, wanted {want}; in {tree:#?}");
            }
        }
        (Err(e), Err(want)) => assert!(chain(&*e).contains(want), "{name}: {}", chain(&*e)),
        (Ok(image), Err(want)) => panic!("{name}: wanted {want}, got {:#?}", merged(&image)),
        (Err(e), Ok(_)) => panic!("{name}: {}", chain(&*e)),
    }
    assert_eq!(place.staged(), Vec::<String>::new(), "{name}");
    assert_eq!(place.store.fsck().unwrap(), [], "{name}");
}

fn links() {
    let place = Place::new();
    let canary = canary(&place);
    // From the diff directory to the canary.
    let up = "../../../../../../../../../../../../../../../../";
    let outside = format!("{up}{}", canary.display());
    let at = |rest: &str| format!("{outside}{rest}");
    let absolute = canary.display().to_string();
    let inside = absolute.trim_start_matches('/').to_owned();
    let inside: &'static str = Box::leak(format!("{inside}/f").into_boxed_str());
    let inside_new: &'static str = Box::leak(inside.replace("/f", "/new").into_boxed_str());
    let leak = |want: Vec<(&'static str, &'static str)>| -> Want { Ok(Box::leak(want.into_boxed_slice())) };
    let table: Vec<(&str, Vec<Vec<E>>, Want)> = vec![
        (
            "UP-01 file over link",
            vec![vec![symlink("foo", at("/f")), file("foo", "x")]],
            Ok(&[("foo", "file x")]),
        ),
        (
            "UP-01 hardlink out",
            vec![vec![hardlink("foo", at("/f")), file("foo", "x")]],
            Ok(&[("foo", "file x")]),
        ),
        ("UP-01 hardlink out, kept", vec![vec![hardlink("foo", at("/f"))]], Err("is not in the image")),
        (
            "UP-02 directories through a link up",
            vec![vec![symlink("l", "../"), dir("l/exploit/foo")]],
            Ok(&[("exploit/foo", "dir")]),
        ),
        (
            "UP-03 directory over link",
            vec![vec![symlink("foo", &absolute), dir("foo").mode(0o777)]],
            Ok(&[("foo", "dir 777")]),
        ),
        (
            "UP-05 parent becomes a link",
            vec![vec![dir("a"), dir("a/b"), file("a/b/c", ""), symlink("a", &absolute), file("a/new", "x")]],
            leak(vec![("a", "link"), (inside_new, "file x")]),
        ),
        (
            "UP-05 parent's parent becomes a link",
            vec![vec![dir("a"), dir("a/b"), file("a/b/c", ""), symlink("a", at("")), file("a/b/d", "x")]],
            Ok(&[("a", "link")]),
        ),
        (
            "UP-07 file through a link",
            vec![vec![symlink("e", &absolute), file("e/new", "x")]],
            leak(vec![(inside_new, "file x")]),
        ),
        (
            "UP-07 across layers",
            vec![vec![symlink("e", &absolute)], vec![file("e/new", "x")]],
            leak(vec![("e", "link"), (inside_new, "file x")]),
        ),
        (
            "UP-07 across three layers, by links of links",
            vec![
                vec![symlink("e", "m"), symlink("m", at(""))],
                vec![symlink("n", "e")],
                vec![file("n/f", "x")],
            ],
            leak(vec![("n", "link e"), (inside, "file x")]),
        ),
        (
            "UP-08 mixed",
            vec![vec![symlink("a", "b/../.."), dir("b"), file("a/../../x", "x")]],
            Ok(&[("x", "file x")]),
        ),
        (
            "UP-08 through /proc",
            vec![vec![symlink("p", "/proc/self/root"), file("p/x", "x")]],
            Ok(&[("proc/self/root/x", "file x")]),
        ),
        (
            "UP-09 mode through a link",
            vec![vec![symlink("l", at("/f")), hardlink("h", "l"), file("h", "").mode(0o777)]],
            Ok(&[("h", "file  777"), ("l", "link")]),
        ),
        (
            "UP-09 attributes of a link",
            vec![vec![
                E { mode: 0o777, ..symlink("l", at("/f")) }
                    .owner(12, 13)
                    .mtime(77)
                    .pax("SCHILY.xattr.trusted.x", "y"),
            ]],
            Ok(&[("l", "link")]),
        ),
        (
            "UP-09 directory times through a link",
            vec![vec![dir("d").mtime(5), dir("d/d").mtime(5), file("d/d/x", ""), symlink("d", &absolute)]],
            Ok(&[("d", "link")]),
        ),
        ("UP-10 root as link", vec![vec![symlink("./", at(""))]], Err("the root is a directory")),
        (
            "UP-10 root as link, by ..",
            vec![vec![dir("a"), symlink("a/..", at(""))]],
            Err("the root is a directory"),
        ),
        (
            "UP-12 relative hardlink",
            vec![vec![file("d/t", "t"), hardlink("d/h", "../d/t")]],
            Ok(&[("d/h", "file t")]),
        ),
        ("whiteout out", vec![vec![symlink("l", at(""))], vec![file("l/.wh.f", "")]], Ok(&[("l", "link")])),
        (
            "whiteout by name",
            vec![vec![file("x", "")], vec![file(format!(".wh.{}", "..\0").trim_end_matches('\0'), "")]],
            Err("a whiteout of nothing"),
        ),
        (
            "opaque out",
            vec![vec![symlink("l", at(""))], vec![file("l/.wh..wh..opq", "")]],
            Ok(&[("l", "link")]),
        ),
        (
            "link over a lower directory, then below it",
            vec![vec![dir("d"), file("d/x", "x")], vec![symlink("d", &absolute), file("d/f", "mine")]],
            leak(vec![("d", "link"), (inside, "file mine")]),
        ),
        (
            "hardlink through a link of a lower layer",
            vec![vec![symlink("l", at(""))], vec![hardlink("h", "l/f")]],
            Err("is not in the image"),
        ),
        ("hardlink to the host's device", vec![vec![hardlink("h", "/dev/null")]], Err("is not in the image")),
        ("device replaced by a file", vec![vec![device("n", 1, 3), file("n", "x")]], Ok(&[("n", "file x")])),
        ("fifo, then file", vec![vec![entry("p", b'6'), file("p", "x")]], Ok(&[("p", "file x")])),
    ];
    for (name, layers, want) in table {
        let tars: Vec<_> = layers.iter().map(|layer| tar(layer)).collect();
        try_one(&place, &canary, name, &image(&tars), want);
    }
}

/// Header of a PAX file whose two sizes differ, with a body that looks like an entry.
fn smuggle(pax: &str, header: u64) -> Vec<u8> {
    let inner = file("evil", "boo").bytes();
    let mut outer = file("carrier", &inner).pax("size", pax).size(header).bytes();
    outer.extend(file("after", "a").bytes());
    outer.resize(outer.len() + 1024, 0);
    outer
}

fn archives() {
    let place = Place::new();
    let canary = canary(&place);
    let x = |body: Vec<u8>| E { data: body, ..entry("PaxHeaders/x", b'x') }.bytes();
    let long =
        |kind: u8, body: &[u8]| E { data: body.to_vec(), magic: GNU, ..entry("././@LongLink", kind) }.bytes();
    let end = || vec![0; 1024];
    let f = || file("f", "data").bytes();
    let hard = |name: &'static str, parts: Vec<Vec<u8>>, want: Want| (name, parts.concat(), want);
    let ok: Want = Ok(&[("f", "file data")]);
    let mut bad_sum = file("f", "data").bytes();
    bad_sum[0] = b'g';
    let mut nul_version = file("f", "data").bytes();
    nul_version[263..265].fill(0);
    let mut block = [0; 512];
    block.copy_from_slice(&nul_version[..512]);
    sign(&mut block);
    nul_version[..512].copy_from_slice(&block);
    let table = vec![
        hard("plain", vec![f(), end()], ok),
        hard("no end", vec![f()], ok),
        hard("one block of end", vec![f(), vec![0; 512]], ok),
        hard("junk behind the end", vec![f(), end(), b"junk".repeat(1000)], ok),
        hard(
            "a lone block of zeros",
            vec![f(), vec![0; 512], file("g", "").bytes(), end()],
            Err("lone block"),
        ),
        hard("empty", vec![], Ok(&[(".", "dir 755 0:0"), ("f", "-")])),
        hard("cut in a header", vec![f()[..100].to_vec()], Err("middle of a block")),
        hard("cut in a body", vec![f()[..514].to_vec()], Err("middle of a file")),
        hard("cut in padding", vec![f()[..600].to_vec()], Err("middle of a file")),
        hard("junk", vec![b"this is no archive at all. ".repeat(100)], Err("no tar header")),
        hard("bad checksum", vec![bad_sum, end()], Err("no tar header")),
        hard("ustar without a version", vec![nul_version, end()], ok),
        hard(
            "UP-04 size in PAX, 0 in the header",
            vec![smuggle("1024", 0)],
            Ok(&[("carrier", "file of 1024"), ("evil", "-"), ("after", "file a")]),
        ),
        hard(
            "UP-04 size in PAX, other in the header",
            vec![smuggle("1024", 512)],
            Ok(&[("carrier", "file of 1024"), ("evil", "-"), ("after", "file a")]),
        ),
        hard(
            "UP-04 x, L, file",
            vec![x(record("size", b"4")), long(b'L', b"named\0"), file("f", "data").size(0).bytes(), end()],
            Ok(&[("named", "file data")]),
        ),
        hard(
            "UP-04 size for a link is nothing",
            vec![E { size: Some(512), ..symlink("l", "t") }.bytes(), f(), end()],
            Ok(&[("l", "link t"), ("f", "file data")]),
        ),
        hard(
            "negative size",
            vec![{
                let mut b = file("f", "").bytes();
                b[124..136].copy_from_slice(&[0xff; 12]);
                let mut block = [0; 512];
                block.copy_from_slice(&b[..512]);
                sign(&mut block);
                block.to_vec()
            }],
            Err("bad size"),
        ),
        hard(
            "8 EiB without a body",
            vec![file("f", "").size(u64::MAX / 2).bytes()],
            Err("larger than a file"),
        ),
        hard("1 TiB without a body", vec![file("f", "").size(1 << 40).bytes()], Err("middle of a file")),
        hard("UP-06 bad length", vec![x(b"99 path=a\n".to_vec()), f(), end()], Err("length is wrong")),
        hard("UP-06 signed length", vec![x(b"+9 path=a\n".to_vec()), f(), end()], Err("not a number")),
        hard("UP-06 unterminated", vec![x(b"8 path=a".to_vec()), f(), end()], Err("length is wrong")),
        hard("UP-06 no key", vec![x(b"6 =aa\n".to_vec()), f(), end()], Err("key is empty")),
        hard("UP-06 NUL in a path", vec![x(record("path", b"a\0b")), f(), end()], Err("path: bad value")),
        hard(
            "UP-06 newline in a path",
            vec![x(record("path", b"a\nb")), f(), end()],
            Ok(&[(r"a\nb", "file data")]),
        ),
        hard("UP-06 empty path", vec![x(record("path", b"")), f(), end()], ok),
        hard(
            "UP-06 path and long name",
            vec![x(record("path", b"p")), long(b'L', b"l\0"), f(), end()],
            Err("both a GNU long name"),
        ),
        hard(
            "UP-06 two x",
            vec![x(record("path", b"p")), x(record("path", b"q")), f(), end()],
            Err("two extension"),
        ),
        hard("UP-06 two L", vec![long(b'L', b"p\0"), long(b'L', b"q\0"), f(), end()], Err("two extension")),
        hard("UP-06 orphan sparse", vec![x(record("GNU.sparse.name", b"p")), f(), end()], Err("GNU.sparse")),
        hard("UP-06 dangling x", vec![x(record("path", b"p")), end()], Err("without an entry")),
        hard("UP-06 dangling L", vec![long(b'L', b"p\0")], Err("without an entry")),
        hard("UP-06 dangling K", vec![long(b'K', b"p\0"), end()], Err("without an entry")),
        hard(
            "UP-06 cut x",
            vec![x(record("comment", &[b'c'; 2000]))[..1024].to_vec()],
            Err("middle of a file"),
        ),
        hard("UP-06 X", vec![entry("X", b'X').bytes(), f(), end()], Err("unknown type")),
        hard(
            "2 MiB x",
            vec![x(record("comment", &vec![b'c'; 2 << 20])), f(), end()],
            Err("extension header of"),
        ),
        hard("2 MiB L", vec![long(b'L', &vec![b'c'; 2 << 20]), f(), end()], Err("extension header of")),
        hard(
            "name longer than a path",
            vec![long(b'L', &b"dd/".repeat(2000)), f(), end()],
            Err("longer than"),
        ),
        hard(
            "global comment",
            vec![E { data: record("comment", b"c"), ..entry("g", b'g') }.bytes(), f(), end()],
            ok,
        ),
        hard(
            "global size",
            vec![E { data: record("size", b"0"), ..entry("g", b'g') }.bytes(), f(), end()],
            Err("for all entries"),
        ),
        hard("mtime NaN", vec![x(record("mtime", b"NaN")), f(), end()], Err("mtime: bad value")),
        hard("mtime far away", vec![x(record("mtime", b"99999999999999")), f(), end()], ok),
        hard("no name", vec![file("", "").bytes(), end()], Err("without a name")),
        hard(
            "directory of old",
            vec![
                E { magic: b"\0\0\0\0\0\0\0\0", ..entry("d/", 0) }.bytes(),
                E { magic: USTAR, ..file("d/f", "data") }.bytes(),
                end(),
            ],
            Ok(&[("d", "dir 644"), ("d/f", "file data")]),
        ),
        hard(
            "xattr of 64 KiB and more",
            vec![file("f", "data").pax("SCHILY.xattr.user.x", vec![b'v'; 70_000]).bytes(), end()],
            Err("set xattr"),
        ),
        hard(
            "xattr without a namespace",
            vec![file("f", "data").pax("SCHILY.xattr.x", "v").bytes(), end()],
            ok,
        ),
    ];
    for (name, bytes, want) in table {
        try_one(&place, &canary, name, &image(&[bytes]), want);
    }
}

/// UP-11 and section 2d: whatever is wrong with the stream, an error comes soon, and the next try works.
fn streams() {
    let place = Place::new();
    let canary = canary(&place);
    let good = tar(&[file("f", "data".repeat(100_000))]);
    let diff_id = sha256(&good);
    let blob = |bytes: Vec<u8>| Bundle::new(vec![Blob { bytes, diff_id: diff_id.clone() }]);
    let packed = gzip(&good);
    let zstd = zstd::encode_all(&good[..], 3).unwrap();
    let mut flipped = packed.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let two = [gzip(&good[..777]), gzip(&good[777..])].concat();
    let ok: Want = Ok(&[("f", "file of 400000")]);
    let table: Vec<(&str, Vec<u8>, Want)> = vec![
        ("gzip of no tar", gzip(b"no tar"), Err("not a tar archive")),
        ("gzip of much that is no tar", gzip(&vec![b'x'; 50 << 20]), Err("not a tar archive")),
        ("cut gzip", packed[..packed.len() - 9].to_vec(), Err("decompress layer (gzip)")),
        ("flipped bit", flipped, Err("")),
        ("junk behind gzip", [packed.clone(), b"junk".to_vec()].concat(), Err("junk behind the end")),
        ("xz", b"\xfd7zXZ\0rest".to_vec(), Err("compressed with xz")),
        ("bzip2", b"BZh91AY&SY".to_vec(), Err("compressed with bzip2")),
        ("cut zstd", zstd[..zstd.len() - 5].to_vec(), Err("decompress layer (zstd)")),
        ("another archive", gzip(&tar(&[file("g", "")])), Err("DiffID")),
        ("zeros behind gzip", [packed.clone(), vec![0; 5000]].concat(), ok),
        ("plain", good.clone(), ok),
        ("zstd", zstd, ok),
        ("two members", two, ok),
        ("gzip", packed.clone(), ok),
    ];
    for (name, bytes, want) in table {
        try_one(&place, &canary, name, &blob(bytes), want);
        place.store.remove(blob(vec![]).id().as_str(), true).unwrap_or_default();
    }
    // What the manifest says about the blob.
    for (name, size, digest, want) in [
        ("too long", packed.len() as u64 - 1, sha256(&packed), "layer has"),
        ("too short", packed.len() as u64 + 1, sha256(&packed), "layer has"),
        ("wrong digest", packed.len() as u64, sha256(b""), "layer has digest"),
    ] {
        let bundle = blob(packed.clone());
        let sink = place.store.sink().unwrap();
        let mut layers = bundle.layers();
        (layers[0].size, layers[0].digest) = (size, digest);
        oci::sink::ImageSink::begin(&sink, &layers).unwrap();
        let error = bundle.send(&sink, 0, 1000).unwrap_err();
        assert!(error.is::<oci::sink::WrongContent>(), "{name}");
        assert!(chain(&*error).contains(want), "{name}: {}", chain(&*error));
        // The same pull may try again.
        oci::sink::ImageSink::begin(&sink, &bundle.layers()).unwrap();
        bundle.send(&sink, 0, 1000).unwrap();
        drop(sink);
        assert_eq!(place.store.gc().unwrap().layers, 1, "{name}");
    }
    try_one(&place, &canary, "good in the end", &blob(packed), ok);
}

fn bombs() {
    let place = Place::new();
    let canary = canary(&place);
    // Whiteouts in a long path: 40 MB of paths to remember, from less than 1 MB of gzip.
    let long = format!("{}/", "d".repeat(250)).repeat(15);
    let many: Vec<E> = (0..10_000).map(|n| file(format!("{long}.wh.{n}"), "")).collect();
    let deep: Vec<E> = (0..300).map(|n| dir("d/".repeat(n + 1))).collect();
    let mut ladder = vec![dir("d/".repeat(200)), symlink("s0", "d/".repeat(200))];
    for n in 1..20 {
        ladder.push(dir(format!("s{}/{}", n - 1, "d/".repeat(200))));
        ladder.push(symlink(format!("s{n}"), format!("s{}/{}", n - 1, "d/".repeat(200))));
    }
    for (name, entries, want) in [
        ("whiteouts", many, "too many directories, whiteouts and links"),
        ("deep", deep, "more than 256 directories deep"),
        ("deep by links", ladder, "too deep"),
    ] {
        let lowest = tar(&[dir("x")]);
        try_one(&place, &canary, name, &image(&[lowest, tar(&entries)]), Err(want));
    }
    // zstd frame header that wants 2 GiB of window (RFC 8878, 3.1.1.1.2).
    let window = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0];
    let bundle = Bundle::new(vec![Blob { bytes: window, diff_id: sha256(b"") }]);
    try_one(&place, &canary, "zstd window", &bundle, Err("decompress layer (zstd)"));
}

/// UP-13: the chain ID is shared by images, so nothing may get under one that is not what the DiffIDs say.
fn diff_ids() {
    let place = Place::new();
    let good = image(&[tar(&[file("a", "a")]), tar(&[file("b", "b")])]);
    let evil = tar(&[file("a", "evil")]);
    let forged = Bundle::new(vec![
        Blob { bytes: gzip(&evil), diff_id: good.blobs[0].diff_id.clone() },
        good.blobs[1].clone(),
    ]);
    let error = chain(&*forged.pull(&place.store).unwrap_err());
    assert!(error.contains("DiffID"), "{error}");
    let swapped = Bundle { blobs: vec![good.blobs[1].clone(), good.blobs[0].clone()], ..image(&[]) };
    let sink = place.store.sink().unwrap();
    good.begin(&sink).unwrap();
    oci::sink::ImageSink::begin(&sink, &swapped.layers()).unwrap();
    for index in 0..2 {
        swapped.send(&sink, index, 1000).unwrap();
    }
    let error = chain(&*good.commit(&sink).unwrap_err());
    assert!(error.contains("other layers than came"), "{error}");
    drop(sink);
    let fewer = Bundle { config: image(&[tar(&[file("a", "a")])]).config, ..good };
    let error = chain(&*fewer.pull(&place.store).unwrap_err());
    assert!(error.contains("other layers than came") || error.contains("is not about config"), "{error}");
    let good = Bundle::new(vec![gzipped(&tar(&[file("a", "a")])), gzipped(&tar(&[file("b", "b")]))]);
    let tree = merged(&good.pull(&place.store).unwrap());
    assert!(tree["a"].starts_with("file a "), "{tree:?}");
    assert_eq!(place.store.fsck().unwrap(), []);
}
