//! Archives as GNU tar writes them, compared with what it unpacks from them.

use std::path::Path;
use std::process::Command;

use crate::image::{Bundle, gzipped};
use crate::tree::{difference, merged, read};
use crate::{Place, Test};

pub(crate) const TESTS: &[Test] = &[("formats_gnu_tar", gnu_tar)];

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Something of every kind. `modern`: what formats older than POSIX.1-2001 can't hold.
fn make(root: &Path, modern: bool) {
    let script = r#"
        cd "$1"; mkdir -p a/b c; chmod 1750 a; chown 12:34 a/b
        echo hello > a/f; chmod 4711 a/f; ln a/f c/hard; ln -s ../a/f c/soft; mkfifo c/p; mknod c/null c 1 3; mknod c/blk b 7 300
        head -c 1000000 /dev/urandom > big; : > empty
        truncate -s 5000000 holes; printf x | dd of=holes bs=1 seek=3000000 conv=notrunc status=none
        printf start | dd of=holes conv=notrunc status=none
        truncate -s 3000000 hole
        for i in $(seq 0 2 80); do printf data | dd of=many bs=1 seek=$((i * 65536)) conv=notrunc status=none; done
        touch -d @1234567890 a/f empty c; touch -h -d @1 c/soft
        if [ "$2" = true ]; then
            d=$(printf 'd%.0s' $(seq 120)); mkdir -p $d/$d; echo long > $d/$d/$d; ln -s $d/$d/$d longlink; ln $d/$d/$d longhard
            printf odd > "$(printf 'a\377b\nc')"; touch -d '2001-02-03 04:05:06.123456789' a/b
            chown 3000000:3000001 big
        fi
        if [ "$2" = true ]; then setfattr -n user.x -v "$(printf 'l1\nl2')" big; setfattr -n security.capability -v 0x010000020020000000000000000000000000000a a/f; fi
    "#;
    run(Command::new("bash").args(["-euc", script, "make"]).arg(root).arg(modern.to_string()));
}

fn gnu_tar() {
    let place = Place::new();
    let work = tempfile::tempdir().unwrap();
    for modern in [false, true] {
        make_dir(&work.path().join(modern.to_string()), modern);
    }
    let table: [(&str, bool, &[&str]); 9] = [
        ("v7", false, &["--format=v7", "--exclude=c/null", "--exclude=c/blk", "--exclude=c/p"]),
        ("ustar", false, &["--format=ustar"]),
        ("oldgnu", true, &["--format=oldgnu"]),
        ("gnu", true, &["--format=gnu"]),
        ("posix", true, &["--format=posix", "--xattrs", "--xattrs-include=*"]),
        ("gnu sparse", true, &["--format=gnu", "--sparse"]),
        ("sparse 0.0", true, &["--format=posix", "--sparse", "--sparse-version=0.0"]),
        ("sparse 0.1", true, &["--format=posix", "--sparse", "--sparse-version=0.1"]),
        ("sparse 1.0", true, &["--format=posix", "--sparse", "--sparse-version=1.0"]),
    ];
    for (name, modern, options) in table {
        let archive = work.path().join("tar");
        let source = work.path().join(modern.to_string());
        run(Command::new("tar").arg("-C").arg(&source).args(options).arg("-cf").arg(&archive).arg("."));
        let theirs = work.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        let extract = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-pxf"];
        run(Command::new("tar").arg("-C").arg(&theirs).args(extract).arg(&archive));
        let bytes = std::fs::read(&archive).unwrap();
        let image = Bundle::new(vec![gzipped(&bytes)]).pull(&place.store).unwrap();
        let different = difference(&merged(&image), &read(&theirs));
        assert!(different.is_empty(), "{name}: {different:#?}");
        if name.contains("sparse") {
            let blocks =
                std::os::unix::fs::MetadataExt::blocks(&image.layers[0].join("holes").metadata().unwrap());
            assert!(blocks < 1000, "{name}: {blocks} blocks");
        }
        std::fs::remove_dir_all(&theirs).unwrap();
    }
}

fn make_dir(path: &Path, modern: bool) {
    std::fs::create_dir(path).unwrap();
    make(path, modern);
}
