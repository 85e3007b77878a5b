//! What layers mean, compared with `umoci unpack`, which applies one layer after the other to one directory.

use crate::archive::{E, device, dir, entry, file, hardlink, symlink, tar};
use crate::image::{Bundle, image};
use crate::tree::{self, Tree, difference, merged};
use crate::{Place, Test};

pub(crate) const TESTS: &[Test] = &[("semantics_attributes", attributes)];

fn attributes() {
    let place = Place::new();
    let cap = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\n\0\0\0";
    let image = image(&[tar(&[
        dir("d").mode(0o1777).owner(7, 8).mtime(1_400_000_000),
        file("d/f", "hello").mode(0o6755).owner(1000, 1001).pax("mtime", "1234567890.123456789"),
        file("cap", "x").owner(5, 5).pax("SCHILY.xattr.security.capability", cap),
        symlink("d/s", "../cap").owner(3, 4).mtime(1),
        hardlink("h", "d/f"),
        device("dev", 1, 3).mode(0o666).owner(0, 6),
        entry("fifo", b'6').mode(0o600),
        entry("block", b'4'),
        file(vec![b'n'; 255], "long"),
        file([b"x/".repeat(120), b"deep".to_vec()].concat(), "deep"),
        file(b"non-utf8-\xff\xfe\n", "odd"),
    ])]);
    let tree = merged(&image.pull(&place.store).unwrap());
    for (path, text) in &tree {
        println!("{path}: {text}");
    }
}
