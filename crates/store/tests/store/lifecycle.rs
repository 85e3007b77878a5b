//! Names, removal, garbage, checks, and several at once.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::Reference;
use oci::sink::{ImageSink, LayerSlot};
use store::{Error, Problem, Store};

use crate::archive::{dir, file, tar};
use crate::image::{Bundle, chain, image, sha256};
use crate::tree::merged;
use crate::{Place, Test};

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle_names", names),
    ("lifecycle_ids", ids),
    ("lifecycle_remove", remove),
    ("lifecycle_gc_spares_a_pull", gc_spares_a_pull),
    ("lifecycle_fsck", fsck),
    ("lifecycle_open", open),
    ("lifecycle_retry", retry),
    ("lifecycle_pull_twice_at_once", pull_twice_at_once),
    ("lifecycle_pull_and_remove_at_once", pull_and_remove_at_once),
    ("lifecycle_full_disk", full_disk),
    ("lifecycle_no_layers", no_layers),
];

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn small(content: &str) -> Bundle {
    image(&[tar(&[dir("d"), file("d/base", "base")]), tar(&[file("f", content)])])
}

fn names() {
    let Place { store, .. } = &Place::new();
    let (a, b) = (small("a").pull(store).unwrap(), small("b").pull(store).unwrap());
    assert!(matches!(store.tag(&name("x"), &sha256(b"")), Err(Error::NoImage(_))));
    store.tag(&name("x"), &a.id).unwrap();
    store.tag(&name("host:5000/x/y:t"), &a.id).unwrap();
    store.tag(&name("x:2"), &b.id).unwrap();
    let pinned = format!("x@{}", b.manifest);
    for (wanted, id) in [
        ("x", &a.id),
        ("docker.io/library/x:latest", &a.id),
        ("host:5000/x/y:t", &a.id),
        ("x:2", &b.id),
        // The manifest that x:2 came with.
        (&pinned, &b.id),
        (a.id.as_str(), &a.id),
        (a.id.hex(), &a.id),
        (a.id.short(), &a.id),
        (&a.id.as_str()[..20], &a.id),
    ] {
        assert_eq!(store.resolve(wanted).unwrap().id, *id, "{wanted}");
    }
    let elsewhere = format!("y@{}", b.manifest);
    for wanted in ["y", "x:3", "", "sha256:", "../x", &elsewhere, &"0".repeat(64), "no/such:thing"] {
        assert!(matches!(store.resolve(wanted), Err(Error::NoImage(_))), "{wanted}");
    }
    // The name moves; the old image stays, without a name.
    store.tag(&name("x"), &b.id).unwrap();
    assert_eq!(store.resolve("x").unwrap().id, b.id);
    let all: Vec<String> = store.names().unwrap().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(all, ["docker.io/library/x:2", "docker.io/library/x:latest", "host:5000/x/y:t"]);
    assert_eq!(store.images().unwrap().len(), 2);
    assert_eq!(store.untag(&name("x:2")).unwrap(), Some(b.id.clone()));
    assert_eq!(store.untag(&name("x:2")).unwrap(), None);
    // A tag beside a digest is not kept.
    store.tag(&name(&format!("z:tag@{}", b.manifest)), &b.id).unwrap();
    assert!(store.resolve("z:tag").is_err());
    assert_eq!(store.resolve(&format!("z:other@{}", b.manifest)).unwrap().id, b.id);
    assert_eq!(store.fsck().unwrap(), []);
    assert_eq!((a.size, a.layers.len()), (5, 2));
}

fn ids() {
    let Place { store, .. } = &Place::new();
    let ids: Vec<_> =
        (0..17).map(|n| image(&[tar(&[file("n", n.to_string())])]).pull(store).unwrap().id).collect();
    // Of seventeen, two begin alike.
    let first = |c: char| ids.iter().filter(|id| id.hex().starts_with(c)).count();
    let c = "0123456789abcdef".chars().find(|c| first(*c) > 1).unwrap();
    match store.resolve(&c.to_string()).unwrap_err() {
        Error::Ambiguous { ids, .. } => assert_eq!(ids.len(), first(c)),
        other => panic!("{other}"),
    }
}

fn remove() {
    let Place { store, .. } = &Place::new();
    let (a, b) = (small("a").pull(store).unwrap(), small("b").pull(store).unwrap());
    store.tag(&name("x:1"), &a.id).unwrap();
    store.tag(&name("x:2"), &a.id).unwrap();
    let shown = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    // A name, not the last.
    let removed = store.remove("x:1", false).unwrap();
    assert_eq!((shown(&removed.untagged), removed.deleted), (vec!["x:1".to_owned()], None));
    // By ID with two names.
    store.tag(&name("x:1"), &a.id).unwrap();
    assert!(matches!(store.remove(a.id.short(), false), Err(Error::SeveralNames { .. })));
    // Pinned.
    store.pin("box", &a.id).unwrap();
    store.remove("x:1", false).unwrap();
    match store.remove("x:2", false).unwrap_err() {
        Error::InUse { holders, .. } => assert_eq!(holders, ["box"]),
        other => panic!("{other}"),
    }
    let removed = store.remove("x:2", true).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (1, None));
    assert!(matches!(store.remove(a.id.as_str(), false), Err(Error::InUse { .. })));
    store.unpin("box").unwrap();
    store.unpin("box").unwrap();
    // The layer below is that of b too.
    let removed = store.remove(a.id.as_str(), false).unwrap();
    assert_eq!((removed.deleted, removed.reclaimed.layers, removed.reclaimed.documents), (Some(a.id), 1, 2));
    assert!(merged(&store.image(&b.id).unwrap()).contains_key("d/base"));
    assert_eq!(store.fsck().unwrap(), []);
    store.tag(&name("y"), &b.id).unwrap();
    let removed = store.remove("y", false).unwrap();
    assert_eq!((removed.deleted, removed.reclaimed.layers), (Some(b.id), 2));
    assert!(matches!(store.remove("y", true), Err(Error::NoImage(_))));
    for bad in ["", ".", "..", "a/b", "../x", &"a".repeat(201)] {
        assert!(matches!(store.pin(bad, &sha256(b"")), Err(Error::BadHolder(_))), "{bad}");
    }
    assert_eq!(store.images().unwrap().len(), 0);
    assert_eq!(store.fsck().unwrap(), []);
}

fn gc_spares_a_pull() {
    let Place { store, .. } = &Place::new();
    let a = small("a").pull(store).unwrap();
    let bundle = small("b");
    let sink = store.sink().unwrap();
    bundle.begin(&sink).unwrap();
    assert!(matches!(sink.layer(0).unwrap(), LayerSlot::Present));
    let removed = store.remove(a.id.as_str(), false).unwrap();
    assert_eq!(removed.reclaimed.layers, 1, "the one that the pull does not need");
    assert_eq!(store.gc().unwrap().layers, 0);
    bundle.send(&sink, 1, 1000).unwrap();
    assert_eq!(store.gc().unwrap().layers, 0);
    bundle.commit(&sink).unwrap();
    drop(sink);
    assert_eq!(store.gc().unwrap().layers, 0);
    assert!(merged(&store.image(&bundle.id()).unwrap()).contains_key("d/base"));
}

fn fsck() {
    let Place { store, path, .. } = &Place::new();
    let a = small("a").pull(store).unwrap();
    store.tag(&name("x"), &a.id).unwrap();
    store.pin("box", &a.id).unwrap();
    assert_eq!(store.fsck().unwrap(), []);
    let config = path.join("blobs/sha256").join(a.id.hex());
    let layer = a.layers[1].parent().unwrap().to_owned();
    let image = path.join(format!("images/sha256-{}.json", a.id.hex()));
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>, fn(&Problem) -> bool);
    let table: Vec<Damage> = vec![
        ("config changed", Box::new(|| write(&config, "{}")), |p| *p == Problem::WrongDigest),
        ("config gone", Box::new(|| std::fs::remove_file(&config).unwrap()), |p| {
            matches!(p, Problem::Missing(_))
        }),
        ("file changed", Box::new(|| write(&layer.join("diff/f"), "longer")), |p| {
            matches!(p, Problem::Changed(_))
        }),
        ("file added", Box::new(|| write(&layer.join("diff/new"), "")), |p| matches!(p, Problem::Changed(_))),
        ("diff gone", Box::new(|| std::fs::remove_dir_all(layer.join("diff")).unwrap()), |p| {
            matches!(p, Problem::Changed(_))
        }),
        ("layer gone", Box::new(|| std::fs::remove_dir_all(&layer).unwrap()), |p| {
            matches!(p, Problem::Missing(_))
        }),
        ("layer record", Box::new(|| write(&layer.join("layer.json"), "{")), |p| {
            matches!(p, Problem::Unreadable(_))
        }),
        ("image record", Box::new(|| write(&image, "[]")), |p| matches!(p, Problem::Unreadable(_))),
        ("image gone", Box::new(|| std::fs::remove_file(&image).unwrap()), |p| {
            matches!(p, Problem::Missing(_))
        }),
        ("stray", Box::new(|| write(&path.join("layers/sha256/x"), "")), |p| *p == Problem::Stray),
        ("stray in the root", Box::new(|| write(&path.join("x"), "")), |p| *p == Problem::Stray),
        ("name", Box::new(|| write(&path.join("names/x.json"), "0")), |p| {
            matches!(p, Problem::Unreadable(_))
        }),
    ];
    let backup = path.with_file_name("backup");
    let copy = |from: &Path, to: &Path| {
        let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(status.success());
    };
    copy(path, &backup);
    for (what, damage, expected) in table {
        damage();
        let findings = store.fsck().unwrap();
        assert!(findings.iter().any(|f| expected(&f.problem)), "{what}: {findings:?}");
        std::fs::remove_dir_all(path).unwrap();
        copy(&backup, path);
        assert_eq!(store.fsck().unwrap(), [], "{what}: put back");
    }
}

fn open() {
    let place = Place::new();
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode(&place.path) & 0o777, 0o700);
    // What has no owner goes, what has one stays.
    let abandoned = place.path.join("staging/1-1");
    std::fs::create_dir_all(abandoned.join("a/b")).unwrap();
    std::fs::write(place.path.join("staging/1-2"), "x").unwrap();
    let sink = place.store.sink().unwrap();
    assert_eq!(place.staged().len(), 3);
    Store::open(&place.path).unwrap();
    assert_eq!(place.staged().len(), 1);
    drop(sink);
    assert_eq!(place.staged().len(), 0);
    // A later format.
    std::fs::write(place.path.join("meta.json"), r#"{"format": 2}"#).unwrap();
    let error = Store::open(&place.path).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 2, known: 1, .. }), "{error}");
    std::fs::write(place.path.join("meta.json"), "{}").unwrap();
    let error = chain(&Store::open(&place.path).unwrap_err());
    assert!(error.contains("meta.json") && error.contains("format"), "{error}");
    let error = chain(&Store::open(Path::new("/dev/null/store")).unwrap_err());
    assert!(error.contains("/dev/null"), "{error}");
    // Many at once make one.
    let fresh = place.path.with_file_name("fresh");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| Store::open(&fresh).unwrap().fsck().unwrap());
        }
    });
    assert_eq!(Store::open(&fresh).unwrap().fsck().unwrap(), []);
}

fn retry() {
    let place = Place::new();
    let bundle = image(&[tar(&[file("f", "x".repeat(3_000_000))]), tar(&[file("g", "g")])]);
    let sink = place.store.sink().unwrap();
    bundle.begin(&sink).unwrap();
    bundle.send(&sink, 1, 1000).unwrap();
    for cut in [0, 1, 500, 2000] {
        let LayerSlot::Fetch(mut writer) = sink.layer(0).unwrap() else { panic!("not wanted") };
        assert!(matches!(sink.layer(0).unwrap(), LayerSlot::Busy));
        writer.write(&bundle.blobs[0].bytes[..cut]).unwrap();
        drop(writer);
    }
    let error = chain(&*bundle.commit(&sink).unwrap_err());
    assert!(error.contains("is missing"), "{error}");
    bundle.send(&sink, 0, 1000).unwrap();
    bundle.commit(&sink).unwrap();
    drop(sink);
    assert_eq!(place.staged(), Vec::<String>::new());
    assert_eq!(place.store.fsck().unwrap(), []);
}

/// Each pull opens the store anew, as a process of its own would.
fn pull_twice_at_once() {
    let place = Place::new();
    let tars: Vec<_> =
        (0..6).map(|n| tar(&[dir("d"), file(format!("d/{n}"), "x".repeat(500_000 * n))])).collect();
    let bundle = image(&tars);
    let fetched = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(&place.path).unwrap();
                let sink = store.sink().unwrap();
                bundle.begin(&sink).unwrap();
                let mut open: Vec<usize> = (0..bundle.blobs.len()).collect();
                while let Some(index) = open.first().copied() {
                    match sink.layer(index).unwrap() {
                        LayerSlot::Present => drop(open.remove(0)),
                        LayerSlot::Busy => {
                            open.rotate_left(1);
                            std::thread::sleep(std::time::Duration::from_millis(1));
                        }
                        LayerSlot::Fetch(mut writer) => {
                            for piece in bundle.blobs[index].bytes.chunks(5000) {
                                writer.write(piece).unwrap();
                            }
                            writer.finish().unwrap();
                            fetched.fetch_add(1, Ordering::Relaxed);
                            open.remove(0);
                        }
                    }
                }
                bundle.commit(&sink).unwrap();
            });
        }
    });
    assert_eq!(fetched.into_inner(), 6, "each layer once");
    assert_eq!(merged(&place.store.image(&bundle.id()).unwrap()).len(), 8);
    assert_eq!(place.staged(), Vec::<String>::new());
    assert_eq!(place.store.fsck().unwrap(), []);
}

fn pull_and_remove_at_once() {
    let place = Place::new();
    let bundle = small("contended");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..30 {
                    let sink = place.store.sink().unwrap();
                    bundle.begin(&sink).unwrap();
                    for index in 0..2 {
                        bundle.send(&sink, index, 1000).unwrap();
                    }
                    bundle.commit(&sink).unwrap();
                    // The image may be gone again, but if it is there it is whole.
                    match place.store.image(&bundle.id()) {
                        Ok(image) => assert_eq!(image.layers.len(), 2),
                        Err(e) => assert!(matches!(e, Error::NoImage(_)), "{e}"),
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..60 {
                    match place.store.remove(bundle.id().as_str(), true) {
                        Ok(_) | Err(Error::NoImage(_)) => {}
                        Err(e) => panic!("{}", chain(&e)),
                    }
                    assert_eq!(place.store.fsck().unwrap(), []);
                }
            });
        }
    });
    bundle.pull(&place.store).unwrap();
    assert_eq!(place.staged(), Vec::<String>::new());
    assert_eq!(place.store.fsck().unwrap(), []);
}

fn full_disk() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..20_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let bundle = image(&[tar(&[file("small", "s")]), tar(&[file("big", noise)])]);
    mount(Some("rcr"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=10m")).unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    let error = bundle.pull(&store).unwrap_err();
    assert!(!error.is::<oci::sink::WrongContent>());
    let text = chain(&*error);
    assert!(text.contains("No space left on device") && text.contains("\"big\""), "{text}");
    assert_eq!(std::fs::read_dir(path.join("staging")).unwrap().count(), 0);
    assert_eq!(store.fsck().unwrap(), []);
    mount(None::<&str>, dir.path(), None::<&str>, MsFlags::MS_REMOUNT, Some("size=100m")).unwrap();
    let image = bundle.pull(&store).unwrap();
    assert_eq!(merged(&image).len(), 3);
    drop((store, image));
    umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
}

fn no_layers() {
    let place = Place::new();
    let image = image(&[]).pull(&place.store).unwrap();
    assert_eq!(image.layers.len(), 1);
    assert_eq!(merged(&image).len(), 1);
    assert_eq!(place.store.fsck().unwrap(), []);
}
